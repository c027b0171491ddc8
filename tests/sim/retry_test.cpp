// Several times as many clients as the plant has places for, each of which asks again when it has its answer, and when it was
// refused comes again as it was told: most who do get in, and the plant is not idle meanwhile. In the pretend device's time.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <vector>

#include "engine/queue_book.hpp"
#include "support/scheduler_driver.hpp"

namespace tokenworks::sim {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

struct Seen {
  std::int64_t again = 0, again_in = 0, answered = 0;
  double tokens_per_second = 0;
};

struct Crowd {
  int clients = 0;
  std::int64_t queue = 0, deadline_ns = 0;
  std::int32_t slots = 16;
  std::int64_t pause_ns = kSecond / 5;               // at most, between an answer and the next question
};

Seen run(const Crowd& crowd, bool obeys, std::uint64_t seed = 7) {
  const auto& [clients, queue, deadline_ns, slots, pause_ns] = crowd;
  scheduler::Options options;
  options.kv_blocks = 4096;
  options.context_tokens = 4096;
  options.rows_max = 512;
  options.sequences_max = slots;
  options.cache_secret = "secret";
  test::SchedulerDriver driver(options, false);
  engine::QueueBook book(queue);
  std::mt19937_64 random(seed);
  const auto takes = [](const scheduler::StepPlan& p) {
    return static_cast<std::int64_t>(1e6 + 1e5 * p.prefill_tokens + 3e5 * p.decode_tokens);
  };
  struct Client {
    std::int64_t due = 0, began = 0;
    bool inside = false;
    int attempt = 1;
    std::int32_t length = 0;
    std::uint64_t question = 0;                      // asked again as it is
    engine::QueueEntry entry;
  };
  std::vector<Client> all(static_cast<std::size_t>(clients));
  std::map<std::uint64_t, std::size_t> who;
  const std::int64_t begin = driver.now(), warm = begin + 100 * kSecond, until = begin + 300 * kSecond;
  for (Client& c : all) c.due = begin + static_cast<std::int64_t>(random() % kSecond);
  Seen seen;
  std::int64_t tokens = 0;
  std::vector<std::uint64_t> ended;
  driver.on_planned = [&] {
    for (const auto& item : driver.plan().items) {
      Client& c = all[who.at(driver.live().at(item.handle).id)];
      if (c.began == 0) book.began(c.entry, c.began = driver.now());
    }
  };
  driver.on_token = [&](const test::SchedulerDriver::Live& live) {
    tokens += driver.now() > warm;
    if (live.output_left == 0) ended.push_back(live.id);
  };
  while (driver.now() < until) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      Client& c = all[i];
      if (c.inside || c.due > driver.now()) continue;
      const auto tenant = static_cast<std::uint32_t>(i % 2);
      if (c.attempt == 1) c.length = static_cast<std::int32_t>(60 + random() % 180), c.question = random();
      const std::int32_t length = c.length;
      const std::int64_t deadline = deadline_ns != 0 ? driver.now() + deadline_ns : 0;
      c.entry = {tenant, 1, Tier::standard, 0, 1, length, 48, deadline, c.question, {}};
      const auto entered = book.enter(c.entry, driver.now());
      const bool counts = driver.now() > warm && c.attempt > 1;
      seen.again += counts;
      seen.again_in += counts && entered;
      if (!entered) {
        ++c.attempt;
        c.due = driver.now() + (obeys ? entered.error().retry_after_ms * 1'000'000 : kSecond);
        continue;
      }
      c.entry.promise = *entered;
      std::vector<TokenId> prompt(static_cast<std::size_t>(length));
      for (TokenId& t : prompt) t = static_cast<TokenId>(random() % 30'000);
      const auto h = driver.add(tenant, 1, Tier::standard, std::move(prompt), 48, scheduler::kNoHandle, deadline);
      who[driver.live().at(h).id] = i;
      c.inside = true, c.began = 0, c.attempt = 1;
    }
    ended.clear();
    std::map<std::uint64_t, bool> before;
    for (const auto& [h, l] : driver.live()) before[l.id] = true;
    if (!driver.step(random, takes)) driver.pass_ns(1'000'000);
    for (const auto& [h, l] : driver.live()) before.erase(l.id);
    for (const auto& [id, unused] : before) {
      Client& c = all[who.at(id)];
      const bool complete = std::find(ended.begin(), ended.end(), id) != ended.end();
      book.ended(c.entry, c.began, driver.now(), complete ? engine::QueueBook::End::complete : engine::QueueBook::End::late);
      seen.answered += complete && driver.now() > warm;
      c.inside = false;
      c.due = driver.now() + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(pause_ns));   // the next question
      who.erase(id);
    }
    book.publish(driver.scheduler().forecast());
  }
  seen.tokens_per_second = static_cast<double>(tokens) / (static_cast<double>(until - warm) / 1e9);
  return seen;
}

// Refused by a full queue of their own, and because they would be late; clients that think for a moment, and such as ask again at
// once, so that a newcomer stands at the door whenever a place becomes free.
TEST(Retry, WhoComesAgainAsHeWasToldMostlyGetsIn) {
  for (const Crowd& crowd : {Crowd{100, 8}, Crowd{200, 8}, Crowd{100, 256, 2 * kSecond}, Crowd{200, 256, 2 * kSecond},
                             Crowd{.clients = 120, .queue = 8, .slots = 32, .pause_ns = 2'000'000}}) {
    const Seen obey = run(crowd, true), each_second = run(crowd, false);
    const auto in = [](const Seen& s) { return static_cast<double>(s.again_in) / static_cast<double>(std::max<std::int64_t>(s.again, 1)); };
    std::printf("retry, %d clients, queue %lld, deadline %lld s, %d slots, pause %.3f s: came again as told %lld, got in %.0f %%, %.0f tokens/s; "
                "each second %lld, %.0f %%, %.0f tokens/s\n", crowd.clients, static_cast<long long>(crowd.queue),
                static_cast<long long>(crowd.deadline_ns / kSecond), crowd.slots, static_cast<double>(crowd.pause_ns) / 1e9,
                static_cast<long long>(obey.again), 100 * in(obey), obey.tokens_per_second, static_cast<long long>(each_second.again),
                100 * in(each_second), each_second.tokens_per_second);
    EXPECT_GT(obey.again, 100);                      // it was an overload
    EXPECT_GE(in(obey), 0.85);
    EXPECT_LT(in(each_second), 0.75 * in(obey));
    EXPECT_GE(obey.tokens_per_second, 0.95 * each_second.tokens_per_second);
  }
}

}  // namespace
}  // namespace tokenworks::sim
