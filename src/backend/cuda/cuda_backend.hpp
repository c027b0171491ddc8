#pragma once
// CudaBackend: the ops of Backend on a Device: a card, or the emulator that runs the same kernels in tests. Ops enqueue; the
// residual stream is fp32, activations between ops are bf16 (default), f16 or fp8 with a scale per row, the cache bf16, f16 or
// fp8. Steps of one row per sequence are padded to a bucket and replayed as graphs (step_graphs.hpp); the rest runs eagerly.
// Results of a row do not promise to be the same bits in another batch: docs/cuda.md says what is promised. One thread, the
// engine's, makes all calls.
#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "backend/cuda/attend_memory.hpp"
#include "backend/cuda/device_sampler.hpp"
#include "backend/cuda/objects.hpp"
#include "backend/cuda/step_graphs.hpp"
#include "backend/cuda/step_state.hpp"
#include "backend/cuda/tuned_products.hpp"
#include "tokenworks/backend/encoder.hpp"
#include "tokenworks/backend/pooling.hpp"

namespace tokenworks::backend::cuda {

class DeviceSums;                                     // card_communicator.hpp
class SharedIds;

struct CudaOptions {
  kernels::cuda::Element compute = kernels::cuda::Element::bf16;   // bf16, f16, fp8
  kernels::cuda::Element kv = kernels::cuda::Element::bf16;
  bool graphs = true;
  bool packed = true;                                // keep GGUF blocks of Q4_0, Q4_1, Q4_K and Q8_0; bf16 and f16 only
  std::string products_file;                         // where it is kept which kernel multiplies what; empty: nowhere
  std::function<std::int64_t()> now_ns;              // empty: the steady clock
};

class CudaBackend final : public Backend, public EncoderOps, public PoolOps {
 public:
  CudaBackend(std::unique_ptr<Device> device, const CudaOptions& options);
  ~CudaBackend() override;

  const BackendInfo& info() const override { return info_; }

  Result<std::unique_ptr<Buffer>> allocate(std::size_t bytes) override;
  void upload(Buffer& to, std::size_t offset, std::span<const std::byte> from) override;
  void download(const Buffer& from, std::size_t offset, std::span<std::byte> to) override;
  Result<std::unique_ptr<Activations>> make_activations(std::int32_t rows_max, std::int32_t columns_max) override;
  std::size_t kv_block_bytes(const KvShape& shape) const override {
    return CudaKvCache::half_bytes_of(shape, options_.kv) * 2 * static_cast<std::size_t>(shape.layers);
  }
  Result<std::unique_ptr<KvCache>> make_kv_cache(const KvShape& shape, std::int32_t blocks) override;
  void zero_blocks(KvCache& cache, std::span<const std::int32_t> blocks) override;
  Result<std::unique_ptr<SwapSpace>> make_swap_space(KvCache& cache, std::int32_t slots) override;

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
  bool overlaps() const override { return true; }
  Result<> begin_sample(const Buffer& logits, std::int32_t vocab, std::span<const SampleRow> rows) override;
  Result<> end_sample(std::span<Sampled> out) override;
  Result<> check() override;

  // cuda_encoder.cpp
  EncoderOps* encoder_ops() override { return this; }
  PoolOps* pool_ops() override { return this; }
  void add_positions(const Weight& table, std::int32_t columns, Buffer& hidden) override;
  void layer_norm(Buffer& hidden, const Weight& weight, const Weight& bias, float epsilon, std::int32_t rows, std::int32_t columns,
                  Activations& out) override;
  void activate(const Buffer& in, ActivationKind kind, std::int32_t rows, std::int32_t columns, Activations& out) override;
  void attend_all(const Buffer& qkv, const AttentionSpec& spec, Activations& out) override;
  void pool(const Buffer& rows, const Weight* norm, float epsilon, std::span<const std::int32_t> into, std::int32_t columns, bool further,
            std::int32_t count, Buffer& sums) override;

  // Finds out what multiplies the weights that are here fastest, for steps of up to so many rows; when the cache is made, for one.
  void time_products(std::int32_t rows);
  void know(std::shared_ptr<const Matrix> matrix) { matrices_.push_back(std::move(matrix)); }   // of somebody else's make
  // For a communicator of cards: the sum over ranks of the step's rows, as a part of the step.
  void sum_over_ranks(Buffer& values, std::int32_t rows, std::int32_t columns, DeviceSums& sums);
  // The same for columns of the step's sampled rows, `columns` in all: `enqueue` is told how many rows and where this rank's are.
  using EnqueueColumns = std::function<void(const float* mine, std::int32_t rows, Stream stream)>;
  void gather_over_ranks(const Buffer& mine, std::int32_t rows, std::int32_t columns, const Buffer& all, const EnqueueColumns& enqueue);
  void share_ids(SharedIds* ids) { shared_ids_ = ids; }   // from now on, or null: this card's are its own

  Device& device() { return *device_; }
  const Device& device() const { return *device_; }
  std::size_t graphs() const { return graphs_.graphs(); }

 private:
  const kernels::cuda::CudaOps& ops() const { return device_->ops(); }
  Stream stream() const { return device_->stream(); }
  // Rows an op really computes: those of the bucket where it was asked for the step's, as far as its buffer goes.
  std::int32_t padded(std::int32_t rows, const Buffer& buffer, std::int32_t columns) const;
  void keep(const Result<>& done) {                  // the first failure is what check() answers
    if (!done && !failure_) failure_ = done.error();
  }
  bool draws() const;                                // false: another rank does, and gives this one its ids
  Result<> wait();
  void plan_attention(const kernels::cuda::HeadShape& shape);
  Result<Memory> upload_new(std::span<const std::byte> from, const char* what);
  Result<std::unique_ptr<Weight>> make_matrix(const LinearParts& parts, bool packed);
  Result<std::shared_ptr<const Matrix>> pack(const LinearParts& parts, bool packed);
  Result<> pack_rows(const LinearParts& parts, Matrix& matrix);
  void multiply(const kernels::cuda::LinearArgs& args);

  std::unique_ptr<Device> device_;
  CudaOptions options_;
  BackendInfo info_;
  std::map<std::string, std::weak_ptr<const Matrix>> packed_;   // by identity of the tensor: tied weights share
  Memory unpacked_;                                  // the largest packed matrix, for steps of many rows
  Memory factors_;                                   // of rows that are pooled
  Pinned bounce_;                                    // of uploads and downloads
  StepState state_;
  StepGraphs graphs_;
  TunedProducts products_;
  std::vector<std::weak_ptr<const Matrix>> matrices_;   // of make_linear, to time products with
  std::int32_t step_rows_ = 0;                       // as asked for, without padding
  std::int32_t rows_max_ = 0;
  AttendMemory attend_;
  bool planned_ = false;                             // the step's attention, by its first layer
  bool tiles_ = false;                               // a sequence of the step has too many rows for pieces
  DeviceSampler sampler_;
  std::array<std::unique_ptr<Event>, 2> ends_;       // of the steps under way, by slot
  SharedIds* shared_ids_ = nullptr;
  std::size_t open_ = 0;                             // samplings begun and not ended
  std::optional<Error> failure_;
};

}  // namespace tokenworks::backend::cuda
