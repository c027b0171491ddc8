#pragma once
// Writes GGUF bytes field by field, so that a test can tell exactly one lie. `tiny_gguf` is a whole valid model of one
// layer: the smallest thing the reader accepts.
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace tokenworks::formats {

class GgufBuilder {
 public:
  template <class T>
  static std::string raw(T value) {
    std::string out(sizeof value, '\0');
    std::memcpy(out.data(), &value, sizeof value);
    return out;
  }
  static std::string text(const std::string& s) { return raw<std::uint64_t>(s.size()) + s; }

  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::vector<std::string> values;                   // whole entries: key, type, value
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> dims;                 // innermost first
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
  };
  std::vector<Tensor> tensors;
  std::string data;
  std::uint64_t extra_tensors = 0, extra_values = 0;   // added to the counts only

  void entry(const std::string& key, std::uint32_t type, const std::string& value) {
    values.push_back(text(key) + raw<std::uint32_t>(type) + value);
  }
  void u32(const std::string& key, std::uint32_t v) { entry(key, 4, raw(v)); }
  void f32(const std::string& key, float v) { entry(key, 6, raw(v)); }
  void string(const std::string& key, const std::string& v) { entry(key, 8, text(v)); }
  void strings(const std::string& key, const std::vector<std::string>& v) {
    std::string all = raw<std::uint32_t>(8) + raw<std::uint64_t>(v.size());
    for (const auto& s : v) all += text(s);
    entry(key, 9, all);
  }
  // An F32 tensor of zeros at the end of the data.
  Tensor& tensor(const std::string& name, const std::vector<std::uint64_t>& dims) {
    data.resize((data.size() + 31) / 32 * 32);
    tensors.push_back({name, dims, 0, data.size()});
    std::uint64_t bytes = 4;
    for (const auto d : dims) bytes *= d;
    data.resize(data.size() + bytes);
    return tensors.back();
  }
  std::string head() const {
    std::string out = magic + raw(version) + raw<std::uint64_t>(tensors.size() + extra_tensors) +
                      raw<std::uint64_t>(values.size() + extra_values);
    for (const auto& v : values) out += v;
    for (const auto& t : tensors) {
      out += text(t.name) + raw<std::uint32_t>(static_cast<std::uint32_t>(t.dims.size()));
      for (const auto d : t.dims) out += raw(d);
      out += raw(t.type) + raw(t.offset);
    }
    return out;
  }
  std::string bytes() const {
    std::string out = head();
    out.resize((out.size() + 31) / 32 * 32);
    return out + data;
  }
};

inline GgufBuilder tiny_gguf() {
  GgufBuilder b;
  b.string("general.architecture", "llama");
  b.u32("llama.block_count", 1);
  b.u32("llama.context_length", 64);
  b.u32("llama.embedding_length", 8);
  b.u32("llama.feed_forward_length", 12);
  b.u32("llama.attention.head_count", 2);
  b.u32("llama.attention.head_count_kv", 1);
  b.f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  b.string("tokenizer.ggml.model", "gpt2");
  b.string("tokenizer.ggml.pre", "gpt-2");
  b.strings("tokenizer.ggml.tokens", {"<|im_end|>", "a", "b", "ab"});
  b.strings("tokenizer.ggml.merges", {"a b"});
  b.u32("tokenizer.ggml.eos_token_id", 0);
  b.tensor("token_embd.weight", {8, 4});
  b.tensor("output_norm.weight", {8});
  b.tensor("blk.0.attn_norm.weight", {8});
  b.tensor("blk.0.attn_q.weight", {8, 8});
  b.tensor("blk.0.attn_k.weight", {8, 4});
  b.tensor("blk.0.attn_v.weight", {8, 4});
  b.tensor("blk.0.attn_output.weight", {8, 8});
  b.tensor("blk.0.ffn_norm.weight", {8});
  b.tensor("blk.0.ffn_gate.weight", {8, 12});
  b.tensor("blk.0.ffn_up.weight", {8, 12});
  b.tensor("blk.0.ffn_down.weight", {12, 8});
  return b;
}

}  // namespace tokenworks::formats
