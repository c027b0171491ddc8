#pragma once
// Backend: the operations a transformer is written in, once per kind of hardware.
//
// Written for a device from the start: memory is the backend's own (`Buffer`), every op is *enqueued* in order on the
// backend's one stream and may run later; nothing is copied to the host except by `download` and `sample`. The CPU
// backend runs an op before the call returns. One thread, the engine's, makes all calls after construction.
//
// The form of activations between ops is the backend's choice: `norm`, `attention` and `gate` leave their result in an
// `Activations` in whatever the next `linear` wants to read (CPU: int8 with a scale and a sum per 32; CUDA: bf16 or fp8),
// so quantisation is fused into the producer. The residual stream is fp32 in a Buffer.
// Errors: an op cannot fail on its arguments (they are asserted); a device that failed is sticky and shows in `check`.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tokenworks/backend/sampling.hpp"
#include "tokenworks/backend/swap.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/formats/tensor.hpp"

namespace tokenworks::backend {

class Buffer {                                       // device memory, freed with the object; the backend outlives it
 public:
  virtual ~Buffer() = default;
  virtual std::size_t bytes() const = 0;
};
class Weight {                                       // a matrix or vector in the backend's own layout, immutable
 public:
  virtual ~Weight() = default;
  virtual std::size_t bytes() const = 0;             // what it occupies on the device
};
class Activations {                                  // [rows_max, columns_max] in the backend's form
 public:
  virtual ~Activations() = default;
};

inline constexpr std::int32_t kBlockTokens = 16;

struct KvShape {
  std::int32_t layers, kv_heads, head_dim;
  std::size_t block_bytes() const {                  // bf16, K and V, all layers of 16 tokens contiguous
    return static_cast<std::size_t>(layers) * kv_heads * head_dim * kBlockTokens * 2 * 2;
  }
};
class KvCache {                                      // [block][layer][k|v][kv head][16 tokens][head dim], zeroed at birth
 public:
  virtual ~KvCache() = default;
  virtual const KvShape& shape() const = 0;
  virtual std::int32_t blocks() const = 0;
};

// The rows of one step. A sequence has `rows` consecutive query rows starting at `row`; its context after the step is
// `context` tokens long, held by ceil(context / 16) blocks, listed from `block_tables[table]` on. Row i of a sequence
// stands at position context - rows + i and sees all positions up to its own.
struct SequenceRows {
  std::int32_t row, rows, context, table;
};
// In place of a token, where the backend overlaps(): the one that sampled row `row` of the draw before this step gave.
constexpr TokenId drawn_by(std::int32_t row) { return -2 - row; }
struct StepRows {                                    // host spans, alive until sample(), begin_sample() or check() returned
  std::span<const TokenId> tokens;                   // [num_rows]
  std::span<const std::int32_t> positions;           // [num_rows]
  std::span<const SequenceRows> sequences;
  std::span<const std::int32_t> block_tables;
};

struct RopeSpec {
  std::int32_t dims = 0;                             // rotated dimensions of a head, even, <= head_dim
  bool interleaved = false;                          // pairs (2i, 2i+1) as in GGUF llama files; else (i, i + dims/2)
  std::vector<float> inverse_frequency;              // [dims/2], scaling (Llama 3, linear, yarn) already applied
  float magnitude = 1.0f;                            // multiplies sin and cos (yarn)
};
struct AttentionSpec {
  std::int32_t q_heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 0;                                   // usually 1/sqrt(head_dim)
  std::int32_t window = 0;                           // sliding window in tokens; 0: none
  float soft_cap = 0;                                // 0: none
};
enum class GateKind : std::uint8_t { silu, gelu_tanh };

struct BackendInfo {
  std::string name;                                  // "cpu", "cuda"
  std::string path;                                  // "avx512", "avx2", "portable", "exact", "sm_90"
  std::string device;                                // the processor's or card's own name
  std::string numerics;                              // changes when, and only when, results may: part of system_fingerprint
};

class EncoderOps;                                    // encoder.hpp
class PoolOps;                                       // pooling.hpp

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const BackendInfo& info() const = 0;
  // What an encoder needs besides; null when this backend runs decoders only.
  virtual EncoderOps* encoder_ops() { return nullptr; }
  // Sums of rows on the device; null: they are as well added on the host.
  virtual PoolOps* pool_ops() { return nullptr; }

  // Memory. `allocate` fails with the bytes asked for and what was free.
  virtual Result<std::unique_ptr<Buffer>> allocate(std::size_t bytes) = 0;
  virtual void upload(Buffer& to, std::size_t offset, std::span<const std::byte> from) = 0;
  virtual void download(const Buffer& from, std::size_t offset, std::span<std::byte> to) = 0;   // waits for the stream
  virtual Result<std::unique_ptr<Activations>> make_activations(std::int32_t rows_max, std::int32_t columns_max) = 0;
  // Bytes of one block in this backend's own element (bf16 unless said; `compute: exact` keeps fp32): what to plan with.
  virtual std::size_t kv_block_bytes(const KvShape& shape) const { return shape.block_bytes(); }
  virtual Result<std::unique_ptr<KvCache>> make_kv_cache(const KvShape& shape, std::int32_t blocks) = 0;
  virtual void zero_blocks(KvCache& cache, std::span<const std::int32_t> blocks) = 0;
  // Host memory for that many blocks of the cache; bad_config with what was asked for. Null: this backend has none to give.
  virtual Result<std::unique_ptr<SwapSpace>> make_swap_space(KvCache&, std::int32_t) { return std::unique_ptr<SwapSpace>(); }

