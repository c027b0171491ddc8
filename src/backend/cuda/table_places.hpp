#pragma once
// TablePlaces: where each sequence of a step has its block table on the device. A sequence that was in the step before keeps
// its place, so that only the blocks it got since have to be sent; who it is, its last block tells: nobody else writes there.
// A wrong guess costs words to send, no more. Pure; the engine thread.
#include <cstdint>
#include <span>
#include <vector>

#include "tokenworks/backend/backend.hpp"

namespace tokenworks::backend::cuda {

class TablePlaces {
 public:
  static std::int32_t blocks_of(const SequenceRows& s) { return (s.context + kBlockTokens - 1) / kBlockTokens; }

  void reset(std::int32_t places);                   // all free; at least as many as a step has sequences
  // places()[i] is that of sequences[i] until the next call.
  void assign(std::span<const SequenceRows> sequences, std::span<const std::int32_t> tables);
  std::span<const std::int32_t> places() const { return places_; }

 private:
  struct Held {
    std::int32_t place, blocks, last;                // the last of so many blocks
  };
  std::vector<Held> held_, next_;                    // in the order of the step
  std::vector<std::int32_t> free_, places_;
};

}  // namespace tokenworks::backend::cuda
