// What a request's coroutine sleeps on: no ring is lost, many rings are one wake, nothing is left behind.
#include "gateway/bell.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <gtest/gtest.h>

#include <optional>
#include <thread>
#include <vector>

#include "tokenworks/base/burst.hpp"

namespace tokenworks::gateway {
namespace {

namespace asio = boost::asio;

asio::awaitable<void> count_wakes(std::shared_ptr<Bell> bell, int wakes, int& seen) {
  for (int i = 0; i < wakes; ++i) {
    co_await bell->wait();
    ++seen;
  }
}

asio::awaitable<void> wake_and_throw(std::shared_ptr<Bell> bell) {
  co_await bell->wait();
  throw std::runtime_error("a defect of one request");
}

asio::awaitable<void> wait_until(std::shared_ptr<Bell> bell, std::chrono::steady_clock::time_point deadline, int& seen) {
  co_await bell->wait(deadline);
  ++seen;
}

struct Held {
  explicit Held(int& count) : alive(count) { ++alive; }
  ~Held() { --alive; }
  int& alive;
};

asio::awaitable<void> hold_and_wait(std::shared_ptr<Bell> bell, int& alive) {
  const Held held(alive);
  co_await bell->wait();
}

TEST(Bell, ManyRingsOfASleeperAreOneWake) {
  asio::io_context io(1);
  const auto bell = std::make_shared<Bell>(io.get_executor());
  int seen = 0;
  asio::co_spawn(io, count_wakes(bell, 2, seen), asio::detached);
  io.poll();
  EXPECT_EQ(seen, 0);
  for (int i = 0; i < 100; ++i) bell->ring();
  io.poll();
  EXPECT_EQ(seen, 1);
  bell->ring_here();
  EXPECT_EQ(seen, 1) << "never inside the call";
  io.poll();
  EXPECT_EQ(seen, 2);
}

TEST(Bell, ARingBeforeTheWaitIsNotLost) {
  asio::io_context io(1);
  const auto bell = std::make_shared<Bell>(io.get_executor());
  int seen = 0;
  bell->ring_here();
  asio::co_spawn(io, count_wakes(bell, 2, seen), asio::detached);
  io.poll();
  EXPECT_EQ(seen, 1);
  bell->ring();
  bell->ring_here();
  io.poll();
  EXPECT_EQ(seen, 2);
}

TEST(Bell, AllThatRangAreWokenByOneHandler) {
  asio::io_context io(1);
  std::vector<std::shared_ptr<Bell>> bells;
  int seen = 0;
  for (int i = 0; i < 60; ++i) {
    bells.push_back(std::make_shared<Bell>(io.get_executor()));
    asio::co_spawn(io, count_wakes(bells.back(), 1, seen), asio::detached);
  }
  io.poll();
  for (const auto& bell : bells) bell->ring();
  EXPECT_EQ(io.poll_one(), 1u);
  EXPECT_EQ(seen, 60);
}

TEST(Bell, ACoroutineThatThrowsDoesNotTakeTheOthersWakesAlong) {
  asio::io_context io(1);
  std::vector<std::shared_ptr<Bell>> bells;
  int seen = 0;
  for (int i = 0; i < 5; ++i) {
    bells.push_back(std::make_shared<Bell>(io.get_executor()));
    if (i == 2) {
      asio::co_spawn(io, wake_and_throw(bells.back()), [](std::exception_ptr e) { if (e) std::rethrow_exception(e); });
    } else {
      asio::co_spawn(io, count_wakes(bells.back(), 1, seen), asio::detached);
    }
  }
  io.poll();
  for (const auto& bell : bells) bell->ring();
  int thrown = 0;
  for (bool more = true; more;) {
    try {
      io.poll();
      more = false;
    } catch (const std::runtime_error&) {
      ++thrown;
    }
  }
  EXPECT_EQ(thrown, 1);
  EXPECT_EQ(seen, 4);
}

TEST(Bell, ADeadlineWakesLikeARing) {
  asio::io_context io(1);
  const auto bell = std::make_shared<Bell>(io.get_executor());
  int seen = 0;
  asio::co_spawn(io, wait_until(bell, std::chrono::steady_clock::now(), seen), asio::detached);
  io.run();                                          // returns when the coroutine has ended
  EXPECT_EQ(seen, 1);
  io.restart();
  asio::co_spawn(io, wait_until(bell, std::chrono::steady_clock::now() + std::chrono::hours(1), seen), asio::detached);
  io.poll();
  bell->ring();
  io.run();                                          // ... and not in an hour
  EXPECT_EQ(seen, 2);
}

TEST(Bell, WhatSleepsDiesWithItsContextAndLateRingsAreHarmless) {
  int alive = 0;
  std::shared_ptr<Bell> late;
  {
    asio::io_context io(1);
    late = std::make_shared<Bell>(io.get_executor());
    for (int i = 0; i < 3; ++i) {
      asio::co_spawn(io, hold_and_wait(i == 0 ? late : std::make_shared<Bell>(io.get_executor()), alive), asio::detached);
    }
    io.poll();
    EXPECT_EQ(alive, 3);
    late->ring();                                    // on the board, and never woken
  }
  EXPECT_EQ(alive, 0);
  late->ring();
  late.reset();
}

TEST(Bell, RingsOfABurstWakeTheirThreadWhenItIsOver) {
  asio::io_context io(1), other(1);
  std::vector<std::shared_ptr<Bell>> bells;
  int seen = 0;
  for (int i = 0; i < 6; ++i) {
    asio::io_context& here = i % 2 == 0 ? io : other;
    bells.push_back(std::make_shared<Bell>(here.get_executor()));
    asio::co_spawn(here, count_wakes(bells.back(), 1, seen), asio::detached);
  }
  io.poll();
  other.poll();
  {
    const Burst outer;
    for (const auto& bell : bells) {
      const Burst inner;
      bell->ring();
    }
    EXPECT_EQ(io.poll() + other.poll(), 0u);
    EXPECT_EQ(seen, 0);
    std::thread([&] { bells.front()->ring(); }).join();   // a thread without a burst: its ring is on the board already
    EXPECT_EQ(io.poll(), 0u);
  }
  EXPECT_EQ(io.poll_one(), 1u);
  EXPECT_EQ(seen, 3);
  EXPECT_EQ(other.poll_one(), 1u);
  EXPECT_EQ(seen, 6);
}

TEST(Bell, ABurstThatOutlivesTheContextWakesNobody) {
  int alive = 0;
  std::shared_ptr<Bell> late;
  const Burst burst;
  {
    asio::io_context io(1);
    late = std::make_shared<Bell>(io.get_executor());
    asio::co_spawn(io, hold_and_wait(late, alive), asio::detached);
    io.poll();
    late->ring();
  }
  EXPECT_EQ(alive, 0);
}

TEST(Bell, RingsOfOtherThreadsAreNeverLost) {
  asio::io_context io(1);
  auto work = asio::make_work_guard(io);
  constexpr int kBells = 8, kRounds = 2000;
  std::vector<std::shared_ptr<Bell>> bells;
  std::vector<int> seen(kBells, 0);
  std::vector<std::atomic<int>> told(kBells);
  for (int i = 0; i < kBells; ++i) {
    bells.push_back(std::make_shared<Bell>(io.get_executor()));
  }
  // Each coroutine waits for its counter to move, and says so to the thread that moves it.
  struct Loop {
    static asio::awaitable<void> run(std::shared_ptr<Bell> bell, std::atomic<int>& told, int& seen) {
      while (seen < kRounds) {
        co_await bell->wait();
        seen = told.load();
      }
    }
  };
  for (int i = 0; i < kBells; ++i) {
    const auto at = static_cast<std::size_t>(i);
    asio::co_spawn(io, Loop::run(bells[at], told[at], seen[at]), asio::detached);
  }
  std::vector<std::thread> ringers;
  for (int t = 0; t < 2; ++t) {
    ringers.emplace_back([&, t] {
      for (int round = 0; round < kRounds; ++round) {
        std::optional<Burst> burst;
        if (t == 0) burst.emplace();
        for (int i = t; i < kBells; i += 2) {
          ++told[static_cast<std::size_t>(i)];
          bells[static_cast<std::size_t>(i)]->ring();
        }
      }
    });
  }
  std::thread ends([&] {
    for (std::thread& ringer : ringers) ringer.join();
    work.reset();
  });
  io.run();                                          // ends only if every coroutine saw its last ring
  ends.join();
  for (const int count : seen) EXPECT_EQ(count, kRounds);
}

}  // namespace
}  // namespace tokenworks::gateway
