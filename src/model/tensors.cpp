#include "model/tensors.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <string>

namespace tokenworks::model {
namespace {

using Shape = std::vector<std::int64_t>;
using formats::TensorType;

// Collects tensors by name and keeps the first thing that was wrong, so that the layout below reads as a list.
class Finder {
 public:
  explicit Finder(const formats::ModelFile& file) : file_(file) {}

  const TensorView* vector(const std::string& name, std::int64_t size) { return take(name, {size}, true); }
  const TensorView* matrix(const std::string& name, std::int64_t rows, std::int64_t columns) {
    return take(name, {rows, columns}, false);
  }
  // A tensor that `presence` says must, may or must not exist. Null: there is none (or something is wrong already).
  const TensorView* vector(const std::string& name, std::int64_t size, Presence presence) {
    if (presence == Presence::never || (presence == Presence::optional && file_.find(name) == nullptr)) return nullptr;
    return vector(name, size);
  }
  struct Part {
    std::string name;                                // without ".weight"
    std::int64_t rows;
  };
  LinearParts linear(const std::vector<Part>& parts, std::int64_t columns, Presence bias, bool interleave = false) {
    LinearParts linear{.interleave = interleave};
    for (const Part& part : parts)
      if (const TensorView* t = matrix(part.name + ".weight", part.rows, columns)) linear.parts.push_back(*t);
    // One part with a bias means that all have one: a file with half of them is damaged.
    const bool present =
        std::ranges::any_of(parts, [&](const Part& part) { return file_.find(part.name + ".bias") != nullptr; });
    const bool wanted = bias == Presence::always || (bias == Presence::optional && present);
    for (const Part& part : parts)
      if (wanted)
        if (const TensorView* t = vector(part.name + ".bias", part.rows)) linear.bias.push_back(*t);
    return linear;
  }

  void refuse(const std::string& why) {
    if (wrong_.empty()) wrong_ = file_.path() + ": " + why;
  }
  const std::string& wrong() const { return wrong_; }
  const std::vector<const TensorView*>& used() const { return used_; }

 private:
  const TensorView* take(const std::string& name, const Shape& shape, bool plain) {
    const TensorView* found = file_.find(name);
    if (found == nullptr) {
      refuse(fmt::format("tensor {} is missing; {} needs it with shape [{}]", name, file_.config().architecture,
                         fmt::join(shape, ", ")));
      return nullptr;
    }
    if (found->shape != shape) {
      refuse(fmt::format("tensor {} ({}) has shape [{}]; expected [{}]", name, formats::name(found->type),
                         fmt::join(found->shape, ", "), fmt::join(shape, ", ")));
      return nullptr;
    }
    if (plain && found->type != TensorType::f32 && found->type != TensorType::f16 && found->type != TensorType::bf16) {
      refuse(fmt::format("tensor {} is stored as {}; a vector must be F32, F16 or BF16", name,
                         formats::name(found->type)));
      return nullptr;
    }
    if (found->columns() % formats::block_elements(found->type) != 0) {
      refuse(fmt::format("tensor {} is stored as {}, whose blocks of {} do not divide its rows of {}", name,
                         formats::name(found->type), formats::block_elements(found->type), found->columns()));
      return nullptr;
    }
    const std::int64_t bytes =
        found->elements() / formats::block_elements(found->type) * formats::block_bytes(found->type);
    if (static_cast<std::int64_t>(found->bytes.size()) != bytes) {
      refuse(fmt::format("tensor {} ({}) has {} bytes; its shape [{}] needs {}", name, formats::name(found->type),
                         found->bytes.size(), fmt::join(shape, ", "), bytes));
      return nullptr;
    }
    used_.push_back(found);
    return found;
  }

  const formats::ModelFile& file_;
  std::string wrong_;
  std::vector<const TensorView*> used_;
};

LayerTensors find_layer(Finder& find, const formats::ModelConfig& c, const Architecture& a, std::int32_t index) {
  const std::string at = fmt::format("model.layers.{}.", index);
  const std::string attention = at + "self_attn.", mlp = at + "mlp.";
  const std::int64_t head = c.head_dim, q = c.q_heads * head, kv = c.kv_heads * head;
  LayerTensors t;
  t.attention_norm = find.vector(at + "input_layernorm.weight", c.hidden);
  t.qkv = find.linear({{attention + "q_proj", q}, {attention + "k_proj", kv}, {attention + "v_proj", kv}}, c.hidden,
                      a.qkv_bias);
  t.q_norm = find.vector(attention + "q_norm.weight", head, a.head_norms);
  t.k_norm = find.vector(attention + "k_norm.weight", head, a.head_norms);
  t.output = find.linear({{attention + "o_proj", c.hidden}}, q, a.output_bias);
  t.ffn_norm = find.vector(at + "post_attention_layernorm.weight", c.hidden);
  t.gate_up = find.linear({{mlp + "gate_proj", c.ffn}, {mlp + "up_proj", c.ffn}}, c.hidden, a.ffn_bias, true);
  t.down = find.linear({{mlp + "down_proj", c.hidden}}, c.ffn, a.ffn_bias);
  return t;
}

// A weight that nothing reads means that the file is another model than it says, and its answers would be wrong in
// silence. Old Llama 2 checkpoints carry the rotary table as a buffer: that one is computed, not read. A copy of the
// head beside tied embeddings is what transformers ignores too.
void refuse_strangers(Finder& find, const formats::ModelFile& file) {
  const std::set<const TensorView*> used(find.used().begin(), find.used().end());
  for (const auto& [name, tensor] : file.tensors()) {
    if (used.contains(&tensor) || name.ends_with("rotary_emb.inv_freq") || name == "rope_freqs.weight") continue;
    if (name == "lm_head.weight" && file.config().tied_embeddings) continue;
    find.refuse(fmt::format("tensor {} has no place in {} with {} layers; the file is not what its configuration says",
                            name, file.config().architecture, file.config().layers));
    return;
  }
}

}  // namespace

Result<ModelTensors> find_tensors(const formats::ModelFile& file, const Architecture& architecture) {
  const formats::ModelConfig& c = file.config();
  Finder find(file);
  ModelTensors t;
  t.embedding = find.matrix("model.embed_tokens.weight", c.vocab, c.hidden);
  for (std::int32_t i = 0; i < c.layers && find.wrong().empty(); ++i)
    t.layers.push_back(find_layer(find, c, architecture, i));
  t.final_norm = find.vector("model.norm.weight", c.hidden);
  t.head = c.tied_embeddings ? t.embedding : find.matrix("lm_head.weight", c.vocab, c.hidden);

  refuse_strangers(find, file);
  const formats::TokenizerData& tokenizer = file.tokenizer();
  if (tokenizer.tokens.size() > static_cast<std::size_t>(c.vocab))
    find.refuse(fmt::format("the tokenizer has {} tokens but tensor model.embed_tokens.weight only {} rows",
                            tokenizer.tokens.size(), c.vocab));
  for (const TokenId stop : tokenizer.stop)
    if (stop < 0 || stop >= c.vocab)
      find.refuse(fmt::format("stop token {} is outside the vocabulary of {} tokens", stop, c.vocab));
  if (!find.wrong().empty()) return error(Errc::bad_file, find.wrong());

  t.used = find.used();
  for (const TensorView* tensor : t.used) t.file_bytes += tensor->bytes.size();
  return t;
}

}  // namespace tokenworks::model
