#pragma once
// The CUDA kernels' face to the host: arguments of every op as plain data, and the table of launchers. No CUDA header here:
// the same .cu files are compiled by nvcc for devices and by the host compiler for the emulator in tests/kernels/emulator,
// and each build offers one table. A launcher only enqueues on the stream; arguments are copied; pointers are device memory
// unless said. Any thread, one at a time per stream.
#include <cstddef>
#include <cstdint>

namespace tokenworks::kernels::cuda {

using Stream = void*;                                // cudaStream_t, or the emulator's

enum class Element : std::uint8_t { f32, bf16, f16, fp8 };   // fp8: e4m3, finite with one NaN, largest value 448
static constexpr std::size_t bytes_of(Element e) {
  return e == Element::f32 ? 4 : e == Element::fp8 ? 1 : 2;
}
inline constexpr std::int32_t kColumnPad = 64;       // columns of activations and weights are stored in multiples of this

// Activations [rows, stride], zero from `columns` to `stride` = columns rounded up to kColumnPad. fp8: value = data * scales[row].
struct Rows {
  void* data = nullptr;
  float* scales = nullptr;                           // [rows], fp8 only
  Element element = Element::bf16;
  std::int32_t columns = 0, stride = 0;
};

struct NormArgs {                                    // out = hidden * rsqrt(mean(hidden^2) + epsilon) * weight
  const float* hidden = nullptr;                     // [rows, out.columns]
  const float* weight = nullptr;                     // [out.columns]
  float epsilon = 0;
  std::int32_t rows = 0;
  Rows out;
};

struct GateArgs {                                    // out[., c] = act(gate_up[., 2 c]) * gate_up[., 2 c + 1]
  const float* gate_up = nullptr;                    // [rows, 2 * out.columns]
  bool gelu = false;                                 // gelu_tanh; else silu
  std::int32_t rows = 0;
  Rows out;
};

struct QuantizeArgs {                                // bf16 or f16 rows to fp8 with a scale per row
  Rows in, out;
  std::int32_t rows = 0;
};

struct EmbedArgs {                                   // out[i] = table[tokens[i]]
  const void* table = nullptr;                       // [vocab, stride]
  Element element = Element::bf16;
  const float* scales = nullptr;                     // [vocab], fp8 only
  const std::int32_t* tokens = nullptr;              // [rows]
  std::int32_t rows = 0, columns = 0, stride = 0, vocab = 0;
  float* out = nullptr;                              // [rows, columns]
};

struct GatherArgs {                                  // to[i] = from[rows[i]]
  const float* from = nullptr;
  const std::int32_t* rows = nullptr;                // [count]
  std::int32_t count = 0, columns = 0;
  float* to = nullptr;
};

struct ScatterArgs {                                 // words[pairs[2 i]] = pairs[2 i + 1]; no place twice
  const std::int32_t* pairs = nullptr;               // [count, 2]
  std::int32_t count = 0;
  std::int32_t* words = nullptr;
};

struct ZeroBlocksArgs {
  std::byte* cache = nullptr;
  std::size_t block_bytes = 0;                       // a multiple of 16
  const std::int32_t* blocks = nullptr;              // [count]
  std::int32_t count = 0;
};

// A token's head takes kv_stride(head_dim) elements of the cache, zero beyond head_dim: the size of a tile of the attention
// kernels, so that every head up to 128 has tiles and rows of whole 16 bytes.
static constexpr std::int32_t kv_stride(std::int32_t head_dim) {
  return head_dim <= 16 ? 16 : head_dim <= 32 ? 32 : head_dim <= 64 ? 64 : head_dim <= 80 ? 80 : head_dim <= 96 ? 96
         : head_dim <= 128 ? 128 : head_dim;
}

// The paged cache: [block][layer][k|v][kv head][16 tokens][kv_stride], bf16, f16 or fp8 (scales kv_scale below).
struct Kv {
  std::byte* data = nullptr;                         // of the layer in block 0
  std::size_t block_bytes = 0;                       // from one block to the next
  std::size_t value_offset = 0;                      // from keys to values
  Element element = Element::bf16;
  float k_scale = 1, v_scale = 1;                    // fp8: value = stored * scale
};

struct HeadShape {
  std::int32_t q_heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 0;                                   // of scores
  std::int32_t window = 0;                           // 0: none
  float soft_cap = 0;                                // 0: none
  constexpr std::int32_t row_stride() const { return (q_heads + 2 * kv_heads) * head_dim; }
};

struct RopeArgs {                                    // in place: head norms and rotation of q; k and v go to the cache
  float* qkv = nullptr;                              // [rows, shape.row_stride()]
  std::int32_t rows = 0;
  HeadShape shape;
  const float* table = nullptr;                      // [positions, dims]: dims/2 cosines, then dims/2 sines
  std::int32_t dims = 0;
  bool interleaved = false;
  const float* q_norm = nullptr;                     // [head_dim] or null
  const float* k_norm = nullptr;
  float epsilon = 0;
  const std::int32_t* positions = nullptr;           // [rows]
  const std::int32_t* slots = nullptr;               // [rows], block * 16 + token; -1: a padding row, nothing is stored
  Kv kv;
};

struct SequenceRows {                                // as backend::SequenceRows; context 0: a padding sequence
  std::int32_t row, rows, context, table;
};

struct AttendArgs {                                  // out[., head] = softmax(q K^T * scale, causal) V
  const float* qkv = nullptr;                        // [rows, shape.row_stride()], q rotated
  HeadShape shape;
  Kv kv;
  const SequenceRows* sequences = nullptr;           // [num_sequences]
  const std::int32_t* tables = nullptr;              // block numbers
  const std::int32_t* row_sequence = nullptr;        // [rows], which sequence a row belongs to; -1: a padding row (zeros)
  std::int32_t num_sequences = 0, rows = 0;
  Rows out;                                          // bf16 or f16, padding columns are the launcher's to zero
};

// The work of a step's attention, made on the device from the step's sequences by attend_plan, once a step, and read by every
// layer: a captured graph replays it with other lengths. Sequences of few rows (decoding, verifying drafts) are cut along
// their context into items; the others along their rows into tiles.
struct AttendItem {                                  // 16 queries of a sequence against a piece of its context
  std::int32_t sequence, query;                      // first of the 16; query = row in the sequence * heads of a group + head
  std::int32_t first, count;                         // positions; first is a multiple of 16
};
struct AttendTile {                                  // 64 queries of a sequence against all they may see
  std::int32_t sequence, query;
};
struct AttendPlan {
  AttendItem* items = nullptr;                       // [items_max]
  AttendTile* tiles = nullptr;                       // [tiles_max]
  std::int32_t* counts = nullptr;                    // [3]: items, tiles, positions of an item
  std::int32_t* first_item = nullptr;                // [sequences]
  std::int32_t* chunks = nullptr;                    // [sequences], items of 16 queries; 0: the sequence is in the tiles
  std::int32_t items_max = 0, tiles_max = 0;
};
// What a plan needs at most. Items: any number from attend_items_min on; longer pieces are taken when they do not fit.
static constexpr std::int32_t attend_items_min(std::int32_t sequences, std::int32_t decode_rows, std::int32_t group) {
  return sequences * ((decode_rows * group + 15) / 16);
}
static constexpr std::int32_t attend_tiles_max(std::int32_t rows, std::int32_t sequences, std::int32_t group) {
  return static_cast<std::int32_t>((static_cast<std::int64_t>(rows) * group + 63) / 64) + sequences;
}
static constexpr bool attend_has_tiles(std::int32_t head_dim) {       // else attend_plain
  return head_dim <= 128 && head_dim % 2 == 0;
}
struct AttendPlanArgs {
  const SequenceRows* sequences = nullptr;           // [num_sequences]; context 0: a padding sequence
  std::int32_t num_sequences = 0;
  std::int32_t group = 1;                            // query heads of a key/value head
  std::int32_t decode_rows = 1;                      // sequences of at most so many rows become items
  std::int32_t chunk = 512;                          // positions of an item, a multiple of 64
  AttendPlan plan;
};
// Partial results of items: per (item, kv head, query of 16) a maximum, a sum and kv_stride outputs.
static constexpr std::size_t attend_partial_floats(std::int32_t items_max, std::int32_t kv_heads, std::int32_t head_dim) {
  return static_cast<std::size_t>(items_max) * static_cast<std::size_t>(kv_heads) * 16 *
         static_cast<std::size_t>(kv_stride(head_dim) + 2);
}
struct AttendTiledArgs {
  AttendArgs attend;                                 // head_dim that attend_has_tiles
  AttendPlan plan;
  float* partials = nullptr;                         // decode: attend_partial_floats()
  std::int32_t blocks = 1;                           // of the grid for one kv head: any number is right, enough fill the card
  std::size_t shared_bytes = std::size_t{227} << 10; // what the card gives a block: less of it is fewer pages under way
};

enum class Quant : std::uint8_t { none, q8_0, q4_0, q4_1, q4_k };   // blocks of GGUF, kept as the file stores them

struct Weights {                                     // [n, k], rows of stride elements (none) or row_bytes (GGUF blocks)
  const void* data = nullptr;
  Element element = Element::bf16;                   // of Quant::none
  Quant quant = Quant::none;
  const float* scales = nullptr;                     // [n], fp8 only
  const float* bias = nullptr;                       // [n] or null
  std::int32_t n = 0, k = 0, stride = 0;
  std::size_t row_bytes = 0;
};

struct LinearArgs {                                  // out [rows, weights.n] (+)= in * W^T + bias, fp32
  Rows in;
  Weights weights;
  std::int32_t rows = 0;
  float* out = nullptr;
  bool accumulate = false;
};

struct UnpackArgs {                                  // to [from.n, to_stride] = the values of GGUF blocks, zero from k on
  Weights from;
  void* to = nullptr;
  Element element = Element::bf16;                   // or f16
  std::int32_t to_stride = 0;                        // a multiple of kColumnPad
};

struct ProbeArgs {
  const void* data = nullptr;                        // 16-byte aligned
  std::size_t bytes = 0;                             // a multiple of 16
  std::uint32_t* sums = nullptr;                     // [blocks * 8], exclusive ors
  std::int32_t blocks = 1;
};

// One row to sample (backend::SampleRow). Lists are words from SampleArgs::lists on.
struct SampleSpec {
  std::int32_t greedy, rules;                        // rules: mask, bias or penalties change the logits first
  float inverse_temperature, top_p, min_p, repetition, presence, frequency;
  std::int32_t top_k, top_logprobs;                  // as in backend::SamplingParams
  std::uint32_t seed[2], position[2], choice;        // low word first
  std::int32_t changed_row;                          // of SampleArgs::changed, with rules
  std::int32_t mask;                                 // its first word; -1: none
  std::int32_t bias, bias_count;                     // pairs: token, bits of the fp32 bias
  std::int32_t seen, seen_count;                     // pairs: token, times in the output
  std::int32_t draft;                                // as backend::SampleRow::draft
};
struct TopLogprob {
  std::int32_t token;                                // -1: none from here on
  float logprob;
};
struct SampleArgs {
  const float* logits = nullptr;                     // [rows, vocab]
  float* changed = nullptr;                          // scratch [rows with rules, vocab]
  const SampleSpec* specs = nullptr;                 // [rows]
  const std::uint32_t* lists = nullptr;
  std::int32_t rows = 0, vocab = 0, top_max = 0;     // top_max >= every row's top_logprobs
  std::int32_t* tokens = nullptr;                    // [rows]; -1: no finite logit
  float* logprobs = nullptr;                         // [rows]
  TopLogprob* top = nullptr;                         // [rows, top_max]
};

struct PoolArgs {                                    // sums[into[i]] (+)= rows[i], or its RMS norm; into negative: nowhere
  const float* rows = nullptr;                       // [count, columns]
  const float* norm = nullptr;                       // [columns], or null: rows as they are
  float epsilon = 0;
  const std::int32_t* into = nullptr;                // [count]
  std::int32_t count = 0, columns = 0, texts = 0;
  bool further = false;                              // add to what is there
  float* factors = nullptr;                          // scratch [count], with norm
  float* sums = nullptr;                             // [texts, columns]
};

struct AddPositionsArgs {                            // hidden[r] += table[positions[r]]
  const float* table = nullptr;                      // [., columns]
  const std::int32_t* positions = nullptr;           // [rows]
  std::int32_t rows = 0, columns = 0;
  float* hidden = nullptr;                           // [rows, columns]
};

struct LayerNormArgs {                               // hidden = (hidden - mean) / sqrt(variance + epsilon) * weight + bias; out: the same
  float* hidden = nullptr;                           // [rows, out.columns], in place
  const float* weight = nullptr;                     // [out.columns]
  const float* bias = nullptr;
  float epsilon = 0;
  std::int32_t rows = 0;
  Rows out;
};

struct ActivateArgs {                                // out = act(in)
  const float* in = nullptr;                         // [rows, out.columns]
  std::int32_t kind = 0;                             // backend::ActivationKind: gelu, gelu_tanh, relu, silu
  std::int32_t rows = 0;
  Rows out;
};

struct AttendAllArgs {                               // out[., head] = softmax(q K^T * scale) V over all rows of the row's sequence
  const float* qkv = nullptr;                        // [rows, shape.row_stride()]
  HeadShape shape;                                   // head_dim up to 256; no window
  const SequenceRows* sequences = nullptr;           // [num_sequences], by ascending row
  const std::int32_t* row_sequence = nullptr;        // [rows]; -1: a padding row (zeros), behind all others
  std::int32_t num_sequences = 0, rows = 0;
  Rows out;                                          // bf16 or f16, padding columns are the launcher's to zero
};

struct VerifyArgs {                                  // rows behind a draft that was not drawn lose their result: token -2
  const SampleSpec* specs = nullptr;                 // [rows]
  std::int32_t rows = 0, top_max = 0;
  std::int32_t* tokens = nullptr;                    // as SampleArgs
  float* logprobs = nullptr;
  TopLogprob* top = nullptr;
};

struct CudaOps {
  const char* name;                                  // "device", "emulator"
  void (*norm)(Stream, const NormArgs&);
  void (*gate)(Stream, const GateArgs&);
  void (*quantize)(Stream, const QuantizeArgs&);
  void (*embed)(Stream, const EmbedArgs&);
  void (*gather)(Stream, const GatherArgs&);
  void (*scatter)(Stream, const ScatterArgs&);
  void (*zero_blocks)(Stream, const ZeroBlocksArgs&);
  void (*rope_and_store)(Stream, const RopeArgs&);
  void (*linear)(Stream, const LinearArgs&);         // tiled tensor-core GEMM, any number of rows; Quant::none
  void (*linear_small)(Stream, const LinearArgs&);   // streams the weights once: few rows; Quant::none
  void (*linear_quant)(Stream, const LinearArgs&);   // GGUF blocks, at most 16 rows of bf16 or f16
  void (*unpack)(Stream, const UnpackArgs&);
  void (*attend_plain)(Stream, const AttendArgs&);   // any head size; one warp a (row, head)
  void (*attend_plan)(Stream, const AttendPlanArgs&);
  void (*attend_decode)(Stream, const AttendTiledArgs&);   // the plan's items, their merge, and zeros for padding
  void (*attend_prefill)(Stream, const AttendTiledArgs&);  // the plan's tiles
  void (*sample)(Stream, const SampleArgs&);         // the CPU sampler's choices
  void (*pool)(Stream, const PoolArgs&);
  void (*add_positions)(Stream, const AddPositionsArgs&);
  void (*layer_norm)(Stream, const LayerNormArgs&);
  void (*activate)(Stream, const ActivateArgs&);
  void (*attend_all)(Stream, const AttendAllArgs&);
  void (*verify)(Stream, const VerifyArgs&);         // drafts against what was drawn
  void (*probe_read)(Stream, const ProbeArgs&);      // for measuring the card
};

// The table compiled by nvcc; null in a build without it.
const CudaOps* device_ops();

}  // namespace tokenworks::kernels::cuda
