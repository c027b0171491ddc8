#include "backend/cuda/step_state.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace tokenworks::backend::cuda {
namespace {

constexpr std::size_t kRingWords = std::size_t{1} << 16;
constexpr std::size_t kTableWordsMin = std::size_t{1} << 14, kStrideMin = 16;

}  // namespace

Result<> StepState::reserve(std::size_t rows, std::size_t sequences, std::size_t blocks, bool* moved) {
  *moved = false;
  const std::size_t stride = std::max({std::bit_ceil(blocks), stride_, kStrideMin});
  if (rows <= rows_max_ && sequences * stride <= tables_max_) {
    if (stride != stride_) places_.reset(static_cast<std::int32_t>(tables_max_ / stride));
    stride_ = stride;
    return {};
  }
  if (auto idle = device_.synchronise(device_.stream()); !idle) return idle;   // the old memory may be in use
  const std::size_t rows_max = std::max({rows, 2 * rows_max_, std::size_t{64}});
  const std::size_t tables_max = std::max({sequences * stride, 2 * tables_max_, kTableWordsMin});
  const std::size_t words = 9 * rows_max + tables_max;
  auto memory = Memory::make(device_, words * sizeof(std::int32_t), "the rows of a step");
  if (!memory) return memory.error();
  auto changes = Memory::make(device_, words * sizeof(std::int32_t), "what changes in the rows of a step");
  if (!changes) return changes.error();
  for (Pinned& stage : stages_) {
    auto pinned = Pinned::make(device_, words * sizeof(std::int32_t), "pinned memory");
    if (!pinned) return pinned.error();
    stage = std::move(*pinned);
  }
  memory_ = std::move(*memory);
  changes_ = std::move(*changes);
  image_.assign(words, 0);
  sent_.clear();
  places_.reset(static_cast<std::int32_t>(tables_max / stride));
  rows_max_ = rows_max;
  tables_max_ = tables_max;
  stride_ = stride;
  stages_used_ = 0;
  *moved = true;
  return {};
}

Result<> StepState::stage(const StepRows& step, std::int32_t bucket, bool* moved) {
  const std::size_t n = step.tokens.size(), padded = std::max<std::size_t>(n, static_cast<std::size_t>(bucket));
  std::int32_t blocks = 0;
  for (const SequenceRows& s : step.sequences) blocks = std::max(blocks, TablePlaces::blocks_of(s));
  if (auto ok = reserve(padded, step.sequences.size(), static_cast<std::size_t>(blocks), moved); !ok) return ok;
  stage_rows(step, padded);
  stage_tables(step);
  auto* const sequences = reinterpret_cast<kernels::cuda::SequenceRows*>(image(5 * rows_max_));
  if (bucket > 0)
    for (std::size_t s = step.sequences.size(); s < padded; ++s) sequences[s] = {static_cast<std::int32_t>(s), 1, 0, 0};
  rows_ = static_cast<std::int32_t>(padded);
  sequences_ = bucket > 0 ? rows_ : static_cast<std::int32_t>(step.sequences.size());
  return {};
}

void StepState::stage_rows(const StepRows& step, std::size_t padded) {
  const std::size_t n = step.tokens.size();
  std::int32_t* const slots = image(2 * rows_max_);
  std::int32_t* const row_sequence = image(3 * rows_max_);
  drawn_.clear();
  for (std::size_t row = 0; row < n; ++row) {
    const TokenId token = step.tokens[row];
    image(0)[row] = token < 0 ? -1 : token;
    if (token >= 0) continue;
    const auto from = static_cast<std::size_t>(drawn_by(0) - token);
    if (!drawn_.empty() && drawn_.back().row + drawn_.back().count == row && drawn_.back().from + drawn_.back().count == from)
      ++drawn_.back().count;
    else
      drawn_.push_back({row, from, 1});
  }
  std::memcpy(image(rows_max_), step.positions.data(), n * sizeof(std::int32_t));
  for (std::size_t s = 0; s < step.sequences.size(); ++s) {
    const SequenceRows& q = step.sequences[s];
    for (std::int32_t i = 0; i < q.rows; ++i) {
      const std::int32_t position = q.context - q.rows + i;
      const auto row = static_cast<std::size_t>(q.row + i);
      slots[row] = step.block_tables[static_cast<std::size_t>(q.table + position / kBlockTokens)] * kBlockTokens +
                   position % kBlockTokens;
      row_sequence[row] = static_cast<std::int32_t>(s);
    }
  }
  for (std::size_t row = n; row < padded; ++row) {
    image(0)[row] = -1;
    image(rows_max_)[row] = 0;
    slots[row] = -1;
    row_sequence[row] = -1;
  }
}

