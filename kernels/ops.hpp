#pragma once
// The operations of a transformer step on a CPU: plain data and one table of functions per instruction set.
//
// A table's functions work on a range of rows or panels, so that the backend can split an op over its threads; they
// allocate nothing, lock nothing and may run on any thread. What they promise about numerics:
//  - a row's result does not depend on which other rows are computed with it, on the ranges, or on the thread;
//  - `quantize` and `linear` on quantised weights are bit-equal in every table: integers are exact, and the float
//    operations around them are the same in the same order (given in `linear`);
//  - the float-only ops (norm, rope, attend, gate, linear_float) may differ in last bits between tables.
// Functions in this header are static: an instruction set's file must not leave a copy that others could be linked to.
#include <cstddef>
#include <cstdint>
#include <string>

namespace tokenworks::kernels {

inline constexpr std::int32_t kPanelRows = 32;       // output rows of a matrix that are stored together
inline constexpr std::int32_t kGroup = 32;           // columns that share a scale
inline constexpr std::int32_t kBlockTokens = 16;     // tokens of a KV block
inline constexpr std::int32_t kSpanTokens = 256;     // positions whose softmax is one pass; spans start at position 0

// How 32 rows of a matrix lie in memory, groups of 32 columns one after another, in a group:
//   codes   n4: 512 bytes, byte [j / 2][row][i] holds element 4 j + i in its low (j even) or high (j odd) four bits
//           b8: 1024 bytes, byte [j][row][i] holds element 4 j + i
//   d[32]   one scale a row (fp16: _h, fp32: _f); b8_f_16: d[2][32], one for each half of the group
//   m[32]   kinds ending in m: value = d * code + m, codes under 32; the others: value = d * (code - (1 << zero_shift))
// f32, f16, bf16: plain elements [column][32 rows].
enum class PanelKind : std::uint8_t { f32, f16, bf16, n4_h, n4_hm, n4_fm, b8_h, b8_hm, b8_fm, b8_f_16 };

static constexpr bool is_float(PanelKind kind) { return kind <= PanelKind::bf16; }
static constexpr bool has_nibbles(PanelKind kind) {
  return kind == PanelKind::n4_h || kind == PanelKind::n4_hm || kind == PanelKind::n4_fm;
}
static constexpr bool has_offsets(PanelKind kind) {
  return kind == PanelKind::n4_hm || kind == PanelKind::n4_fm || kind == PanelKind::b8_hm || kind == PanelKind::b8_fm;
}
static constexpr bool has_half_scales(PanelKind kind) {
  return kind == PanelKind::n4_h || kind == PanelKind::n4_hm || kind == PanelKind::b8_h || kind == PanelKind::b8_hm;
}
static constexpr std::size_t code_bytes(PanelKind kind) { return has_nibbles(kind) ? 512 : 1024; }
// Bytes of a group (quantised) or of one column (float) of a panel.
static constexpr std::size_t unit_bytes(PanelKind kind) {
  if (is_float(kind)) return kind == PanelKind::f32 ? 128 : 64;
  const std::size_t scales = has_offsets(kind) || kind == PanelKind::b8_f_16 ? 2 : 1;
  return code_bytes(kind) + scales * (has_half_scales(kind) ? 64 : 128);
}

struct Panels {                                      // a matrix [rows, columns], 32 rows to a panel, the last one padded
  PanelKind kind = PanelKind::f32;
  std::uint8_t zero_shift = 0;
  std::int32_t rows = 0, columns = 0;
  std::size_t panel_bytes = 0;
  const std::byte* data = nullptr;                   // 64-byte aligned
  const float* bias = nullptr;                       // [rows rounded up to 32], or null
};

struct GroupScale {                                  // of 32 int8 activations
  float scale;                                       // value = scale * code
  float scaled_sum;                                  // scale * sum of the codes
  std::int32_t negated_sum;                          // -(sum of the codes)
  std::int32_t negated_first;                        // the same over the first 16
};
struct Rows {                                        // activations [rows, columns], as fp32, as int8 per 32, or as both
  float* values = nullptr;                           // [rows, stride], null when nobody reads them
  std::int8_t* codes = nullptr;                      // [rows, stride], zero beyond the columns up to a multiple of 32
  GroupScale* groups = nullptr;                      // [rows, group_stride]
  std::int32_t columns = 0, stride = 0, group_stride = 0;
};

struct Range {
  std::int32_t first, count;
};

// Memory that an op after this one will read: lines of 64 bytes, numbered through pieces at base + blocks[i] * stride. An op
// that is bound by arithmetic asks for lines [first, end) while it computes; results never depend on it.
struct Later {
  const std::byte* base = nullptr;
  const std::int32_t* blocks = nullptr;
  std::size_t stride = 0;
  std::int64_t piece_lines = 1, first = 0, end = 0;
};

struct RopeView {
  const float* table = nullptr;                      // [positions, dims] : dims/2 cosines, then dims/2 sines
  std::int32_t dims = 0;
  bool interleaved = false;
};
struct HeadShape {
  std::int32_t q_heads, kv_heads, head_dim;
  float scale;
  std::int32_t window;                               // 0: none
  float soft_cap;                                    // 0: none
};
// One layer of a paged cache. Keys of a (block, head) lie [head_dim][16 tokens], values [16 tokens][head_dim].
struct KvView {
  std::byte* data = nullptr;                         // of the layer in block 0
  std::size_t block_bytes = 0;                       // from one block to the next
  std::size_t value_offset = 0;                      // from keys to values
  bool fp32 = false;                                 // else bf16
};

// Query rows of one sequence against one key/value head.
struct AttendRows {
  const float* q;                                    // [rows, q_stride], at the head group's first query head
  std::int64_t q_stride;
  std::int32_t rows, position;                       // of the first row; row i stands at position + i
  std::int32_t kv_head;
  const std::int32_t* blocks;                        // the sequence's block table
};
// What a span gave for one query: softmax maximum, sum, and unnormalised output; merged in ascending order of spans.
// Layout per query: [maximum, sum, 14 unused, head_dim rounded up to 16 outputs].
static constexpr std::size_t partial_floats(std::int32_t head_dim) {
  return 16 + static_cast<std::size_t>(head_dim + 15) / 16 * 16;
}

struct CpuOps {
  const char* name;

