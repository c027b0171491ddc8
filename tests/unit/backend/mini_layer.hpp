#pragma once
// A little transformer layer with random weights, written over Backend, for tests that run the same sequences in different
// batches, chunks and thread counts.
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tokenworks/backend/backend.hpp"

namespace tokenworks::backend {

// A tensor that owns its bytes: float types from random values, quantised ones from random blocks with sane scales.
struct OwnedTensor {
  std::vector<std::byte> bytes;
  formats::TensorView view;

  OwnedTensor(const std::string& name, formats::TensorType type, std::int64_t rows, std::int64_t columns,
              unsigned seed) {
    using enum formats::TensorType;
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 0.2f);
    const auto block = static_cast<std::size_t>(formats::block_bytes(type));
    bytes.resize(static_cast<std::size_t>(rows * columns / formats::block_elements(type)) * block);
    for (std::size_t b = 0; b < bytes.size(); b += block) {
      for (std::size_t i = 0; i < block; ++i) bytes[b + i] = static_cast<std::byte>(random());
      const std::uint16_t small = static_cast<std::uint16_t>(0x2000 + random() % 0x400),
                          negative = static_cast<std::uint16_t>(small | 0x8000);
      const float value = normal(random);
      if (type == f32) std::memcpy(&bytes[b], &value, 4);
      else if (type == f16) std::memcpy(&bytes[b], random() % 2 == 0 ? &small : &negative, 2);
      else if (type == bf16) std::memcpy(&bytes[b], reinterpret_cast<const char*>(&value) + 2, 2);
      else std::memcpy(&bytes[b + (type == q6_k ? 208 : 0)], &small, 2);
      if (type == q4_1 || type == q5_1) std::memcpy(&bytes[b + 2], &negative, 2);
      if (type == q4_k || type == q5_k) std::memcpy(&bytes[b + 2], &small, 2);
    }
    view = {name, type, {rows, columns}, bytes};
  }
  std::vector<float> values() const {
    std::vector<float> out(static_cast<std::size_t>(view.elements()));
    formats::dequantize(view.type, view.bytes, out);
    return out;
  }
};

struct MiniShape {
  std::int32_t hidden = 96, q_heads = 6, kv_heads = 2, head_dim = 16, ffn = 160, vocab = 301, window = 0;
  formats::TensorType type = formats::TensorType::q8_0, v_type = formats::TensorType::q8_0;
};

class MiniLayer {
 public:
  MiniLayer(Backend& backend, const MiniShape& s, std::int32_t rows_max, std::int32_t blocks) : b_(backend), s_(s) {
    using formats::TensorType;
    const OwnedTensor table("table", s.type, s.vocab, s.hidden, 1), ones("ones", TensorType::f32, 1, s.hidden, 2),
        q("q", s.type, s.q_heads * s.head_dim, s.hidden, 3), k("k", s.type, s.kv_heads * s.head_dim, s.hidden, 4),
        v("v", s.v_type, s.kv_heads * s.head_dim, s.hidden, 5), o("o", s.type, s.hidden, s.q_heads * s.head_dim, 6),
        gate("gate", s.type, s.ffn, s.hidden, 7), up("up", s.type, s.ffn, s.hidden, 8),
        down("down", s.type, s.hidden, s.ffn, 9), bq("bq", TensorType::f32, 1, s.q_heads * s.head_dim, 10),
        bk("bk", TensorType::f32, 1, s.kv_heads * s.head_dim, 11),
        bv("bv", TensorType::f32, 1, s.kv_heads * s.head_dim, 12);
    table_ = std::move(b_.make_table(table.view).value());
    head_ = std::move(b_.make_linear({{table.view}, {}, false}).value());
    norm_ = std::move(b_.make_vector(ones.view).value());
    qkv_ = std::move(b_.make_linear({{q.view, k.view, v.view}, {bq.view, bk.view, bv.view}, false}).value());
    o_ = std::move(b_.make_linear({{o.view}, {}, false}).value());
    gate_up_ = std::move(b_.make_linear({{gate.view, up.view}, {}, true}).value());
    down_ = std::move(b_.make_linear({{down.view}, {}, false}).value());
    RopeSpec rope;
    rope.dims = s.head_dim;
    for (std::int32_t i = 0; i < s.head_dim / 2; ++i)
      rope.inverse_frequency.push_back(
          std::pow(100.0f, -2.0f * static_cast<float>(i) / static_cast<float>(s.head_dim)));
    rope_ = std::move(b_.make_rope(rope, 4096).value());
    const auto buffer = [&](std::int32_t columns) {
      return std::move(b_.allocate(static_cast<std::size_t>(rows_max) * static_cast<std::size_t>(columns) * 4).value());
    };
    hidden_ = buffer(s.hidden);
    qkv_rows_ = buffer((s.q_heads + 2 * s.kv_heads) * s.head_dim);
    gated_ = buffer(2 * s.ffn);
    logits_ = buffer(s.vocab);
    narrow_ = std::move(b_.make_activations(rows_max, std::max(s.hidden, s.q_heads * s.head_dim)).value());
    wide_ = std::move(b_.make_activations(rows_max, s.ffn).value());
    cache_ = std::move(b_.make_kv_cache({2, s.kv_heads, s.head_dim}, blocks).value());
  }

  // Two layers that share their weights; logits of every row.
  std::vector<float> run(const StepRows& step) {
    const auto rows = static_cast<std::int32_t>(step.tokens.size());
    AttentionSpec spec{s_.q_heads, s_.kv_heads, s_.head_dim, 1 / std::sqrt(static_cast<float>(s_.head_dim)), s_.window,
                       0};
    b_.begin_step(step);
    b_.embed(*table_, *hidden_);
    for (std::int32_t layer = 0; layer < 2; ++layer) {
      b_.norm(*hidden_, *norm_, 1e-5f, rows, s_.hidden, *narrow_);
      b_.linear(*narrow_, *qkv_, rows, *qkv_rows_, false);
      b_.rope_and_store(*qkv_rows_, spec, *rope_, nullptr, nullptr, 1e-5f, *cache_, layer);
      b_.attention(*qkv_rows_, spec, *cache_, layer, *narrow_);
      b_.linear(*narrow_, *o_, rows, *hidden_, true);
      b_.norm(*hidden_, *norm_, 1e-5f, rows, s_.hidden, *narrow_);
      b_.linear(*narrow_, *gate_up_, rows, *gated_, false);
      b_.gate(*gated_, layer == 0 ? GateKind::silu : GateKind::gelu_tanh, rows, s_.ffn, *wide_);
      b_.linear(*wide_, *down_, rows, *hidden_, true);
    }
    b_.norm(*hidden_, *norm_, 1e-5f, rows, s_.hidden, *narrow_);
    b_.linear(*narrow_, *head_, rows, *logits_, false);
    std::vector<float> out(static_cast<std::size_t>(rows) * static_cast<std::size_t>(s_.vocab));
    b_.download(*logits_, 0, std::as_writable_bytes(std::span(out)));
    return out;
  }
  Backend& backend() { return b_; }
  KvCache& cache() { return *cache_; }
  const Weight& table() const { return *table_; }
  const Weight& head() const { return *head_; }

 private:
  Backend& b_;
  MiniShape s_;
  std::unique_ptr<Weight> table_, head_, norm_, qkv_, o_, gate_up_, down_, rope_;
  std::unique_ptr<Buffer> hidden_, qkv_rows_, gated_, logits_;
  std::unique_ptr<Activations> narrow_, wide_;
  std::unique_ptr<KvCache> cache_;
};

}  // namespace tokenworks::backend
