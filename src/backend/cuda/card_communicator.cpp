#include "backend/cuda/card_communicator.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <utility>

#include "backend/cuda/cuda_backend.hpp"

namespace tokenworks::backend::cuda {
namespace {

class CardCommunicator final : public Communicator {
 public:
  CardCommunicator(std::unique_ptr<Communicator> threads, std::unique_ptr<DeviceSums> sums) : threads_(std::move(threads)), sums_(std::move(sums)) {}

  std::int32_t rank() const override { return threads_->rank(); }
  std::int32_t size() const override { return threads_->size(); }
  Result<> all_reduce(std::span<float> values) override { return threads_->all_reduce(values); }
  Result<> all_gather(std::span<const float> mine, std::span<float> all) override { return threads_->all_gather(mine, all); }
  Result<> broadcast(std::span<std::byte> data, std::int32_t from) override { return threads_->broadcast(data, from); }
  Result<> barrier() override { return threads_->barrier(); }
  void leave() override { threads_->leave(); }

  Result<> all_reduce(Backend& backend, Buffer& values, std::int32_t rows, std::int32_t columns) override {
    auto& card = static_cast<CudaBackend&>(backend);
    if (sums_) return card.sum_over_ranks(values, rows, columns, *sums_), Result<>();
    kernels::cuda::SumPeersArgs args;
    auto& mine = static_cast<CudaBuffer&>(values);
    if (auto met = meet(card, mine.floats(), args.parts); !met) return met;
    args.ranks = size();
    args.values = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
    const std::size_t bytes = args.values * sizeof(float);
    if (bytes > scratch_.bytes()) {
      auto room = Memory::make(card.device(), std::max(bytes, mine.bytes()), "sums over ranks");
      if (!room) return room.error();
      scratch_ = std::move(*room);
    }
    args.out = scratch_.floats();
    Device& device = card.device();
    device.peer_ops().sum(device.stream(), args);
    if (auto done = parted(card); !done) return done;
    device.copy_on_device(mine.data(), scratch_.data(), bytes, device.stream());
    return {};
  }

  Result<> gather_columns(Backend& backend, const Buffer& mine, std::int32_t rows, std::span<const std::int32_t> widths, Buffer& all) override {
    auto& card = static_cast<CudaBackend&>(backend);
    kernels::cuda::GatherPeersArgs args;
    if (auto met = meet(card, static_cast<const CudaBuffer&>(mine).floats(), args.parts); !met) return met;
    if (rank() == 0) {
      args.ranks = size();
      args.rows = rows;
      for (std::size_t r = 0; r < widths.size(); ++r) args.first[r + 1] = args.first[r] + widths[r];
      args.out = static_cast<CudaBuffer&>(all).floats();
      card.device().peer_ops().gather(card.device().stream(), args);
    }
    return parted(card);
  }

 private:
  // What this rank's card has been given is done, and so is every other's: their addresses, by rank.
  template <std::size_t kMost>
  Result<> meet(CudaBackend& card, const float* mine, const float* (&parts)[kMost]) {
    if (auto idle = card.check(); !idle) return idle;
    using Words = std::array<float, sizeof(mine) / sizeof(float)>;   // bits of an address, only carried
    const auto words = std::bit_cast<Words>(mine);
    std::array<Words, kMost> all{};
    const std::span values(all[0].data(), words.size() * static_cast<std::size_t>(size()));
    if (auto told = threads_->all_gather(words, values); !told) return told;
    for (std::size_t r = 0; r < static_cast<std::size_t>(size()); ++r) parts[r] = std::bit_cast<const float*>(all[r]);
    return {};
  }
  // Nobody reads another's memory any more.
  Result<> parted(CudaBackend& card) {
    if (auto idle = card.check(); !idle) return idle;
    return threads_->barrier();
  }

  std::unique_ptr<Communicator> threads_;
  std::unique_ptr<DeviceSums> sums_;
  Memory scratch_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_card_communicators(std::span<CudaBackend* const> backends,
                                                                   std::vector<std::unique_ptr<DeviceSums>> sums) {
  assert(sums.empty() || sums.size() == backends.size());
  std::vector<std::unique_ptr<Communicator>> all;
  if (backends.size() > static_cast<std::size_t>(kernels::cuda::kRanksMost)) return all;
  for (CudaBackend* from : backends)
    for (CudaBackend* to : backends)
      if (from != to && !from->device().reach(to->device())) return all;
  sums.resize(backends.size());
  auto threads = make_thread_communicators(static_cast<std::int32_t>(backends.size()));
  for (std::size_t r = 0; r < backends.size(); ++r) all.push_back(std::make_unique<CardCommunicator>(std::move(threads[r]), std::move(sums[r])));
  return all;
}

}  // namespace tokenworks::backend::cuda
