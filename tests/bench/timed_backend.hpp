#pragma once
// A backend that passes every op on and adds up the wall time of each: what a step spends inside and outside kernels. One
// thread, the one that runs the steps. `inner` must run an op before its call returns, as the CPU backend does.
#include <array>
#include <chrono>
#include <memory>
#include <utility>

#include "tokenworks/backend/backend.hpp"

namespace tokenworks::bench {

enum class Op { embed, norm, linear, rope, attention, gate, gather, sample, count };
inline constexpr std::array<const char*, static_cast<std::size_t>(Op::count)> kOpNames{
    "embed", "norm", "linear", "rope", "attention", "gate", "gather", "sample"};
using Times = std::array<std::chrono::nanoseconds, static_cast<std::size_t>(Op::count)>;

class TimedBackend final : public backend::Backend {
  using Buffer = backend::Buffer;
  using Weight = backend::Weight;
  using Activations = backend::Activations;
  using KvCache = backend::KvCache;

 public:
  TimedBackend(std::unique_ptr<Backend> inner, std::shared_ptr<Times> times)
      : inner_(std::move(inner)), times_(std::move(times)) {}

  const backend::BackendInfo& info() const override { return inner_->info(); }
  Result<std::unique_ptr<Buffer>> allocate(std::size_t bytes) override { return inner_->allocate(bytes); }
  void upload(Buffer& to, std::size_t offset, std::span<const std::byte> from) override {
    inner_->upload(to, offset, from);
  }
  void download(const Buffer& from, std::size_t offset, std::span<std::byte> to) override {
    inner_->download(from, offset, to);
  }
  Result<std::unique_ptr<Activations>> make_activations(std::int32_t rows_max, std::int32_t columns_max) override {
    return inner_->make_activations(rows_max, columns_max);
  }
  std::size_t kv_block_bytes(const backend::KvShape& shape) const override { return inner_->kv_block_bytes(shape); }
  Result<std::unique_ptr<KvCache>> make_kv_cache(const backend::KvShape& shape, std::int32_t blocks) override {
    return inner_->make_kv_cache(shape, blocks);
  }
  void zero_blocks(KvCache& cache, std::span<const std::int32_t> blocks) override {
    inner_->zero_blocks(cache, blocks);
  }
  Result<std::unique_ptr<Weight>> make_linear(const LinearParts& parts) override { return inner_->make_linear(parts); }
  Result<std::unique_ptr<Weight>> make_vector(const formats::TensorView& vector) override {
    return inner_->make_vector(vector);
  }
  Result<std::unique_ptr<Weight>> make_table(const formats::TensorView& rows) override {
    return inner_->make_table(rows);
  }
  Result<std::unique_ptr<Weight>> make_rope(const backend::RopeSpec& rope, std::int32_t positions_max) override {
    return inner_->make_rope(rope, positions_max);
  }
  void begin_step(const backend::StepRows& rows) override { inner_->begin_step(rows); }
  void embed(const Weight& table, Buffer& hidden) override {
    timed(Op::embed, [&] { inner_->embed(table, hidden); });
  }
  void norm(const Buffer& hidden, const Weight& weight, float epsilon, std::int32_t rows, std::int32_t columns,
            Activations& out) override {
    timed(Op::norm, [&] { inner_->norm(hidden, weight, epsilon, rows, columns, out); });
  }
  void linear(const Activations& in, const Weight& weight, std::int32_t rows, Buffer& out, bool accumulate) override {
    timed(Op::linear, [&] { inner_->linear(in, weight, rows, out, accumulate); });
  }
  void rope_and_store(Buffer& qkv, const backend::AttentionSpec& spec, const Weight& rope, const Weight* q_norm,
                      const Weight* k_norm, float epsilon, KvCache& cache, std::int32_t layer) override {
    timed(Op::rope, [&] { inner_->rope_and_store(qkv, spec, rope, q_norm, k_norm, epsilon, cache, layer); });
  }
  void attention(const Buffer& qkv, const backend::AttentionSpec& spec, const KvCache& cache, std::int32_t layer,
                 Activations& out) override {
    timed(Op::attention, [&] { inner_->attention(qkv, spec, cache, layer, out); });
  }
  void gate(const Buffer& gate_up, backend::GateKind kind, std::int32_t rows, std::int32_t columns,
            Activations& out) override {
    timed(Op::gate, [&] { inner_->gate(gate_up, kind, rows, columns, out); });
  }
  void gather(const Buffer& from, std::span<const std::int32_t> rows, std::int32_t columns, Buffer& to) override {
    timed(Op::gather, [&] { inner_->gather(from, rows, columns, to); });
  }
  Result<> sample(const Buffer& logits, std::int32_t vocab, std::span<const backend::SampleRow> rows,
                  std::span<backend::Sampled> out) override {
    Result<> done;
    timed(Op::sample, [&] { done = inner_->sample(logits, vocab, rows, out); });
    return done;
  }
  Result<> check() override { return inner_->check(); }

 private:
  template <class Work>
  void timed(Op op, const Work& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    (*times_)[static_cast<std::size_t>(op)] += std::chrono::steady_clock::now() - begin;
  }

  std::unique_ptr<Backend> inner_;
  std::shared_ptr<Times> times_;
};

}  // namespace tokenworks::bench
