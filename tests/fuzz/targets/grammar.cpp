// Schemas, regular expressions, choices, EBNF and calls: compiled within limits, and what compiles is walked: a mask always
// offers something, what it offers is accepted, and what was accepted stays completable.
#include <algorithm>
#include <memory>
#include <random>
#include <string>

#include "fuzz/targets.hpp"
#include "tokenworks/grammar/grammar.hpp"
#include "unit/grammar/vocabulary.hpp"

namespace tokenworks::fuzz {
namespace {

using grammar::Kind;

constexpr int kSteps = 24;

void walk(const grammar::Grammar& compiled, std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto matcher = compiled.matcher();
  const tokenizer::Tokenizer& tokenizer = *grammar::test::small_tokenizer();
  for (int step = 0; step < kSteps && !matcher->finished(); ++step) {
    const std::uint32_t* mask = matcher->mask();
    std::vector<TokenId> allowed;
    for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
      if (grammar::test::bit(mask, id)) allowed.push_back(id);
    }
    if (allowed.empty()) return;                     // the bound on the work of one answer was reached
    const TokenId token = allowed[random() % allowed.size()];
    if (token == 0) {
      must(matcher->may_end(), "a stop token is offered where the answer may not end");
      return;
    }
    must(matcher->accept(token), "a token of the mask is refused");
  }
}

}  // namespace

// The first letter is the kind.
void grammar(std::string_view input) {
  if (input.empty()) return;
  Kind kind = Kind::json_schema;
  switch (input[0]) {
    case 'r': kind = Kind::regex; break;
    case 'c': kind = Kind::choice; break;
    case 'e': kind = Kind::ebnf; break;
    case 't': kind = Kind::calls; break;
    case 'o': kind = Kind::json_object; break;
    default: break;
  }
  const grammar::Limits limits{.source_bytes = 4096, .states = 20'000, .steps = 1'000'000};
  const auto compiled = grammar::compile(kind, input.substr(1), grammar::test::small_trie(), limits);
  if (!compiled) {
    must(compiled.error().code == Errc::invalid_request && !compiled.error().message.empty(), "a refusal that says nothing");
    return;
  }
  walk(**compiled, 1);
  walk(**compiled, static_cast<std::uint32_t>(input.size()));
}

}  // namespace tokenworks::fuzz
