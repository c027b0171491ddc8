#include "tokenizer/bpe_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer {
namespace {

constexpr Symbol kUnknownBase = 0x40000000;   // symbol of the i-th unknown character of a piece: this + i
constexpr std::size_t kPieceBytesMax = 2048;  // of a scored piece; real ones have at most some 128 bytes

std::string byte_spelling(unsigned byte) {
  char text[8];
  std::snprintf(text, sizeof text, "<0x%02X>", byte);
  return text;
}

}  // namespace

Result<BpeModel> BpeModel::build(const BpeSpec& spec) {
  BpeModel model;
  model.rule_ = spec.rule;
  model.byte_level_ = spec.byte_level;
  model.fuse_unknown_ = spec.fuse_unknown;
  model.unknown_ = spec.unknown;
  model.vocabulary_ = static_cast<Symbol>(spec.spellings.size());

  StringTable ids;  // what text may become
  for (std::size_t i = 0; i < spec.spellings.size(); ++i) {
    if (!spec.spellings[i].empty() && spec.in_model[i]) ids.set(spec.spellings[i], static_cast<TokenId>(i));
  }
  model.fallback_.fill(-1);
  if (spec.byte_fallback) {
    StringTable all;
    for (std::size_t i = 0; i < spec.spellings.size(); ++i) all.set(spec.spellings[i], static_cast<TokenId>(i));
    model.byte_fallback_ = true;
    for (unsigned b = 0; b < 256; ++b) model.fallback_[b] = all.find(byte_spelling(b));
  }
  model.learn_initials(spec);
  auto added = spec.rule == BpeSpec::Rule::ranked ? model.add_ranked(spec, ids) : model.add_scored(spec, ids);
  if (!added) return added.error();
  if (!spec.byte_level) model.learn_word_borders(spec);
  model.learn_whole_pieces(spec);
  return model;
}

void BpeModel::learn_initials(const BpeSpec& spec) {
  of_byte_.fill(-1);
  for (std::size_t i = 0; i < spec.spellings.size(); ++i) {
    const std::string& s = spec.spellings[i];
    if (s.empty() || !spec.in_model[i] || s.size() != utf8_length(s[0])) continue;
    const auto id = static_cast<Symbol>(i);
    std::string byte;
    if (!spec.byte_level) {
      of_character_.set(utf8_decode(s, 0), id);
      if (s.size() == 1) of_byte_[static_cast<unsigned char>(s[0])] = id;
    } else if (alphabet_to_bytes(s, byte)) {
      of_byte_[static_cast<unsigned char>(byte[0])] = id;
    }
  }
}

Result<> BpeModel::add_ranked(const BpeSpec& spec, const StringTable& ids) {
  merger_.reserve(spec.merges.size());
  std::string joined;
  for (std::size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto [left, right] = spec.merges[rank];
    joined = spec.spellings[static_cast<std::size_t>(left)] + spec.spellings[static_cast<std::size_t>(right)];
    const TokenId result = ids.find(joined);
    if (result < 0) {
      return error(Errc::bad_file, "tokenizer merge " + std::to_string(rank) + " makes '" + joined +
                                       "', which is not in the vocabulary");
    }
    merger_.add(left, right, result, static_cast<std::uint32_t>(rank));
  }
  return {};
}

