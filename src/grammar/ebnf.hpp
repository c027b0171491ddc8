#pragma once
// GBNF, the EBNF of llama.cpp and xgrammar: `name ::= expression` with "literals", [classes], ., groups, |, * + ? {n,m}
// and # comments; the answer is what `root` derives.
#include <string_view>

#include "grammar/budget.hpp"
#include "grammar/rule_book.hpp"

namespace tokenworks::grammar {

// The start rule. Mistakes go to the budget, with line and column.
RuleId parse_ebnf(std::string_view text, std::size_t depth_max, RuleBook& book, Budget& budget);

}  // namespace tokenworks::grammar
