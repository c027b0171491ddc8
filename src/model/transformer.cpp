#include "model/transformer.hpp"

#include "model/slices.hpp"
#include "tokenworks/backend/pooling.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace tokenworks::model {
namespace {

std::int32_t count(std::size_t n) { return static_cast<std::int32_t>(n); }

}  // namespace

Result<std::unique_ptr<Runner>> Transformer::make(Parts parts) {
  std::unique_ptr<Transformer> t(new Transformer(std::move(parts)));
  backend::Backend& backend = *t->p_.backend;
  const Workspace& need = t->p_.workspace;
  const std::pair<std::unique_ptr<backend::Buffer>*, std::size_t> buffers[] = {
      {&t->hidden_, need.hidden}, {&t->qkv_, need.qkv}, {&t->gate_up_, need.gate_up}, {&t->sampled_, need.sampled},
      {&t->logits_, need.logits}};
  for (const auto& [buffer, elements] : buffers) {
    auto made = backend.allocate(elements * sizeof(float));
    if (!made) return made.error();
    *buffer = std::move(*made);
  }
  if (backend.pool_ops() != nullptr) {
    auto sums = backend.allocate(need.sampled * sizeof(float));
    if (!sums) return sums.error();
    t->pool_sums_ = std::move(*sums);
  }
  if (const backend::Communicator* c = t->p_.communicator) {
    const auto n = static_cast<std::size_t>(t->p_.info.sequences_max);
    auto own = backend.allocate(n * static_cast<std::size_t>(t->p_.head_rows) * sizeof(float));
    if (!own) return own.error();
    t->own_logits_ = std::move(*own);
    for (std::int32_t r = 0; r < c->size(); ++r) t->head_widths_.push_back(head_rows(t->p_.config.vocab, {r, c->size()}));
  }
  auto input = backend.make_activations(t->p_.info.rows_max, need.activation_columns);
  if (!input) return input.error();
  t->input_ = std::move(*input);
  auto cache = backend.make_kv_cache(kv_shape(t->p_.config), t->p_.info.kv_blocks);
  if (!cache) return cache.error();
  t->cache_ = std::move(*cache);
  if (t->p_.swap_slots > 0) {
    auto swap = backend.make_swap_space(*t->cache_, t->p_.swap_slots);
    if (!swap) return swap.error();
    t->swap_ = std::move(*swap);
  }
  if (t->swap_) {
    RunnerInfo& info = t->p_.info;
    info.swap_slots = t->swap_->slots();
    info.swap_bytes = static_cast<std::size_t>(info.swap_slots) * backend.kv_block_bytes(kv_shape(t->p_.config));
    info.swap_move_ns = t->swap_->move_ns();
  }
  t->p_.info.overlaps = backend.overlaps() && (t->p_.communicator == nullptr || t->p_.communicator->on_stream());
  return std::unique_ptr<Runner>(std::move(t));
}

Result<> Transformer::check_step(const backend::StepRows& rows, std::span<const std::int32_t> wanted, std::int32_t drawn) const {
  const RunnerInfo& info = p_.info;
  const auto bad = [](const std::string& why) { return error(Errc::internal, "step refused: " + why); };
  const std::int32_t n = count(rows.tokens.size());
  if (n == 0 || n > info.rows_max) return bad(fmt::format("{} rows, loaded for 1 to {}", n, info.rows_max));
  if (rows.positions.size() != rows.tokens.size())
    return bad(fmt::format("{} positions for {} rows", rows.positions.size(), n));
  for (const TokenId token : rows.tokens)
    if ((token < 0 && (token > backend::drawn_by(0) || token <= backend::drawn_by(drawn))) || token >= info.vocab) return bad(fmt::format("token {} of a vocabulary of {}", token, info.vocab));
  for (const std::int32_t block : rows.block_tables)
    if (block < 0 || block >= info.kv_blocks) return bad(fmt::format("block {} of {}", block, info.kv_blocks));
  std::int32_t next = 0;
  for (const backend::SequenceRows& s : rows.sequences) {
    const std::int64_t blocks = (std::int64_t{s.context} + backend::kBlockTokens - 1) / backend::kBlockTokens;
    if (s.row != next || s.rows <= 0 || s.rows > n - s.row || s.context < s.rows || s.context > info.context_tokens ||
        s.table < 0 || s.table + blocks > static_cast<std::int64_t>(rows.block_tables.size()))
      return bad(fmt::format("a sequence of {} rows from {}, context {}, blocks from {}", s.rows, s.row, s.context,
                             s.table));
    for (std::int32_t row = s.row; row < s.row + s.rows; ++row)
      if (const std::int32_t at = rows.positions[static_cast<std::size_t>(row)]; at != s.context - s.rows + row - s.row)
        return bad(fmt::format("row {} stands at position {}", row, at));
    next += s.rows;
  }
  if (next != n) return bad(fmt::format("the sequences cover {} of {} rows", next, n));
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i] < 0 || wanted[i] >= n || (i > 0 && wanted[i] <= wanted[i - 1]))
      return bad(fmt::format("sampled row {} of {}; rows ascend", wanted[i], n));
  return {};
}

