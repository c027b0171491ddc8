#pragma once
// FakeRunner: a model of a few lines with a real paged cache. Rows write their token and position into the cell the block
// table names; the next token is a hash over the whole context *read back through the table*, so a wrong table, a block
// that was not zeroed, a wrong chunk or another tenant's block changes the output. `expected_output` says what a prompt must
// give, from its tokens alone. With `overlaps` it is a device: launched steps, zeroed and swapped blocks lie in a queue and
// nothing happens before somebody waits for it. For tests; the hooks may be used from the test's thread.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tokenworks/model/runner.hpp"

namespace tokenworks::test {

inline constexpr TokenId kVocab = 1000;
inline constexpr TokenId kStopToken = 7;
inline constexpr TokenId kCopyPrompt = 998;          // a prompt that starts with it mostly repeats what stood 17 tokens before
inline constexpr TokenId kNanPrompt = 999;           // a prompt that starts with it samples nothing finite

inline bool overlap_by_default = false;              // the engine's whole suite once more: test_engine_overlapped

inline std::uint64_t mix(std::uint64_t h, std::uint64_t value) {
  h ^= value + 0x9e3779b97f4a7c15 + (h << 6) + (h >> 2);
  h *= 0xff51afd7ed558ccd;
  return h ^ h >> 33;
}

// The fake model's next token: a function of the context, the seed, the choice and the output position. The stop token and
// the NaN token are made only where the context asks for it.
inline TokenId next_token(const std::vector<TokenId>& context, std::uint64_t seed, std::uint32_t choice, std::int64_t position) {
  std::uint64_t h = mix(seed, choice);
  for (const TokenId t : context) h = mix(h, static_cast<std::uint64_t>(t));
  if (context.front() == kCopyPrompt && context.size() > 17 && mix(h, 1) % 8 != 0) return context[context.size() - 17];
  const auto t = static_cast<TokenId>(mix(h, static_cast<std::uint64_t>(position)) % 900) + 10;
  return t % 50 == 0 ? kStopToken : t;
}

// Up to `most` tokens; ends with the stop token unless `ignore_eos`.
inline std::vector<TokenId> expected_output(std::vector<TokenId> context, std::int64_t most, std::uint64_t seed = 0,
                                            std::uint32_t choice = 0, bool ignore_eos = false) {
  std::vector<TokenId> output;
  while (static_cast<std::int64_t>(output.size()) < most) {
    const TokenId t = next_token(context, seed, choice, static_cast<std::int64_t>(output.size()));
    output.push_back(t);
    context.push_back(t);
    if (t == kStopToken && !ignore_eos) break;
  }
  return output;
}

class FakeRunner final : public model::Runner {
 public:
  struct Shape {
    std::int32_t kv_blocks = 256, context_tokens = 1024, rows_max = 64, sequences_max = 64, swap_slots = 0;
    bool overlaps = overlap_by_default;
  };
  // What a test may look at and turn, shared so that it outlives the engine's runner.
  struct Controls {
    std::atomic<bool> fail{false};                   // the next step loses the device
    std::atomic<bool> throws{false};
    std::atomic<int> steps{0}, violations{0}, largest_batch{0}, launches{0};
    std::atomic<int> launched_before_taken{0};       // steps that were launched while one was open
    std::atomic<std::int64_t> blocks_zeroed{0};
    std::mutex mutex;
    std::condition_variable changed;
    bool held = false;                               // steps stop inside run()
    int hold_before = -1;                            // ... from the step of this number on, counted from 0
    bool inside = false;
    std::vector<std::vector<backend::TokenCount>> seen;   // of every sampled row with penalties

