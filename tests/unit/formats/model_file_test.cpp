#include <set>

#include "support.hpp"

namespace tokenworks::formats {
namespace {

// The rows of a GGUF "llama" file's q and k, back in Hugging Face order: within a head, row 2i was i, row 2i+1 was i +
// half.
std::vector<float> unpermuted(const std::vector<float>& rows, std::int64_t heads, std::int64_t columns) {
  const std::int64_t head = static_cast<std::int64_t>(rows.size()) / heads / columns;
  std::vector<float> out(rows.size());
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t i = 0; i < head; ++i) {
      const std::int64_t from = h * head + i, to = h * head + i / 2 + (i % 2) * head / 2;
      std::copy_n(rows.begin() + from * columns, columns, out.begin() + to * columns);
    }
  }
  return out;
}

// transformers wrote one of the two, the gguf package the other: names, shapes, values and configuration must agree.
TEST(ModelFile, AFolderAndAGgufFileOfTheSameWeightsAreTheSameModel) {
  const auto names = tiny_models();
  ASSERT_EQ(names.size(), 7u);
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const auto folder = open_model(tiny(name + "/hf")), gguf = open_model(tiny(name + "/model.gguf"));
    ASSERT_TRUE(folder && gguf);
    EXPECT_EQ(folder->format(), "safetensors");
    EXPECT_EQ(gguf->format(), "gguf");
    const ModelConfig &a = folder->config(), &b = gguf->config();
    EXPECT_EQ(a.architecture == "mistral" ? "llama" : a.architecture, b.architecture);
    EXPECT_EQ(a.layers, b.layers);
    EXPECT_EQ(a.hidden, b.hidden);
    EXPECT_EQ(a.ffn, b.ffn);
    EXPECT_EQ(a.q_heads, b.q_heads);
    EXPECT_EQ(a.kv_heads, b.kv_heads);
    EXPECT_EQ(a.head_dim, b.head_dim);
    EXPECT_EQ(a.vocab, b.vocab);
    EXPECT_EQ(a.context, b.context);
    EXPECT_FLOAT_EQ(a.norm_epsilon, b.norm_epsilon);
    EXPECT_FLOAT_EQ(a.rope_base, b.rope_base);
    EXPECT_EQ(a.rope_dims, b.rope_dims);
    EXPECT_FALSE(a.rope_interleaved);
    EXPECT_EQ(b.rope_interleaved, b.architecture == "llama");
    EXPECT_EQ(a.sliding_window, b.sliding_window);
    EXPECT_EQ(a.tied_embeddings, b.tied_embeddings);
    if (a.rope_scaling == "llama3") {                  // GGUF carries the finished factors instead
      EXPECT_EQ(b.rope_scaling, "none");
      EXPECT_EQ(static_cast<int>(b.rope_factors.size()), b.rope_dims / 2);
    } else {
      EXPECT_EQ(a.rope_scaling, b.rope_scaling);
      EXPECT_FLOAT_EQ(a.rope_factor, b.rope_factor);
      EXPECT_EQ(a.rope_original_context, b.rope_original_context);
      EXPECT_FLOAT_EQ(a.rope_attention_factor, b.rope_attention_factor);
    }
    ASSERT_EQ(folder->tensors().size(), gguf->tensors().size());
    for (const auto& [tensor, view] : folder->tensors()) {
      const TensorView* other = gguf->find(tensor);
      ASSERT_NE(other, nullptr) << tensor;
      EXPECT_EQ(view.name, tensor);
      EXPECT_EQ(view.shape, other->shape) << tensor;
      std::vector<float> theirs = values(*other);
      if (b.rope_interleaved && tensor.find("q_proj") != std::string::npos) {
        theirs = unpermuted(theirs, a.q_heads, view.columns());
      }
      if (b.rope_interleaved && tensor.find("k_proj") != std::string::npos) {
        theirs = unpermuted(theirs, a.kv_heads, view.columns());
      }
      EXPECT_TRUE(values(view) == theirs) << tensor;
    }
  }
}

