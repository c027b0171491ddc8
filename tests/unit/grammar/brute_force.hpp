#pragma once
// A grammar's mask against the definition of it: every token of the vocabulary is tried.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "grammar/matcher.hpp"
#include "unit/grammar/vocabulary.hpp"

namespace tokenworks::grammar::test {

// The mask after `prefix` against trying every token of the vocabulary on a fresh matcher.
inline void expect_mask_is_brute_force(const Grammar& grammar, const tokenizer::Tokenizer& tokenizer,
                                const std::string& prefix) {
  const auto matcher = grammar.matcher();
  ASSERT_TRUE(matcher->accept_bytes(prefix)) << prefix;
  const std::uint32_t* mask = matcher->mask();
  auto probe = grammar.matcher();
  ASSERT_TRUE(probe->accept_bytes(prefix));
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    bool allowed;
    const auto& stop = tokenizer.stop_tokens();
    if (std::find(stop.begin(), stop.end(), id) != stop.end()) {
      allowed = matcher->may_end();
    } else {
      const std::string& bytes = tokenizer.token_bytes(id);
      allowed = !bytes.empty() && probe->accept_bytes(bytes);
      if (allowed) {
        probe = grammar.matcher();
        ASSERT_TRUE(probe->accept_bytes(prefix));
      }
    }
    ASSERT_EQ(bit(mask, id), allowed)
        << "token " << id << " '" << tokenizer.token_bytes(id) << "' after '" << prefix << "'";
  }
}

// The same for the demo model's 49,152 tokens, in a fifth of the time: a token is walked from the place behind the prefix
// instead of from the start. Neither the trie nor any remembered mask has a part in it.
inline void expect_mask_is_walked(const Grammar& grammar, const tokenizer::Tokenizer& tokenizer, const std::string& prefix) {
  const auto matcher = grammar.matcher();
  ASSERT_TRUE(matcher->accept_bytes(prefix)) << prefix;
  const std::uint32_t* mask = matcher->mask();
  Walker walker(static_cast<const CompiledGrammar&>(grammar).masks().program());
  Position place = walker.start(), now, next;
  for (const char c : prefix) {
    walker.step(place, static_cast<std::uint8_t>(c), next);
    std::swap(place, next);
  }
  const std::size_t frames = walker.frames();
  const auto& stop = tokenizer.stop_tokens();
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    walker.allow(kMaskWork);
    const std::string& bytes = tokenizer.token_bytes(id);
    bool allowed = !bytes.empty();
    now = place;
    for (std::size_t i = 0; allowed && i < bytes.size(); ++i) {
      walker.step(now, static_cast<std::uint8_t>(bytes[i]), next);
      std::swap(now, next);
      allowed = !now.dead();
    }
    walker.truncate(frames);
    if (std::find(stop.begin(), stop.end(), id) != stop.end()) allowed = matcher->may_end();
    ASSERT_EQ(bit(mask, id), allowed) << "token " << id << " '" << bytes << "' after '" << prefix << "'";
  }
}

}  // namespace tokenworks::grammar::test
