// Moving rows: embedding gather, gather of residual rows, changed words of the step, zeroing of freed cache blocks.
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) embed_kernel(EmbedArgs a) {
  const auto row = static_cast<std::size_t>(blockIdx.y);
  const std::int32_t c = static_cast<std::int32_t>(blockIdx.x * kThreads + threadIdx.x);
  const std::int32_t token = a.tokens[row];
  if (c >= a.columns) return;
  // A padding row carries token -1 and becomes zeros.
  float value = 0;
  if (token >= 0 && (token < a.vocab || TW_PLANT(5))) {
    value = to_float(static_cast<const T*>(a.table)[static_cast<std::size_t>(token) * static_cast<std::size_t>(a.stride) +
                                                    static_cast<std::size_t>(c)]);
    if constexpr (sizeof(T) == 1) value *= a.scales[token];
  }
  a.out[row * static_cast<std::size_t>(a.columns) + static_cast<std::size_t>(c)] = value;
}

__global__ void __launch_bounds__(kThreads) gather_kernel(GatherArgs a) {
  const std::int32_t c = static_cast<std::int32_t>(blockIdx.x * kThreads + threadIdx.x);
  const auto to = static_cast<std::size_t>(blockIdx.y), columns = static_cast<std::size_t>(a.columns);
  if (TW_PLANT(6) ? c > a.columns : c >= a.columns) return;
  const auto from = static_cast<std::size_t>(a.rows[to]);
  a.to[to * columns + static_cast<std::size_t>(c)] = a.from[from * columns + static_cast<std::size_t>(c)];
}

__global__ void __launch_bounds__(kThreads) scatter_kernel(ScatterArgs a) {
  const std::int32_t i = static_cast<std::int32_t>(blockIdx.x * kThreads + threadIdx.x);
  if (TW_PLANT(23) ? i > a.count : i >= a.count) return;
  a.words[a.pairs[2 * i]] = a.pairs[2 * i + 1];
}

__global__ void __launch_bounds__(kThreads) zero_blocks_kernel(ZeroBlocksArgs a) {
  std::byte* block = a.cache + static_cast<std::size_t>(a.blocks[blockIdx.x]) * a.block_bytes;
  for (std::size_t at = (static_cast<std::size_t>(blockIdx.y) * kThreads + threadIdx.x) * 16; at < (TW_PLANT(21) ? a.block_bytes + 16 : a.block_bytes);
       at += static_cast<std::size_t>(gridDim.y) * kThreads * 16)
    store16(block + at, make_uint4(0, 0, 0, 0));
}

}  // namespace

void embed(Stream stream, const EmbedArgs& a) {
  if (a.rows == 0) return;
  const Launch how(stream, {divide_up(a.columns, kThreads), static_cast<unsigned>(a.rows)}, kThreads);
  switch (a.element) {
    case Element::f16: return launch(how, embed_kernel<f16>, a);
    case Element::fp8: return launch(how, embed_kernel<fp8>, a);
    default: return launch(how, embed_kernel<bf16>, a);
  }
}

void gather(Stream stream, const GatherArgs& a) {
  if (a.count == 0) return;
  launch(Launch(stream, {divide_up(a.columns, kThreads), static_cast<unsigned>(a.count)}, kThreads), gather_kernel, a);
}

void scatter(Stream stream, const ScatterArgs& a) {
  if (a.count == 0) return;
  launch(Launch(stream, {divide_up(a.count, kThreads)}, kThreads), scatter_kernel, a);
}

void zero_blocks(Stream stream, const ZeroBlocksArgs& a) {
  if (a.count == 0) return;
  const unsigned parts = divide_up(static_cast<std::int64_t>(a.block_bytes), kThreads * 16 * 8);
  launch(Launch(stream, {static_cast<unsigned>(a.count), parts < 65535 ? parts : 65535}, kThreads), zero_blocks_kernel, a);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