  // One row: int8 codes with a scale per 32. scale = max|x| / 127 (max * (1/127) in fp32), code = x * (127 / max) rounded
  // to nearest even; a group whose maximum is not finite gets codes 0 and a NaN scale, one under 1e-30 all zeros.
  void (*quantize)(const float* x, std::int32_t columns, std::int8_t* codes, GroupScale* groups);

  // out = hidden * rsqrt(mean(hidden^2) + epsilon) * weight
  void (*norm)(const float* hidden, const float* weight, float epsilon, std::int32_t columns, Range rows,
               const Rows& out);

  // out[row, r] (+)= sum over groups g ascending, from 0: y = fma(float(dot) * d, scale, y), then with offsets
  // y = fma(m, scaled_sum, y); dot = sum of (code - zero) * activation, exact. Then + bias; then out + y if accumulate.
  void (*linear)(const Panels& weight, Range panels, const Rows& in, Range rows, float* out, std::int64_t out_stride,
                 bool accumulate, const Later& later);
  // The same from fp32 activations: weights of any kind, quantised ones dequantised exactly; `scratch` holds
  // columns * 32 floats, 64-byte aligned, when the weight is quantised.
  void (*linear_float)(const Panels& weight, Range panels, const Rows& in, Range rows, float* out,
                       std::int64_t out_stride, bool accumulate, float* scratch);

  // Row `row` of a table into out[columns].
  void (*embed)(const Panels& table, std::int32_t row, float* out);

  // One row of qkv at `position`, in place: per-head norms (null: none) and rotation of q and k; k and v to the cache.
  void (*rope_and_store)(float* qkv, const HeadShape& shape, const RopeView& rope, const float* q_norm,
                         const float* k_norm, float epsilon, std::int32_t position, std::int32_t block,
                         const KvView& cache);

  // Spans [first, first + count) of the rows' context, each span's result merged into `partials` (one per query, query =
  // row * group + head in the group), which `attend_begin` emptied. scratch: attend_scratch_floats().
  void (*attend)(const AttendRows& rows, const HeadShape& shape, const KvView& cache, Range spans, float* partials,
                 float* scratch);
  void (*attend_begin)(std::int32_t queries, std::int32_t head_dim, float* partials);
  void (*attend_merge)(std::int32_t queries, std::int32_t head_dim, const float* later, float* partials);
  void (*attend_finish)(const float* partial, std::int32_t head_dim, float* out);       // output / sum

  // out[., c] = act(gate_up[., 2 c]) * gate_up[., 2 c + 1]
  void (*gate)(const float* gate_up, bool gelu, std::int32_t columns, Range rows, const Rows& out);

  // For encoders. hidden = (hidden - mean) / sqrt(variance + epsilon) * weight + bias, in place and to `out`; then
  // out = act(in) for act 0 gelu by erf, 1 gelu by tanh, 2 relu, 3 silu.
  void (*layer_norm)(float* hidden, const float* weight, const float* bias, float epsilon, std::int32_t columns, Range rows,
                     const Rows& out);
  void (*activate)(const float* in, std::int32_t act, std::int32_t columns, Range rows, const Rows& out);

  // The sampler's passes over a row of logits (sample.hpp says how they are used). Bit-equal in every table.
  std::int32_t (*argmax)(const float* logits, std::int32_t n);                         // lowest id of the highest; -1: NaN seen
  // weights[i] = exp((logits[i] - shift) * scale) (vec.hpp), sums[b] = their sum over 256 ids in fixed order
  void (*exponentials)(const float* logits, std::int32_t n, float shift, float scale, float* weights, double* sums);
};

static constexpr std::size_t attend_scratch_floats(std::int32_t head_dim) {
  return static_cast<std::size_t>(head_dim) * 8 + 8 * kSpanTokens + 8 * partial_floats(head_dim) + 64;
}

enum class CpuPath : std::uint8_t { portable, avx2, avx512 };
const char* name(CpuPath path);
bool machine_has(CpuPath path);                      // cpuid and the operating system's state saving, asked once
CpuPath best_path();
const CpuOps& ops(CpuPath path);                     // the path must be built in and machine_has() it
std::string processor_name();

}  // namespace tokenworks::kernels
