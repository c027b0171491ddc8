#pragma once
// StepState: the rows of one step where the kernels read them. It lives on the device and is changed by differences: the host
// keeps an image of what is there, a step sends the words that changed (a few for each row, and blocks that sequences got) as
// one copy out of a ring of pinned memory, and a small kernel puts them in their places. Device addresses stay what they are
// until a step outgrows the capacity, so a captured graph finds the next step's rows in the same place. Decode steps are padded
// to a bucket: padding rows have token -1, no slot and no sequence. Beside it a ring for the small lists that come between
// steps (blocks to zero, rows to gather). The engine thread.
#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "backend/cuda/objects.hpp"
#include "backend/cuda/table_places.hpp"

namespace tokenworks::backend::cuda {

class StepState {
 public:
  explicit StepState(Device& device) : device_(device) {}

  // Writes the rows, padded to `bucket` rows of one sequence each when bucket > 0, into the image; nothing is copied yet.
  // True in `moved`: device addresses changed, graphs that know them are void. resource_exhausted as from the device.
  Result<> stage(const StepRows& rows, std::int32_t bucket, bool* moved);
  void stage_gather(std::span<const std::int32_t> rows, std::int32_t padded);
  Result<> send_changes();                           // of what was staged against what the device has: one copy, one kernel

  // Behind the changes: tokens that the step names by the row that draws them, from `drawn` on the device. One copy where rows
  // stand side by side in both steps, as they do while nobody comes or goes.
  void take_drawn(const std::int32_t* drawn) const;

  const std::int32_t* tokens() const { return at(0); }
  const std::int32_t* positions() const { return at(rows_max_); }
  const std::int32_t* slots() const { return at(2 * rows_max_); }
  const std::int32_t* row_sequence() const { return at(3 * rows_max_); }
  const std::int32_t* gather_rows() const { return at(4 * rows_max_); }
  const kernels::cuda::SequenceRows* sequences() const {
    return reinterpret_cast<const kernels::cuda::SequenceRows*>(at(5 * rows_max_));
  }
  const std::int32_t* tables() const { return at(9 * rows_max_); }
  std::int32_t rows() const { return rows_; }        // with padding
  std::int32_t sequences_count() const { return sequences_; }

  // A list for one kernel now: copied on the stream, valid until the step it belongs to was waited for.
  Result<const std::int32_t*> send(std::span<const std::int32_t> list);
  // A step was enqueued whole. Lists have two rings: what is sent from now on is the next step's, and the step before the one
  // enqueued was waited for, or will be before the next list is sent. Of the stages, these two may hold one each.
  void turn() { slot_ ^= 1, ring_used_[slot_] = 0, stages_used_ = std::min(stages_used_, std::size_t{2}); }
  std::size_t slot() const { return slot_; }
  void release() { ring_used_ = {}, stages_used_ = 0; }  // after the stream was waited for

 private:
  const std::int32_t* at(std::size_t offset) const { return reinterpret_cast<const std::int32_t*>(memory_.data()) + offset; }
  std::int32_t* image(std::size_t offset) { return image_.data() + offset; }
  Result<> reserve(std::size_t rows, std::size_t sequences, std::size_t blocks, bool* moved);
  void stage_rows(const StepRows& step, std::size_t padded);
  void stage_tables(const StepRows& step);
  // Pairs (place, word) of [begin, begin + n) that differ, or all of them; false when `most` words are not enough.
  bool collect(std::size_t begin, std::size_t n, bool all, std::size_t most);
  bool collect_changes(std::size_t most);

  static constexpr std::size_t kStages = 4;          // steps that may be under way before the host waits for them

  Device& device_;
  Memory memory_, changes_;
  std::array<Memory, 2> rings_;
  std::array<Pinned, 2> rings_pinned_;
  std::array<std::size_t, 2> ring_used_{};
  std::size_t slot_ = 0;
  std::array<Pinned, kStages> stages_;
  std::vector<std::int32_t> image_, sent_;           // what the device should have; what it has, empty: nothing
  std::vector<std::pair<std::size_t, std::size_t>> used_tables_;   // of this step: where, how many blocks
  struct Stretch {
    std::size_t row, from, count;
  };
  std::vector<Stretch> drawn_;                       // rows of this step and where their tokens are drawn
  TablePlaces places_;
  std::size_t rows_max_ = 0, tables_max_ = 0, stride_ = 0, stages_used_ = 0, stage_next_ = 0, pairs_ = 0;
  std::int32_t* pairs_at_ = nullptr;
  std::int32_t rows_ = 0, sequences_ = 0;
};

}  // namespace tokenworks::backend::cuda
