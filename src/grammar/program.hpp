#pragma once
// Program: all rules of a grammar linked into one table of states, with nothing in it that leads nowhere: from every
// state the answer can still be completed. Immutable.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "grammar/automaton.hpp"

namespace tokenworks::grammar {

struct Program {
  struct Call {
    std::uint32_t start;  // of the called rule
    std::uint32_t back;   // where to go on
  };
  struct State {
    std::uint32_t byte_begin, byte_end;  // into byte_edges
    std::uint32_t call_begin, call_end;  // into calls
    std::uint32_t twin;                  // has the same masks
    bool final;
    bool nullable;             // the rule may end here without a further byte, calls included
    bool last;                 // final, and nothing can follow in the rule
    bool plain;                // its rule has no calls
    std::uint64_t shared_key;  // 0, or the same as an equal state's of another grammar
    ByteSet first;             // bytes that may come next within the rule
  };
  std::vector<State> states;
  std::vector<ByteEdge> byte_edges;
  std::vector<Call> calls;
  std::uint32_t start = 0;

  std::size_t bytes() const {
    return states.size() * sizeof(State) + byte_edges.size() * sizeof(ByteEdge) + calls.size() * sizeof(Call);
  }
};

// `names` are for messages: a rule that calls itself before it has read a byte is refused by name.
Program link(const std::vector<Dfa>& rules, const std::vector<std::string>& names, RuleId start, Budget& budget);

}  // namespace tokenworks::grammar