void Transformer::attention(const LayerWeights& layer, std::int32_t index, std::int32_t rows) {
  backend::Backend& b = *p_.backend;
  const float epsilon = p_.config.norm_epsilon;
  b.norm(*hidden_, *layer.attention_norm, epsilon, rows, p_.config.hidden, *input_);
  b.linear(*input_, *layer.qkv, rows, *qkv_, false);
  b.rope_and_store(*qkv_, p_.attention, *p_.weights.rope, layer.q_norm.get(), layer.k_norm.get(), epsilon, *cache_,
                   index);
  b.attention(*qkv_, p_.attention, *cache_, index, *input_);
  b.linear(*input_, *layer.output, rows, *hidden_, first_rank());
  reduce(*hidden_, rows);
}

void Transformer::feed_forward(const LayerWeights& layer, backend::Buffer& hidden, std::int32_t rows) {
  backend::Backend& b = *p_.backend;
  b.norm(hidden, *layer.ffn_norm, p_.config.norm_epsilon, rows, p_.config.hidden, *input_);
  b.linear(*input_, *layer.gate_up, rows, *gate_up_, false);
  b.gate(*gate_up_, p_.gate, rows, p_.config.ffn, *input_);
  b.linear(*input_, *layer.down, rows, hidden, first_rank());
  reduce(hidden, rows);
}

void Transformer::reduce(backend::Buffer& hidden, std::int32_t rows) {
  if (p_.communicator == nullptr || failure_) return;
  if (auto summed = p_.communicator->all_reduce(*p_.backend, hidden, rows, p_.config.hidden); !summed) failure_ = summed.error();
}

void Transformer::gather_logits(std::size_t rows) {
  if (failure_) return;
  auto gathered = p_.communicator->gather_columns(*p_.backend, *own_logits_, static_cast<std::int32_t>(rows), head_widths_, *logits_);
  if (!gathered) failure_ = gathered.error();
}

Result<> Transformer::finished() {
  if (auto device = p_.backend->check(); !device) return device;
  if (failure_) return *failure_;
  return {};
}

void Transformer::layers(const backend::StepRows& rows) {
  const std::int32_t n = count(rows.tokens.size());
  p_.backend->begin_step(rows);
  p_.backend->embed(*p_.weights.embedding, *hidden_);
  for (std::size_t i = 0; i < p_.weights.layers.size(); ++i) {
    attention(p_.weights.layers[i], count(i), n);
    if (i + 1 < p_.weights.layers.size()) feed_forward(p_.weights.layers[i], *hidden_, n);
  }
}