  // Weights. `parts` are stacked by rows ([out_i, in] each, the same `in`): Q, K and V become one matrix. `bias` is empty
  // or one fp32 vector per part. Interleave: rows of two equal parts alternate (gate and up), as `gate` expects.
  struct LinearParts {
    std::vector<formats::TensorView> parts;
    std::vector<formats::TensorView> bias;
    bool interleave = false;
  };
  virtual Result<std::unique_ptr<Weight>> make_linear(const LinearParts& parts) = 0;
  virtual Result<std::unique_ptr<Weight>> make_vector(const formats::TensorView& vector) = 0;      // kept as fp32
  virtual Result<std::unique_ptr<Weight>> make_table(const formats::TensorView& rows) = 0;         // for `embed`
  // A table and a linear of the same tensor (tied embeddings) may share memory: the backend decides.
  virtual Result<std::unique_ptr<Weight>> make_rope(const RopeSpec& rope, std::int32_t positions_max) = 0;

  // One step. All row counts are <= what the buffers were made for. Buffers hold fp32 row-major unless said.
  virtual void begin_step(const StepRows& rows) = 0;
  virtual void embed(const Weight& table, Buffer& hidden) = 0;                       // hidden [num_rows, d]
  // out = rms_norm(hidden) * weight, [rows, d].
  virtual void norm(const Buffer& hidden, const Weight& weight, float epsilon, std::int32_t rows, std::int32_t columns,
                    Activations& out) = 0;
  // out [rows, n] = in [rows, k] * W^T (+ bias); accumulate: out += instead (the residual add).
  virtual void linear(const Activations& in, const Weight& weight, std::int32_t rows, Buffer& out, bool accumulate) = 0;
  // qkv [num_rows, (q_heads + 2 kv_heads) * head_dim]: optional per-head RMS norms of q and k (Qwen3; null: none), rotary
  // embedding of q (in place) and k, then K and V written to the cache at the step's positions.
  virtual void rope_and_store(Buffer& qkv, const AttentionSpec& spec, const Weight& rope, const Weight* q_norm,
                              const Weight* k_norm, float epsilon, KvCache& cache, std::int32_t layer) = 0;
  // out [num_rows, q_heads * head_dim] = softmax(q K^T * scale, causal) V over the paged cache.
  virtual void attention(const Buffer& qkv, const AttentionSpec& spec, const KvCache& cache, std::int32_t layer,
                         Activations& out) = 0;
  // gate_up [rows, 2 * columns], interleaved: out[., c] = act(gate_up[., 2c]) * gate_up[., 2c + 1].
  virtual void gate(const Buffer& gate_up, GateKind kind, std::int32_t rows, std::int32_t columns, Activations& out) = 0;
  // to[i] = from[rows[i]], [rows.size(), columns].
  virtual void gather(const Buffer& from, std::span<const std::int32_t> rows, std::int32_t columns, Buffer& to) = 0;
  // Samples row i of logits [rows.size(), vocab] as rows[i] says; waits for the stream. The only copy of a steady step.
  virtual Result<> sample(const Buffer& logits, std::int32_t vocab, std::span<const SampleRow> rows,
                          std::span<Sampled> out) = 0;
  // True: the next step may be enqueued before this one's tokens are known, and sample() taken in halves. begin_sample
  // enqueues, with a copy of all it is given; no rows: it only marks the end of a step. end_sample waits for the oldest one
  // begun and not ended, and for nothing enqueued behind it; `out` has its rows. Two may be open.
  virtual bool overlaps() const { return false; }
  virtual Result<> begin_sample(const Buffer& logits, std::int32_t vocab, std::span<const SampleRow> rows) {
    (void)logits, (void)vocab, (void)rows;
    return error(Errc::internal, "this backend does not overlap steps");
  }
  virtual Result<> end_sample(std::span<Sampled> out) {
    (void)out;
    return error(Errc::internal, "this backend does not overlap steps");
  }
  // The device's sticky state; engine_failed once lost. Waits for the stream.
  virtual Result<> check() = 0;
};

// What `backend: auto|cpu|cuda` and `compute: default|exact` in the config select. `threads` <= 0: one per core.
// For an evaluation `compute` may also name a rounding of activations over the exact path, "q8_1" for llama.cpp's.
struct BackendChoice {
  std::string backend = "auto";
  std::string compute = "default";
  std::int32_t threads = 0;
};
// bad_config when the choice is unknown or not built in; says what is. TOKENWORKS_CPU forces the CPU path.
Result<std::unique_ptr<Backend>> make_backend(const BackendChoice& choice);

// What a card could do here, for `doctor`: asked of the driver, which need not be installed.
struct GpuReport {
  bool built_in = false;                             // this binary has the CUDA kernels
  bool usable = false;                               // `backend: auto` takes the first card
  std::string driver;                                // its CUDA version, or why there is none to use
  std::vector<std::string> devices;                  // one line each
};
GpuReport gpu_report();

}  // namespace tokenworks::backend