// Every way to cut a piece into two others is a merge; its priority is the order of the piece's score, and pieces of
// one score share it, so that among them the leftmost goes first (SentencePiece, bpe_model.cc).
Result<> BpeModel::add_scored(const BpeSpec& spec, const StringTable& ids) {
  std::vector<float> order;
  for (std::size_t i = 0; i < spec.spellings.size(); ++i) {
    if (!spec.in_model[i]) continue;
    if (std::isnan(spec.scores[i]))
      return error(Errc::bad_file, "the score of token " + std::to_string(i) + " is not a number");
    if (spec.spellings[i].size() > kPieceBytesMax) {
      return error(Errc::bad_file, "token " + std::to_string(i) + " has " + std::to_string(spec.spellings[i].size()) +
                                       " bytes, more than a piece can have (" + std::to_string(kPieceBytesMax) + ")");
    }
    order.push_back(spec.scores[i]);
  }
  std::sort(order.begin(), order.end(), std::greater<>());
  order.erase(std::unique(order.begin(), order.end()), order.end());

  const auto symbol_of = [&](std::string_view text) -> Symbol {
    const TokenId id = ids.find(text);
    if (id >= 0 || text.size() != utf8_length(text[0])) return id;
    const char32_t c = utf8_decode(text, 0);  // a character that is no piece itself may still begin one
    if (const Symbol* known = of_character_.find(c)) return *known;
    private_.emplace_back(text);
    const auto fresh = static_cast<Symbol>(vocabulary_ + static_cast<Symbol>(private_.size()) - 1);
    of_character_.set(c, fresh);
    if (text.size() == 1) of_byte_[static_cast<unsigned char>(text[0])] = fresh;
    return fresh;
  };
  for (std::size_t i = 0; i < spec.spellings.size(); ++i) {
    if (!spec.in_model[i]) continue;
    const std::string_view piece = spec.spellings[i];
    const auto place = std::lower_bound(order.begin(), order.end(), spec.scores[i], std::greater<>());
    if (ids.find(piece) != static_cast<TokenId>(i)) continue;
    for (std::size_t cut = piece.empty() ? 0 : utf8_length(piece[0]); cut < piece.size();
         cut += utf8_length(piece[cut])) {
      const Symbol left = symbol_of(piece.substr(0, cut));
      const Symbol right = symbol_of(piece.substr(cut));
      if (left < 0 || right < 0) continue;
      merger_.add(left, right, static_cast<Symbol>(i), static_cast<std::uint32_t>(place - order.begin()));
    }
  }
  return {};
}

// Text without a pre-tokenizer is one piece, however long. Where no piece has character X before U+2581, no merge can
// ever cross that border, so the text may be cut there and the words looked up.
void BpeModel::learn_word_borders(const BpeSpec& spec) {
  if (initial(utf8_decode(kSpaceMark, 0)) < 0) return;
  for (std::size_t i = 0; i < spec.spellings.size(); ++i) {
    if (!spec.in_model[i]) continue;
    const std::string& s = spec.spellings[i];
    char32_t previous = 0;
    for (std::size_t at = 0; at < s.size(); at += utf8_length(s[at])) {
      const char32_t c = utf8_decode(s, at);
      if (at > 0 && c == utf8_decode(kSpaceMark, 0)) before_mark_.push_back(previous);
      previous = c;
    }
  }
  std::sort(before_mark_.begin(), before_mark_.end());
  before_mark_.erase(std::unique(before_mark_.begin(), before_mark_.end()), before_mark_.end());
  split_words_ = true;
}

void BpeModel::learn_whole_pieces(const BpeSpec& spec) {
  std::string piece;
  std::vector<TokenId> alone;
  for (std::size_t i = 0; i < spec.spellings.size(); ++i) {
    if (spec.spellings[i].empty() || !spec.in_model[i]) continue;
    if (!spec.byte_level) {
      piece = spec.spellings[i];
    } else if (!alphabet_to_bytes(spec.spellings[i], piece)) {
      continue;
    }
    alone.clear();
    if (!spec.ignore_merges) encode_slowly(piece, alone);
    if (spec.ignore_merges || (alone.size() == 1 && alone[0] == static_cast<TokenId>(i))) {
      whole_.set(piece, static_cast<TokenId>(i));
      longest_whole_ = std::max(longest_whole_, piece.size());
    }
  }
}

Symbol BpeModel::initial(char32_t c) const {
  if (c < 0x80) return of_byte_[c];
  const Symbol* found = of_character_.find(c);
  return found != nullptr ? *found : -1;
}

