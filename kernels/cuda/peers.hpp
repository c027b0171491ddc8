#pragma once
// What the ranks of a model do with each other's memory: sums and columns gathered over pointers into other cards, where a card
// can read them. A table of its own beside CudaOps; the same rules hold.
#include "kernels/cuda/ops.hpp"

namespace tokenworks::kernels::cuda {

inline constexpr std::int32_t kRanksMost = 16;

// The sum over ranks without their threads: every rank launches one grid, whose blocks tell their like on the other cards by
// flags that their part lies in its mailbox, wait for the others' flags and add all parts in the order of ranks, so that all
// hold the same bits. Flags count up and never go back; two mailboxes take turns, so that nobody waits for a part to be read.
// Nothing of it depends on the step: a graph can replay it. All ranks launch as many values, in the same order of calls; all
// blocks of a grid must be resident at once, which so few are.
inline constexpr std::int32_t kOnceThreads = 256, kOnceBlocks = 128, kOnceValues = 1024;   // values: of a block's part
inline constexpr std::size_t kMailboxFloats = std::size_t{2} * kOnceBlocks * kOnceValues;
inline constexpr std::size_t kFlagWords = std::size_t{kOnceBlocks} * kRanksMost;           // [block][from rank], of sums or of columns
struct SumOnceArgs {
  float* values = nullptr;                           // in place
  std::size_t count = 0;
  float* mailboxes[kRanksMost] = {};                 // of every rank: [2][kOnceBlocks][kOnceValues]
  std::uint32_t* flags[kRanksMost] = {};             // of every rank, kFlagWords, zero before the first call
  std::uint32_t* epochs = nullptr;                   // this rank's [kOnceBlocks], zero before the first call
  const std::uint32_t* left = nullptr;               // nonzero: a rank has gone, nobody waits any more and values mean nothing
  std::int32_t rank = 0, ranks = 0;
};
// Columns gathered on the first rank the same way: every rank writes its own into the first one's memory and says so by flags
// of their own; the first waits for all. Between two of them a sum must stand: it is what tells the others that the first rank
// has read what was gathered before.
inline constexpr std::int32_t kGatherColumns = 4096;                                        // of a row, a block's at a time
struct GatherOnceArgs {                              // out[row, from + c] = mine[row, c]
  const float* mine = nullptr;                       // [rows, width]
  float* out = nullptr;                              // the first rank's [rows, total]
  std::int32_t from = 0, width = 0, total = 0;       // this rank's columns among all
  std::uint32_t* flags = nullptr;                    // the first rank's, kFlagWords
  std::uint32_t* epochs = nullptr;                   // this rank's [kOnceBlocks]
  const std::uint32_t* left = nullptr;
  std::int32_t rank = 0, ranks = 0, rows = 0;
  std::int32_t stretches = 0;                        // of kGatherColumns in the widest rank's columns, the same on every rank
};
constexpr std::int32_t gather_stretches(std::int32_t widest) { return widest < 1 ? 1 : (widest + kGatherColumns - 1) / kGatherColumns; }

// Ids that the first rank drew, in every rank's memory before its next kernel; `told` is the number of the call, from 1 on. As
// above a sum must stand between two.
inline constexpr std::int32_t kSharedIds = 8192;
struct ShareIdsArgs {
  const std::int32_t* drawn = nullptr;               // the first rank's [count]
  std::int32_t* ids[kRanksMost] = {};                // of every rank but the first, [kSharedIds]
  std::uint32_t* flags[kRanksMost] = {};             // of every rank but the first, one word
  const std::uint32_t* left = nullptr;
  std::uint32_t told = 0;
  std::int32_t rank = 0, ranks = 0, count = 0;
};

struct PeerOps {
  void (*sum_once)(Stream, const SumOnceArgs&);
  void (*gather_once)(Stream, const GatherOnceArgs&);
  void (*share_ids)(Stream, const ShareIdsArgs&);
};

// Compiled by nvcc; not in a build without it.
const PeerOps* device_peer_ops();

}  // namespace tokenworks::kernels::cuda
