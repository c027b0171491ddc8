#pragma once
// Dfa: the automaton of one rule: deterministic on bytes; calls of other rules are edges of their own. Built from an
// expression by Thompson's construction and the subset construction. Where a state has both byte and call edges, or
// several calls, the matcher follows all of them.
#include <cstdint>
#include <memory>
#include <vector>

#include "grammar/ast.hpp"
#include "grammar/budget.hpp"

namespace tokenworks::grammar {

struct ByteEdge {
  std::uint8_t low, high;  // inclusive
  std::uint32_t target;
  bool operator==(const ByteEdge&) const = default;
};
struct CallEdge {
  RuleId rule;
  std::uint32_t target;  // where to go on when the rule is done
  bool operator==(const CallEdge&) const = default;
};
struct Dfa {
  struct State {
    std::vector<ByteEdge> bytes;  // sorted, disjoint
    std::vector<CallEdge> calls;
    bool final = false;
    // A state whose next `horizon` bytes offer the same as another's (see build): masks are worked out once for both.
    std::uint32_t twin = 0;
  };
  std::vector<State> states;  // the first is the start; never empty
};

// `horizon`: the longest token, in bytes. In a long repetition of a call two places from which neither end of the count
// is within `horizon` repetitions are twins.
Dfa build(const Expr& expression, std::size_t horizon, Budget& budget);

// The strings both accept. Neither may have calls.
Dfa intersect(const Dfa& a, const Dfa& b, Budget& budget);
// The strings `a` accepts and `b` does not. Neither may have calls.
Dfa subtract(const Dfa& a, const Dfa& b, Budget& budget);
bool accepts(const Dfa& dfa, std::string_view bytes);  // no calls
bool accepts_nothing(const Dfa& dfa);                  // no final state can be reached; calls count as possible

}  // namespace tokenworks::grammar