void BpeModel::encode(std::string_view piece, std::vector<TokenId>& to) const {
  if (!split_words_) return encode_word(piece, to);
  std::size_t begin = 0, last = 0;
  for (std::size_t at = 0; at < piece.size(); at += utf8_length(piece[at])) {
    if (at > begin && piece.compare(at, kSpaceMark.size(), kSpaceMark) == 0 &&
        !std::binary_search(before_mark_.begin(), before_mark_.end(), utf8_decode(piece, last))) {
      encode_word(piece.substr(begin, at - begin), to);
      begin = at;
    }
    last = at;
  }
  if (begin < piece.size()) encode_word(piece.substr(begin), to);
}

void BpeModel::encode_word(std::string_view word, std::vector<TokenId>& to) const {
  if (word.size() <= longest_whole_) {
    const TokenId id = whole_.find(word);
    if (id >= 0) {
      to.push_back(id);
      return;
    }
  }
  encode_slowly(word, to);
}

void BpeModel::encode_slowly(std::string_view piece, std::vector<TokenId>& to) const {
  thread_local std::vector<Symbol> symbols;
  thread_local std::vector<std::string_view> unknown;
  symbols.clear();
  unknown.clear();
  if (byte_level_) {
    split_bytes(piece, symbols);
  } else {
    split_characters(piece, symbols, unknown);
  }
  merger_.merge(symbols);
  bool after_unknown = false;
  for (const Symbol s : symbols) {
    if (s < vocabulary_) {
      to.push_back(s);
      after_unknown = false;
    } else {  // only scored models get here
      put_unknown(s >= kUnknownBase ? unknown[static_cast<std::size_t>(s - kUnknownBase)]
                                    : std::string_view(private_[static_cast<std::size_t>(s - vocabulary_)]),
                  to, after_unknown);
    }
  }
  if (symbols.capacity() > 1 << 16) {  // a hostile megabyte does not stay with the thread
    std::vector<Symbol>().swap(symbols);
    std::vector<std::string_view>().swap(unknown);
  }
}

void BpeModel::put_unknown(std::string_view text, std::vector<TokenId>& to, bool& after_unknown) const {
  const bool bytes = byte_fallback_ && std::all_of(text.begin(), text.end(), [&](char c) {
                       return fallback_[static_cast<unsigned char>(c)] >= 0;
                     });
  if (bytes) {
    for (const char c : text) to.push_back(fallback_[static_cast<unsigned char>(c)]);
    after_unknown = false;
  } else if (unknown_ >= 0 && !(after_unknown && fuse_unknown_)) {
    to.push_back(unknown_);
    after_unknown = true;
  }
}

void BpeModel::split_bytes(std::string_view piece, std::vector<Symbol>& symbols) const {
  bool after_unknown = false;
  for (const char c : piece) {
    const Symbol s = of_byte_[static_cast<unsigned char>(c)];
    if (s >= 0) {
      symbols.push_back(s);
      after_unknown = false;
    } else {
      std::string spelling;
      utf8_append(spelling, byte_to_alphabet(static_cast<std::uint8_t>(c)));
      put_unknown(spelling, symbols, after_unknown);
    }
  }
}

void BpeModel::split_characters(std::string_view piece, std::vector<Symbol>& symbols,
                                std::vector<std::string_view>& unknown) const {
  bool after_unknown = false;
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t length = utf8_length(piece[at]);
    const Symbol s = initial(utf8_decode(piece, at));
    if (s >= 0) {
      symbols.push_back(s);
      after_unknown = false;
    } else if (rule_ == BpeSpec::Rule::scored) {  // settled after the merges
      symbols.push_back(kUnknownBase + static_cast<Symbol>(unknown.size()));
      unknown.push_back(piece.substr(at, length));
    } else {  // settled before them
      put_unknown(piece.substr(at, length), symbols, after_unknown);
    }
    at += length;
  }
}

}  // namespace tokenworks::tokenizer
