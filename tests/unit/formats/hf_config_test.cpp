#include "formats/hf_config.hpp"

#include "support.hpp"

namespace tokenworks::formats {
namespace {

Json base(const char* type = "llama") {
  return Json{{"model_type", type},         {"num_hidden_layers", 28},        {"hidden_size", 1024},
              {"intermediate_size", 3072},  {"num_attention_heads", 16},      {"num_key_value_heads", 8},
              {"vocab_size", 32000},        {"max_position_embeddings", 8192}, {"rms_norm_eps", 1e-6}};
}

Result<ModelConfig> with(Json config, const char* patch) {
  config.merge_patch(Json::parse(patch));
  return read_hf_config("m/config.json", config);
}

std::string refusal(const Json& config, const char* patch) {
  const auto read = with(config, patch);
  if (read) return "read";
  EXPECT_TRUE(read.error().message.starts_with("m/config.json: ")) << read.error().message;
  return read.error().message;
}

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// Spellings as published: Llama 3.1 and Qwen2.5 wrote rope_scaling, transformers 5 writes rope_parameters.
TEST(HfConfig, RopeSettingsAreReadInTheOldAndTheNewSpelling) {
  for (const char* patch :
       {R"({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, "max_position_embeddings": 131072})",
        R"({"rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, "max_position_embeddings": 131072})"}) {
    const auto c = with(base(), patch);
    ASSERT_TRUE(c) << c.error().message;
    EXPECT_EQ(c->rope_scaling, "llama3");
    EXPECT_EQ(c->rope_base, 500000);
    EXPECT_EQ(c->rope_factor, 8);
    EXPECT_EQ(c->rope_original_context, 8192);
    EXPECT_EQ(c->context, 131072);
  }
  const auto linear = with(base(), R"({"rope_scaling": {"type": "linear", "factor": 2}})");
  EXPECT_EQ(linear->rope_scaling, "linear");
  EXPECT_EQ(linear->rope_factor, 2);
  const auto yarn = with(
      base("qwen2"), R"({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}})");
  EXPECT_EQ(yarn->rope_scaling, "yarn");
  EXPECT_EQ(yarn->rope_beta_fast, 32);
  EXPECT_FLOAT_EQ(yarn->rope_attention_factor, 1.1386294361f);
  const auto scaled =
      with(base(), R"({"rope_scaling": {"type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 0.5}})");
  EXPECT_FLOAT_EQ(scaled->rope_attention_factor, 1.36888794541f / 1.18444397270f);
  EXPECT_EQ(scaled->rope_original_context, 8192);
  EXPECT_EQ(with(base(), R"({"rope_scaling": null})")->rope_scaling, "none");
  EXPECT_EQ(with(base(), R"({"rope_parameters": {"rope_type": "default", "rope_theta": 7}})")->rope_base, 7);
  EXPECT_EQ(with(base(), R"({"partial_rotary_factor": 0.5})")->rope_dims, 32);
  EXPECT_SAYS(refusal(base(), R"({"rope_scaling": {"type": "dynamic", "factor": 2}})"),
              "rope scaling 'dynamic' is not supported");
  EXPECT_SAYS(refusal(base(), R"({"rope_scaling": {"rope_type": "linear"}})"), "needs 'factor'");
  EXPECT_SAYS(refusal(base(), R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})"),
              "per layer type");
  EXPECT_SAYS(refusal(base(), R"({"partial_rotary_factor": 2})"), "partial_rotary_factor");
}

TEST(HfConfig, TheWindowFollowsEachFamilysOwnRule) {
  EXPECT_EQ(with(base("mistral"), R"({"sliding_window": 4096})")->sliding_window, 4096);
  EXPECT_EQ(with(base("mistral"), R"({"sliding_window": null})")->sliding_window, 0);
  EXPECT_EQ(with(base("mistral"), R"({"sliding_window": 8192})")->sliding_window, 0);  // never shorter than the context
  EXPECT_EQ(with(base("llama"), R"({"sliding_window": 64})")->sliding_window, 0);
  EXPECT_EQ(with(base("qwen2"), R"({"sliding_window": 4096, "use_sliding_window": false})")->sliding_window, 0);
  EXPECT_EQ(with(base("qwen2"), R"({"sliding_window": 4096, "use_sliding_window": true})")->sliding_window,
            0);  // 28 of 28 layers full
  EXPECT_EQ(with(base("qwen2"), R"({"sliding_window": 4096, "use_sliding_window": true, "max_window_layers": 0})")
                ->sliding_window,
            4096);
  EXPECT_SAYS(
      refusal(base("qwen2"), R"({"sliding_window": 4096, "use_sliding_window": true, "max_window_layers": 21})"),
      "a sliding window in 7 of 28 layers is not supported");
}