// The last feed-forward feeds nothing but the head, so only rows that are sampled pay for it.
void Transformer::head(std::span<const std::int32_t> wanted) {
  backend::Backend& b = *p_.backend;
  const std::int32_t n = count(wanted.size());
  b.gather(*hidden_, wanted, p_.config.hidden, *sampled_);
  feed_forward(p_.weights.layers.back(), *sampled_, n);
  b.norm(*sampled_, *p_.weights.final_norm, p_.config.norm_epsilon, n, p_.config.hidden, *input_);
  if (p_.communicator == nullptr) return b.linear(*input_, *p_.weights.head, n, *logits_, false);
  b.linear(*input_, *p_.weights.head, n, *own_logits_, false);
  gather_logits(wanted.size());
}

void Transformer::find_pooled_rows(const Step& step) {
  pool_rows_.clear();
  pool_into_.clear();
  for (std::size_t i = 0; i < step.pooled.size(); ++i) {
    const PooledRows& p = step.pooled[i];
    const backend::SequenceRows& s = step.rows.sequences[static_cast<std::size_t>(p.sequence)];
    std::int32_t from = s.row, to = s.row + s.rows;
    if (p.pooling == Pooling::last) from = p.complete ? to - 1 : to;
    if (p.pooling == Pooling::first) to = s.context == s.rows ? from + 1 : from;
    for (; from < to; ++from) pool_rows_.push_back(from), pool_into_.push_back(count(i));
  }
}

void Transformer::pool_on_device(const Step& step, backend::PoolOps& ops) {
  backend::Backend& b = *p_.backend;
  const auto columns = static_cast<std::size_t>(p_.config.hidden), batch = static_cast<std::size_t>(p_.info.sequences_max);
  for (std::size_t at = 0; at < pool_rows_.size(); at += batch) {
    const std::size_t n = std::min(batch, pool_rows_.size() - at);
    b.gather(*hidden_, std::span(pool_rows_).subspan(at, n), p_.config.hidden, *sampled_);
    feed_forward(p_.weights.layers.back(), *sampled_, count(n));
    if (first_rank())                                // the sum over ranks stands there
      ops.pool(*sampled_, p_.weights.final_norm.get(), p_.config.norm_epsilon, std::span(pool_into_).subspan(at, n), p_.config.hidden, at > 0,
               count(step.pooled.size()), *pool_sums_);
  }
  if (pool_rows_.empty()) return;
  if (!first_rank()) return (void)b.check();         // as the first does by reading: nobody goes ahead in such a step
  pool_values_.resize(step.pooled.size() * columns);
  b.download(*pool_sums_, 0, std::as_writable_bytes(std::span(pool_values_)));
  for (std::size_t i = 0; i < step.pooled.size(); ++i)
    for (std::size_t c = 0; c < columns; ++c) step.pooled[i].sum[c] += pool_values_[i * columns + c];
}

// A norm of a few rows in double costs nothing beside the layers, and the backends need no op that leaves it in fp32.
void Transformer::pool(const Step& step) {
  find_pooled_rows(step);
  backend::Backend& b = *p_.backend;
  if (backend::PoolOps* ops = b.pool_ops()) return pool_on_device(step, *ops);
  const auto columns = static_cast<std::size_t>(p_.config.hidden), batch = static_cast<std::size_t>(p_.info.sequences_max);
  pool_values_.resize(batch * columns);
  for (std::size_t at = 0; at < pool_rows_.size(); at += batch) {
    const std::size_t n = std::min(batch, pool_rows_.size() - at);
    b.gather(*hidden_, std::span(pool_rows_).subspan(at, n), p_.config.hidden, *sampled_);
    feed_forward(p_.weights.layers.back(), *sampled_, count(n));
    if (!first_rank()) continue;                     // the sum over ranks stands there
    b.download(*sampled_, 0, std::as_writable_bytes(std::span(pool_values_).first(n * columns)));
    for (std::size_t i = 0; i < n; ++i) {
      const float* row = pool_values_.data() + i * columns;
      double squares = 0;
      for (std::size_t c = 0; c < columns; ++c) squares += static_cast<double>(row[c]) * row[c];
      const double factor = 1.0 / std::sqrt(squares / static_cast<double>(columns) + p_.config.norm_epsilon);
      std::span<double> sum = step.pooled[static_cast<std::size_t>(pool_into_[at + i])].sum;
      for (std::size_t c = 0; c < columns; ++c) sum[c] += row[c] * factor * p_.final_norm[c];
    }
  }
}

