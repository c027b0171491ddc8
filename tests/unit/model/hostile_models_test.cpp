// Files that are incomplete, damaged or not what they say: refused before anything is loaded, with words that name the
// file, the tensor, what was found and what was expected.
#include <gtest/gtest.h>

#include "fake_model.hpp"
#include "model/memory.hpp"
#include "model/tensors.hpp"
#include "tokenworks/model/runner.hpp"

namespace tokenworks::model {
namespace {

using test::FakeModel;

// What planning says of a model after `edit`; "accepted" when nothing.
template <class Edit>
std::string refusal(Edit edit, Errc expected = Errc::bad_file, const LoadOptions& options = {}) {
  FakeModel model;
  edit(model);
  const auto plan = plan_memory(model, options);
  if (plan) return "accepted";
  EXPECT_EQ(plan.error().code, expected) << plan.error().message;
  return plan.error().message;
}

TEST(HostileModels, TheFakeItselfIsAccepted) {
  EXPECT_EQ(refusal([](FakeModel&) {}), "accepted");
}

TEST(HostileModels, AMissingTensorIsNamed) {
  EXPECT_EQ(refusal([](FakeModel& m) { m.tensors_edit.erase("model.layers.1.mlp.down_proj.weight"); }),
            "fake.gguf: tensor model.layers.1.mlp.down_proj.weight is missing; llama needs it with shape [64, 96]");
  EXPECT_EQ(refusal([](FakeModel& m) { m.config_edit.tied_embeddings = false; }),
            "fake.gguf: tensor lm_head.weight is missing; llama needs it with shape [50, 64]");
}

TEST(HostileModels, AWrongShapeIsSaidWithTheRightOne) {
  EXPECT_EQ(refusal([](FakeModel& m) { m.add("model.layers.0.self_attn.k_proj.weight", {64, 64}); }),
            "fake.gguf: tensor model.layers.0.self_attn.k_proj.weight (F32) has shape [64, 64]; expected [32, 64]");
  EXPECT_EQ(refusal([](FakeModel& m) { m.add("model.norm.weight", {64, 1}); }),
            "fake.gguf: tensor model.norm.weight (F32) has shape [64, 1]; expected [64]");
}

TEST(HostileModels, AVocabularyThatDoesNotFitIsRefused) {
  EXPECT_EQ(refusal([](FakeModel& m) { m.config_edit.vocab = 51; }),
            "fake.gguf: tensor model.embed_tokens.weight (F32) has shape [50, 64]; expected [51, 64]");
  EXPECT_EQ(refusal([](FakeModel& m) { m.tokenizer_edit.tokens.resize(51); }),
            "fake.gguf: the tokenizer has 51 tokens but tensor model.embed_tokens.weight only 50 rows");
  EXPECT_EQ(refusal([](FakeModel& m) { m.tokenizer_edit.stop = {2, 50}; }),
            "fake.gguf: stop token 50 is outside the vocabulary of 50 tokens");
}

TEST(HostileModels, AnUnknownArchitectureIsToldWhichWeHave) {
  EXPECT_EQ(refusal([](FakeModel& m) { m.config_edit.architecture = "mamba"; }, Errc::bad_config),
            "fake.gguf: architecture 'mamba' is not supported; supported are llama, mistral, qwen2, qwen3 and, for embeddings, bert");
}

// Their answers would be wrong in silence: a Qwen3 that calls itself a Llama, one layer more than the numbers say.
TEST(HostileModels, AWeightThatNothingWouldReadIsRefused) {
  EXPECT_EQ(refusal([](FakeModel& m) { m.add("model.layers.0.self_attn.q_norm.weight", {16}); }),
            "fake.gguf: tensor model.layers.0.self_attn.q_norm.weight has no place in llama with 2 layers; the file is "
            "not what its configuration says");
  EXPECT_EQ(refusal([](FakeModel& m) { m.config_edit.layers = 1; }),
            "fake.gguf: tensor model.layers.1.input_layernorm.weight has no place in llama with 1 layers; the file is "
            "not what its configuration says");
}

TEST(HostileModels, HarmlessLeftoversAreAccepted) {
  EXPECT_EQ(refusal([](FakeModel& m) {
              m.add("model.layers.0.self_attn.rotary_emb.inv_freq", {8});
              m.add("lm_head.weight", {50, 64});
            }),
            "accepted");
}

TEST(HostileModels, PartsThatAFamilyMustHaveAreAskedFor) {
  EXPECT_EQ(refusal([](FakeModel& m) { m.config_edit.architecture = "qwen2"; }),
            "fake.gguf: tensor model.layers.0.self_attn.q_proj.bias is missing; qwen2 needs it with shape [64]");
  EXPECT_EQ(refusal([](FakeModel& m) { m.config_edit.architecture = "qwen3"; }),
            "fake.gguf: tensor model.layers.0.self_attn.q_norm.weight is missing; qwen3 needs it with shape [16]");
  EXPECT_EQ(refusal([](FakeModel& m) { m.add("model.layers.1.self_attn.v_proj.bias", {32}); }),
            "fake.gguf: tensor model.layers.1.self_attn.q_proj.bias is missing; llama needs it with shape [64]");
}

TEST(HostileModels, StorageThatDoesNotMatchTheShapeIsRefused) {
  EXPECT_EQ(refusal([](FakeModel& m) {
              auto& t = m.tensors_edit["model.layers.0.mlp.up_proj.weight"];
              t.bytes = t.bytes.first(100);
            }),
            "fake.gguf: tensor model.layers.0.mlp.up_proj.weight (F32) has 100 bytes; its shape [96, 64] needs 24576");
  EXPECT_EQ(refusal([](FakeModel& m) { m.tensors_edit["model.layers.0.mlp.up_proj.weight"].type =
                                           formats::TensorType::q4_k; }),
            "fake.gguf: tensor model.layers.0.mlp.up_proj.weight is stored as Q4_K, whose blocks of 256 do not divide "
            "its rows of 64");
  EXPECT_EQ(refusal([](FakeModel& m) { m.tensors_edit["model.norm.weight"].type = formats::TensorType::q8_0; }),
            "fake.gguf: tensor model.norm.weight is stored as Q8_0; a vector must be F32, F16 or BF16");
}

TEST(HostileModels, NumbersThatContradictEachOtherAreRefused) {
  EXPECT_EQ(refusal([](FakeModel& m) { m.config_edit.kv_heads = 3; }),
            "fake.gguf: 4 query heads cannot share 3 key/value heads evenly");
  EXPECT_EQ(refusal([](FakeModel& m) { m.config_edit.rope_dims = 18; }),
            "fake.gguf: 18 rotated dimensions do not fit a head of 16: an even number up to it is needed");
  EXPECT_EQ(refusal([](FakeModel& m) { m.config_edit.layers = 0; }),
            "fake.gguf: layers is 0, which must be between 1 and 16777216");
  EXPECT_EQ(refusal([](FakeModel& m) { m.config_edit.ffn = 1 << 30; }),
            "fake.gguf: feed-forward size is 1073741824, which must be between 1 and 16777216");
  EXPECT_EQ(refusal([](FakeModel& m) { m.config_edit.norm_epsilon = -1; }),
            "fake.gguf: the norm's epsilon is -1, which must be positive");
}

TEST(HostileModels, AnActivationWeDoNotHaveIsRefused) {
  FakeModel model;
  model.config_edit.activation = "relu2";
  const auto gate = gate_kind(model);
  ASSERT_FALSE(gate);
  EXPECT_EQ(gate.error().message,
            "fake.gguf: activation 'relu2' is not supported; supported are silu and gelu_pytorch_tanh");
}

}  // namespace
}  // namespace tokenworks::model
