#include "tokenizer/added_tokens.hpp"

#include "tokenizer/regex.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer {
namespace {

std::size_t previous_character(std::string_view text, std::size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

bool is_word(std::string_view text, std::size_t at) {
  static const Regex word = Regex::compile("[" + word_class() + "]").value();
  Regex::Match match{};
  return word.find(text.substr(at, utf8_length(text[at])), 0, match);
}

}  // namespace

AddedTokens::AddedTokens() : nodes_(1) { root_.fill(-1); }

void AddedTokens::add(const AddedToken& token, const std::string& spelling) {
  if (spelling.empty()) return;
  std::int32_t node = 0;
  for (const char c : spelling) {
    std::int32_t next = child(node, c);
    if (next < 0) {
      next = static_cast<std::int32_t>(nodes_.size());
      nodes_.emplace_back();
      nodes_[static_cast<std::size_t>(node)].next.emplace_back(static_cast<std::uint8_t>(c), next);
      if (node == 0) root_[static_cast<unsigned char>(c)] = next;
    }
    node = next;
  }
  nodes_[static_cast<std::size_t>(node)].token = static_cast<std::int32_t>(tokens_.size());
  tokens_.push_back(token);
  only_special_ = only_special_ && token.special;
}

std::int32_t AddedTokens::child(std::int32_t node, char c) const {
  if (node == 0) return root_[static_cast<unsigned char>(c)];
  for (const auto& [byte, next] : nodes_[static_cast<std::size_t>(node)].next) {
    if (byte == static_cast<std::uint8_t>(c)) return next;
  }
  return -1;
}

// What may be taken at all. A special token that lies in untrusted text altogether is found too: it is then passed over
// as a whole, as `tokenizers` does under encode_special_tokens. One that only reaches into untrusted text does not
// exist.
bool AddedTokens::eligible(const MarkedText& text, std::size_t begin, std::size_t end, std::int32_t token) const {
  if (text.uniform()) return true;
  if (tokens_[static_cast<std::size_t>(token)].special)
    return text.all_trusted(begin, end) || text.none_trusted(begin, end);
  if (text.all_trusted(begin, end) || text.none_trusted(begin, end)) return true;
  // A plain added token across a border must not swallow the start of a control token that the template wrote.
  for (std::size_t at = begin + 1; at < end; ++at) {
    const Found inner = longest(text, at, true);
    if (inner.token >= 0 && text.all_trusted(at, inner.end)) return false;
  }
  return true;
}

AddedTokens::Found AddedTokens::longest(const MarkedText& text, std::size_t at, bool special_only) const {
  Found best;
  std::int32_t node = 0;
  for (std::size_t end = at; end < text.text().size();) {
    node = child(node, text.text()[end]);
    if (node < 0) break;
    ++end;
    const std::int32_t token = nodes_[static_cast<std::size_t>(node)].token;
    if (token < 0 || (special_only && !tokens_[static_cast<std::size_t>(token)].special)) continue;
    if (special_only ? text.all_trusted(at, end) : eligible(text, at, end, token)) best = {token, end};
  }
  return best;
}

std::vector<AddedTokens::Stretch> AddedTokens::find(const MarkedText& marked) const {
  std::vector<Stretch> out;
  const std::string& text = marked.text();
  const bool nothing_to_find = tokens_.empty() || (only_special_ && marked.none_trusted(0, text.size()));
  std::size_t done = 0;
  for (std::size_t at = 0; !nothing_to_find && at < text.size();) {
    if (root_[static_cast<unsigned char>(text[at])] < 0) {
      ++at;
      continue;
    }
    const Found found = longest(marked, at, false);
    if (found.token < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(found.token)];
    std::size_t begin = at, end = found.end;
    at = end;
    if (token.special && !marked.all_trusted(begin, end)) continue;
    if (token.single_word) {
      const bool touched =
          (begin > 0 && is_word(text, previous_character(text, begin))) || (end < text.size() && is_word(text, end));
      if (touched) continue;
    }
    while (token.lstrip && begin > done) {
      const std::size_t before = previous_character(text, begin);
      if (before < done || !is_white_space(utf8_decode(text, before))) break;
      begin = before;
    }
    while (token.rstrip && end < text.size() && is_white_space(utf8_decode(text, end))) end += utf8_length(text[end]);
    if (begin < done) continue;  // white space that a token before has eaten was part of this one
    if (done < begin) out.push_back({done, begin, -1});
    out.push_back({begin, end, token.id});
    done = end;
    at = std::max(at, end);
  }
  if (done < text.size()) out.push_back({done, text.size(), -1});
  return out;
}

}  // namespace tokenworks::tokenizer
