#pragma once
// Plan: a tokenizer's data, read from either source into one form, checked, ready to be built. GGUF metadata and
// tokenizer.json both end here; nothing after this knows which one it was.
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/added_tokens.hpp"
#include "tokenizer/bpe_model.hpp"
#include "tokenizer/decoder.hpp"
#include "tokenizer/normalizer.hpp"
#include "tokenizer/pre_tokenizer.hpp"
#include "tokenizer/word_piece.hpp"
#include "tokenworks/formats/model_file.hpp"

namespace tokenworks::tokenizer {

struct Plan {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  BpeSpec bpe;                            // of WordPiece the spellings alone
  std::optional<WordPieceSpec> word_piece;
  std::vector<AddedToken> added;
  DecoderSpec decoder;
  std::optional<TokenId> bos;  // set when a raw prompt begins with it
  std::optional<TokenId> end;  // set when a text that is embedded ends with it
};

Result<Plan> plan_from_gguf(const formats::TokenizerData& data);
Result<Plan> plan_from_json(const formats::TokenizerData& data);

// Resolves merges given as spellings. `ids` maps what the model can produce; bad_file names the merge that does not
// fit.
Result<> add_merges(BpeSpec& spec, const std::vector<std::pair<std::string, std::string>>& merges);
// The byte of "<0xNN>", -1 for any other spelling.
int byte_of_spelling(std::string_view spelling);
// "cut" at every match of a pattern known to compile.
Split isolate(const std::string& pattern);

}  // namespace tokenworks::tokenizer