TEST(ModelFile, WhatTheModelsWereMadeWithIsWhatIsRead) {
  const auto llama3 = open_model(tiny("llama3/hf"))->config();
  EXPECT_EQ(llama3.rope_scaling, "llama3");
  EXPECT_EQ(llama3.rope_factor, 8);
  EXPECT_EQ(llama3.rope_low_freq, 1);
  EXPECT_EQ(llama3.rope_high_freq, 4);
  EXPECT_EQ(llama3.rope_original_context, 64);
  EXPECT_EQ(llama3.rope_base, 500);
  EXPECT_TRUE(llama3.tied_embeddings);
  EXPECT_EQ(open_model(tiny("mistral/hf"))->config().sliding_window, 24);
  EXPECT_EQ(open_model(tiny("qwen2/hf"))->config().sliding_window, 0);
  const auto yarn = open_model(tiny("qwen2_yarn/hf"))->config();
  EXPECT_EQ(yarn.rope_scaling, "yarn");
  EXPECT_FLOAT_EQ(yarn.rope_attention_factor, 1.1386294361f);      // 0.1 ln 4 + 1
  EXPECT_EQ(open_model(tiny("qwen3/hf"))->config().head_dim, 32);
  EXPECT_EQ(open_model(tiny("qwen3/hf"))->find("model.norm.weight")->type, TensorType::bf16);
  EXPECT_EQ(open_model(tiny("llama/model-q8_0.gguf"))->find("lm_head.weight")->type, TensorType::q8_0);
  EXPECT_EQ(open_model(tiny("llama/model-f16.gguf"))->find("lm_head.weight")->type, TensorType::f16);
}

TEST(ModelFile, TheTokenizersDataIsHandedOnFromBothFormats) {
  const auto folder = open_model(tiny("qwen2/hf"));
  const TokenizerData& json = folder->tokenizer();
  EXPECT_EQ(json.kind, TokenizerData::Kind::tokenizer_json);
  EXPECT_EQ(json.json, read_file(tiny("qwen2/hf/tokenizer.json")));
  EXPECT_EQ(json.special_strings.at("bos_token"), "<|im_start|>");
  EXPECT_EQ(json.special_strings.at("eos_token"), "<|im_end|>");
  EXPECT_EQ(json.bos, 1);
  EXPECT_EQ(json.eos, 2);
  EXPECT_EQ(json.stop, std::vector<TokenId>{2});
  EXPECT_EQ(json.chat_template, read_file(tiny("qwen2/hf/chat_template.jinja")));

  const auto file = open_model(tiny("qwen2/model.gguf")), sentencepiece = open_model(tiny("mistral/model.gguf"));
  const TokenizerData& bpe = file->tokenizer();
  EXPECT_EQ(bpe.kind, TokenizerData::Kind::byte_bpe);
  EXPECT_EQ(bpe.pre, "qwen2");
  EXPECT_EQ(bpe.tokens.size(), 311u);
  EXPECT_EQ(bpe.tokens[1], "<|im_start|>");
  EXPECT_EQ(bpe.types[1], 3);
  EXPECT_FALSE(bpe.merges.empty());
  EXPECT_EQ(bpe.stop, std::vector<TokenId>{2});
  EXPECT_EQ(bpe.add_bos, false);
  EXPECT_EQ(bpe.chat_template, json.chat_template);
  EXPECT_EQ(bpe.special_strings.at("unk_token"), "<unk>");

  const TokenizerData& pieces = sentencepiece->tokenizer();
  EXPECT_EQ(pieces.kind, TokenizerData::Kind::sentencepiece_bpe);
  EXPECT_EQ(pieces.scores.size(), 307u);
  EXPECT_EQ(pieces.types[3], 6);
  EXPECT_EQ(pieces.tokens[3], "<0x00>");
  EXPECT_EQ(pieces.add_bos, true);
  EXPECT_EQ(pieces.add_space_prefix, true);
}

