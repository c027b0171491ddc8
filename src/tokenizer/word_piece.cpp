#include "tokenizer/word_piece.hpp"

#include <algorithm>

namespace tokenworks::tokenizer {

WordPieceModel::WordPieceModel(const WordPieceSpec& spec, const std::vector<std::string>& spellings, const std::vector<bool>& in_model)
    : spec_(spec) {
  for (std::size_t i = 0; i < spellings.size(); ++i) {
    const std::string& spelling = spellings[i];
    if (spelling.empty() || !in_model[i]) continue;
    first_.set(spelling, static_cast<TokenId>(i));
    if (spelling.size() > spec.prefix.size() && spelling.starts_with(spec.prefix)) {
      inside_.set(std::string_view(spelling).substr(spec.prefix.size()), static_cast<TokenId>(i));
    }
    longest_ = std::max(longest_, spelling.size());
  }
}

void WordPieceModel::encode(std::string_view word, std::vector<TokenId>& to) const {
  const auto characters = std::count_if(word.begin(), word.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
  const std::size_t before = to.size();
  bool known = characters <= spec_.characters_max;
  for (std::size_t begin = 0; known && begin < word.size();) {
    const StringTable& pieces = begin == 0 ? first_ : inside_;
    std::size_t length = std::min(longest_, word.size() - begin);
    TokenId found = -1;
    for (; length > 0; --length) {
      const bool whole = begin + length == word.size() || (static_cast<unsigned char>(word[begin + length]) & 0xC0) != 0x80;
      if (whole && (found = pieces.find(word.substr(begin, length))) >= 0) break;
    }
    known = found >= 0;
    if (known) to.push_back(found);
    begin += length;
  }
  if (known) return;
  to.resize(before);
  if (spec_.unknown >= 0) to.push_back(spec_.unknown);
}

}  // namespace tokenworks::tokenizer
