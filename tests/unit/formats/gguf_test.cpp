#include <random>

#include "formats/model_data.hpp"
#include "gguf_builder.hpp"
#include "support.hpp"

namespace tokenworks::formats {
namespace {

std::string verdict(const std::string& bytes) {
  const auto model = read_gguf(memory_source("tiny.gguf", bytes));
  if (model) return "opened";
  EXPECT_TRUE(model.error().message.starts_with("tiny.gguf: ")) << model.error().message;
  EXPECT_EQ(model.error().code, Errc::bad_file);
  return model.error().message;
}
std::string verdict(const GgufBuilder& b) { return verdict(b.bytes()); }

std::string lie(const std::function<void(GgufBuilder&)>& tell) {
  GgufBuilder b = tiny_gguf();
  tell(b);
  return verdict(b);
}

void replace(GgufBuilder& b, const std::string& key, std::uint32_t type, const std::string& value) {
  const std::string start = GgufBuilder::text(key);
  for (auto& v : b.values) {
    if (v.starts_with(start)) v = start + GgufBuilder::raw(type) + value;
  }
}
void replace(GgufBuilder& b, const std::string& key, std::uint32_t value) {
  replace(b, key, 4, GgufBuilder::raw(value));
}

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(Gguf, TheSmallestModelOpens) { EXPECT_EQ(verdict(tiny_gguf()), "opened"); }

TEST(Gguf, ATensorThatLiesIsNamed) {
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].type = 20; }), "tensor 'blk.0.attn_q.weight' has type 20 (IQ4_NL)");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].type = 4711; }), "tensor 'blk.0.attn_q.weight' has type 4711");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].type = 12; }),
              "rows of 8 elements, not a multiple of the 256-element blocks of Q4_K");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].offset = 1; }), "not a multiple of 32");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].offset = 1ull << 40; }), "truncated or lies about its size");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].offset = ~0ull - 31; }), "truncated or lies about its size");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].dims = {1ull << 32, 1ull << 32}; }), "more elements than 63 bits count");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].dims = {1ull << 62}; }), "larger than 63 bits count");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].dims = {8, 0}; }), "a dimension of 0");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].dims = {2, 2, 2, 2, 2}; }), "claims 5 dimensions");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].dims = {8, 7}; }), "tensor 'blk.0.attn_q.weight' has shape [7, 8]; the configuration means [8, 8]");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].name = "blk.0.attn_k.weight"; }), "is there twice");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].name = "other"; }), "tensor 'blk.0.attn_q.weight' is missing");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[3].name = std::string(65, 'x'); }), "claims 65 bytes");
  EXPECT_SAYS(lie([](auto& b) { b.tensors[0].name = "t"; }), "tensor 'token_embd.weight' is missing");
}

TEST(Gguf, AHeadThatLiesIsRefused) {
  EXPECT_SAYS(lie([](auto& b) { b.version = 1; }), "GGUF version 1");
  EXPECT_SAYS(lie([](auto& b) { b.version = 0x03000000; }), "big-endian");
  EXPECT_SAYS(lie([](auto& b) { b.magic = "GGML"; }), "not a GGUF file");
  EXPECT_SAYS(lie([](auto& b) { b.extra_tensors = 1ull << 60; }), "tiny.gguf: ");
  EXPECT_SAYS(lie([](auto& b) { b.extra_values = 1ull << 60; }), "tiny.gguf: ");
  EXPECT_SAYS(lie([](auto& b) { b.u32("general.alignment", 0); }), "general.alignment is 0");
  EXPECT_SAYS(lie([](auto& b) { b.u32("general.alignment", 48); }), "general.alignment is 48");
  EXPECT_SAYS(lie([](auto& b) { b.u32("general.alignment", 1u << 31); }), "general.alignment is");
  EXPECT_SAYS(lie([](auto& b) { b.u32("llama.block_count", 2); }), "'llama.block_count' is there twice");
  EXPECT_SAYS(lie([](auto& b) { b.entry("odd", 13, ""); }), "value type 13");
  EXPECT_SAYS(lie([](auto& b) { b.entry("odd", 7, std::string(1, '\2')); }), "a boolean with the value 2");
  EXPECT_SAYS(lie([](auto& b) {
                b.entry("odd", 9, GgufBuilder::raw<std::uint32_t>(8) + GgufBuilder::raw<std::uint64_t>(1ull << 61));
              }),
              "more than the rest of the file can hold");
  EXPECT_SAYS(lie([](auto& b) {
                b.entry("odd", 9, GgufBuilder::raw<std::uint32_t>(4) + GgufBuilder::raw<std::uint64_t>(1ull << 62));
              }),
              "more than the rest of the file can hold");
  EXPECT_SAYS(
      lie([](auto& b) { b.entry("odd", 9, GgufBuilder::raw<std::uint32_t>(9) + GgufBuilder::raw<std::uint64_t>(1)); }),
      "array of type 9");
  EXPECT_SAYS(lie([](auto& b) { b.entry("odd", 8, GgufBuilder::raw<std::uint64_t>(~0ull)); }),
              "metadata 'odd' claims 18446744073709551615 bytes");
  EXPECT_SAYS(lie([](auto& b) { b.entry(std::string(70000, 'k'), 4, GgufBuilder::raw<std::uint32_t>(1)); }),
              "claims 70000 bytes");
}

