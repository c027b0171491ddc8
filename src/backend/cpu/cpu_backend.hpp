#pragma once
// CpuBackend: the ops of Backend on this machine's cores. An op runs before its call returns, its rows or panels split over
// the thread pool; how they are split never changes a result. Activations are int8 per 32 columns for quantised weights and
// fp32 for float ones; with `exact` fp32 for all, and the cache fp32 too. One thread, the engine's, makes all calls.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/cpu/objects.hpp"
#include "backend/cpu/rounding.hpp"
#include "backend/cpu/thread_pool.hpp"
#include "kernels/cpu/sample.hpp"
#include "kernels/ops.hpp"
#include "tokenworks/backend/encoder.hpp"

namespace tokenworks::backend {

class CpuBackend final : public Backend, public EncoderOps {
 public:
  CpuBackend(kernels::CpuPath path, bool exact, int threads);
  // The exact path with every linear's input rounded first.
  CpuBackend(kernels::CpuPath path, const Rounding& rounding, const std::string& scheme, int threads);

  const BackendInfo& info() const override { return info_; }
  EncoderOps* encoder_ops() override { return this; }

  Result<std::unique_ptr<Buffer>> allocate(std::size_t bytes) override;
  void upload(Buffer& to, std::size_t offset, std::span<const std::byte> from) override;
  void download(const Buffer& from, std::size_t offset, std::span<std::byte> to) override;
  Result<std::unique_ptr<Activations>> make_activations(std::int32_t rows_max, std::int32_t columns_max) override;
  std::size_t kv_block_bytes(const KvShape& shape) const override { return shape.block_bytes() * (exact_ ? 2 : 1); }
  Result<std::unique_ptr<KvCache>> make_kv_cache(const KvShape& shape, std::int32_t blocks) override;
  void zero_blocks(KvCache& cache, std::span<const std::int32_t> blocks) override;

  Result<std::unique_ptr<Weight>> make_linear(const LinearParts& parts) override;
  Result<std::unique_ptr<Weight>> make_vector(const formats::TensorView& vector) override;
  Result<std::unique_ptr<Weight>> make_table(const formats::TensorView& rows) override;
  Result<std::unique_ptr<Weight>> make_rope(const RopeSpec& rope, std::int32_t positions_max) override;

  void begin_step(const StepRows& rows) override;
  void embed(const Weight& table, Buffer& hidden) override;
  void norm(const Buffer& hidden, const Weight& weight, float epsilon, std::int32_t rows, std::int32_t columns,
            Activations& out) override;
  void linear(const Activations& in, const Weight& weight, std::int32_t rows, Buffer& out, bool accumulate) override;
  void rope_and_store(Buffer& qkv, const AttentionSpec& spec, const Weight& rope, const Weight* q_norm,
                      const Weight* k_norm, float epsilon, KvCache& cache, std::int32_t layer) override;
  void attention(const Buffer& qkv, const AttentionSpec& spec, const KvCache& cache, std::int32_t layer,
                 Activations& out) override;
  void gate(const Buffer& gate_up, GateKind kind, std::int32_t rows, std::int32_t columns, Activations& out) override;
  void gather(const Buffer& from, std::span<const std::int32_t> rows, std::int32_t columns, Buffer& to) override;
  Result<> sample(const Buffer& logits, std::int32_t vocab, std::span<const SampleRow> rows,
                  std::span<Sampled> out) override;
  Result<> check() override { return {}; }

  // cpu_encoder.cpp
  void add_positions(const Weight& table, std::int32_t columns, Buffer& hidden) override;
  void layer_norm(Buffer& hidden, const Weight& weight, const Weight& bias, float epsilon, std::int32_t rows,
                  std::int32_t columns, Activations& out) override;
  void activate(const Buffer& in, ActivationKind kind, std::int32_t rows, std::int32_t columns, Activations& out) override;
  void attend_all(const Buffer& qkv, const AttentionSpec& spec, Activations& out) override;

 private:
  struct AttentionUnit {                             // query rows of a sequence against one key/value head
    std::int32_t sequence, row, rows, kv_head, spans;
    std::int32_t first_partial;                      // in split_partials_, when the unit's spans are split over jobs
  };
  struct SpanJob {
    std::int32_t unit, span;
  };

  Result<std::shared_ptr<const Matrix>> pack(const LinearParts& parts);
  void reserve_scratch(std::size_t floats);          // of every thread; grows only
  float* scratch(int thread) const {
    return reinterpret_cast<float*>(scratch_[static_cast<std::size_t>(thread)].data());
  }
  kernels::Rows& shape(Activations& out, std::int32_t columns);
  void round(const kernels::Rows& rows, std::int32_t first, std::int32_t count) const;   // nothing without a rounding
  kernels::Later later_share(kernels::Range panels, std::int32_t columns, std::int32_t slice, std::int32_t slices) const;
  void look_ahead(const CpuKvCache& cache, std::int32_t layer);
  void plan_attention(const AttentionSpec& spec);
  kernels::AttendRows rows_of(const AttentionUnit& unit, const float* qkv, const AttentionSpec& spec) const;
  void finish_unit(const AttentionUnit& unit, const AttentionSpec& spec, const float* partials,
                   const kernels::Rows& out, float* values);

  const kernels::CpuOps& ops_;
  bool exact_;
  std::optional<Rounding> rounding_;
  BackendInfo info_;
  ThreadPool pool_;
  std::vector<Pages> scratch_;                       // one per thread
  std::vector<kernels::Sampler> samplers_;           // one per thread
  bool reads_values_ = false, reads_codes_ = false;  // some linear wants fp32 rows, int8 rows
  std::map<std::string, std::weak_ptr<const Matrix>> packed_;   // by identity of the tensor: tied weights share

  StepRows step_;
  std::int32_t planned_group_ = 0;                   // query heads per key/value head that units_ were made for; 0: none yet
  std::vector<std::int32_t> row_block_;              // block of each row's position
  std::vector<std::int32_t> later_blocks_;           // of the sequences that decode
  kernels::Later later_;                             // what the next layer's attention will read of the cache
  std::int64_t layer_work_ = 0, layer_done_ = 0;     // panels x columns of the linears between two attentions; since the last
  std::vector<AttentionUnit> units_;
  std::vector<SpanJob> span_jobs_;
  std::vector<float> split_partials_;
  struct WholeUnit {                                 // some queries of one sequence against one key/value head
    std::int32_t sequence, kv_head, first, queries;
  };
  std::vector<WholeUnit> whole_units_;
  std::vector<float> whole_q_, whole_kv_;            // of attend_all: queries by head, keys and values in blocks
  std::vector<std::int32_t> whole_blocks_, whole_first_block_;
};

}  // namespace tokenworks::backend
