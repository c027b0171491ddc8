#pragma once
// offload: runs a computation on a worker while its coroutine sleeps on a bell of its own. `work` owns what it reads, or
// shares ownership: the coroutine may die meanwhile. IO thread.
#include <boost/asio/awaitable.hpp>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "bell.hpp"
#include "tokenworks/base/result.hpp"
#include "workbench.hpp"

namespace tokenworks::gateway {

// The caller names `work` and the awaitable before it awaits: see serving.cpp.
template <class T>
boost::asio::awaitable<Result<T>> offload(Workbench& bench, std::string organization, std::shared_ptr<Bell> bell,
                                          std::shared_ptr<const std::function<Result<T>()>> work) {
  struct Job {
    std::atomic<bool> done{false};
    Result<T> result = error(Errc::internal, "not computed");
  };
  auto job = std::make_shared<Job>();
  bench.post(organization, Work::prompt, [job, work, bell] {
    try {
      job->result = (*work)();
    } catch (const std::exception& e) {
      job->result = error(Errc::internal, e.what());
    }
    job->done.store(true, std::memory_order_release);
    bell->ring();
  });
  while (!job->done.load(std::memory_order_acquire)) co_await bell->wait();
  co_return std::move(job->result);
}

}  // namespace tokenworks::gateway