Result<> Transformer::check_sampling(const Step& step) const {
  const std::size_t n = step.sample_rows.size();
  if (n > static_cast<std::size_t>(p_.info.sequences_max) || step.sampling.size() != n)
    return error(Errc::internal, fmt::format("step refused: {} rows to sample, {} sampling rows; loaded for {}", n,
                                             step.sampling.size(), p_.info.sequences_max));
  if (step.pooled.size() > static_cast<std::size_t>(p_.info.sequences_max))
    return error(Errc::internal, fmt::format("step refused: {} texts to pool; loaded for {}", step.pooled.size(), p_.info.sequences_max));
  for (const PooledRows& p : step.pooled)
    if (p.sequence < 0 || p.sequence >= count(step.rows.sequences.size()) || p.sum.size() != static_cast<std::size_t>(p_.config.hidden))
      return error(Errc::internal, fmt::format("step refused: sequence {} is pooled into {} values", p.sequence, p.sum.size()));
  return {};
}

Result<> Transformer::launch(const Step& step) {
  if (!p_.info.overlaps) return Runner::launch(step);
  if (auto fits = check_step(step.rows, step.sample_rows, drawn_); !fits) return fits;
  if (auto fits = check_sampling(step); !fits) return fits;
  layers(step.rows);
  if (!step.pooled.empty()) pool(step);
  drawn_ = count(step.sample_rows.size());
  if (drawn_ > 0) head(step.sample_rows);
  if (failure_) return *failure_;
  return p_.backend->begin_sample(*logits_, p_.config.vocab, step.sampling);
}

Result<> Transformer::take(std::span<backend::Sampled> sampled) { return p_.backend->end_sample(sampled); }

Result<> Transformer::run(const Step& step, std::span<backend::Sampled> sampled) {
  if (auto fits = check_step(step.rows, step.sample_rows); !fits) return fits;
  if (auto fits = check_sampling(step); !fits) return fits;
  const std::size_t n = step.sample_rows.size();
  if (sampled.size() != n) return error(Errc::internal, fmt::format("step refused: {} results for {} rows", sampled.size(), n));
  drawn_ = 0;
  layers(step.rows);
  if (!step.pooled.empty()) pool(step);
  if (n == 0) return finished();              // a chunk of a prompt: nothing to sample, but the rows may go now
  head(step.sample_rows);
  if (failure_ || (!first_rank() && !p_.info.overlaps)) return finished();
  return p_.backend->sample(*logits_, p_.config.vocab, step.sampling, sampled);
}

Result<> Transformer::logits(const backend::StepRows& rows, std::span<const std::int32_t> wanted,
                             std::span<float> out) {
  if (auto fits = check_step(rows, wanted); !fits) return fits;
  const std::size_t vocab = static_cast<std::size_t>(p_.config.vocab);
  if (out.size() != wanted.size() * vocab)
    return error(Errc::internal,
                 fmt::format("logits refused: {} values for {} rows of {}", out.size(), wanted.size(), vocab));
  layers(rows);
  const std::size_t batch = static_cast<std::size_t>(p_.info.sequences_max);
  for (std::size_t at = 0; at < wanted.size(); at += batch) {
    const std::size_t n = std::min(batch, wanted.size() - at);
    head(wanted.subspan(at, n));
    if (first_rank()) p_.backend->download(*logits_, 0, std::as_writable_bytes(out.subspan(at * vocab, n * vocab)));
  }
  return finished();
}

void Transformer::zero_blocks(std::span<const std::int32_t> blocks) { p_.backend->zero_blocks(*cache_, blocks); }

void Transformer::swap_out(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) {
  if (swap_) swap_->out(blocks, slots);
}

void Transformer::swap_in(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots, std::span<const std::int32_t> freed) {
  if (!swap_) return;
  swap_->in(blocks, slots);
  swap_->zero(freed);
}

}  // namespace tokenworks::model
