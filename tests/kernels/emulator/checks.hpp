#pragma once
// A check of a kernel runs it on the emulator and answers what is wrong: the emulator's fault, or how far a result is from
// arithmetic in double; empty when all is well. Tests run checks over many shapes; planted_test.cpp runs them with a bug.
#include <string>

#include "rows.hpp"

namespace tokenworks::emulator {

std::string check_norm(kernels::cuda::Element e, std::int32_t rows, std::int32_t columns, float size = 3);
std::string check_gate(kernels::cuda::Element e, bool gelu, std::int32_t rows, std::int32_t columns);
std::string check_quantize(kernels::cuda::Element from, std::int32_t rows, std::int32_t columns);
std::string check_embed(kernels::cuda::Element e, std::int32_t rows, std::int32_t columns);
std::string check_gather(std::int32_t count, std::int32_t columns);
std::string check_scatter(std::int32_t count);
std::string check_zero_blocks(std::size_t block_bytes, std::int32_t blocks);

struct RopeCase {
  std::int32_t q_heads = 4, kv_heads = 2, head_dim = 16, dims = 16, rows = 3;
  bool interleaved = false, norms = false;
  kernels::cuda::Element kv = kernels::cuda::Element::bf16;
  std::int32_t positions_max = 40;
  float k_scale = 1, v_scale = 1;
};
std::string check_rope(const RopeCase& c);

struct LinearCase {
  kernels::cuda::Element element = kernels::cuda::Element::bf16;
  std::int32_t rows = 1, n = 1, k = 64;
  bool bias = false, accumulate = false, small = false;
};
std::string check_linear(const LinearCase& c);

struct AttendCase {
  std::int32_t q_heads = 4, kv_heads = 2, head_dim = 16, window = 0;
  float soft_cap = 0;
  std::vector<std::pair<std::int32_t, std::int32_t>> sequences{{1, 1}};   // rows, context
  std::int32_t padding_rows = 0;
  kernels::cuda::Element kv = kernels::cuda::Element::bf16, out = kernels::cuda::Element::bf16;
  float k_scale = 1, v_scale = 1;
};
std::string check_attend_plain(const AttendCase& c);

}  // namespace tokenworks::emulator