void StepState::stage_tables(const StepRows& step) {
  places_.assign(step.sequences, step.block_tables);
  used_tables_.clear();
  auto* const sequences = reinterpret_cast<kernels::cuda::SequenceRows*>(image(5 * rows_max_));
  for (std::size_t s = 0; s < step.sequences.size(); ++s) {
    const SequenceRows& q = step.sequences[s];
    const std::size_t offset = static_cast<std::size_t>(places_.places()[s]) * stride_;
    const auto blocks = static_cast<std::size_t>(TablePlaces::blocks_of(q));
    sequences[s] = {q.row, q.rows, q.context, static_cast<std::int32_t>(offset)};
    std::copy_n(step.block_tables.begin() + q.table, blocks, image(9 * rows_max_ + offset));
    used_tables_.emplace_back(9 * rows_max_ + offset, blocks);
  }
}

void StepState::stage_gather(std::span<const std::int32_t> rows, std::int32_t padded) {
  std::int32_t* const to = image(4 * rows_max_);
  std::copy(rows.begin(), rows.end(), to);
  std::fill(to + rows.size(), to + std::max<std::size_t>(rows.size(), static_cast<std::size_t>(padded)), 0);
}

bool StepState::collect(std::size_t begin, std::size_t n, bool all, std::size_t most) {
  for (std::size_t i = begin; i < begin + n; ++i) {
    if (!all && image_[i] == sent_[i]) continue;
    if (2 * pairs_ + 2 > most) return false;
    pairs_at_[2 * pairs_] = static_cast<std::int32_t>(i);
    pairs_at_[2 * pairs_ + 1] = image_[i];
    sent_[i] = image_[i];
    ++pairs_;
  }
  return true;
}

// Only what this step's kernels read. Tokens always: a kernel may have written over what was sent.
bool StepState::collect_changes(std::size_t most) {
  const auto rows = static_cast<std::size_t>(rows_);
  pairs_ = 0;
  if (!collect(0, rows, true, most)) return false;
  for (std::size_t array = 1; array < 5; ++array)
    if (!collect(array * rows_max_, rows, false, most)) return false;
  if (!collect(5 * rows_max_, 4 * static_cast<std::size_t>(sequences_), false, most)) return false;
  return std::all_of(used_tables_.begin(), used_tables_.end(), [&](const auto& t) { return collect(t.first, t.second, false, most); });
}

// Pairs take two words for one: where most of it changed, or nothing is there yet, all of it goes over as it is.
Result<> StepState::send_changes() {
  if (stages_used_ == kStages) {
    if (auto idle = device_.synchronise(device_.stream()); !idle) return idle;
    stages_used_ = 0;
  }
  ++stages_used_;
  pairs_at_ = reinterpret_cast<std::int32_t*>(stages_[stage_next_++ % kStages].data());
  if (!sent_.empty() && collect_changes(image_.size())) {
    device_.copy_to_device(changes_.data(), pairs_at_, 2 * pairs_ * sizeof(std::int32_t), device_.stream());
    device_.ops().scatter(device_.stream(), {reinterpret_cast<const std::int32_t*>(changes_.data()), static_cast<std::int32_t>(pairs_),
                                             reinterpret_cast<std::int32_t*>(memory_.data())});
    return {};
  }
  std::memcpy(pairs_at_, image_.data(), image_.size() * sizeof(std::int32_t));
  device_.copy_to_device(memory_.data(), pairs_at_, image_.size() * sizeof(std::int32_t), device_.stream());
  sent_ = image_;
  return {};
}

void StepState::take_drawn(const std::int32_t* drawn) const {
  for (const Stretch& s : drawn_)
    device_.copy_on_device(reinterpret_cast<std::int32_t*>(memory_.data()) + s.row, drawn + s.from, s.count * sizeof(std::int32_t),
                           device_.stream());
}

Result<const std::int32_t*> StepState::send(std::span<const std::int32_t> list) {
  Memory& ring = rings_[slot_];
  Pinned& pinned = rings_pinned_[slot_];
  std::size_t& used = ring_used_[slot_];
  if (used + list.size() > ring.bytes() / sizeof(std::int32_t)) {
    if (used > 0) {
      if (auto idle = device_.synchronise(device_.stream()); !idle) return idle.error();
    }
    used = 0;
    if (list.size() > ring.bytes() / sizeof(std::int32_t)) {
      const std::size_t words = std::max(kRingWords, 2 * list.size());
      auto memory = Memory::make(device_, words * sizeof(std::int32_t), "lists of a step");
      if (!memory) return memory.error();
      auto made = Pinned::make(device_, words * sizeof(std::int32_t), "pinned memory");
      if (!made) return made.error();
      ring = std::move(*memory);
      pinned = std::move(*made);
    }
  }
  auto* const host = reinterpret_cast<std::int32_t*>(pinned.data()) + used;
  auto* const device = reinterpret_cast<std::int32_t*>(ring.data()) + used;
  std::copy(list.begin(), list.end(), host);
  device_.copy_to_device(device, host, list.size_bytes(), device_.stream());
  used += list.size();
  return device;
}

}  // namespace tokenworks::backend::cuda
