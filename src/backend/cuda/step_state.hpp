#pragma once
// StepState: the rows of one step where the kernels read them. Host arrays are laid out in pinned memory and go over in one
// copy; device addresses stay what they are until a step outgrows the capacity, so a captured graph finds the next step's
// rows in the same place. Decode steps are padded to a bucket: padding rows have token -1, no slot and no sequence. Beside
// it a ring for the small lists that come between steps (blocks to zero, rows to gather). The engine thread.
#include <span>

#include "backend/cuda/objects.hpp"

namespace tokenworks::backend::cuda {

class StepState {
 public:
  explicit StepState(Device& device) : device_(device) {}

  // Writes the rows, padded to `bucket` rows of one sequence each when bucket > 0, into pinned memory; nothing is copied yet.
  // True in `moved`: device addresses changed, graphs that know them are void. resource_exhausted as from the device.
  Result<> stage(const StepRows& rows, std::int32_t bucket, bool* moved);
  void stage_gather(std::span<const std::int32_t> rows, std::int32_t padded);
  void copy();                                       // what was staged, as one copy

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

  // A list for one kernel now: copied on the stream, valid until the next synchronisation has passed `release`.
  Result<const std::int32_t*> send(std::span<const std::int32_t> list);
  void release() { ring_used_ = 0; }                 // after the stream was waited for

 private:
  const std::int32_t* at(std::size_t offset) const { return reinterpret_cast<const std::int32_t*>(memory_.data()) + offset; }
  std::int32_t* host(std::size_t offset) const { return reinterpret_cast<std::int32_t*>(pinned_.data()) + offset; }
  Result<> reserve(std::size_t rows, std::size_t tables, bool* moved);

  Device& device_;
  Memory memory_, ring_;
  Pinned pinned_, ring_pinned_;
  std::size_t rows_max_ = 0, tables_max_ = 0, used_ = 0, ring_used_ = 0;
  std::int32_t rows_ = 0, sequences_ = 0;
};

}  // namespace tokenworks::backend::cuda
