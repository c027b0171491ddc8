#pragma once
// What a sampling row is given and what comes out of it. Plain data: the CPU backend samples from it on the host, a device
// backend copies it over. The rule is one for every backend (the CPU sampler in kernels/cpu/sample.cpp is the reference):
//   logits -> mask -> + bias -> repetition, frequency, presence penalties -> temperature -> top_k -> top_p -> min_p -> draw
// Ties are broken by the lower token id. A draw is a function of (seed, choice, position) alone: Philox4x32-10
// (Salmon et al., SC'11), so the same seed gives the same output whatever else is in the batch.
#include <cstdint>
#include <span>
#include <vector>

#include "tokenworks/base/ids.hpp"

namespace tokenworks::backend {

struct SamplingParams {
  float temperature = 1.0f;                          // 0: greedy, the highest logit after mask, bias and penalties
  std::int32_t top_k = 0;                            // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;                                // keep p >= min_p * p_max
  float repetition_penalty = 1.0f;                   // over prompt and output: l > 0 ? l / r : l * r
  float presence_penalty = 0.0f;                     // over output tokens only (OpenAI's definition)
  float frequency_penalty = 0.0f;
  std::uint64_t seed = 0;
  std::int32_t top_logprobs = -1;                    // -1: none wanted; 0: the chosen token's; n: and the n likeliest
};

struct TokenBias {
  TokenId token;
  float bias;                                        // added to the logit
};
struct TokenCount {
  TokenId token;
  std::int32_t in_output;                            // how often it was generated; 0: it stands in the prompt only
};

// One row of logits to sample. The spans outlive the step.
struct SampleRow {
  const SamplingParams* params = nullptr;
  std::uint32_t choice = 0;                          // which of n; part of the draw's counter
  std::int64_t position = 0;                         // index of the token in the output; part of the draw's counter
  std::span<const TokenBias> bias{};
  std::span<const TokenCount> seen{};                // empty unless a penalty is set
  const std::uint32_t* mask = nullptr;               // bit t of word t/32 set: token t allowed; null: all are
  TokenId draft = -1;                                // the guess that stands in the row after this one; -1: none does
};

struct TokenLogprob {
  TokenId token;
  float logprob;                                     // natural log of the softmax over the raw logits (before any rule)
};

// Rows of guesses: a row behind a guess that was not drawn follows from tokens that nobody said.
inline constexpr TokenId kNotReached = -2;

struct Sampled {
  TokenId token = -1;                                // -1: the row had no finite logit left (NaN or everything masked)
  float logprob = 0;
  std::vector<TokenLogprob> top;                     // descending, ties by id
};

// Sample and match, for what draws on the host: a row that is not reached has no result.
inline void verify_drafts(std::span<const SampleRow> rows, std::span<Sampled> out) {
  for (std::size_t i = 1; i < rows.size(); ++i)
    if (rows[i - 1].draft >= 0 && out[i - 1].token != rows[i - 1].draft) out[i] = {.token = kNotReached};
}

}  // namespace tokenworks::backend
