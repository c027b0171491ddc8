#include "backend/cuda/card_communicator.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstring>
#include <mutex>
#include <numeric>
#include <optional>
#include <utility>

#include "backend/cuda/cuda_backend.hpp"

namespace tokenworks::backend::cuda {
namespace {

// The word on each rank's side that ends all waiting for flags. Ranks go one after another; the words of those that are left
// are written by whoever leaves.
class Leaving {
 public:
  void add(std::uint32_t* word) {
    const std::lock_guard lock(mutex_);
    words_.push_back(word);
    if (left_) std::atomic_ref(*word).store(1);
  }
  void leave() {
    const std::lock_guard lock(mutex_);
    left_ = true;
    for (std::uint32_t* word : words_) std::atomic_ref(*word).store(1);
  }
  void forget(const std::uint32_t* word) {
    const std::lock_guard lock(mutex_);
    std::erase(words_, word);
  }

 private:
  std::mutex mutex_;
  std::vector<std::uint32_t*> words_;
  bool left_ = false;
};

// A rank's own memory that the others' kernels know of: made at the rank's first sum, freed with the rank, when no rank runs a
// step any more.
struct Mailbox {
  Memory floats, flags, epochs, ids;                 // flags and epochs: of sums, then of columns; behind the flags that of ids
  Pinned left;                                       // a card sees host memory that is pinned

  static std::uint32_t* words(const auto& memory) { return reinterpret_cast<std::uint32_t*>(memory.data()); }
  static std::optional<Mailbox> make(Device& device) {
    auto floats = Memory::make(device, kernels::cuda::kMailboxFloats * sizeof(float), "the mailbox of a rank");
    auto flags = Memory::make(device, (2 * kernels::cuda::kFlagWords + 1) * sizeof(std::uint32_t), "flags of a rank");
    auto epochs = Memory::make(device, std::size_t{2 * kernels::cuda::kOnceBlocks} * sizeof(std::uint32_t), "turns of a rank");
    auto ids = Memory::make(device, std::size_t{kernels::cuda::kSharedIds} * sizeof(std::int32_t), "ids from the first rank");
    auto left = Pinned::make(device, sizeof(std::uint32_t), "the word of those who leave");
    if (!floats || !flags || !epochs || !ids || !left) return std::nullopt;
    std::memset(left->data(), 0, sizeof(std::uint32_t));
    device.fill(flags->data(), 0, flags->bytes(), device.stream());
    device.fill(epochs->data(), 0, epochs->bytes(), device.stream());
    if (!device.synchronise(device.stream())) return std::nullopt;
    return Mailbox{std::move(*floats), std::move(*flags), std::move(*epochs), std::move(*ids), std::move(*left)};
  }
};

class OnceSums final : public DeviceSums {
 public:
  OnceSums(Device& device, const kernels::cuda::SumOnceArgs& args, std::unique_ptr<DeviceSums> large)
      : device_(device), args_(args), large_(std::move(large)) {}
  bool sum(float* values, std::size_t count, Stream stream) override {
    if (large_ && count * sizeof(float) > once_bytes(static_cast<std::size_t>(args_.ranks))) return large_->sum(values, count, stream);
    kernels::cuda::SumOnceArgs a = args_;
    a.values = values;
    a.count = count;
    device_.peer_ops().sum_once(stream, a);
    return true;
  }

 private:
  Device& device_;
  const kernels::cuda::SumOnceArgs args_;            // without the values
  const std::unique_ptr<DeviceSums> large_;
};

class CardCommunicator final : public Communicator, public SharedIds {
 public:
  CardCommunicator(CudaBackend& card, std::unique_ptr<Communicator> threads, std::unique_ptr<DeviceSums> large, std::shared_ptr<Leaving> leaving)
      : card_(card), leaving_(std::move(leaving)), threads_(std::move(threads)), large_(std::move(large)) {
    if (threads_->size() > 1) card_.share_ids(this);
  }
  ~CardCommunicator() override {
    card_.share_ids(nullptr);
    leaving_->leave();
    if (mailbox_) leaving_->forget(Mailbox::words(mailbox_->left));
  }

  std::int32_t rank() const override { return threads_->rank(); }
  std::int32_t size() const override { return threads_->size(); }
  Result<> all_reduce(std::span<float> values) override { return threads_->all_reduce(values); }
  Result<> all_gather(std::span<const float> mine, std::span<float> all) override { return threads_->all_gather(mine, all); }
  Result<> broadcast(std::span<std::byte> data, std::int32_t from) override { return threads_->broadcast(data, from); }
  Result<> barrier() override { return threads_->barrier(); }
  void leave() override {
    leaving_->leave();
    threads_->leave();
  }

  Result<> all_reduce(Backend& backend, Buffer& values, std::int32_t rows, std::int32_t columns) override {
    auto& card = static_cast<CudaBackend&>(backend);
    if (!sums_)
      if (auto met = exchange_mailboxes(card.device()); !met) return met;
    card.sum_over_ranks(values, rows, columns, *sums_);
    return {};
  }

  Result<> gather_columns(Backend& backend, const Buffer& mine, std::int32_t rows, std::span<const std::int32_t> widths, Buffer& all) override {
    auto& card = static_cast<CudaBackend&>(backend);
    if (!sums_)
      if (auto met = exchange_mailboxes(card.device()); !met) return met;
    if (columns_.out == nullptr)
      if (auto met = exchange_columns(static_cast<CudaBuffer&>(all).floats(), widths); !met) return met;
    card.gather_over_ranks(mine, rows, columns_.total, all, [this, &card](const float* from, std::int32_t n, Stream stream) {
      kernels::cuda::GatherOnceArgs a = columns_;
      a.mine = from;
      a.rows = n;
      card.device().peer_ops().gather_once(stream, a);
    });
    return {};
  }
  bool on_stream() const override { return true; }

