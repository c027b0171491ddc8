#pragma once
// A model in memory, for tests that damage it: a ModelFile whose configuration and tensors a test may change before it
// hands it over. Weights are small random fp32 numbers.
#include <bit>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tokenworks/formats/model_file.hpp"

namespace tokenworks::model::test {

class FakeModel final : public formats::ModelFile {
 public:
  // A Llama of 2 layers, hidden 64, 4 query and 2 key/value heads of 16, feed-forward 96, vocabulary 50, tied.
  FakeModel() {
    config_edit.architecture = "llama";
    config_edit.layers = 2;
    config_edit.hidden = 64;
    config_edit.ffn = 96;
    config_edit.q_heads = 4;
    config_edit.kv_heads = 2;
    config_edit.head_dim = config_edit.rope_dims = 16;
    config_edit.vocab = 50;
    config_edit.context = 128;
    config_edit.tied_embeddings = true;
    add("model.embed_tokens.weight", {50, 64});
    add("model.norm.weight", {64});
    for (int i = 0; i < 2; ++i) {
      const std::string at = "model.layers." + std::to_string(i) + ".";
      add(at + "input_layernorm.weight", {64});
      add(at + "self_attn.q_proj.weight", {64, 64});
      add(at + "self_attn.k_proj.weight", {32, 64});
      add(at + "self_attn.v_proj.weight", {32, 64});
      add(at + "self_attn.o_proj.weight", {64, 64});
      add(at + "post_attention_layernorm.weight", {64});
      add(at + "mlp.gate_proj.weight", {96, 64});
      add(at + "mlp.up_proj.weight", {96, 64});
      add(at + "mlp.down_proj.weight", {64, 96});
    }
  }

  void add(const std::string& name, std::vector<std::int64_t> shape) {
    formats::TensorView view{.name = name, .type = formats::TensorType::f32, .shape = std::move(shape)};
    std::vector<float>& values = storage_[name];
    values.resize(static_cast<std::size_t>(view.elements()));
    for (float& v : values) v = std::uniform_real_distribution<float>(-0.3f, 0.3f)(random_);
    view.bytes = std::as_bytes(std::span(values));
    tensors_edit[name] = view;
  }

  std::vector<float>& values(const std::string& name) { return storage_[name]; }

  // Drops what bf16 cannot hold from a tensor's values; `stored` also stores it as bf16.
  void round_to_bf16(const std::string& name, bool stored) {
    std::vector<std::uint16_t>& half = halves_[name];
    half.clear();
    for (float& v : storage_[name]) {
      const auto bits = std::bit_cast<std::uint32_t>(v) & 0xFFFF0000u;
      v = std::bit_cast<float>(bits);
      half.push_back(static_cast<std::uint16_t>(bits >> 16));
    }
    if (!stored) return;
    tensors_edit[name].type = formats::TensorType::bf16;
    tensors_edit[name].bytes = std::as_bytes(std::span(half));
  }

  const std::string& path() const override { return path_; }
  const std::string& format() const override { return format_; }
  const formats::ModelConfig& config() const override { return config_edit; }
  const formats::TokenizerData& tokenizer() const override { return tokenizer_edit; }
  const std::map<std::string, formats::TensorView>& tensors() const override { return tensors_edit; }
  const std::vector<std::shared_ptr<const ByteSource>>& sources() const override { return sources_; }

  formats::ModelConfig config_edit;
  formats::TokenizerData tokenizer_edit;
  std::map<std::string, formats::TensorView> tensors_edit;

 private:
  std::string path_ = "fake.gguf", format_ = "gguf";
  std::vector<std::shared_ptr<const ByteSource>> sources_;
  std::map<std::string, std::vector<float>> storage_;
  std::map<std::string, std::vector<std::uint16_t>> halves_;
  std::mt19937 random_{7};
};

}  // namespace tokenworks::model::test
