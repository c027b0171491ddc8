// The ops of CpuBackend that touch the cache. Attention of a step is cut into units (some query rows of a sequence against
// one key/value head) that threads take one by one; a long context of few rows is cut into its spans as well, whose
// results are merged in the order in which one thread would have merged them: the same bits either way.
#include <algorithm>
#include <cassert>
#include <cstring>

#include "backend/cpu/cpu_backend.hpp"

namespace tokenworks::backend {

using kernels::AttendRows;
using kernels::HeadShape;
using kernels::kSpanTokens;
using kernels::Range;
using kernels::Rows;

namespace {

constexpr std::int32_t kUnitQueries = 48;            // query vectors of a unit: their partial results stay in the L2 cache
constexpr std::int32_t kSplitQueries = 16;           // a unit of at most so many is split by spans
constexpr std::int32_t kSplitSpans = 3;              // when it has at least so many

constexpr std::int64_t kLaterLinesMax = 65536;       // 4 MiB: beyond, what is asked for is gone again when it is read

HeadShape shape_of(const AttentionSpec& s) {
  return {s.q_heads, s.kv_heads, s.head_dim, s.scale, s.window, s.soft_cap};
}
std::int32_t columns_of(const AttentionSpec& s) { return (s.q_heads + 2 * s.kv_heads) * s.head_dim; }

const float* vector_of(const Weight* w) {
  return w != nullptr ? static_cast<const CpuWeight*>(w)->vector.data() : nullptr;
}

}  // namespace

void CpuBackend::rope_and_store(Buffer& qkv, const AttentionSpec& spec, const Weight& rope, const Weight* q_norm,
                                const Weight* k_norm, float epsilon, KvCache& cache, std::int32_t layer) {
  const HeadShape shape = shape_of(spec);
  const kernels::KvView view = static_cast<CpuKvCache&>(cache).layer(layer);
  const kernels::RopeView& table = static_cast<const CpuWeight&>(rope).rope;
  float* rows = static_cast<CpuBuffer&>(qkv).floats();
  const std::int32_t columns = columns_of(spec);
  pool_.run_ranges(static_cast<std::int32_t>(step_.tokens.size()), columns / 4,
                   [&](std::int32_t first, std::int32_t count) {
                     for (std::int32_t r = first; r < first + count; ++r)
                       ops_.rope_and_store(rows + static_cast<std::size_t>(r) * static_cast<std::size_t>(columns),
                                           shape, table, vector_of(q_norm), vector_of(k_norm), epsilon,
                                           step_.positions[static_cast<std::size_t>(r)],
                                           row_block_[static_cast<std::size_t>(r)], view);
                   });
}

// Fills units_ and span_jobs_: what is to be done, and in which pieces.
void CpuBackend::plan_attention(const AttentionSpec& spec) {
  units_.clear();
  span_jobs_.clear();
  const std::int32_t group = planned_group_ = spec.q_heads / spec.kv_heads;
  const std::int32_t rows_max = std::max(1, kUnitQueries / group);
  std::int32_t partials = 0;
  for (std::size_t s = 0; s < step_.sequences.size(); ++s) {
    const SequenceRows& sequence = step_.sequences[s];
    const std::int32_t first_position = sequence.context - sequence.rows;
    for (std::int32_t row = 0; row < sequence.rows; row += rows_max) {
      const std::int32_t rows = std::min(rows_max, sequence.rows - row);
      const std::int32_t spans = (first_position + row + rows - 1) / kSpanTokens + 1;
      const bool split = pool_.threads() > 1 && spans >= kSplitSpans && rows * group <= kSplitQueries;
      for (std::int32_t h = 0; h < spec.kv_heads; ++h) {
        units_.push_back({static_cast<std::int32_t>(s), row, rows, h, spans, split ? partials : -1});
        if (!split) continue;
        partials += spans * rows * group;
        for (std::int32_t i = 0; i < spans; ++i)
          span_jobs_.push_back({static_cast<std::int32_t>(units_.size()) - 1, i});
      }
    }
  }
  const std::size_t floats = static_cast<std::size_t>(partials) * kernels::partial_floats(spec.head_dim);
  if (split_partials_.size() < floats) split_partials_.resize(floats);
}

AttendRows CpuBackend::rows_of(const AttentionUnit& unit, const float* qkv, const AttentionSpec& spec) const {
  const SequenceRows& s = step_.sequences[static_cast<std::size_t>(unit.sequence)];
  const std::int64_t stride = columns_of(spec);
  const std::int32_t group = spec.q_heads / spec.kv_heads;
  return {qkv + (s.row + unit.row) * stride + std::int64_t{unit.kv_head} * group * spec.head_dim, stride, unit.rows,
          s.context - s.rows + unit.row, unit.kv_head, step_.block_tables.data() + s.table};
}

// A unit's queries divided by their sums, into fp32 rows and, where a group of columns has no other owner, into int8.
void CpuBackend::finish_unit(const AttentionUnit& unit, const AttentionSpec& spec, const float* partials,
                             const Rows& out, float* values) {
  const std::int32_t group = spec.q_heads / spec.kv_heads, width = group * spec.head_dim;
  const std::int32_t column = unit.kv_head * width;
  const bool quantise = out.codes != nullptr && width % kernels::kGroup == 0;
  for (std::int32_t i = 0; i < unit.rows; ++i) {
    const auto row =
        static_cast<std::size_t>(step_.sequences[static_cast<std::size_t>(unit.sequence)].row + unit.row + i);
    float* to = out.values != nullptr ? out.values + row * static_cast<std::size_t>(out.stride) + column : values;
    for (std::int32_t h = 0; h < group; ++h, partials += kernels::partial_floats(spec.head_dim))
      ops_.attend_finish(partials, spec.head_dim, to + h * spec.head_dim);
    if (quantise)
      ops_.quantize(to, width, out.codes + row * static_cast<std::size_t>(out.stride) + column,
                    out.groups + row * static_cast<std::size_t>(out.group_stride) + column / kernels::kGroup);
  }
}

// Attention of sequences that decode waits for memory, the linears before it do not: they ask for its keys and values.
void CpuBackend::look_ahead(const CpuKvCache& cache, std::int32_t layer) {
  if (layer > 0) layer_work_ = layer_done_;
  layer_done_ = 0;
  later_ = {};
  if (layer + 1 >= cache.shape().layers) return;
  const std::size_t piece = cache.block_bytes() / static_cast<std::size_t>(cache.shape().layers);
  later_.base = cache.layer(layer + 1).data;
  later_.blocks = later_blocks_.data();
  later_.stride = cache.block_bytes();
  later_.piece_lines = static_cast<std::int64_t>(piece / 64);
  later_.end = std::min(static_cast<std::int64_t>(later_blocks_.size()) * later_.piece_lines, kLaterLinesMax);
}

void CpuBackend::attention(const Buffer& qkv, const AttentionSpec& spec, const KvCache& cache, std::int32_t layer,
                           Activations& out) {
  const std::int32_t group = spec.q_heads / spec.kv_heads;
  const HeadShape heads = shape_of(spec);
  const kernels::KvView view = static_cast<const CpuKvCache&>(cache).layer(layer);
  const float* in = static_cast<const CpuBuffer&>(qkv).floats();
  const std::size_t partial = kernels::partial_floats(spec.head_dim);
  Rows& to = shape(out, spec.q_heads * spec.head_dim);
  // Heads whose columns do not fill groups of 32 are quantised when all are there, from fp32 rows.
  const bool later = to.codes != nullptr && group * spec.head_dim % kernels::kGroup != 0;
  if (later) to = static_cast<CpuActivations&>(out).shape(spec.q_heads * spec.head_dim, true, true);
  if (planned_group_ != group) plan_attention(spec);

  const std::size_t values_at = static_cast<std::size_t>(kUnitQueries + group) * partial;
  const std::size_t attend_at = values_at + (static_cast<std::size_t>(group * spec.head_dim) + 15) / 16 * 16;
  reserve_scratch(attend_at + kernels::attend_scratch_floats(spec.head_dim));
  pool_.run(static_cast<std::int32_t>(span_jobs_.size()), [&](std::int32_t j, int thread) {
    const SpanJob& job = span_jobs_[static_cast<std::size_t>(j)];
    const AttentionUnit& unit = units_[static_cast<std::size_t>(job.unit)];
    const std::int32_t queries = unit.rows * group;
    float* to_partials =
        split_partials_.data() + static_cast<std::size_t>(unit.first_partial + job.span * queries) * partial;
    ops_.attend_begin(queries, spec.head_dim, to_partials);
    ops_.attend(rows_of(unit, in, spec), heads, view, Range{job.span, 1}, to_partials, scratch(thread) + attend_at);
  });
  pool_.run(static_cast<std::int32_t>(units_.size()), [&](std::int32_t u, int thread) {
    const AttentionUnit& unit = units_[static_cast<std::size_t>(u)];
    const std::int32_t queries = unit.rows * group;
    float* partials = scratch(thread);
    ops_.attend_begin(queries, spec.head_dim, partials);
    if (unit.first_partial < 0) {
      ops_.attend(rows_of(unit, in, spec), heads, view, Range{0, unit.spans}, partials, partials + attend_at);
    } else {
      for (std::int32_t s = 0; s < unit.spans; ++s)
        ops_.attend_merge(queries, spec.head_dim,
                          split_partials_.data() + static_cast<std::size_t>(unit.first_partial + s * queries) * partial,
                          partials);
    }
    finish_unit(unit, spec, partials, to, partials + values_at);
  });
  look_ahead(static_cast<const CpuKvCache&>(cache), layer);
  const auto rows = static_cast<std::int32_t>(step_.tokens.size());
  if (rounding_)                                     // a scale's columns may come from several heads
    pool_.run_ranges(rows, to.columns, [&](std::int32_t first, std::int32_t count) { round(to, first, count); });
  if (later) {
    pool_.run_ranges(rows, to.columns, [&](std::int32_t first, std::int32_t count) {
      for (std::int32_t r = first; r < first + count; ++r)
        ops_.quantize(to.values + static_cast<std::size_t>(r) * static_cast<std::size_t>(to.stride), to.columns,
                      to.codes + static_cast<std::size_t>(r) * static_cast<std::size_t>(to.stride),
                      to.groups + static_cast<std::size_t>(r) * static_cast<std::size_t>(to.group_stride));
    });
  }
}

}  // namespace tokenworks::backend