TEST(ModelFile, TheDemoModelIsSmolLM2) {
  const auto file = open_model(test::demo_model_path());
  ASSERT_NE(file, nullptr);
  const ModelConfig& c = file->config();
  EXPECT_EQ(c.architecture, "llama");
  EXPECT_EQ(c.layers, 30);
  EXPECT_EQ(c.hidden, 576);
  EXPECT_EQ(c.ffn, 1536);
  EXPECT_EQ(c.q_heads, 9);
  EXPECT_EQ(c.kv_heads, 3);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.vocab, 49152);
  EXPECT_EQ(c.context, 8192);
  EXPECT_EQ(c.rope_base, 100000);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_EQ(file->tensors().size(), 272u);
  EXPECT_EQ(file->find("model.layers.29.mlp.down_proj.weight")->shape, (std::vector<std::int64_t>{576, 1536}));
  EXPECT_EQ(file->find("model.layers.29.mlp.down_proj.weight")->type, TensorType::q4_1);
  const TokenizerData& t = file->tokenizer();
  EXPECT_EQ(t.pre, "smollm");
  EXPECT_EQ(t.stop, (std::vector<TokenId>{0, 2}));     // <|endoftext|> and <|im_end|>
  EXPECT_EQ(t.merges.size(), 48900u);
}

TEST(ModelFile, AShardedFolderOpensOnlyWhenItsIndexTellsTheTruth) {
  const test::ScratchDir scratch;
  const std::string folder = copy_folder(tiny("mistral/hf"), scratch.path() + "/model"),
                    index = folder + "/model.safetensors.index.json";
  const auto original = read_json(index);
  const auto refused = [&](const nlohmann::json& changed, const std::string& because) {
    write_file(index, changed.dump());
    const auto file = ModelFile::open(folder);
    ASSERT_FALSE(file) << because;
    EXPECT_NE(file.error().message.find(because), std::string::npos) << file.error().message;
    EXPECT_NE(file.error().message.find(folder), std::string::npos) << file.error().message;
  };
  ASSERT_TRUE(ModelFile::open(folder));
  auto changed = original;
  changed["weight_map"]["model.norm.weight"] = "model-00001-of-00010.safetensors";
  refused(changed, "'model.norm.weight' is missing; the index says it is here");
  changed = original;
  changed["weight_map"]["model.norm.weight"] = "../../secret.safetensors";
  refused(changed, "not the name of a safetensors file of this folder");
  changed = original;
  changed["weight_map"].erase("model.norm.weight");
  refused(changed, "tensor 'model.norm.weight' is missing");
  changed = original;
  changed["weight_map"]["model.norm.weight"] = "model-00099-of-00010.safetensors";
  refused(changed, "cannot open");
  refused(nlohmann::json::object(), "no weight_map");
  write_file(index, original.dump());
  EXPECT_TRUE(ModelFile::open(folder));
}

TEST(ModelFile, AMissingOrForeignPathSaysWhatToDo) {
  const test::ScratchDir scratch;
  const auto message = [](const std::string& path) {
    const auto file = ModelFile::open(path);
    return file ? std::string("opened") : file.error().message;
  };
  EXPECT_NE(message(scratch.path() + "/nothing.gguf").find("no such file"), std::string::npos);
  EXPECT_NE(message(scratch.path()).find("has no config.json"), std::string::npos);
  EXPECT_NE(message("/dev/null").find("not a regular file"), std::string::npos);
  write_file(scratch.path() + "/a.gguf", "");
  EXPECT_NE(message(scratch.path() + "/a.gguf").find("the file ends inside the magic bytes"), std::string::npos);
  EXPECT_NE(message(scratch.path()).find("name the GGUF file itself: a.gguf"), std::string::npos);
  write_file(scratch.path() + "/a.gguf", "<html>404</html>");
  EXPECT_NE(message(scratch.path() + "/a.gguf").find("not a GGUF file"), std::string::npos);
  EXPECT_NE(message(tiny("llama/hf/model.safetensors")).find("name the folder"), std::string::npos);
  const std::string folder = copy_folder(tiny("llama/hf"), scratch.path() + "/pickled");
  std::filesystem::rename(folder + "/model.safetensors", folder + "/pytorch_model.bin");
  EXPECT_NE(message(folder).find("never read"), std::string::npos);
}

}  // namespace
}  // namespace tokenworks::formats
