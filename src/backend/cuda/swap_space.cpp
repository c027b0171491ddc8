#include "backend/cuda/swap_space.hpp"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <cassert>
#include <numeric>

namespace tokenworks::backend::cuda {
namespace {

constexpr std::size_t kTimedBytes = std::size_t{64} << 20;

// copy(block, slot, count) for every stretch that lies side by side in both.
template <class F>
void by_stretch(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots, F copy) {
  assert(blocks.size() == slots.size());
  for (std::size_t at = 0; at < blocks.size();) {
    std::size_t n = 1;
    while (at + n < blocks.size() && blocks[at + n] == blocks[at + n - 1] + 1 && slots[at + n] == slots[at + n - 1] + 1) ++n;
    copy(blocks[at], slots[at], n);
    at += n;
  }
}

}  // namespace

Result<std::unique_ptr<SwapSpace>> CudaSwapSpace::make(Device& device, StepGraphs& graphs, const CudaKvCache& cache,
                                                       std::int32_t slots, const std::function<std::int64_t()>& now_ns) {
  const std::size_t bytes = cache.block_bytes() * static_cast<std::size_t>(slots);
  auto memory = Pinned::make(device, bytes, "swap");
  if (!memory)
    return error(Errc::bad_config, fmt::format("swap: {} MiB of page-locked host memory could not be had ({}); lower `swap`, or 0B for none",
                                               (bytes + (1 << 20) - 1) >> 20, memory.error().message), "swap");
  std::unique_ptr<CudaSwapSpace> space(new CudaSwapSpace(device, graphs, cache, std::move(*memory), slots));
  if (auto measured = space->measure(now_ns); !measured) return measured.error();
  return std::unique_ptr<SwapSpace>(std::move(space));
}

CudaSwapSpace::~CudaSwapSpace() {
  (void)device_.synchronise(device_.stream());
  OPENSSL_cleanse(memory_.data(), memory_.bytes());
}

// The second of two rounds: the first wakes the link. The cache is all zeros, and so are the slots afterwards.
Result<> CudaSwapSpace::measure(const std::function<std::int64_t()>& now_ns) {
  const auto most = static_cast<std::int32_t>(std::max<std::size_t>(1, kTimedBytes / cache_.block_bytes()));
  std::vector<std::int32_t> each(static_cast<std::size_t>(std::min({most, slots_, cache_.blocks()})));
  std::iota(each.begin(), each.end(), 0);
  std::int64_t took = 0;
  for (int round = 0; round < 2; ++round) {
    if (auto idle = device_.synchronise(device_.stream()); !idle) return idle;
    const std::int64_t began = now_ns();
    out(each, each);
    in(each, each);
    if (auto done = device_.synchronise(device_.stream()); !done) return done;
    took = now_ns() - began;
  }
  move_ns_ = static_cast<double>(std::max<std::int64_t>(took, 0)) / (2.0 * static_cast<double>(each.size()));
  return {};
}

void CudaSwapSpace::out(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) {
  if (blocks.empty()) return;
  graphs_.finish();
  by_stretch(blocks, slots, [&](std::int32_t from, std::int32_t to, std::size_t n) {
    device_.copy_to_host(slot(to), block(from), n * cache_.block_bytes(), device_.stream());
  });
}

void CudaSwapSpace::in(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) {
  if (blocks.empty()) return;
  graphs_.finish();
  by_stretch(blocks, slots, [&](std::int32_t to, std::int32_t from, std::size_t n) {
    device_.copy_to_device(block(to), slot(from), n * cache_.block_bytes(), device_.stream());
  });
}

void CudaSwapSpace::zero(std::span<const std::int32_t> slots) {
  if (slots.empty()) return;
  graphs_.finish();
  by_stretch(slots, slots, [&](std::int32_t first, std::int32_t, std::size_t n) {
    device_.fill(slot(first), 0, n * cache_.block_bytes(), device_.stream());
  });
}

}  // namespace tokenworks::backend::cuda
