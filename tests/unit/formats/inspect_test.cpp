#include "tokenworks/formats/inspect.hpp"

#include "support.hpp"

namespace tokenworks::formats {
namespace {

TEST(Inspect, TheDemoModelIsDescribedForAPerson) {
  const auto file = open_model(test::demo_model_path());
  ASSERT_NE(file, nullptr);
  const Digest digest{};
  const std::string text = inspect_text(*file, &digest);
  for (const char* part :
       {"(gguf, 98.4 MB in 1 file)", "architecture   llama\n", "parameters     134.5 M\n",
        "layers         30, hidden 576", "9 heads of 64, 3 for keys and values\n", "49152, tied embeddings",
        "8192 tokens", "byte-level BPE (smollm), 49152 tokens", "stops at 0, 2", "yes, ", "Q4_1   210", "Q8_0     1",
        "F32     61", "23.0 kB of KV per token, 189 MB for one full context", "digest         0000000000"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in\n" << text;
  }
  EXPECT_EQ(text.find("model.layers.0"), std::string::npos);
  EXPECT_NE(inspect_text(*file, nullptr, true).find("model.layers.29.mlp.down_proj.weight"), std::string::npos);
  EXPECT_EQ(inspect_text(*file).find("digest"), std::string::npos);
}

TEST(Inspect, TheJsonSaysTheSameInNumbers) {
  const auto file = open_model(tiny("mistral/hf"));
  ASSERT_NE(file, nullptr);
  const Digest digest = model_digest(*file);
  const auto j = nlohmann::json::parse(inspect_json(*file, &digest, true));
  EXPECT_EQ(j["format"], "safetensors");
  EXPECT_EQ(j["architecture"], "mistral");
  EXPECT_EQ(j["digest"], hex(digest));
  EXPECT_EQ(j["config"]["sliding_window"], 24);
  EXPECT_EQ(j["config"]["head_dim"], 8);
  EXPECT_EQ(j["tokenizer"]["kind"], "tokenizer.json");
  EXPECT_EQ(j["tokenizer"]["chat_template"], true);
  EXPECT_EQ(j["tensors"].size(), file->tensors().size());
  EXPECT_EQ(j["memory"]["kv_per_token"], 2 * 2 * 4 * 2 * 8);
  EXPECT_EQ(j["memory"]["weights"], j["tensor_types"]["F32"]["bytes"]);
  EXPECT_EQ(j["parameters"], j["memory"]["weights"].get<std::uint64_t>() / 4);
  EXPECT_EQ(j["files"].size(), file->sources().size());
  EXPECT_FALSE(nlohmann::json::parse(inspect_json(*file)).contains("digest"));
}

}  // namespace
}  // namespace tokenworks::formats
