// From a Hugging Face BERT to an Encoder. The reader has checked every tensor's shape; what can be refused is refused before a
// byte is copied.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "model/architecture.hpp"
#include "model/encoder.hpp"
#include "model/memory.hpp"
#include "tokenworks/base/crypto.hpp"

namespace tokenworks::model {
namespace {

using formats::TensorType;
using formats::TensorView;

constexpr int kLayoutVersion = 1;                    // raised when the order of operations in encoder.cpp changes results

Result<backend::ActivationKind> activation_of(const formats::ModelFile& file) {
  const std::string& name = file.config().activation;
  if (name == "gelu") return backend::ActivationKind::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return backend::ActivationKind::gelu_tanh;
  if (name == "relu") return backend::ActivationKind::relu;
  if (name == "silu" || name == "swish") return backend::ActivationKind::silu;
  return error(Errc::bad_config, fmt::format("{}: activation '{}' is not supported; supported are gelu, gelu_new, relu and silu", file.path(), name));
}

// Builds parts in order, adds up their bytes and keeps the first error.
class Builder {
 public:
  Builder(const formats::ModelFile& file, backend::Backend& backend) : file_(file), backend_(backend) {}

  WeightPtr table(const std::string& name) { return keep(name, [&] { return backend_.make_table(view(name)); }); }
  WeightPtr vector(const std::string& name) { return keep(name, [&] { return backend_.make_vector(view(name)); }); }
  WeightPtr vector(const TensorView& made) { return keep(made.name, [&] { return backend_.make_vector(made); }); }
  WeightPtr linear(const std::vector<std::string>& names) {
    backend::Backend::LinearParts parts;
    for (const std::string& name : names) {
      parts.parts.push_back(view(name + ".weight"));
      parts.bias.push_back(view(name + ".bias"));
    }
    return keep(names.front(), [&] { return backend_.make_linear(parts); });
  }
  const TensorView& view(const std::string& name) const { return *file_.find(name); }   // the reader made sure
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

// One text is one segment: its type's row is the same everywhere and goes into the positions.
std::vector<float> position_rows(const Builder& build, const formats::ModelConfig& c) {
  const auto floats = [](const TensorView& view) {
    std::vector<float> values(static_cast<std::size_t>(view.elements()));
    formats::dequantize(view.type, view.bytes, values);
    return values;
  };
  std::vector<float> rows = floats(build.view("embeddings.position_embeddings.weight"));
  const std::vector<float> types = floats(build.view("embeddings.token_type_embeddings.weight"));
  const auto columns = static_cast<std::size_t>(c.hidden);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] += types[i % columns];
  return rows;
}

Result<EncoderWeights> build_weights(const formats::ModelFile& file, backend::Backend& backend) {
  const formats::ModelConfig& c = file.config();
  Builder build(file, backend);
  EncoderWeights w;
  w.words = build.table("embeddings.word_embeddings.weight");
  const std::vector<float> positions = position_rows(build, c);
  w.positions = build.vector(TensorView{"embeddings.position_embeddings.weight", TensorType::f32, {c.context, c.hidden}, std::as_bytes(std::span(positions))});
  w.norm = build.vector("embeddings.LayerNorm.weight");
  w.norm_bias = build.vector("embeddings.LayerNorm.bias");
  for (std::int32_t i = 0; i < c.layers; ++i) {
    const std::string at = fmt::format("encoder.layer.{}.", i), self = at + "attention.self.";
    EncoderLayer& layer = w.layers.emplace_back();
    layer.qkv = build.linear({self + "query", self + "key", self + "value"});
    layer.output = build.linear({at + "attention.output.dense"});
    layer.attention_norm = build.vector(at + "attention.output.LayerNorm.weight");
    layer.attention_norm_bias = build.vector(at + "attention.output.LayerNorm.bias");
    layer.up = build.linear({at + "intermediate.dense"});
    layer.down = build.linear({at + "output.dense"});
    layer.norm = build.vector(at + "output.LayerNorm.weight");
    layer.norm_bias = build.vector(at + "output.LayerNorm.bias");
  }
  if (build.failure()) return *build.failure();
  w.bytes = build.bytes();
  return w;
}

std::string fingerprint_of(const formats::ModelFile& file, const backend::BackendInfo& backend) {
  const formats::ModelConfig& c = file.config();
  std::string text = fmt::format("encoder {}\nnumerics {}\n{} {} {} {} {} {} {}\nnorm {:a}\nactivation {}\n", kLayoutVersion, backend.numerics,
                                 c.layers, c.hidden, c.ffn, c.q_heads, c.vocab, c.context, c.token_types, c.norm_epsilon, c.activation);
  for (const auto& [name, tensor] : file.tensors()) text += fmt::format("{} {}\n", name, formats::name(tensor.type));
  return "fp_" + hex(sha256(text)).substr(0, 12);
}

std::int32_t rows_at_once(const LoadOptions& options) { return std::max(options.rows_max, options.context_tokens); }

Result<> check_matrices(const formats::ModelFile& file) {
  for (const auto& [name, tensor] : file.tensors())
    if (formats::block_elements(tensor.type) != 1)
      return error(Errc::bad_file, fmt::format("{}: tensor {} is stored as {}; an encoder takes F32, F16 and BF16", file.path(), name, formats::name(tensor.type)));
  return {};
}

}  // namespace

Result<std::unique_ptr<Runner>> load_encoder(const formats::ModelFile& file, std::unique_ptr<backend::Backend> backend,
                                             const LoadOptions& asked) {
  if (const auto numbers = check_numbers(file); !numbers) return numbers.error();
  const auto activation = activation_of(file);
  if (!activation) return activation.error();
  if (auto plain = check_matrices(file); !plain) return plain.error();
  if (backend->encoder_ops() == nullptr) {
    return error(Errc::bad_config, fmt::format("{}: an encoder does not run on the backend '{}' yet; set backend: cpu for this model", file.path(), backend->info().name));
  }
  const auto options = settle_options(file, asked);
  if (!options) return options.error();
  const formats::ModelConfig& config = file.config();
  const std::int32_t text_blocks = options->context_tokens / backend::kBlockTokens + 1;
  auto weights = build_weights(file, *backend);
  if (!weights) return weights.error();
  const auto plan = plan_encoder_memory(file, *options);
  if (!plan) return plan.error();
  const std::int32_t blocks = text_blocks * options->sequences_max;
  RunnerInfo info{.vocab = config.vocab,
                  .context_tokens = options->context_tokens,
                  .kv_blocks = blocks,
                  .rows_max = options->rows_max,
                  .sequences_max = options->sequences_max,
                  .weight_bytes = weights->bytes,
                  .kv_bytes = static_cast<std::size_t>(blocks) * backend::kBlockTokens * sizeof(TokenId),
                  .workspace_bytes = plan->workspace_bytes,
                  .stop_tokens = {},
                  .embedding_columns = config.hidden,
                  .pooling = config.pooling == "first" ? Pooling::first : config.pooling == "last" ? Pooling::last : Pooling::mean,
                  .generates = false,
                  .fingerprint = fingerprint_of(file, backend->info())};
  Encoder::Parts parts{.backend = std::move(backend), .config = config, .attention = attention_spec(config), .activation = *activation,
                       .weights = std::move(*weights), .info = std::move(info), .rows_at_once = rows_at_once(*options)};
  return Encoder::make(std::move(parts));
}

Result<MemoryPlan> plan_encoder_memory(const formats::ModelFile& file, const LoadOptions& asked) {
  const auto options = settle_options(file, asked);
  if (!options) return options.error();
  const formats::ModelConfig& c = file.config();
  std::size_t weights = 0;
  for (const auto& [name, tensor] : file.tensors()) weights += tensor.bytes.size();
  const auto rows = static_cast<std::size_t>(rows_at_once(*options)), widest = static_cast<std::size_t>(std::max(c.hidden, c.ffn));
  const std::size_t floats = rows * (5 * static_cast<std::size_t>(c.hidden) + static_cast<std::size_t>(c.ffn));   // hidden, q k v, inner, a host copy
  return MemoryPlan{.weight_bytes = weights, .kv_bytes_per_token = sizeof(TokenId), .workspace_bytes = 4 * floats + 4 * rows * widest};
}

}  // namespace tokenworks::model
