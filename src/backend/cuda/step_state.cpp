#include "backend/cuda/step_state.hpp"

#include <algorithm>
#include <cstring>

namespace tokenworks::backend::cuda {
namespace {

constexpr std::size_t kRingWords = std::size_t{1} << 16;

}  // namespace

Result<> StepState::reserve(std::size_t rows, std::size_t tables, bool* moved) {
  *moved = false;
  if (rows <= rows_max_ && tables <= tables_max_) return {};
  if (auto idle = device_.synchronise(device_.stream()); !idle) return idle;   // the old memory may be in use
  const std::size_t rows_max = std::max({rows, 2 * rows_max_, std::size_t{64}});
  const std::size_t tables_max = std::max({tables, 2 * tables_max_, std::size_t{1024}});
  const std::size_t bytes = (9 * rows_max + tables_max) * sizeof(std::int32_t);
  auto memory = Memory::make(device_, bytes, "the rows of a step");
  if (!memory) return memory.error();
  auto pinned = Pinned::make(device_, bytes, "pinned memory");
  if (!pinned) return pinned.error();
  memory_ = std::move(*memory);
  pinned_ = std::move(*pinned);
  rows_max_ = rows_max;
  tables_max_ = tables_max;
  *moved = true;
  return {};
}

Result<> StepState::stage(const StepRows& step, std::int32_t bucket, bool* moved) {
  const std::size_t n = step.tokens.size(), padded = std::max<std::size_t>(n, static_cast<std::size_t>(bucket));
  if (auto ok = reserve(padded, step.block_tables.size(), moved); !ok) return ok;
  std::int32_t* const slots = host(2 * rows_max_);
  std::int32_t* const row_sequence = host(3 * rows_max_);
  std::memcpy(host(0), step.tokens.data(), n * sizeof(std::int32_t));
  std::memcpy(host(rows_max_), step.positions.data(), n * sizeof(std::int32_t));
  auto* const sequences = reinterpret_cast<kernels::cuda::SequenceRows*>(host(5 * rows_max_));
  for (std::size_t s = 0; s < step.sequences.size(); ++s) {
    const SequenceRows& q = step.sequences[s];
    sequences[s] = {q.row, q.rows, q.context, q.table};
    for (std::int32_t i = 0; i < q.rows; ++i) {
      const std::int32_t position = q.context - q.rows + i;
      const auto row = static_cast<std::size_t>(q.row + i);
      slots[row] = step.block_tables[static_cast<std::size_t>(q.table + position / kBlockTokens)] * kBlockTokens +
                   position % kBlockTokens;
      row_sequence[row] = static_cast<std::int32_t>(s);
    }
  }
  for (std::size_t row = n; row < padded; ++row) {
    host(0)[row] = -1;
    host(rows_max_)[row] = 0;
    slots[row] = -1;
    row_sequence[row] = -1;
  }
  if (bucket > 0)
    for (std::size_t s = step.sequences.size(); s < padded; ++s) sequences[s] = {static_cast<std::int32_t>(s), 1, 0, 0};
  std::memcpy(host(9 * rows_max_), step.block_tables.data(), step.block_tables.size() * sizeof(std::int32_t));
  std::fill_n(host(4 * rows_max_), padded, 0);
  rows_ = static_cast<std::int32_t>(padded);
  sequences_ = bucket > 0 ? rows_ : static_cast<std::int32_t>(step.sequences.size());
  used_ = 9 * rows_max_ + step.block_tables.size();
  return {};
}

void StepState::stage_gather(std::span<const std::int32_t> rows, std::int32_t padded) {
  std::int32_t* const to = host(4 * rows_max_);
  std::copy(rows.begin(), rows.end(), to);
  std::fill(to + rows.size(), to + std::max<std::size_t>(rows.size(), static_cast<std::size_t>(padded)), 0);
}

void StepState::copy() { device_.copy_to_device(memory_.data(), pinned_.data(), used_ * sizeof(std::int32_t), device_.stream()); }

Result<const std::int32_t*> StepState::send(std::span<const std::int32_t> list) {
  if (ring_used_ + list.size() > ring_.bytes() / sizeof(std::int32_t)) {
    if (auto idle = device_.synchronise(device_.stream()); !idle) return idle.error();
    ring_used_ = 0;
    if (list.size() > ring_.bytes() / sizeof(std::int32_t)) {
      const std::size_t words = std::max(kRingWords, 2 * list.size());
      auto memory = Memory::make(device_, words * sizeof(std::int32_t), "lists of a step");
      if (!memory) return memory.error();
      auto pinned = Pinned::make(device_, words * sizeof(std::int32_t), "pinned memory");
      if (!pinned) return pinned.error();
      ring_ = std::move(*memory);
      ring_pinned_ = std::move(*pinned);
    }
  }
  auto* const host = reinterpret_cast<std::int32_t*>(ring_pinned_.data()) + ring_used_;
  auto* const device = reinterpret_cast<std::int32_t*>(ring_.data()) + ring_used_;
  std::copy(list.begin(), list.end(), host);
  device_.copy_to_device(device, host, list.size_bytes(), device_.stream());
  ring_used_ += list.size();
  return device;
}

}  // namespace tokenworks::backend::cuda
