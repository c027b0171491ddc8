#pragma once
// CharacterSet: a set of Unicode characters, and how it is spelled in bytes: as UTF-8, or inside a JSON string.
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "grammar/ast.hpp"

namespace tokenworks::grammar {

// How characters are written. In JSON each character has exactly one spelling here (the shortest; \u00nn with
// lower-case digits for the controls that have none), so that sets of strings can be subtracted from each other.
enum class Spelling : std::uint8_t { plain, json };

class CharacterSet {
 public:
  static CharacterSet all();              // every character; surrogates are none
  void add(char32_t low, char32_t high);  // inclusive
  void add(const CharacterSet& other);
  void remove(char32_t low, char32_t high);
  CharacterSet inverse() const;
  const std::vector<std::pair<char32_t, char32_t>>& ranges() const { return ranges_; }

 private:
  std::vector<std::pair<char32_t, char32_t>> ranges_;  // sorted, disjoint, not adjacent
};

// The number that `digits` hexadecimal digits of `text` from `at` on write, and `at` behind them; nothing, and `at` at the
// first that is none, otherwise. At most 8 digits.
std::optional<char32_t> read_hexadecimal(std::string_view text, std::size_t& at, std::size_t digits);

Expr spelled(const CharacterSet& set, Spelling how);
Expr spelled_text(std::string_view utf8, Spelling how);  // without quotes; valid UTF-8
Expr any_character(Spelling how);

}  // namespace tokenworks::grammar
