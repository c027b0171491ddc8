// The sum over two ranks that both stand on the one card there is: what the kernel over mailboxes costs beside the links it
// would otherwise cross, and that it works at all. Each rank has a stream and a thread of its own, as on two cards.
#include "gpu/peers.hpp"

#include <algorithm>
#include <chrono>
#include <span>
#include <thread>
#include <vector>

#include "backend/cuda/card_communicator.hpp"
#include "backend/cuda/cuda_backend.hpp"
#include "gpu/synthetic.hpp"

namespace tokenworks::gpu {

using namespace backend::cuda;

namespace {

// Microseconds of a sum of that many rows; negative: it failed, or its result is wrong.
double timed_sum(std::span<CudaBackend* const> backends, std::span<backend::Communicator* const> ranks, std::int32_t rows, std::int32_t columns,
                 int repetitions) {
  std::vector<double> seconds(backends.size(), -1);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < backends.size(); ++r)
    threads.emplace_back([&, r] {
      const std::size_t n = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
      std::vector<float> values(n, static_cast<float>(r + 1));
      auto buffer = backends[r]->allocate(n * sizeof(float));
      if (!buffer) return ranks[r]->leave();
      backends[r]->upload(**buffer, 0, std::as_bytes(std::span(values)));
      if (!ranks[r]->all_reduce(*backends[r], **buffer, rows, columns)) return ranks[r]->leave();
      backends[r]->download(**buffer, 0, std::as_writable_bytes(std::span(values)));
      bool right = true;
      for (const float v : values) right = right && v == 3.0f;
      const auto began = std::chrono::steady_clock::now();
      for (int i = 0; i < repetitions; ++i)
        if (!ranks[r]->all_reduce(*backends[r], **buffer, rows, columns)) return ranks[r]->leave();
      if (!backends[r]->check()) return ranks[r]->leave();
      if (right) seconds[r] = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    });
  for (auto& t : threads) t.join();
  const double slowest = *std::max_element(seconds.begin(), seconds.end());
  return *std::min_element(seconds.begin(), seconds.end()) < 0 ? -1 : 1e6 * slowest / repetitions;
}

}  // namespace

void peers(Report& report, bool tiny) {
  std::vector<std::unique_ptr<CudaBackend>> backends;
  std::vector<CudaBackend*> each;
  for (int r = 0; r < 2; ++r) {
    auto made = make_device();
    if (!made) return report.failed("peers", "device", made.error().message);
    backends.push_back(std::make_unique<CudaBackend>(std::move(*made), CudaOptions{.graphs = false}));
    each.push_back(backends.back().get());
  }
  auto communicators = make_card_communicators(each, {});
  std::vector<backend::Communicator*> ranks;
  for (const auto& c : communicators) ranks.push_back(c.get());
  if (ranks.size() != 2) return report.failed("peers", "communicator", "the card does not reach itself");
  const std::int32_t columns = tiny ? 64 : 4096;
  for (const std::int32_t rows : tiny ? std::vector<std::int32_t>{1, 3} : std::vector<std::int32_t>{1, 16, 64, 256}) {
    const std::string name = "two ranks on one card, " + std::to_string(rows) + " rows";
    const double us = timed_sum(each, ranks, rows, columns, tiny ? 2 : 100);
    if (us < 0) return report.failed("peers", name, "a rank failed, or the sum is wrong");
    report.add("peers", name, {{"rows", rows}, {"us", us}});
  }
  communicators.clear();
}

}  // namespace tokenworks::gpu