TEST(HfConfig, WhatCannotBeServedSaysSo) {
  EXPECT_SAYS(refusal(base("gemma3_text"), "{}"),
              "architecture 'gemma3_text' is not supported (llama, mistral, qwen2, qwen3 and bert are)");
  EXPECT_SAYS(refusal(base(), R"({"model_type": null, "architectures": ["GPT2LMHeadModel"]})"), "'GPT2LMHeadModel'");
  EXPECT_SAYS(refusal(base(), R"({"model_type": null})"), "names no model_type");
  EXPECT_EQ(with(base(), R"({"model_type": null, "architectures": ["Qwen3ForCausalLM"]})")->architecture, "qwen3");
  EXPECT_SAYS(refusal(base(), R"({"quantization_config": {"quant_method": "gptq"}})"), "quantised as 'gptq'");
  EXPECT_SAYS(refusal(base(), R"({"hidden_act": "gelu"})"), "activation 'gelu'");
  EXPECT_SAYS(refusal(base(), R"({"hidden_size": "large"})"), "'hidden_size' is not a whole number");
  EXPECT_SAYS(refusal(base(), R"({"hidden_size": -1})"), "'hidden_size' is not a whole number");
  EXPECT_SAYS(refusal(base(), R"({"vocab_size": 99999999999})"), "'vocab_size' is not a whole number");
  EXPECT_SAYS(refusal(base(), R"({"num_hidden_layers": null})"), "'num_hidden_layers' is missing");
  EXPECT_SAYS(refusal(Json::array(), "[]"), "not a JSON object");
}

// A folder whose tokenizer_config carries what older tools wrote.
TEST(HfConfig, TokenizerSettingsComeInManySpellings) {
  const test::ScratchDir scratch;
  const std::string folder = copy_folder(tiny("qwen2/hf"), scratch.path() + "/model");
  std::filesystem::remove(folder + "/chat_template.jinja");
  const auto open_with = [&](const char* tokenizer_config, const char* generation_config) {
    write_file(folder + "/tokenizer_config.json", tokenizer_config);
    write_file(folder + "/generation_config.json", generation_config);
    return open_model(folder);
  };
  auto file =
      open_with(R"({"chat_template": "T", "bos_token": null, "eos_token": {"content": "<|im_end|>", "lstrip": false},
                            "add_bos_token": false})",
                R"({"eos_token_id": [2, 0]})");
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->tokenizer().chat_template, "T");
  EXPECT_EQ(file->tokenizer().special_strings.count("bos_token"), 0u);
  EXPECT_EQ(file->tokenizer().special_strings.at("eos_token"), "<|im_end|>");
  EXPECT_EQ(file->tokenizer().stop, (std::vector<TokenId>{0, 2}));
  EXPECT_EQ(file->tokenizer().add_bos, false);
  file = open_with(
      R"({"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]})", "{}");
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->tokenizer().chat_template, "yes");
  EXPECT_EQ(file->tokenizer().eos, 2);                                     // config.json's
  write_file(folder + "/tokenizer_config.json", R"({"chat_template": 7})");
  EXPECT_SAYS(ModelFile::open(folder).error().message, "chat_template");
  write_file(folder + "/tokenizer_config.json", "{");
  EXPECT_SAYS(ModelFile::open(folder).error().message, "tokenizer_config.json: is not JSON");
  write_file(folder + "/tokenizer_config.json", "{}");
  write_file(folder + "/generation_config.json", R"({"eos_token_id": 5000})");
  EXPECT_SAYS(ModelFile::open(folder).error().message, "the stop token 5000 is outside the vocabulary of 311");
  std::filesystem::remove(folder + "/tokenizer.json");
  EXPECT_SAYS(ModelFile::open(folder).error().message, "no tokenizer.json");
}

}  // namespace
}  // namespace tokenworks::formats
