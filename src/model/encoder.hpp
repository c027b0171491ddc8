#pragma once
// Encoder: a bidirectional BERT as a Runner that only pools. Its layers need a whole text at once, while the scheduler hands
// out a text in chunks: chunks are put down, as token ids, in the blocks the scheduler gave the sequence (its "KV cache"), and
// the text is computed when its last chunk comes. Texts of a step are computed together as far as the buffers go; none
// changes another's result. Owned and called by the engine thread; a step allocates nothing large.
#include <memory>
#include <vector>

#include "model/weights.hpp"
#include "tokenworks/backend/encoder.hpp"
#include "tokenworks/backend/pooling.hpp"
#include "tokenworks/model/runner.hpp"

namespace tokenworks::model {

struct EncoderLayer {
  WeightPtr qkv, output, attention_norm, attention_norm_bias, up, down, norm, norm_bias;
};
struct EncoderWeights {
  WeightPtr words, positions, norm, norm_bias;       // positions: with the first token type added
  std::vector<EncoderLayer> layers;
  std::size_t bytes = 0;
};

class Encoder final : public Runner {
 public:
  struct Parts {
    std::unique_ptr<backend::Backend> backend;
    formats::ModelConfig config;
    backend::AttentionSpec attention;
    backend::ActivationKind activation;
    EncoderWeights weights;
    RunnerInfo info;
    std::int32_t rows_at_once;                       // of the buffers; at least one whole context
  };
  static Result<std::unique_ptr<Runner>> make(Parts parts);

  const RunnerInfo& info() const override { return p_.info; }
  Result<> run(const Step& step, std::span<backend::Sampled> sampled) override;
  void zero_blocks(std::span<const std::int32_t> blocks) override;

 private:
  struct Text {
    std::int32_t row, rows;                          // in tokens_
    const PooledRows* pooled;
  };
  explicit Encoder(Parts parts) : p_(std::move(parts)), ops_(*p_.backend->encoder_ops()) {}
  Result<> check_step(const Step& step) const;
  void put_down(const backend::StepRows& rows);
  void pick_up(const backend::StepRows& rows, const PooledRows& pooled);
  Result<> compute();                                // texts_, then forgets them
  void layers(std::int32_t rows);
  void pool_on_device(backend::PoolOps& ops);
  void pool_on_host();

  Parts p_;                                          // the backend outlives everything below
  backend::EncoderOps& ops_;
  std::unique_ptr<backend::Buffer> hidden_;          // [rows_at_once, hidden]
  std::unique_ptr<backend::Buffer> qkv_;             // [rows_at_once, 3 * hidden]
  std::unique_ptr<backend::Buffer> inner_;           // [rows_at_once, ffn]
  std::unique_ptr<backend::Activations> input_;
  std::vector<TokenId> cells_;                       // [blocks * 16]
  std::vector<TokenId> tokens_;
  std::vector<std::int32_t> positions_, no_blocks_;
  std::vector<backend::SequenceRows> sequences_;
  std::vector<Text> texts_;
  std::unique_ptr<backend::Buffer> sums_;            // [sequences_max, hidden], where the backend adds rows up
  std::vector<std::int32_t> into_;                   // which of texts_ a row counts for; -1: none
  std::vector<float> rows_;                          // of the last layer, or sums_
};

// The counterparts of can_load(), load() and plan_memory() for a file whose architecture is "bert".
Result<> can_load_encoder(const formats::ModelFile& file, backend::Backend& backend, const LoadOptions& options);
Result<std::unique_ptr<Runner>> load_encoder(const formats::ModelFile& file, std::unique_ptr<backend::Backend> backend,
                                             const LoadOptions& options);
Result<MemoryPlan> plan_encoder_memory(const formats::ModelFile& file, const LoadOptions& options);

}  // namespace tokenworks::model
