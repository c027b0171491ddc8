#pragma once
// A grammar's mask against the definition of it: every token of the vocabulary is tried.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

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

}  // namespace tokenworks::grammar::test
