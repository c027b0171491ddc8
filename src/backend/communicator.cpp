#include "tokenworks/backend/communicator.hpp"

#include <algorithm>
#include <cassert>
#include <condition_variable>
#include <cstring>
#include <mutex>

#include "tokenworks/backend/backend.hpp"

namespace tokenworks::backend {
namespace {

// What the ranks share. A call publishes its memory, meets, works on what the others published, and meets again, publishing
// nothing, before anyone may touch that memory or publish anew.
class Group {
 public:
  explicit Group(std::int32_t size) : slots_(static_cast<std::size_t>(size)) {}
  std::size_t size() const { return slots_.size(); }

  struct Slot {
    void* at = nullptr;
    std::size_t bytes = 0;
  };
  // Publishes and waits until all ranks have; false when one has left.
  bool meet(std::size_t rank, Slot mine) {
    std::unique_lock lock(mutex_);
    slots_[rank] = mine;
    return meet(lock);
  }
  // Waits for all ranks; what was published stays, for somebody may be reading it still.
  bool meet() {
    std::unique_lock lock(mutex_);
    return meet(lock);
  }
  void leave() {
    const std::lock_guard lock(mutex_);
    left_ = true;
    changed_.notify_all();
  }
  const std::vector<Slot>& slots() const { return slots_; }
  std::vector<float>& sums() { return sums_; }
  void reserve(std::size_t floats) {
    const std::lock_guard lock(mutex_);
    if (sums_.size() < floats) sums_.resize(floats);
  }

 private:
  bool meet(std::unique_lock<std::mutex>& lock) {
    if (left_) return false;
    if (++arrived_ == slots_.size()) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
      return true;
    }
    const std::uint64_t round = round_;
    changed_.wait(lock, [&] { return left_ || round_ != round; });
    return round_ != round;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  std::vector<float> sums_;
  std::size_t arrived_ = 0;
  std::uint64_t round_ = 0;
  bool left_ = false;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, std::size_t rank) : group_(std::move(group)), rank_(rank) {}
  ~ThreadCommunicator() override { group_->leave(); }

  std::int32_t rank() const override { return static_cast<std::int32_t>(rank_); }
  std::int32_t size() const override { return static_cast<std::int32_t>(group_->size()); }

  using Communicator::all_reduce;
  Result<> all_reduce(std::span<float> values) override {
    if (group_->size() == 1) return {};
    group_->reserve(values.size());                  // the round before is over for everybody: its last meet was passed
    if (!meet(values.data(), values.size_bytes())) return lost();
    if (auto same = same_sizes(values.size_bytes()); !same) return same;
    // Each rank adds its share of the values, in the order of ranks.
    const std::size_t share = (values.size() + group_->size() - 1) / group_->size();
    const std::size_t begin = std::min(values.size(), rank_ * share), end = std::min(values.size(), begin + share);
    for (std::size_t i = begin; i < end; ++i) {
      float sum = 0;
      for (const Group::Slot& slot : group_->slots()) sum += static_cast<const float*>(slot.at)[i];
      group_->sums()[i] = sum;
    }
    if (!group_->meet()) return lost();
    std::copy_n(group_->sums().begin(), values.size(), values.begin());
    return group_->meet() ? Result<>() : lost();
  }

  Result<> all_gather(std::span<const float> mine, std::span<float> all) override {
    assert(all.size() == mine.size() * group_->size());
    if (!meet(const_cast<float*>(mine.data()), mine.size_bytes())) return lost();
    if (auto same = same_sizes(mine.size_bytes()); !same) return same;
    for (std::size_t r = 0; r < group_->size(); ++r)
      std::memcpy(all.data() + r * mine.size(), group_->slots()[r].at, mine.size_bytes());
    return group_->meet() ? Result<>() : lost();
  }

  Result<> broadcast(std::span<std::byte> data, std::int32_t from) override {
    assert(from >= 0 && from < size());
    if (!meet(data.data(), data.size())) return lost();
    if (auto same = same_sizes(data.size()); !same) return same;
    if (rank() != from && !data.empty()) std::memcpy(data.data(), group_->slots()[static_cast<std::size_t>(from)].at, data.size());
    return group_->meet() ? Result<>() : lost();
  }

  Result<> barrier() override { return group_->meet() ? Result<>() : lost(); }
  void leave() override { group_->leave(); }

 private:
  bool meet(void* at, std::size_t bytes) { return group_->meet(rank_, {at, bytes}); }
  static Result<> lost() { return error(Errc::engine_failed, "another rank of the model has left"); }
  // Ranks that disagree have a defect; going on would read beyond the shorter one's memory.
  Result<> same_sizes(std::size_t bytes) {
    for (const Group::Slot& slot : group_->slots()) {
      if (slot.bytes == bytes) continue;
      group_->leave();
      return error(Errc::engine_failed, "the ranks of the model brought different amounts");
    }
    return {};
  }

  std::shared_ptr<Group> group_;
  std::size_t rank_;
};

}  // namespace

Result<> Communicator::all_reduce(Backend& backend, Buffer& values, std::int32_t rows, std::int32_t columns) {
  const std::size_t n = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
  if (host_.size() < n) host_.resize(n);
  const std::span here = std::span(host_).first(n);
  backend.download(values, 0, std::as_writable_bytes(here));
  if (auto summed = all_reduce(here); !summed) return summed;
  backend.upload(values, 0, std::as_bytes(here));
  return {};
}

// Rows travel as wide as the widest rank's.
Result<> Communicator::gather_columns(Backend& backend, const Buffer& mine, std::int32_t rows, std::span<const std::int32_t> widths, Buffer& all) {
  assert(widths.size() == static_cast<std::size_t>(size()));
  const auto n = static_cast<std::size_t>(rows), ranks = widths.size();
  const auto most = static_cast<std::size_t>(*std::ranges::max_element(widths)), own = static_cast<std::size_t>(widths[static_cast<std::size_t>(rank())]);
  if (host_.size() < n * most * ranks) host_.resize(n * most * ranks);
  if (gathered_.size() < n * most * ranks) gathered_.resize(n * most * ranks);
  backend.download(mine, 0, std::as_writable_bytes(std::span(host_).first(n * own)));
  for (std::size_t r = n; r-- > 0 && own < most;)
    std::copy_backward(host_.begin() + static_cast<std::ptrdiff_t>(r * own), host_.begin() + static_cast<std::ptrdiff_t>((r + 1) * own),
                       host_.begin() + static_cast<std::ptrdiff_t>(r * most + own));
  const std::span everybody = std::span(gathered_).first(ranks * n * most);
  if (auto done = all_gather(std::span(host_).first(n * most), everybody); !done) return done;
  if (rank() != 0) return {};
  auto to = host_.begin();
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t of = 0; of < ranks; ++of)
      to = std::copy_n(everybody.begin() + static_cast<std::ptrdiff_t>((of * n + r) * most), widths[of], to);
  backend.upload(all, 0, std::as_bytes(std::span(host_.begin(), to)));
  return {};
}

std::vector<std::unique_ptr<Communicator>> make_thread_communicators(std::int32_t size) {
  assert(size > 0);
  const auto group = std::make_shared<Group>(size);
  std::vector<std::unique_ptr<Communicator>> all;
  for (std::int32_t r = 0; r < size; ++r) all.push_back(std::make_unique<ThreadCommunicator>(group, static_cast<std::size_t>(r)));
  return all;
}

}  // namespace tokenworks::backend