TEST(Gguf, AConfigurationThatCannotBeServedSaysWhy) {
  EXPECT_SAYS(lie([](auto& b) { replace(b, "general.architecture", 8, GgufBuilder::text("gemma3")); }),
              "architecture 'gemma3' is not supported (llama, qwen2 and qwen3 are)");
  EXPECT_SAYS(lie([](auto& b) { replace(b, "general.architecture", 4, GgufBuilder::raw(7u)); }),
              "'general.architecture' is not a string");
  EXPECT_SAYS(lie([](auto& b) { replace(b, "llama.block_count", 0); }), "layers is 0");
  EXPECT_SAYS(lie([](auto& b) { replace(b, "llama.block_count", 2); }),
              "tensor 'blk.1.attn_norm.weight' is missing");
  EXPECT_SAYS(lie([](auto& b) { replace(b, "llama.block_count", 0xffffffff); }), "out of range");
  EXPECT_SAYS(lie([](auto& b) { replace(b, "llama.attention.head_count", 0); }), "head_count' is missing or 0");
  EXPECT_SAYS(lie([](auto& b) { replace(b, "llama.attention.head_count_kv", 0); }), "key/value heads is 0");
  EXPECT_SAYS(lie([](auto& b) { replace(b, "llama.context_length", 0); }), "context is 0");
  EXPECT_SAYS(lie([](auto& b) { replace(b, "llama.embedding_length", 16); }), "the configuration means [4, 16]");
  EXPECT_SAYS(lie([](auto& b) { b.u32("llama.expert_count", 8); }), "mixture-of-experts");
  EXPECT_SAYS(lie([](auto& b) { b.u32("llama.rope.dimension_count", 3); }), "odd number");
  EXPECT_SAYS(lie([](auto& b) { b.string("llama.rope.scaling.type", "longrope"); }), "rope scaling 'longrope'");
  EXPECT_SAYS(lie([](auto& b) { b.u32("split.count", 3); }), "merge them first");
  EXPECT_SAYS(lie([](auto& b) { b.tensor("rope_freqs.weight", {7}); }), "7 rope factors for 4 rotated dimensions");
  EXPECT_SAYS(lie([](auto& b) { b.tensor("rope_freqs.weight", {2}); }), "a rope factor is not a positive number");
  EXPECT_SAYS(lie([](auto& b) { replace(b, "tokenizer.ggml.model", 8, GgufBuilder::text("bert")); }),
              "tokenizer 'bert' is not supported");
  EXPECT_SAYS(lie([](auto& b) { replace(b, "tokenizer.ggml.eos_token_id", 4); }), "names token 4 of 4");
  EXPECT_SAYS(lie([](auto& b) { b.values.erase(b.values.end() - 2); }), "'tokenizer.ggml.merges' is missing");
}

TEST(Gguf, LegacySpellingsMeanTheSame) {
  GgufBuilder b = tiny_gguf();
  b.version = 2;
  b.f32("llama.rope.scale_linear", 4.0f);
  b.u32("tokenizer.ggml.padding_token_id", 0xffffffff);
  b.values.push_back(GgufBuilder::text("llama.attention.key_length") + GgufBuilder::raw<std::uint32_t>(10) +
                     GgufBuilder::raw<std::uint64_t>(4));
  const auto model = read_gguf(memory_source("tiny.gguf", b.bytes()));
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->config.rope_scaling, "linear");
  EXPECT_EQ(model->config.rope_factor, 4);
  EXPECT_FALSE(model->tokenizer.pad.has_value());
  EXPECT_EQ(model->config.head_dim, 4);
}

TEST(Gguf, CutAtAnyByteItIsRefusedAndNeverRead) {
  const GgufBuilder b = tiny_gguf();
  const std::string whole = b.bytes();
  for (std::size_t keep = 0; keep < whole.size(); ++keep) ASSERT_NE(verdict(whole.substr(0, keep)), "opened") << keep;
}

TEST(Gguf, FlippedBitsAreRefusedOrHarmless) {
  const GgufBuilder b = tiny_gguf();
  const std::string whole = b.bytes();
  const std::size_t head = b.head().size();
  for (std::uint64_t seed = 1; seed <= 6000; ++seed) {
    std::mt19937_64 random(seed);
    std::string broken = whole;
    for (std::uint64_t flips = 1 + random() % 4; flips > 0; --flips) {
      broken[random() % head] ^= static_cast<char>(1 << random() % 8);
    }
    if (random() % 4 == 0) {
      broken.replace(random() % (head - 8), 8, GgufBuilder::raw<std::uint64_t>(random() >> random() % 64));
    }
    const auto model = read_gguf(memory_source("tiny.gguf", broken));
    if (!model) {
      ASSERT_TRUE(model.error().message.starts_with("tiny.gguf: ")) << model.error().message;
      continue;
    }
    for (const auto& [name, tensor] : model->tensors) {              // what opened can be read to the last byte
      std::vector<float> out(static_cast<std::size_t>(tensor.elements()));
      dequantize(tensor.type, tensor.bytes, out);
    }
  }
}

}  // namespace
}  // namespace tokenworks::formats
