#pragma once
// Regex: a pattern written for Oniguruma (what `tokenizers` uses), run by PCRE2 with JIT. Character classes are
// rewritten so that they mean what they mean there: \s is White_Space alone, and properties know the characters that
// Unicode gained after the tables of the installed PCRE2. Immutable; any thread (working memory is thread-local).
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "tokenworks/base/result.hpp"

namespace tokenworks::tokenizer {

class Regex {
 public:
  // bad_file when the pattern does not compile; the message has the pattern and the place.
  static Result<Regex> compile(const std::string& pattern);
  // The same for text that must match literally.
  static std::string quote(std::string_view text);

  struct Match {
    std::size_t begin, end;
  };
  // The first match at or after `from` in valid UTF-8 `text`; false when there is none (or the pattern exhausts the
  // match limit, which a pattern with nested repetition can).
  bool find(std::string_view text, std::size_t from, Match& match) const;
  const std::string& pattern() const { return pattern_; }  // as it was given

 private:
  struct Code;
  Regex() = default;
  std::string pattern_;
  std::shared_ptr<const Code> code_;
};

// One character of what the pre-tokenizer "Punctuation" means.
std::string punctuation_pattern();
// Character classes for hand-written patterns, to be put between brackets.
std::string numeric_class();  // Rust's char::is_numeric: the pre-tokenizer "Digits"
std::string word_class();     // \w of Rust's regex crate

}  // namespace tokenworks::tokenizer
