#pragma once
// Transformer: the one implementation of Runner. A decoder-only transformer written over Backend's ops; what differs
// between families is data (architecture.hpp). The residual stream is fp32; one Activations carries every linear's
// input in the backend's form. Owned and called by the engine thread; owns backend, weights, KV cache and step buffers,
// all made at load: a step allocates nothing.
#include <memory>
#include <optional>
#include <vector>

#include "model/memory.hpp"
#include "model/weights.hpp"
#include "tokenworks/backend/communicator.hpp"
#include "tokenworks/model/runner.hpp"

namespace tokenworks::model {

class Transformer final : public Runner {
 public:
  struct Parts {
    std::unique_ptr<backend::Backend> backend;
    formats::ModelConfig config;
    backend::AttentionSpec attention;
    backend::GateKind gate;
    Weights weights;
    RunnerInfo info;                                 // weight_bytes, kv_bytes and workspace_bytes filled in
    std::int32_t swap_slots = 0;                     // as far as the backend has them
    Workspace workspace;
    backend::Communicator* communicator = nullptr;   // of several ranks: this is one's part; outlives the transformer
    std::int32_t head_rows = 0;                      // of this rank, with a communicator
    std::vector<float> final_norm;                   // on the host, for what is pooled there
  };
  static Result<std::unique_ptr<Runner>> make(Parts parts);

  const RunnerInfo& info() const override { return p_.info; }
  Result<> run(const Step& step, std::span<backend::Sampled> sampled) override;
  Result<> launch(const Step& step) override;
  Result<> take(std::span<backend::Sampled> sampled) override;
  Result<> logits(const backend::StepRows& rows, std::span<const std::int32_t> wanted, std::span<float> out) override;
  void zero_blocks(std::span<const std::int32_t> blocks) override;
  void swap_out(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) override;
  void swap_in(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots, std::span<const std::int32_t> freed) override;

 private:
  explicit Transformer(Parts parts) : p_(std::move(parts)) {}

  // internal when a step does not fit what the model was loaded for: the caller's defect, found before it reads memory
  // that is not its own.
  Result<> check_step(const backend::StepRows& rows, std::span<const std::int32_t> wanted, std::int32_t drawn = 0) const;
  Result<> check_sampling(const Step& step) const;
  // All rows up to the last layer's attention: what the cache needs.
  void layers(const backend::StepRows& rows);
  void attention(const LayerWeights& layer, std::int32_t index, std::int32_t rows);
  void feed_forward(const LayerWeights& layer, backend::Buffer& hidden, std::int32_t rows);
  // The last feed-forward, norm and head for at most sequences_max rows: logits_ [wanted.size(), vocab].
  void head(std::span<const std::int32_t> wanted);
  bool first_rank() const { return p_.communicator == nullptr || p_.communicator->rank() == 0; }
  // hidden [rows, hidden]: the sum over ranks. The residual stands in the first rank's; the others bring their products only.
  void reduce(backend::Buffer& hidden, std::int32_t rows);
  void gather_logits(std::size_t rows);              // from every rank's own rows of the head
  Result<> finished();                               // the device's state, or the first thing that failed between ranks
  // Adds up the final rows of what is pooled, after their last feed-forward and norm.
  void pool(const Step& step);
  void pool_on_device(const Step& step, backend::PoolOps& ops);   // sums and norms there: a row a text comes back
  void find_pooled_rows(const Step& step);

  Parts p_;                                          // the backend outlives everything below
  std::unique_ptr<backend::Buffer> hidden_;          // [rows_max, hidden]
  std::unique_ptr<backend::Buffer> qkv_;             // [rows_max, (q_heads + 2 kv_heads) * head_dim]
  std::unique_ptr<backend::Buffer> gate_up_;         // [rows_max, 2 * ffn]
  std::unique_ptr<backend::Buffer> sampled_;         // [sequences_max, hidden]
  std::unique_ptr<backend::Buffer> logits_;          // [sequences_max, vocab]
  std::unique_ptr<backend::Activations> input_;      // [rows_max, widest]
  std::unique_ptr<backend::KvCache> cache_;
  std::unique_ptr<backend::SwapSpace> swap_;         // null: none
  std::unique_ptr<backend::Buffer> own_logits_;      // [sequences_max, head_rows], of several ranks
  std::vector<std::int32_t> head_widths_;            // rows of the head by rank
  std::optional<Error> failure_;
  std::int32_t drawn_ = 0;                           // sampled rows of the step that was launched last
  std::vector<std::int32_t> pool_rows_;
  std::vector<std::int32_t> pool_into_;              // of which entry of Step::pooled, one per pool_rows_ entry
  std::unique_ptr<backend::Buffer> pool_sums_;       // [sequences_max, hidden], where the backend adds rows up
  std::vector<float> pool_values_;                   // [sequences_max, hidden]
};

}  // namespace tokenworks::model