  bool first() const override { return rank() == 0; }
  const std::int32_t* ids() const override { return ids_.ids[rank()]; }
  Result<> share(const std::int32_t* drawn, std::size_t count, Stream stream) override {
    if (count == 0) return {};
    if (!sums_) return error(Errc::internal, "ids are shared in a step without a sum over ranks");
    if (count > static_cast<std::size_t>(kernels::cuda::kSharedIds))
      return error(Errc::internal, "more rows are sampled in a step than ranks can tell each other of");
    kernels::cuda::ShareIdsArgs a = ids_;
    a.drawn = drawn;
    a.count = static_cast<std::int32_t>(count);
    a.told = ++told_;
    card_.device().peer_ops().share_ids(stream, a);
    return {};
  }

 private:
  // At the first sum of all, which no graph records: the only time the threads meet for one.
  Result<> exchange_mailboxes(Device& device) {
    auto made = Mailbox::make(device);
    if (!made) return error(Errc::engine_failed, "a rank has no memory left for its mailbox");
    mailbox_ = std::move(*made);
    leaving_->add(Mailbox::words(mailbox_->left));
    using Words = std::array<float, 3 * sizeof(void*) / sizeof(float)>;          // bits of addresses, only carried
    const auto mine = std::bit_cast<Words>(std::array<void*, 3>{mailbox_->floats.data(), mailbox_->flags.data(), mailbox_->ids.data()});
    std::array<Words, kernels::cuda::kRanksMost> all{};
    const std::span words(all[0].data(), mine.size() * static_cast<std::size_t>(size()));
    if (auto told = threads_->all_gather(mine, words); !told) return told;
    kernels::cuda::SumOnceArgs args;
    for (std::size_t r = 0; r < static_cast<std::size_t>(size()); ++r) {
      const auto addresses = std::bit_cast<std::array<void*, 3>>(all[r]);
      args.mailboxes[r] = static_cast<float*>(addresses[0]);
      args.flags[r] = static_cast<std::uint32_t*>(addresses[1]);
      ids_.flags[r] = args.flags[r] + 2 * kernels::cuda::kFlagWords;
      ids_.ids[r] = static_cast<std::int32_t*>(addresses[2]);
    }
    args.epochs = Mailbox::words(mailbox_->epochs);
    args.left = Mailbox::words(mailbox_->left);
    args.rank = columns_.rank = ids_.rank = rank();
    args.ranks = columns_.ranks = ids_.ranks = size();
    columns_.flags = args.flags[0] + kernels::cuda::kFlagWords;
    columns_.epochs = args.epochs + kernels::cuda::kOnceBlocks;
    columns_.left = ids_.left = args.left;
    device.ranks_meet();                             // nothing that waits is under way yet, and all that was freed at load is gone
    sums_ = std::make_unique<OnceSums>(device, args, std::move(large_));
    return {};
  }
  // At the first gathering: where the first rank wants them.
  Result<> exchange_columns(float* all, std::span<const std::int32_t> widths) {
    using Words = std::array<float, sizeof(void*) / sizeof(float)>;
    std::array<Words, kernels::cuda::kRanksMost> everybody{};
    const auto mine = std::bit_cast<Words>(all);
    if (auto told = threads_->all_gather(mine, std::span(everybody[0].data(), mine.size() * static_cast<std::size_t>(size()))); !told) return told;
    columns_.out = std::bit_cast<float*>(everybody[0]);
    const auto mine_at = widths.begin() + rank();
    columns_.from = std::accumulate(widths.begin(), mine_at, std::int32_t{0});
    columns_.width = *mine_at;
    columns_.total = std::accumulate(mine_at, widths.end(), columns_.from);
    columns_.stretches = kernels::cuda::gather_stretches(*std::ranges::max_element(widths));
    return {};
  }

  CudaBackend& card_;
  std::optional<Mailbox> mailbox_;
  std::shared_ptr<Leaving> leaving_;
  std::unique_ptr<Communicator> threads_;
  std::unique_ptr<DeviceSums> large_;                // until the first sum
  std::unique_ptr<OnceSums> sums_;                   // from then on
  kernels::cuda::GatherOnceArgs columns_;            // without the rows
  kernels::cuda::ShareIdsArgs ids_;
  std::uint32_t told_ = 0;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_card_communicators(std::span<CudaBackend* const> backends,
                                                                   std::vector<std::unique_ptr<DeviceSums>> large) {
  assert(large.empty() || large.size() == backends.size());
  std::vector<std::unique_ptr<Communicator>> all;
  if (backends.size() > static_cast<std::size_t>(kernels::cuda::kRanksMost)) return all;
  for (CudaBackend* from : backends)
    for (CudaBackend* to : backends)
      if (from != to && !from->device().reach(to->device())) return all;
  const auto leaving = std::make_shared<Leaving>();
  large.resize(backends.size());
  auto threads = make_thread_communicators(static_cast<std::int32_t>(backends.size()));
  for (std::size_t r = 0; r < backends.size(); ++r)
    all.push_back(std::make_unique<CardCommunicator>(*backends[r], std::move(threads[r]), std::move(large[r]), leaving));
  return all;
}

}  // namespace tokenworks::backend::cuda