    void hold(bool on) {
      std::lock_guard lock(mutex);
      held = on;
      changed.notify_all();
    }
    void hold_before_step(int step) {
      std::lock_guard lock(mutex);
      hold_before = step;
    }
    void wait_inside() {                             // until a step is held
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return inside; });
    }
  };

  FakeRunner(const Shape& shape, std::shared_ptr<Controls> controls)
      : controls_(std::move(controls)), cells_(static_cast<std::size_t>(shape.kv_blocks) * backend::kBlockTokens),
        host_(static_cast<std::size_t>(shape.swap_slots) * backend::kBlockTokens) {
    info_.vocab = kVocab;
    info_.context_tokens = shape.context_tokens;
    info_.kv_blocks = shape.kv_blocks;
    info_.rows_max = shape.rows_max;
    info_.sequences_max = shape.sequences_max;
    info_.swap_slots = shape.swap_slots;
    info_.stop_tokens = {kStopToken};
    info_.embedding_columns = 4;
    info_.pooling = model::Pooling::mean;
    info_.overlaps = shape.overlaps;
  }

  const model::RunnerInfo& info() const override { return info_; }

  Result<> run(const model::Step& step, std::span<backend::Sampled> sampled) override {
    if (info_.overlaps) ++controls_->violations;     // the engine has launch() and take()
    return compute(step, sampled);
  }

  Result<> launch(const model::Step& step) override {
    if (open_ > 0) ++controls_->launched_before_taken;
    if (++open_ > 2 || !info_.overlaps) ++controls_->violations;
    ++controls_->launches;
    queue_.emplace_back().step = std::make_unique<Kept>(step);
    if (step.pooled.empty()) return {};
    // What is pooled is there when launch returns: everything up to it is computed now.
    for (Queued& q : queue_) {
      if (auto done = happen(q); !done) return done;
    }
    return {};
  }
  Result<> take(std::span<backend::Sampled> sampled) override {
    if (open_-- < 1) ++controls_->violations;
    while (!queue_.empty()) {
      Queued q = std::move(queue_.front());
      queue_.pop_front();
      if (auto done = happen(q); !done) return done;
      if (q.step == nullptr) continue;
      if (q.step->drawn.size() != sampled.size()) ++controls_->violations;
      std::move(q.step->drawn.begin(), q.step->drawn.end(), sampled.begin());
      return {};
    }
    ++controls_->violations;
    return {};
  }

 private:
  Result<> compute(const model::Step& step, std::span<backend::Sampled> sampled) {
    {
      std::unique_lock lock(controls_->mutex);
      if (controls_->steps == controls_->hold_before) controls_->held = true;
      controls_->inside = controls_->held;
      controls_->changed.notify_all();
      controls_->changed.wait(lock, [&] { return !controls_->held; });
      controls_->inside = false;
    }
    ++controls_->steps;
    if (controls_->throws) throw std::runtime_error("fake throw");
    if (controls_->fail) return error(Errc::engine_failed, "fake device lost");
    controls_->largest_batch = std::max(controls_->largest_batch.load(), static_cast<int>(step.rows.sequences.size()));
    std::size_t sample = 0;
    for (const backend::SequenceRows& s : step.rows.sequences) {
      for (std::int32_t i = 0; i < s.rows; ++i) {
        Cell& cell = at(step.rows, s, s.context - s.rows + i);
        const auto row = static_cast<std::size_t>(s.row + i);
        // Written twice without being zeroed; only a draft that was wrong is written over, at its own position.
        if (cell.position >= 0 && cell.position != step.rows.positions[row]) ++controls_->violations;
        cell = {step.rows.tokens[row], step.rows.positions[row]};
      }
      for (; sample < step.sample_rows.size() && step.sample_rows[sample] < s.row + s.rows; ++sample) {
        std::vector<TokenId> context;
        for (std::int32_t i = 0; i <= s.context - s.rows + step.sample_rows[sample] - s.row; ++i) {
          const Cell& cell = at(step.rows, s, i);
          if (cell.position != i) ++controls_->violations;
          context.push_back(cell.token);
        }
        sampled[sample] = draw(context, step.sampling[sample]);
      }
    }
    if (sample != step.sample_rows.size()) ++controls_->violations;
    backend::verify_drafts(step.sampling, sampled);
    for (const model::PooledRows& p : step.pooled) pool(step.rows, p);
    return {};
  }

  // A step as launch() left it: nothing of the engine's is looked at later.
  struct Kept {
    explicit Kept(const model::Step& s) : step(s) {
      tokens.assign(s.rows.tokens.begin(), s.rows.tokens.end());
      positions.assign(s.rows.positions.begin(), s.rows.positions.end());
      sequences.assign(s.rows.sequences.begin(), s.rows.sequences.end());
      tables.assign(s.rows.block_tables.begin(), s.rows.block_tables.end());
      rows.assign(s.sample_rows.begin(), s.sample_rows.end());
      pooled.assign(s.pooled.begin(), s.pooled.end());
      sampling.assign(s.sampling.begin(), s.sampling.end());
      for (backend::SampleRow& row : sampling) {
        row.params = &params.emplace_back(*row.params);
        row.bias = biases.emplace_back(row.bias.begin(), row.bias.end());
        row.seen = seen.emplace_back(row.seen.begin(), row.seen.end());
        if (row.mask != nullptr) row.mask = masks.emplace_back(row.mask, row.mask + (kVocab + 31) / 32).data();
      }
      step = {{tokens, positions, sequences, tables}, rows, sampling, pooled};
      drawn.resize(rows.size());
    }
    std::vector<TokenId> tokens;
    std::vector<std::int32_t> positions, tables, rows;
    std::vector<backend::SequenceRows> sequences;
    std::vector<model::PooledRows> pooled;
    std::vector<backend::SampleRow> sampling;
    std::deque<backend::SamplingParams> params;
    std::deque<std::vector<backend::TokenBias>> biases;
    std::deque<std::vector<backend::TokenCount>> seen;
    std::deque<std::vector<std::uint32_t>> masks;
    std::vector<backend::Sampled> drawn;
    model::Step step;
  };
  struct Queued {
    std::function<void()> moves;                     // of memory
    std::unique_ptr<Kept> step;
    bool done = false;
  };

  Result<> happen(Queued& q) {
    if (std::exchange(q.done, true)) return {};
    if (q.moves) q.moves();
    if (q.step == nullptr) return {};
    for (TokenId& token : q.step->tokens) {
      if (token >= 0) continue;
      const auto row = static_cast<std::size_t>(-2 - token);
      if (row >= last_drawn_.size()) {
        ++controls_->violations;                     // of no step before this one
        token = 0;
      } else {
        token = last_drawn_[row];
      }
    }
    auto done = compute(q.step->step, q.step->drawn);
    last_drawn_.clear();
    for (const backend::Sampled& s : q.step->drawn) last_drawn_.push_back(s.token);
    return done;
  }

 public:
  void zero_blocks(std::span<const std::int32_t> blocks) override {
    in_order([this, b = copy(blocks)] { zero(b); });
  }
  void swap_out(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) override {
    in_order([this, b = copy(blocks), s = copy(slots)] { out(b, s); });
  }
  void swap_in(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots, std::span<const std::int32_t> freed) override {
    in_order([this, b = copy(blocks), s = copy(slots), f = copy(freed)] { in(b, s, f); });
  }

 private:
  static std::vector<std::int32_t> copy(std::span<const std::int32_t> list) { return {list.begin(), list.end()}; }
  template <class Moves>
  void in_order(Moves moves) {
    if (!info_.overlaps) return moves();
    queue_.emplace_back().moves = std::move(moves);
  }
  void zero(std::span<const std::int32_t> blocks) {
    for (const std::int32_t b : blocks) {
      for (std::int32_t i = 0; i < backend::kBlockTokens; ++i) cells_[static_cast<std::size_t>(b * backend::kBlockTokens + i)] = {};
      ++controls_->blocks_zeroed;
    }
  }

  void out(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) {
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (host_[static_cast<std::size_t>(slots[i] * backend::kBlockTokens)].position >= 0) ++controls_->violations;   // not zeroed
      std::copy_n(cells_.begin() + blocks[i] * backend::kBlockTokens, backend::kBlockTokens, host_.begin() + slots[i] * backend::kBlockTokens);
    }
  }
  void in(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots, std::span<const std::int32_t> freed) {
    for (std::size_t i = 0; i < blocks.size(); ++i)
      std::copy_n(host_.begin() + slots[i] * backend::kBlockTokens, backend::kBlockTokens, cells_.begin() + blocks[i] * backend::kBlockTokens);
    for (const std::int32_t s : freed) std::fill_n(host_.begin() + s * backend::kBlockTokens, backend::kBlockTokens, Cell{});
  }

  // Rows, sum of the tokens, sum of token * position, and, when complete, a hash of the text read back through the table.
  void pool(const backend::StepRows& rows, const model::PooledRows& p) {
    const backend::SequenceRows& s = rows.sequences[static_cast<std::size_t>(p.sequence)];
    for (std::int32_t i = s.context - s.rows; i < s.context; ++i) {
      const TokenId token = rows.tokens[static_cast<std::size_t>(s.row + i - (s.context - s.rows))];
      p.sum[0] += 1;
      p.sum[1] += token;
      p.sum[2] += static_cast<double>(token) * i;
    }
    if (!p.complete) return;
    std::uint64_t h = 0;
    for (std::int32_t i = 0; i < s.context; ++i) h = mix(h, static_cast<std::uint64_t>(at(rows, s, i).token));
    p.sum[3] = static_cast<double>(h % 1'000'000);
    if (rows.tokens[static_cast<std::size_t>(s.row)] == kNanPrompt) p.sum[3] = std::numeric_limits<double>::quiet_NaN();
  }

  struct Cell {
    TokenId token = 0;
    std::int32_t position = -1;
  };

  Cell& at(const backend::StepRows& rows, const backend::SequenceRows& s, std::int32_t position) {
    const std::int32_t block = rows.block_tables[static_cast<std::size_t>(s.table + position / backend::kBlockTokens)];
    return cells_[static_cast<std::size_t>(block * backend::kBlockTokens + position % backend::kBlockTokens)];
  }

  backend::Sampled draw(const std::vector<TokenId>& context, const backend::SampleRow& row) {
    backend::Sampled s;
    if (context.front() == kNanPrompt) return s;
    s.token = next_token(context, row.params->seed, row.choice, row.position);
    for (const backend::TokenBias& b : row.bias) {
      if (b.bias >= 100) s.token = b.token;
    }
    for (TokenId tried = 0; row.mask != nullptr && (row.mask[s.token / 32] >> (s.token % 32) & 1) == 0; ++tried) {
      if (tried == kVocab) return {};
      s.token = (s.token + 1) % kVocab;
    }
    s.logprob = -0.5f;
    if (row.params->top_logprobs > 0) s.top = {{s.token, -0.5f}, {s.token + 1, -1.0f}};
    if (!row.seen.empty()) {
      std::lock_guard lock(controls_->mutex);
      controls_->seen.emplace_back(row.seen.begin(), row.seen.end());
    }
    return s;
  }

  std::shared_ptr<Controls> controls_;
  std::vector<Cell> cells_, host_;                   // of blocks, and of swapped ones
  std::deque<Queued> queue_;
  std::vector<TokenId> last_drawn_;
  int open_ = 0;
  model::RunnerInfo info_;
};

}  // namespace tokenworks::test
