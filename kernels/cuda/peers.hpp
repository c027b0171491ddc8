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
inline constexpr std::size_t kFlagWords = std::size_t{kOnceBlocks} * kRanksMost;           // [block][from rank]
struct SumOnceArgs {
  float* values = nullptr;                           // in place
  std::size_t count = 0;
  float* mailboxes[kRanksMost] = {};                 // of every rank: [2][kOnceBlocks][kOnceValues]
  std::uint32_t* flags[kRanksMost] = {};             // of every rank, kFlagWords, zero before the first call
  std::uint32_t* epochs = nullptr;                   // this rank's [kOnceBlocks], zero before the first call
  const std::uint32_t* left = nullptr;               // nonzero: a rank has gone, nobody waits any more and values mean nothing
  std::int32_t rank = 0, ranks = 0;
};
struct GatherPeersArgs {                             // out[row, first[r] + c] = parts[r][row, c]
  const float* parts[kRanksMost] = {};               // [rows, first[r + 1] - first[r]]
  std::int32_t first[kRanksMost + 1] = {};
  std::int32_t ranks = 0, rows = 0;
  float* out = nullptr;                              // [rows, first[ranks]]
};

struct PeerOps {
  void (*sum_once)(Stream, const SumOnceArgs&);
  void (*gather)(Stream, const GatherPeersArgs&);
};

// Compiled by nvcc; not in a build without it.
const PeerOps* device_peer_ops();

}  // namespace tokenworks::kernels::cuda
