#pragma once
// BERT's treatment of text, as `tokenizers` does it (normalizers::bert, pre_tokenizers::bert): control characters out, white
// space to spaces, ideographs apart, accents off, lower case. Pure functions, any thread.
#include <string>
#include <string_view>

namespace tokenworks::tokenizer {

struct BertText {                                    // a step of Normalizer
  bool clean = true, chinese = true, strip_accents = true, lowercase = true;
};
void normalize_bert(std::string_view text, const BertText& how, std::string& to);   // appends
bool is_bert_punctuation(char32_t c);

}  // namespace tokenworks::tokenizer
