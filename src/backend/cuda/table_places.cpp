#include "backend/cuda/table_places.hpp"

#include <cassert>

namespace tokenworks::backend::cuda {

void TablePlaces::reset(std::int32_t places) {
  held_.clear();
  free_.clear();
  for (std::int32_t p = places; p-- > 0;) free_.push_back(p);
}

void TablePlaces::assign(std::span<const SequenceRows> sequences, std::span<const std::int32_t> tables) {
  next_.clear();
  places_.clear();
  std::size_t cursor = 0;                            // sequences keep their order from step to step; some leave
  for (const SequenceRows& s : sequences) {
    const std::int32_t blocks = blocks_of(s);
    const auto table = tables.subspan(static_cast<std::size_t>(s.table), static_cast<std::size_t>(blocks));
    std::size_t at = cursor;
    while (at < held_.size() && (held_[at].blocks > blocks || table[static_cast<std::size_t>(held_[at].blocks) - 1] != held_[at].last)) ++at;
    const bool known = at < held_.size();
    next_.push_back({known ? held_[at].place : -1, blocks, table.back()});
    if (!known) continue;
    for (; cursor < at; ++cursor) free_.push_back(held_[cursor].place);
    ++cursor;
  }
  for (; cursor < held_.size(); ++cursor) free_.push_back(held_[cursor].place);
  for (Held& h : next_) {
    if (h.place < 0) {
      assert(!free_.empty());
      h.place = free_.back();
      free_.pop_back();
    }
    places_.push_back(h.place);
  }
  held_.swap(next_);
}

}  // namespace tokenworks::backend::cuda
