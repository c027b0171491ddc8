#include "tokenworks/model/eval.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "model/sequence_walk.hpp"

namespace tokenworks::model {
namespace {

constexpr std::size_t kRowsAtOnce = 128;

struct RowStats {
  double log_sum;                                    // log of the sum of exp(logits)
  std::size_t best;                                  // likeliest token, ties by lower id
};

RowStats stats_of(std::span<const float> row) {
  const auto best = std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float x : row) sum += std::exp(static_cast<double>(x) - *best);
  return {*best + std::log(sum), static_cast<std::size_t>(best - row.begin())};
}

// Sums over positions, in double.
class Tally {
 public:
  void add(std::span<const float> row, const float* reference, TokenId next) {
    const auto token = static_cast<std::size_t>(next);
    const RowStats mine = stats_of(row);
    const double loss = mine.log_sum - row[token];
    loss_ += loss;
    ++positions_;
    if (reference == nullptr) return;
    const std::span<const float> exact(reference, row.size());
    const RowStats theirs = stats_of(exact);
    double kl = 0, difference = 0;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const double log_p = exact[i] - theirs.log_sum, log_q = row[i] - mine.log_sum;
      kl += std::exp(log_p) * (log_p - log_q);
      difference = std::max(difference, std::abs(static_cast<double>(row[i]) - exact[i]));
    }
    const double change = loss - (theirs.log_sum - exact[token]);
    reference_loss_ += theirs.log_sum - exact[token];
    change_ += change;
    change_squared_ += change * change;
    kl_ += kl;
    largest_kl_ = std::max(largest_kl_, kl);
    agreed_ += mine.best == theirs.best;
    difference_ = std::max(difference_, difference);
  }

  Evaluation result(bool compared) const {
    const double n = static_cast<double>(positions_);
    Evaluation e{.predicted = positions_, .perplexity = std::exp(loss_ / n)};
    if (!compared) return e;
    e.reference_perplexity = std::exp(reference_loss_ / n);
    e.perplexity_change_percent = 100 * std::expm1(change_ / n);
    const double variance = std::max(0.0, change_squared_ / n - change_ / n * (change_ / n));
    e.change_error_percent = 100 * std::exp(change_ / n) * std::sqrt(variance / n);
    e.mean_kl = kl_ / n;
    e.largest_kl = largest_kl_;
    e.top1_agreement = static_cast<double>(agreed_) / n;
    e.largest_logit_difference = difference_;
    return e;
  }
  std::int64_t positions() const { return positions_; }

 private:
  std::int64_t positions_ = 0, agreed_ = 0;
  double loss_ = 0, reference_loss_ = 0, change_ = 0, change_squared_ = 0, kl_ = 0, largest_kl_ = 0, difference_ = 0;
};

Result<> check(const Runner& runner, const Runner* reference, std::span<const TokenId> text,
               const EvalOptions& options) {
  const auto bad = [](const std::string& why) { return error(Errc::invalid_request, "eval: " + why); };
  const std::int32_t vocab = runner.info().vocab;
  if (reference != nullptr && reference->info().vocab != vocab)
    return bad(fmt::format("the reference has a vocabulary of {}, the model of {}", reference->info().vocab, vocab));
  if (options.window < 2) return bad(fmt::format("a window of {} tokens predicts nothing", options.window));
  if (text.size() < 2) return bad(fmt::format("a text of {} tokens predicts nothing", text.size()));
  for (const TokenId t : text)
    if (t < 0 || t >= vocab) return bad(fmt::format("token {} is outside the vocabulary of {}", t, vocab));
  if (options.bos && (*options.bos < 0 || *options.bos >= vocab))
    return bad(fmt::format("bos {} is outside the vocabulary of {}", *options.bos, vocab));
  return {};
}

}  // namespace

Result<Evaluation> evaluate(Runner& runner, Runner* reference, std::span<const TokenId> text,
                            const EvalOptions& options) {
  if (auto ok = check(runner, reference, text, options); !ok) return ok.error();
  using Clock = std::chrono::steady_clock;
  const std::size_t vocab = static_cast<std::size_t>(runner.info().vocab);
  std::size_t at_once = std::min(kRowsAtOnce, static_cast<std::size_t>(runner.info().rows_max));
  if (reference != nullptr) at_once = std::min(at_once, static_cast<std::size_t>(reference->info().rows_max));
  std::vector<float> mine(at_once * vocab), theirs(reference != nullptr ? at_once * vocab : 0);
  const std::size_t step = static_cast<std::size_t>(options.window) - (options.bos ? 1 : 0);
  const std::size_t windows = (text.size() + step - 1) / step;
  const auto total = static_cast<std::int64_t>(text.size() - (options.bos ? 0 : windows));

  Tally tally;
  Clock::duration busy{};
  std::vector<TokenId> window;
  for (std::size_t at = 0; at < text.size(); at += step) {
    window.clear();
    if (options.bos) window.push_back(*options.bos);
    window.insert(window.end(), text.begin() + static_cast<std::ptrdiff_t>(at),
                  text.begin() + static_cast<std::ptrdiff_t>(std::min(text.size(), at + step)));
    SequenceWalk walk(runner), reference_walk(reference != nullptr ? *reference : runner);
    for (std::size_t row = 0; row + 1 < window.size(); row += at_once) {   // the last token predicts nothing
      const std::size_t n = std::min(at_once, window.size() - 1 - row);
      const std::span<const TokenId> tokens(window.data() + row, n);
      const auto start = Clock::now();
      if (auto fed = walk.feed(tokens, std::span(mine).first(n * vocab)); !fed) return fed.error();
      busy += Clock::now() - start;
      if (reference != nullptr)
        if (auto fed = reference_walk.feed(tokens, std::span(theirs).first(n * vocab)); !fed) return fed.error();
      for (std::size_t i = 0; i < n; ++i)
        tally.add(std::span(mine).subspan(i * vocab, vocab), reference != nullptr ? &theirs[i * vocab] : nullptr,
                  window[row + i + 1]);
      if (options.progress) options.progress(tally.positions(), total);
    }
  }
  Evaluation e = tally.result(reference != nullptr);
  e.windows = static_cast<std::int64_t>(windows);
  e.seconds = std::chrono::duration<double>(busy).count();
  return e;
}

}  // namespace tokenworks::model
