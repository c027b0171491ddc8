#pragma once
// Runner: one loaded model that can run a step: what the engine drives. An interface, so that the engine's tests run on a
// model of ten lines. Owned and called by the engine thread after load.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tokenworks/backend/backend.hpp"
#include "tokenworks/base/ids.hpp"
#include "tokenworks/formats/model_file.hpp"

namespace tokenworks::model {

// How the rows of a text become one vector. mean: over all of them; last, first: that row alone.
enum class Pooling : std::uint8_t { none, last, mean, first };

struct RunnerInfo {
  std::int32_t vocab = 0;
  std::int32_t context_tokens = 0;                   // the longest sequence, prompt and output
  std::int32_t kv_blocks = 0;                        // blocks of 16 tokens
  std::int32_t rows_max = 0;                         // rows of one step
  std::int32_t sequences_max = 0;
  std::size_t weight_bytes = 0, kv_bytes = 0, workspace_bytes = 0;
  std::int32_t swap_slots = 0;                       // blocks that host memory keeps of preempted sequences; 0: none
  std::size_t swap_bytes = 0;
  double swap_move_ns = 0;                           // what a block takes one way
  std::vector<TokenId> stop_tokens;
  std::int32_t embedding_columns = 0;                // of a pooled vector; 0: this runner pools nothing
  Pooling pooling = Pooling::last;                   // what the model was made for
  bool generates = true;                             // false: an encoder, which only pools
  bool overlaps = false;                             // launch() and take() are there
  std::string fingerprint;                           // "fp_..." of weights layout and numerics: changes when results may
};

// A sequence of a step that is pooled: its rows are added up in `sum` [embedding_columns] (mean), or the row asked for is
// written there. `complete`: the text ends in this step; an encoder, which needs all of a text at once, works only then.
struct PooledRows {
  std::int32_t sequence;                             // index into StepRows::sequences
  Pooling pooling;
  bool complete;
  std::span<double> sum;
};

// A step: rows to compute, which rows get sampled, and which sequences are pooled.
struct Step {
  backend::StepRows rows;
  std::span<const std::int32_t> sample_rows;         // row indices, ascending
  std::span<const backend::SampleRow> sampling;      // one per sample_rows entry
  std::span<const PooledRows> pooled{};              // by ascending sequence; none of them is sampled
};

class Runner {
 public:
  virtual ~Runner() = default;
  virtual const RunnerInfo& info() const = 0;
  // Runs the step; sampled[i] belongs to sample_rows[i]. engine_failed when the device is lost (sticky).
  virtual Result<> run(const Step& step, std::span<backend::Sampled> sampled) = 0;
  // run() in halves, where info().overlaps, for a step that pools nothing. launch enqueues and looks at nothing of the step
  // afterwards; take waits for the oldest step launched and not taken. Two may be open; while one is, a token of the next may
  // be backend::drawn_by a sampled row of it. zero_blocks takes effect between the steps it is called between.
  virtual Result<> launch(const Step& step) {
    (void)step;
    return error(Errc::internal, "this runner does not overlap steps");
  }
  virtual Result<> take(std::span<backend::Sampled> sampled) {
    (void)sampled;
    return error(Errc::internal, "this runner does not overlap steps");
  }
  virtual void zero_blocks(std::span<const std::int32_t> blocks) = 0;
  // blocks[i] of the cache to slots[i] of host memory, and back, in order with the steps; `freed` slots are zeroed after it.
  // Slots are below info().swap_slots.
  virtual void swap_out(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) { (void)blocks, (void)slots; }
  virtual void swap_in(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots, std::span<const std::int32_t> freed) {
    (void)blocks, (void)slots, (void)freed;
  }
  // Raw logits [wanted.size(), vocab] of rows `wanted` (ascending, any number of them) into host memory, in place of
  // sampling: for tests and `tokenworks eval`. A runner that serves only may leave it out.
  virtual Result<> logits(const backend::StepRows& rows, std::span<const std::int32_t> wanted, std::span<float> out) {
    (void)rows, (void)wanted, (void)out;
    return error(Errc::internal, "this runner gives no logits");
  }
};

struct LoadOptions {
  std::int32_t context_tokens = 8192;                // lowered to the model's own context with a warning
  std::size_t kv_cache_bytes = std::size_t{512} << 20;
  std::size_t swap_bytes = 0;                        // host memory for preempted sequences, where the backend has it
  std::int32_t sequences_max = 64;
  std::int32_t rows_max = 512;                       // step budget upper bound
};

// Loads the weights into the backend and builds the graph; the file is not needed afterwards. bad_file names the tensor
// that is missing or has a wrong shape; bad_config names an architecture we do not have and those we do, or says what
// would fit when kv_cache_bytes do not hold one sequence of context_tokens.
Result<std::unique_ptr<Runner>> load(std::shared_ptr<const formats::ModelFile> file,
                                     std::unique_ptr<backend::Backend> backend, const LoadOptions& options);

// Memory a load would take, without loading: for `models inspect`. Weights are counted as the file stores them; a
// backend's own layout may take some more (RunnerInfo::weight_bytes has the truth after a load).
struct MemoryPlan {
  std::size_t weight_bytes, kv_bytes_per_token, workspace_bytes;
};
Result<MemoryPlan> plan_memory(const formats::ModelFile& file, const LoadOptions& options);

// Raw logits of every position of `tokens`, [tokens.size(), vocab] fp32, for tests and `tokenworks eval`: one sequence
// in the first blocks of the cache, so never beside a running engine. context_length_exceeded when it does not fit.
Result<std::vector<float>> logits_of(Runner& runner, std::span<const TokenId> tokens);

}  // namespace tokenworks::model
