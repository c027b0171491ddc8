#pragma once
// Regular expressions to expressions over bytes: the part of ECMA 262 and Python's `re` that describes a regular
// language. Where the two differ (what \d, \w and \s say beyond ASCII) only what both agree on is produced.
#include <string_view>

#include "grammar/ast.hpp"
#include "grammar/budget.hpp"
#include "grammar/characters.hpp"

namespace tokenworks::grammar {

enum class Anchoring : std::uint8_t {
  whole,   // the whole text matches; ^ and $ are allowed at its ends
  search,  // the text contains a match (JSON Schema's "pattern")
};

// `where` begins the message of a mistake: "the pattern at #/properties/x".
Expr parse_regex(std::string_view pattern, Anchoring anchoring, Spelling spelling, std::size_t depth_max,
                 const std::string& where, Budget& budget);

}  // namespace tokenworks::grammar
