#pragma once
// Evaluation: what a model's answers are worth in numbers, and what a faster path costs against an exact one.
// Perplexity over a text in windows, and against a second runner of the same vocabulary: mean Kullback-Leibler
// divergence, top-1 agreement, largest logit difference. `tokenworks eval` prints it.
//
// Both runners are used through Runner::logits from one thread, in the first blocks of their caches: never beside a
// running engine. Memory: two buffers of at most 128 rows of logits, whatever the text's length.
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/model/runner.hpp"

namespace tokenworks::model {

struct EvalOptions {
  std::int32_t window = 512;                         // tokens of one window; each starts with an empty context
  std::optional<TokenId> bos;                        // stands before every window when the model wants one
  std::function<void(std::int64_t done, std::int64_t total)> progress;   // predicted tokens; called now and then
};

struct Evaluation {
  std::int64_t windows = 0, predicted = 0;           // a window of n tokens predicts n - 1 (n after a bos)
  double seconds = 0;                                // in the runner under test, without the reference and the sums
  double perplexity = 0;                             // exp of the mean negative log likelihood

  // Against the reference; zeros without one.
  double reference_perplexity = 0;
  double perplexity_change_percent = 0, change_error_percent = 0;   // and its standard error, paired by position
  double mean_kl = 0, largest_kl = 0;                // KL(reference || runner) in nats per position
  double top1_agreement = 0;                         // share of positions with the same likeliest token, 0..1
  double largest_logit_difference = 0;
};

// `reference` may be null. invalid_request when the text has fewer than two tokens, a token outside the vocabulary or
// the vocabularies differ; context_length_exceeded when a window does not fit a runner's context.
Result<Evaluation> evaluate(Runner& runner, Runner* reference, std::span<const TokenId> text,
                            const EvalOptions& options = {});

}  // namespace tokenworks::model
