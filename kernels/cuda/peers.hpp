#pragma once
// What the ranks of a model do with each other's memory: sums and columns gathered over pointers into other cards, where a card
// can read them. A table of its own beside CudaOps; the same rules hold.
#include "kernels/cuda/ops.hpp"

namespace tokenworks::kernels::cuda {

inline constexpr std::int32_t kRanksMost = 16;

struct SumPeersArgs {                                // out[i] = the sum of parts[r][i], in the order of ranks
  const float* parts[kRanksMost] = {};
  std::int32_t ranks = 0;
  std::size_t values = 0;
  float* out = nullptr;                              // none of the parts: others are reading those
};
struct GatherPeersArgs {                             // out[row, first[r] + c] = parts[r][row, c]
  const float* parts[kRanksMost] = {};               // [rows, first[r + 1] - first[r]]
  std::int32_t first[kRanksMost + 1] = {};
  std::int32_t ranks = 0, rows = 0;
  float* out = nullptr;                              // [rows, first[ranks]]
};

struct PeerOps {
  void (*sum)(Stream, const SumPeersArgs&);
  void (*gather)(Stream, const GatherPeersArgs&);
};

// Compiled by nvcc; not in a build without it.
const PeerOps* device_peer_ops();

}  // namespace tokenworks::kernels::cuda
