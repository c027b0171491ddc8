#include "model/encoder.hpp"

#include <openssl/crypto.h>

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace tokenworks::model {

using backend::kBlockTokens;

Result<std::unique_ptr<Runner>> Encoder::make(Parts parts) {
  std::unique_ptr<Encoder> e(new Encoder(std::move(parts)));
  backend::Backend& backend = *e->p_.backend;
  const auto rows = static_cast<std::size_t>(e->p_.rows_at_once);
  const auto hidden = static_cast<std::size_t>(e->p_.config.hidden), ffn = static_cast<std::size_t>(e->p_.config.ffn);
  const std::pair<std::unique_ptr<backend::Buffer>*, std::size_t> buffers[] = {
      {&e->hidden_, rows * hidden}, {&e->qkv_, rows * 3 * hidden}, {&e->inner_, rows * ffn}};
  for (const auto& [buffer, elements] : buffers) {
    auto made = backend.allocate(elements * sizeof(float));
    if (!made) return made.error();
    *buffer = std::move(*made);
  }
  const auto texts = static_cast<std::size_t>(e->p_.info.sequences_max);
  if (backend.pool_ops() != nullptr) {
    auto sums = backend.allocate(texts * hidden * sizeof(float));
    if (!sums) return sums.error();
    e->sums_ = std::move(*sums);
  }
  auto input = backend.make_activations(e->p_.rows_at_once, std::max(e->p_.config.hidden, e->p_.config.ffn));
  if (!input) return input.error();
  e->input_ = std::move(*input);
  e->cells_.resize(static_cast<std::size_t>(e->p_.info.kv_blocks) * kBlockTokens);
  e->no_blocks_.resize(static_cast<std::size_t>(e->p_.info.context_tokens / kBlockTokens + 1));
  e->rows_.resize((e->sums_ ? texts : rows) * hidden);
  return std::unique_ptr<Runner>(std::move(e));
}

Result<> Encoder::check_step(const Step& step) const {
  const auto bad = [](const std::string& why) { return error(Errc::internal, "step refused: " + why); };
  if (!step.sample_rows.empty()) return bad("an encoder samples nothing");
  for (const TokenId token : step.rows.tokens)
    if (token < 0 || token >= p_.info.vocab) return bad(fmt::format("token {} of a vocabulary of {}", token, p_.info.vocab));
  for (const std::int32_t block : step.rows.block_tables)
    if (block < 0 || block >= p_.info.kv_blocks) return bad(fmt::format("block {} of {}", block, p_.info.kv_blocks));
  std::int64_t next = 0;
  for (const backend::SequenceRows& s : step.rows.sequences) {
    const std::int64_t blocks = (std::int64_t{s.context} + kBlockTokens - 1) / kBlockTokens;
    if (s.row != next || s.rows <= 0 || s.context < s.rows || s.context > p_.info.context_tokens || s.table < 0 ||
        s.table + blocks > static_cast<std::int64_t>(step.rows.block_tables.size()))
      return bad(fmt::format("a sequence of {} rows from {}, context {}, blocks from {}", s.rows, s.row, s.context, s.table));
    next += s.rows;
  }
  if (step.pooled.size() > static_cast<std::size_t>(p_.info.sequences_max))
    return bad(fmt::format("{} texts to pool; loaded for {}", step.pooled.size(), p_.info.sequences_max));
  if (next != static_cast<std::int64_t>(step.rows.tokens.size())) return bad("the sequences do not cover the rows");
  for (const PooledRows& p : step.pooled)
    if (p.sequence < 0 || p.sequence >= static_cast<std::int64_t>(step.rows.sequences.size()) ||
        p.sum.size() != static_cast<std::size_t>(p_.config.hidden))
      return bad(fmt::format("sequence {} is pooled into {} values", p.sequence, p.sum.size()));
  return {};
}

void Encoder::put_down(const backend::StepRows& rows) {
  for (const backend::SequenceRows& s : rows.sequences) {
    for (std::int32_t i = 0; i < s.rows; ++i) {
      const std::int32_t position = s.context - s.rows + i;
      const std::int32_t block = rows.block_tables[static_cast<std::size_t>(s.table + position / kBlockTokens)];
      cells_[static_cast<std::size_t>(block) * kBlockTokens + static_cast<std::size_t>(position % kBlockTokens)] =
          rows.tokens[static_cast<std::size_t>(s.row + i)];
    }
  }
}

void Encoder::pick_up(const backend::StepRows& rows, const PooledRows& pooled) {
  const backend::SequenceRows& s = rows.sequences[static_cast<std::size_t>(pooled.sequence)];
  const auto first = static_cast<std::int32_t>(tokens_.size());
  for (std::int32_t position = 0; position < s.context; ++position) {
    const std::int32_t block = rows.block_tables[static_cast<std::size_t>(s.table + position / kBlockTokens)];
    tokens_.push_back(cells_[static_cast<std::size_t>(block) * kBlockTokens + static_cast<std::size_t>(position % kBlockTokens)]);
    positions_.push_back(position);
  }
  sequences_.push_back({first, s.context, s.context, 0});
  texts_.push_back({first, s.context, &pooled});
}

// BertModel of transformers, post-norm: x = norm(x + attention(x)), x = norm(x + inner(x)).
void Encoder::layers(std::int32_t rows) {
  backend::Backend& b = *p_.backend;
  const formats::ModelConfig& c = p_.config;
  const EncoderWeights& w = p_.weights;
  b.begin_step({tokens_, positions_, sequences_, no_blocks_});
  b.embed(*w.words, *hidden_);
  ops_.add_positions(*w.positions, c.hidden, *hidden_);
  ops_.layer_norm(*hidden_, *w.norm, *w.norm_bias, c.norm_epsilon, rows, c.hidden, *input_);
  for (const EncoderLayer& layer : w.layers) {
    b.linear(*input_, *layer.qkv, rows, *qkv_, false);
    ops_.attend_all(*qkv_, p_.attention, *input_);
    b.linear(*input_, *layer.output, rows, *hidden_, true);
    ops_.layer_norm(*hidden_, *layer.attention_norm, *layer.attention_norm_bias, c.norm_epsilon, rows, c.hidden, *input_);
    b.linear(*input_, *layer.up, rows, *inner_, false);
    ops_.activate(*inner_, p_.activation, rows, c.ffn, *input_);
    b.linear(*input_, *layer.down, rows, *hidden_, true);
    ops_.layer_norm(*hidden_, *layer.norm, *layer.norm_bias, c.norm_epsilon, rows, c.hidden, *input_);
  }
}

namespace {

bool counts(Pooling pooling, std::int32_t row, std::int32_t rows) {
  return pooling == Pooling::mean || (pooling == Pooling::first && row == 0) || (pooling == Pooling::last && row + 1 == rows);
}

}  // namespace

void Encoder::pool_on_device(backend::PoolOps& ops) {
  const auto columns = static_cast<std::size_t>(p_.config.hidden);
  into_.clear();
  for (std::size_t t = 0; t < texts_.size(); ++t)
    for (std::int32_t r = 0; r < texts_[t].rows; ++r)
      into_.push_back(counts(texts_[t].pooled->pooling, r, texts_[t].rows) ? static_cast<std::int32_t>(t) : -1);
  ops.pool(*hidden_, nullptr, 0, into_, p_.config.hidden, false, static_cast<std::int32_t>(texts_.size()), *sums_);
  const std::span<float> sums = std::span(rows_).first(texts_.size() * columns);
  p_.backend->download(*sums_, 0, std::as_writable_bytes(sums));
  for (std::size_t t = 0; t < texts_.size(); ++t) std::copy_n(sums.begin() + static_cast<std::ptrdiff_t>(t * columns), columns, texts_[t].pooled->sum.begin());
}

void Encoder::pool_on_host() {
  const auto columns = static_cast<std::size_t>(p_.config.hidden);
  const std::span<float> rows = std::span(rows_).first(tokens_.size() * columns);
  p_.backend->download(*hidden_, 0, std::as_writable_bytes(rows));
  for (const Text& text : texts_) {
    std::ranges::fill(text.pooled->sum, 0.0);
    for (std::int32_t r = 0; r < text.rows; ++r) {
      const bool adds = counts(text.pooled->pooling, r, text.rows);
      const float* row = rows.data() + static_cast<std::size_t>(text.row + r) * columns;
      for (std::size_t i = 0; adds && i < columns; ++i) text.pooled->sum[i] += static_cast<double>(row[i]);
    }
  }
}

Result<> Encoder::compute() {
  if (texts_.empty()) return {};
  layers(static_cast<std::int32_t>(tokens_.size()));
  backend::PoolOps* const ops = p_.backend->pool_ops();
  ops != nullptr ? pool_on_device(*ops) : pool_on_host();
  texts_.clear();
  sequences_.clear();
  positions_.clear();
  OPENSSL_cleanse(tokens_.data(), tokens_.size() * sizeof(TokenId));
  tokens_.clear();
  return p_.backend->check();
}

Result<> Encoder::run(const Step& step, std::span<backend::Sampled>) {
  if (auto fits = check_step(step); !fits) return fits;
  put_down(step.rows);
  for (const PooledRows& pooled : step.pooled) {
    if (!pooled.complete) continue;
    const std::int32_t context = step.rows.sequences[static_cast<std::size_t>(pooled.sequence)].context;
    if (static_cast<std::int32_t>(tokens_.size()) + context > p_.rows_at_once)
      if (auto done = compute(); !done) return done;
    pick_up(step.rows, pooled);
  }
  return compute();
}

void Encoder::zero_blocks(std::span<const std::int32_t> blocks) {
  for (const std::int32_t block : blocks)
    OPENSSL_cleanse(cells_.data() + static_cast<std::size_t>(block) * kBlockTokens, kBlockTokens * sizeof(TokenId));
}

}  // namespace tokenworks::model
