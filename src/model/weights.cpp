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
    for (const TensorView& part : parts.parts) stored_ += part.bytes.size();
    return keep(parts.parts.front().name, [&] { return backend_.make_linear(parts); });
  }
  WeightPtr vector(const TensorView* tensor) {
    if (tensor == nullptr) return nullptr;
    return keep(tensor->name, [&] { return backend_.make_vector(*tensor); });
  }
  WeightPtr table(const TensorView& tensor) {
    stored_ += tensor.bytes.size();
    return keep(tensor.name, [&] { return backend_.make_table(tensor); });
  }
  WeightPtr rope(const backend::RopeSpec& spec, std::int32_t positions_max) {
    return keep("the rotary table", [&] { return backend_.make_rope(spec, positions_max); });
  }

  // `all`: bytes of everything that is to come through here, as the file stores it. What was made so far says how much they are
  // here; the one that found no room says so itself.
  std::optional<Error> failure(std::size_t all) const {
    if (!failure_ || failure_->code != Errc::internal) return failure_;   // not for want of room
    Error told = *failure_;
    if (failed_at_ > 0)
      told.message += fmt::format("; the weights take some {} MiB here, {:.0f} % of them were placed",
                                  static_cast<std::size_t>(static_cast<double>(bytes_) / static_cast<double>(failed_at_) * static_cast<double>(all)) / (1 << 20) + 1,
                                  100.0 * static_cast<double>(failed_at_) / static_cast<double>(all));
    told.message += "; a file of a smaller type, another `compute` or more cards (backend: cuda:0+1) would take less of one";
    return told;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  template <class Make>
  WeightPtr keep(const std::string& what, Make make) {
    if (failure_) return nullptr;
    Result<WeightPtr> made = make();
    if (!made) {
      failed_at_ = placed_;
      failure_ = made.error();
      failure_->message = fmt::format("{}: {}: {}", file_.path(), what, failure_->message);
      return nullptr;
    }
    bytes_ += (*made)->bytes();
    placed_ = stored_;
    return std::move(*made);
  }

  const formats::ModelFile& file_;
  backend::Backend& backend_;
  std::optional<Error> failure_;
  std::size_t bytes_ = 0;                            // as the backend keeps them
  std::size_t stored_ = 0, placed_ = 0, failed_at_ = 0;   // matrices, as the file stores them: handed over, made, made before one failed
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
  std::size_t all = tensors.embedding->bytes.size() + tensors.head->bytes.size();
  for (const LayerTensors& t : tensors.layers)
    for (const LinearParts* parts : {&t.qkv, &t.output, &t.gate_up, &t.down})
      for (const TensorView& part : parts->parts) all += part.bytes.size();
  if (const auto failed = build.failure(all)) return *failed;
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
