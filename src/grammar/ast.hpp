#pragma once
// The language every front end (JSON Schema, regular expressions, EBNF) is translated to: expressions over bytes with
// calls of rules. Nodes are immutable and shared; repetition is kept as a node, so that an expression stays as small as
// its source until the automaton is built.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/byte_set.hpp"

namespace tokenworks::grammar {

using RuleId = std::uint32_t;
struct Dfa;
struct Node;
using Expr = std::shared_ptr<const Node>;

struct Node {
  enum class Kind : std::uint8_t { nothing, empty, bytes, set, sequence, choice, repeat, call, automaton } kind;
  std::string bytes;               // bytes: these, in order
  ByteSet set;                     // set: one of these
  std::vector<Expr> parts;         // sequence, choice; repeat: one
  std::int64_t min = 0, max = 0;   // repeat; max < 0: no end
  RuleId rule = 0;                 // call
  std::shared_ptr<const Dfa> dfa;  // automaton: a language worked out already, without calls
};

Expr nothing();  // no string at all
Expr empty();    // the empty string
Expr literal(std::string_view bytes);
Expr any_of(const ByteSet& set);
Expr sequence(std::vector<Expr> parts);
Expr choice(std::vector<Expr> parts);
Expr repeat(Expr what, std::int64_t min, std::int64_t max);
Expr optional(Expr what);
Expr call(RuleId rule);
Expr automaton(std::shared_ptr<const Dfa> dfa);

bool is_nothing(const Expr& e);

}  // namespace tokenworks::grammar
