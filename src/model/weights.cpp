#include "model/weights.hpp"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "tokenworks/base/crypto.hpp"

namespace tokenworks::model {
namespace {

// Raised when the order of operations in transformer.cpp or the way weights are handed over changes results.
constexpr int kLayoutVersion = 1;

// Builds parts in order, adds up their bytes and keeps the first error, so that the list of parts reads as one.
class Builder {
 public:
  Builder(const formats::ModelFile& file, backend::Backend& backend) : file_(file), backend_(backend) {}

  WeightPtr linear(const LinearParts& parts) {
    return keep(parts.parts.front().name, [&] { return backend_.make_linear(parts); });
  }
  WeightPtr vector(const TensorView* tensor) {
    if (tensor == nullptr) return nullptr;
    return keep(tensor->name, [&] { return backend_.make_vector(*tensor); });
  }
  WeightPtr table(const TensorView& tensor) {
    return keep(tensor.name, [&] { return backend_.make_table(tensor); });
  }
  WeightPtr rope(const backend::RopeSpec& spec, std::int32_t positions_max) {
    return keep("the rotary table", [&] { return backend_.make_rope(spec, positions_max); });
  }

  const std::optional<Error>& failure() const { return failure_; }
  std::size_t bytes() const { return bytes_; }

 private:
  template <class Make>
  WeightPtr keep(const std::string& what, Make make) {
    if (failure_) return nullptr;
    Result<WeightPtr> made = make();
    if (!made) {
      failure_ = made.error();
      failure_->message = fmt::format("{}: {}: {}", file_.path(), what, failure_->message);
      return nullptr;
    }
    bytes_ += (*made)->bytes();
    return std::move(*made);
  }

  const formats::ModelFile& file_;
  backend::Backend& backend_;
  std::optional<Error> failure_;
  std::size_t bytes_ = 0;
};

}  // namespace

Result<Weights> build_weights(const formats::ModelFile& file, const ModelTensors& tensors,
                              const backend::RopeSpec& rope, std::int32_t positions_max, backend::Backend& backend) {
  Builder build(file, backend);
  Weights w;
  w.embedding = build.table(*tensors.embedding);
  w.rope = build.rope(rope, positions_max);
  for (const LayerTensors& t : tensors.layers) {
    LayerWeights& layer = w.layers.emplace_back();
    layer.attention_norm = build.vector(t.attention_norm);
    layer.qkv = build.linear(t.qkv);
    layer.q_norm = build.vector(t.q_norm);
    layer.k_norm = build.vector(t.k_norm);
    layer.output = build.linear(t.output);
    layer.ffn_norm = build.vector(t.ffn_norm);
    layer.gate_up = build.linear(t.gate_up);
    layer.down = build.linear(t.down);
  }
  w.final_norm = build.vector(tensors.final_norm);
  w.head = build.linear({.parts = {*tensors.head}});
  if (build.failure()) return *build.failure();
  w.bytes = build.bytes();
  return w;
}

std::string fingerprint_of(const formats::ModelFile& file, const ModelTensors& tensors, const backend::RopeSpec& rope,
                           const backend::BackendInfo& backend) {
  const formats::ModelConfig& c = file.config();
  std::string text = fmt::format(
      "layout {}\nnumerics {}\narchitecture {} {} {} {} {} {} {} {}\nnorm {:a}\nrope {} {} {:a}\nwindow {}\ntied {}\n"
      "activation {}\n",
      kLayoutVersion, backend.numerics, c.architecture, c.layers, c.hidden, c.ffn, c.q_heads, c.kv_heads, c.head_dim,
      c.vocab, c.norm_epsilon, rope.dims, rope.interleaved, rope.magnitude, c.sliding_window, c.tied_embeddings,
      c.activation);
  for (const float f : rope.inverse_frequency) text += fmt::format("{:a}\n", f);
  for (const TensorView* t : tensors.used) text += fmt::format("{} {}\n", t->name, formats::name(t->type));
  return "fp_" + hex(sha256(text)).substr(0, 12);
}

}  // namespace tokenworks::model
