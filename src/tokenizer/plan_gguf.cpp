// TokenizerData out of GGUF metadata (ggml docs/gguf.md; token types: 1 normal, 2 unknown, 3 control, 4 user-defined,
// 5 unused, 6 byte; `tokenizer.ggml.pre` names the pre-tokenizer).
#include <array>
#include <string>

#include "tokenizer/plan.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer {
namespace {

enum TokenType : std::int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

std::int32_t type_of(const formats::TokenizerData& data, std::size_t id) {
  const auto is = [&](std::optional<TokenId> special) {
    return special && *special >= 0 && static_cast<std::size_t>(*special) == id;
  };
  if (!data.types.empty()) return data.types[id];
  if (is(data.bos) || is(data.eos) || is(data.pad)) return kControl;
  if (is(data.unknown)) return kUnknown;
  if (data.kind == formats::TokenizerData::Kind::sentencepiece_bpe && byte_of_spelling(data.tokens[id]) >= 0)
    return kByte;
  return kNormal;
}

Result<> check(const formats::TokenizerData& data) {
  if (data.tokens.empty())
    return error(Errc::bad_file, "the model file has no tokenizer vocabulary (tokenizer.ggml.tokens)");
  if (!data.types.empty() && data.types.size() != data.tokens.size()) {
    return error(Errc::bad_file, "tokenizer.ggml.token_type has " + std::to_string(data.types.size()) +
                                     " entries for " + std::to_string(data.tokens.size()) + " tokens");
  }
  for (std::size_t i = 0; i < data.tokens.size(); ++i) {
    if (!valid_utf8(data.tokens[i]))
      return error(Errc::bad_file, "tokenizer.ggml.tokens: token " + std::to_string(i) + " is not UTF-8");
    if (!data.types.empty() && (data.types[i] < kNormal || data.types[i] > kByte)) {
      return error(Errc::bad_file, "tokenizer.ggml.token_type: token " + std::to_string(i) + " has the unknown type " +
                                       std::to_string(data.types[i]));
    }
  }
  return {};
}

// The pre-tokenizers by GGUF name; several models share one.
Result<> set_pre_tokenizer(const std::string& pre, Plan& plan) {
  const auto any_of = [&](std::initializer_list<std::string_view> names) {
    for (const std::string_view n : names) {
      if (n == pre) return true;
    }
    return false;
  };
  PreTokenizer& to = plan.pre_tokenizer;
  if (any_of({"smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b"})) {
    to.add(isolate(digits_and_gpt2_pattern()));
  } else if (any_of({"gpt-2", "gpt2", "phi-2", "jais", "mpt", "olmo", "roberta-bpe"})) {
    to.add(isolate(kGpt2Pattern));
  } else if (any_of({"llama-bpe", "llama3", "llama-v3", "smaug-bpe", "dbrx", "falcon3", "pixtral"})) {
    to.add(isolate(kLlama3Pattern));
    plan.bpe.ignore_merges = !any_of({"smaug-bpe", "dbrx"});
  } else if (any_of({"qwen2", "deepseek-r1-qwen", "megrez"})) {
    plan.normalizer.add(UnicodeForm{NormalForm::nfc});
    to.add(isolate(kQwen2Pattern));
  } else if (any_of({"", "default"})) {  // llama.cpp's choice for files from before the key existed
    to.add(isolate(R"([\p{P}\$\+<=>\^~\|]+)"));
    to.add(isolate(kGpt2Pattern));
    to.add(isolate(R"(\p{N}+)"));
    to.add(isolate("[0-9][0-9][0-9]"));
  } else {
    return error(Errc::bad_file,
                 "tokenizer.ggml.pre names the pre-tokenizer '" + pre +
                     "', which is not known; known are gpt-2, llama-bpe, qwen2, smollm, default and their aliases");
  }
  return {};
}

Result<> byte_bpe(const formats::TokenizerData& data, Plan& plan) {
  plan.bpe.byte_level = true;
  if (auto set = set_pre_tokenizer(data.pre, plan); !set) return set.error();
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(data.merges.size());
  for (std::size_t i = 0; i < data.merges.size(); ++i) {
    const std::string& m = data.merges[i];
    const std::size_t space = m.find(' ', 1);
    if (space == std::string::npos || space + 1 == m.size()) {
      return error(Errc::bad_file,
                   "tokenizer.ggml.merges: entry " + std::to_string(i) + " is not two spellings with a space between");
    }
    merges.emplace_back(m.substr(0, space), m.substr(space + 1));
  }
  if (auto added = add_merges(plan.bpe, merges); !added) return added.error();
  std::string bytes;
  for (const std::string& spelling : data.tokens) {
    plan.decoder.text.push_back(alphabet_to_bytes(spelling, bytes) ? bytes : spelling);
  }
  plan.decoder.is_byte.assign(data.tokens.size(), false);
  return {};
}

Result<> sentencepiece(const formats::TokenizerData& data, Plan& plan) {
  if (data.scores.size() != data.tokens.size()) {
    return error(Errc::bad_file, "tokenizer.ggml.scores has " + std::to_string(data.scores.size()) + " entries for " +
                                     std::to_string(data.tokens.size()) + " tokens");
  }
  const bool prefix = data.add_space_prefix.value_or(true);
  const Regex space = Regex::compile(" ").value();
  const Regex mark = Regex::compile(std::string(kSpaceMark)).value();
  if (prefix) plan.normalizer.add(Prepend{std::string(kSpaceMark)});
  plan.normalizer.add(Replace{space, std::string(kSpaceMark)});
  plan.bpe.rule = BpeSpec::Rule::scored;
  plan.bpe.scores = data.scores;
  plan.bpe.fuse_unknown = true;
  for (std::size_t i = 0; i < data.tokens.size(); ++i) {
    const std::int32_t type = type_of(data, i);
    if (type == kUnknown && plan.bpe.unknown < 0) plan.bpe.unknown = static_cast<TokenId>(i);
    const int byte = type == kByte ? byte_of_spelling(data.tokens[i]) : -1;
    if (type == kByte && byte < 0) {
      return error(Errc::bad_file,
                   "token " + std::to_string(i) + " is a byte but is spelled '" + data.tokens[i] + "', not <0xNN>");
    }
    plan.bpe.byte_fallback |= byte >= 0;
    plan.decoder.is_byte.push_back(byte >= 0);
    std::string text;
    if (byte >= 0) {
      text = static_cast<char>(byte);
    } else {
      replace_all(data.tokens[i], mark, " ", text);
    }
    plan.decoder.text.push_back(std::move(text));
  }
  if (data.unknown) plan.bpe.unknown = *data.unknown;
  for (AddedToken& token : plan.added) {  // SentencePiece finds these after it has marked the spaces
    if (token.special) continue;
    token.normalized = true;
    replace_all(token.content, space, kSpaceMark, token.spelling);
  }
  plan.decoder.joining = DecoderSpec::Joining::characters;
  plan.decoder.strip = " ";
  plan.decoder.strip_count = prefix ? 1 : 0;
  plan.decoder.strip_pieces_only = true;
  return {};
}

}  // namespace

Result<Plan> plan_from_gguf(const formats::TokenizerData& data) {
  if (auto checked = check(data); !checked) return checked.error();
  Plan plan;
  plan.bpe.spellings = data.tokens;
  for (std::size_t i = 0; i < data.tokens.size(); ++i) {
    const std::int32_t type = type_of(data, i);
    const bool control = type == kControl || type == kUnknown;
    plan.bpe.in_model.push_back(type == kNormal || type == kUserDefined);
    plan.decoder.control.push_back(control);
    if (control || type == kUserDefined) {
      plan.added.push_back({.id = static_cast<TokenId>(i), .content = data.tokens[i], .special = control});
    }
  }
  const bool scored = data.kind == formats::TokenizerData::Kind::sentencepiece_bpe;
  if (auto read = scored ? sentencepiece(data, plan) : byte_bpe(data, plan); !read) return read.error();
  if (data.bos && data.add_bos.value_or(scored || plan.bpe.ignore_merges)) plan.bos = data.bos;
  return plan;
}

}  // namespace tokenworks::tokenizer
