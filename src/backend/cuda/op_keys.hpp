#pragma once
// What the files of CudaBackend share: the ops' numbers in the keys of a graph, and the way from the interface's types to ours.
#include <cstdint>

#include "backend/cuda/objects.hpp"

namespace tokenworks::backend::cuda {

enum Op : std::uint64_t { kEmbed = 1, kNorm, kLinear, kRope, kPlan, kAttention, kGate, kGather, kSum, kAddPositions, kLayerNorm, kActivate, kAttendAll, kColumns };

inline const CudaBuffer& cuda(const Buffer& b) { return static_cast<const CudaBuffer&>(b); }
inline const CudaWeight& cuda(const Weight& w) { return static_cast<const CudaWeight&>(w); }
inline CudaActivations& cuda(Activations& a) { return static_cast<CudaActivations&>(a); }
inline const CudaActivations& cuda(const Activations& a) { return static_cast<const CudaActivations&>(a); }

inline std::uint64_t key(const void* at) { return reinterpret_cast<std::uintptr_t>(at); }
inline std::uint64_t key(std::int32_t n) { return static_cast<std::uint32_t>(n); }

inline kernels::cuda::HeadShape head_shape(const AttentionSpec& s) {
  return {s.q_heads, s.kv_heads, s.head_dim, s.scale, s.window, s.soft_cap};
}

}  // namespace tokenworks::backend::cuda
