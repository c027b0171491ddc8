#pragma once
// What the engine thread keeps of a request and of each of its choices. Private to the room.
#include <openssl/crypto.h>

#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/drafter.hpp"
#include "engine/queue_book.hpp"
#include "tokenworks/engine/engine.hpp"
#include "tokenworks/scheduler/scheduler.hpp"

namespace tokenworks::engine {

// Which tokens a choice has seen and how often it made them: what penalties are computed from, kept up to date per token.
class SeenTokens {
 public:
  SeenTokens() = default;
  SeenTokens(SeenTokens&&) = default;
  ~SeenTokens() { OPENSSL_cleanse(counts_.data(), counts_.size() * sizeof(backend::TokenCount)); }   // of the prompt, too

  // `with_prompt`: prompt tokens count as seen (repetition penalty).
  void start(std::span<const TokenId> prompt, bool with_prompt) {
    if (!with_prompt) return;
    for (const TokenId t : prompt) entry(t);
  }
  void add(TokenId token) { ++counts_[entry(token)].in_output; }
  std::span<const backend::TokenCount> counts() const { return counts_; }

 private:
  std::size_t entry(TokenId token) {
    const auto [it, fresh] = where_.try_emplace(token, counts_.size());
    if (fresh) counts_.push_back({token, 0});
    return it->second;
  }
  std::vector<backend::TokenCount> counts_;
  std::unordered_map<TokenId, std::size_t> where_;
};

// Masks that allow one token each, for the rows of a step that are made to say the prompt. Valid until reset().
class ForcedMasks {
 public:
  const std::uint32_t* only(TokenId token, std::int32_t vocab) {
    if (used_ == masks_.size()) masks_.push_back({std::vector<std::uint32_t>(static_cast<std::size_t>(vocab + 31) / 32), 0});
    Mask& mask = masks_[used_++];
    mask.words[mask.word] = 0;
    mask.word = static_cast<std::size_t>(token) / 32;
    mask.words[mask.word] = 1u << (static_cast<unsigned>(token) % 32);
    return mask.words.data();
  }
  void reset() { used_ = 0; }

 private:
  struct Mask {
    std::vector<std::uint32_t> words;
    std::size_t word;                                // the one that is not zero
  };
  std::vector<Mask> masks_;                          // growing moves the vectors, not their words
  std::size_t used_ = 0;
};

struct Request;

struct Choice {
  Request* request = nullptr;
  std::uint32_t number = 0;
  scheduler::Handle handle = scheduler::kNoHandle;   // kNoHandle: ended
  std::int64_t produced = 0;
  std::size_t scored = 0;                            // prompt tokens handed over (score_prompt), the first included
  bool paused = false;                               // at the ticket's limit
  bool flying = false;                               // a token of it is being computed, beyond `produced`
  SeenTokens seen;
  Drafter drafter;                                   // on() only where speculation is wanted and exact
  Constraint* constraint = nullptr;
  std::vector<double> sum;                           // pooled so far: sized when the choice is
  std::int64_t rows = 0;                             // of its text
};

struct Request {
  Request(Ticket t, Sequence s, std::shared_ptr<TokenStream> out)
      : ticket(std::move(t)), sequence(std::move(s)), stream(std::move(out)), limit(ticket.output_tokens()) {
    const auto& p = sequence.sampling;
    penalties_from_prompt = p.repetition_penalty != 1.0f;
    entry = {ticket.tenant(), ticket.weight(), ticket.tier(), ticket.reserved_tokens_per_second(), sequence.choices,
             static_cast<std::int64_t>(sequence.prompt.size()), sequence.max_tokens, sequence.deadline_ns, 0, {}};
    entry.fingerprint = fingerprint(sequence.prompt.empty() && !sequence.texts.empty() ? sequence.texts.front() : sequence.prompt,
                                    sequence.max_tokens);
    for (const auto& text : sequence.texts) entry.prompt_tokens += static_cast<std::int64_t>(text.size());
    penalties = penalties_from_prompt || p.presence_penalty != 0.0f || p.frequency_penalty != 0.0f;
  }

  Ticket ticket;
  Sequence sequence;                                 // without its prompt, which the scheduler holds
  std::shared_ptr<TokenStream> stream;
  std::int64_t prompt_tokens = 0;
  std::shared_ptr<const scheduler::Prompt> scored;   // score_prompt: the whole prompt; the scheduler has its first token
  std::int64_t limit;                                // output tokens per choice that are paid for
  bool final_limit = false;
  bool penalties = false, penalties_from_prompt = false;
  QueueEntry entry;                                  // as the book counts it
  std::int64_t began_ns = 0;                         // its first rows; 0: none yet
  QueueBook::End end = QueueBook::End::complete;     // the worst of its choices
  bool waits = true;                                 // counts against the inbox: no rows of it ran yet
  bool without_number = false;                       // a row of it had none: NaN
  bool touched = false;                              // its stream is to be flushed after the step
  std::uint32_t alive = 0;                           // choices that have not ended
  std::vector<Choice> choices;
};

}  // namespace tokenworks::engine
