#pragma once
// Grammar: what an answer may look like, as masks over the model's vocabulary. A JSON Schema, a regular expression, a
// list of choices or an EBNF grammar is compiled, off the engine thread and within limits, to a pushdown automaton over
// bytes; a Matcher walks it along one answer and says, per position, which tokens keep the answer completable.
//
// VocabularyTrie and Grammar are immutable to their users and shared by any number of threads (what a Grammar learns
// about its states is kept inside, under a lock). A Matcher belongs to one choice of one request and one thread at a
// time.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::grammar {

// The byte strings of all tokens. Built once per model, some 50 ms; every grammar of the model shares it.
class VocabularyTrie {
 public:
  virtual ~VocabularyTrie() = default;
  static std::shared_ptr<const VocabularyTrie> build(const tokenizer::Tokenizer& tokenizer);
  virtual std::int32_t vocab_size() const = 0;
  virtual const Digest& digest() const = 0;  // the tokenizer's
  std::size_t mask_words() const { return (static_cast<std::size_t>(vocab_size()) + 31) / 32; }
};

enum class Kind : std::uint8_t {
  json_object,  // any JSON object; no source
  json_schema,  // JSON Schema 2020-12 (and the draft-07 spellings of it), as text
  regex,        // the whole answer matches
  choice,       // a JSON array of strings: the answer is one of them
  ebnf,         // GBNF as llama.cpp and xgrammar read it, start rule `root`
  calls,        // one or more of several framed JSON objects, after free text or at once: a JSON object, see calls.hpp
};

struct Limits {
  std::size_t source_bytes = 256 * 1024;
  std::size_t states = 200'000;    // of the compiled automaton
  std::size_t steps = 20'000'000;  // of compilation work, some tens of nanoseconds each
  std::size_t depth = 64;          // of nesting in the source
};

// Walks one answer. Bit t of word t / 32 of a mask is token t.
class Matcher {
 public:
  virtual ~Matcher() = default;
  // The tokens that may come next: those that keep the answer completable, and the model's stop tokens where the answer
  // may end. All zero only after tokens that were not allowed, or, for ever, where a wildly ambiguous grammar needs more
  // work for one token than the engine's thread can give. Valid until the next call of accept.
  virtual const std::uint32_t* mask() = 0;
  // False, and nothing changes, when the token may not come here.
  virtual bool accept(TokenId token) = 0;
  virtual bool accept_bytes(std::string_view bytes) = 0;
  virtual bool may_end() const = 0;   // what was accepted so far is complete
  virtual bool finished() const = 0;  // complete, and nothing but a stop token may follow
};

class Grammar {
 public:
  virtual ~Grammar() = default;
  virtual std::unique_ptr<Matcher> matcher() const = 0;
  virtual std::size_t states() const = 0;
  virtual std::size_t bytes() const = 0;  // memory held now, learnt masks included
};

// invalid_request, naming the keyword or place and its path, for a source that does not parse, uses what is not
// supported, that nothing can satisfy, or that exceeds the limits. Bounded time whatever the source. `source` is
// ignored for json_object.
Result<std::shared_ptr<const Grammar>> compile(Kind kind, std::string_view source,
                                               std::shared_ptr<const VocabularyTrie> vocabulary,
                                               const Limits& limits = {});

// Compiled grammars by (kind, source, tokenizer), least recently used out first, bounded in number and in memory, learnt
// masks included (asked whenever one is added). Any thread; two threads that ask for one new source at once may both
// compile it.
class Cache {
 public:
  explicit Cache(std::size_t entries = 256, std::size_t bytes = std::size_t{512} << 20);
  ~Cache();
  Result<std::shared_ptr<const Grammar>> get(Kind kind, std::string_view source,
                                             const std::shared_ptr<const VocabularyTrie>& vocabulary,
                                             const Limits& limits = {});
  std::size_t size() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tokenworks::grammar
