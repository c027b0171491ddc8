// The ops of encoders. Attention over a whole text reuses the kernels of the paged cache: keys and values of the step are laid
// out in blocks of fp32, and queries are given to `attend` as heads of one row that stands at the text's last position, so
// that each of them sees everything. A text's result does not depend on the texts beside it.
#include <algorithm>
#include <cassert>
#include <cstring>

#include "backend/cpu/cpu_backend.hpp"

namespace tokenworks::backend {

using kernels::HeadShape;
using kernels::Range;
using kernels::Rows;

namespace {

constexpr std::int32_t kQueriesAtOnce = 48;

const float* vector_of(const Weight& w) { return static_cast<const CpuWeight&>(w).vector.data(); }
std::size_t at(std::int64_t row, std::int64_t columns) { return static_cast<std::size_t>(row * columns); }

// Row `slot` of a block: keys transposed, values as they are (kernels/ops.hpp, KvView).
void place(const float* k, const float* v, std::int32_t kv_heads, std::int32_t dim, std::int32_t slot, float* keys, float* values) {
  for (std::int32_t h = 0; h < kv_heads; ++h) {
    const std::size_t tile = at(h, std::int64_t{dim} * kBlockTokens);
    for (std::int32_t d = 0; d < dim; ++d) keys[tile + at(d, kBlockTokens) + static_cast<std::size_t>(slot)] = k[h * dim + d];
    std::memcpy(values + tile + at(slot, dim), v + h * dim, static_cast<std::size_t>(dim) * sizeof(float));
  }
}

}  // namespace

void CpuBackend::add_positions(const Weight& table, std::int32_t columns, Buffer& hidden) {
  const float* from = vector_of(table);
  float* to = static_cast<CpuBuffer&>(hidden).floats();
  for (std::size_t r = 0; r < step_.positions.size(); ++r) {
    const float* add = from + at(step_.positions[r], columns);
    float* row = to + at(static_cast<std::int64_t>(r), columns);
    for (std::int32_t c = 0; c < columns; ++c) row[c] += add[c];
  }
}

void CpuBackend::layer_norm(Buffer& hidden, const Weight& weight, const Weight& bias, float epsilon, std::int32_t rows,
                            std::int32_t columns, Activations& out) {
  const Rows& to = shape(out, columns);
  float* x = static_cast<CpuBuffer&>(hidden).floats();
  pool_.run_ranges(rows, columns / 4, [&](std::int32_t first, std::int32_t count) {
    ops_.layer_norm(x, vector_of(weight), vector_of(bias), epsilon, columns, {first, count}, to);
    round(to, first, count);
  });
}

void CpuBackend::activate(const Buffer& in, ActivationKind kind, std::int32_t rows, std::int32_t columns, Activations& out) {
  const Rows& to = shape(out, columns);
  const float* x = static_cast<const CpuBuffer&>(in).floats();
  pool_.run_ranges(rows, columns / 2, [&](std::int32_t first, std::int32_t count) {
    ops_.activate(x, static_cast<std::int32_t>(kind), columns, {first, count}, to);
    round(to, first, count);
  });
}

void CpuBackend::attend_all(const Buffer& qkv, const AttentionSpec& spec, Activations& out) {
  const std::int32_t group = spec.q_heads / spec.kv_heads, dim = spec.head_dim;
  const std::int64_t stride = (spec.q_heads + 2 * std::int64_t{spec.kv_heads}) * dim;
  const std::size_t half = at(spec.kv_heads, std::int64_t{dim} * kBlockTokens);   // keys of a block, in floats
  const float* in = static_cast<const CpuBuffer&>(qkv).floats();
  const bool codes = !exact_ && (reads_codes_ || !reads_values_);
  Rows& to = static_cast<CpuActivations&>(out).shape(spec.q_heads * dim, true, codes);

  std::int32_t blocks = 0;
  whole_units_.clear();
  whole_first_block_.clear();
  for (std::size_t s = 0; s < step_.sequences.size(); ++s) {
    const SequenceRows& sequence = step_.sequences[s];
    assert(sequence.rows == sequence.context);
    whole_first_block_.push_back(blocks);
    blocks += (sequence.rows + kBlockTokens - 1) / kBlockTokens;
    for (std::int32_t h = 0; h < spec.kv_heads; ++h)
      for (std::int32_t first = 0; first < sequence.rows * group; first += kQueriesAtOnce)
        whole_units_.push_back({static_cast<std::int32_t>(s), h, first, std::min(kQueriesAtOnce, sequence.rows * group - first)});
  }
  while (static_cast<std::int32_t>(whole_blocks_.size()) < blocks) whole_blocks_.push_back(static_cast<std::int32_t>(whole_blocks_.size()));
  const std::size_t kv_floats = static_cast<std::size_t>(blocks) * 2 * half + 256;   // kernels may read past a head
  if (whole_kv_.size() < kv_floats) whole_kv_.resize(kv_floats);
  const std::size_t q_floats = step_.tokens.size() * at(spec.q_heads, dim);
  if (whole_q_.size() < q_floats) whole_q_.resize(q_floats);

  // Queries of a sequence lie [kv head][row][head of the group][dim].
  pool_.run(static_cast<std::int32_t>(step_.sequences.size()), [&](std::int32_t s, int) {
    const SequenceRows& sequence = step_.sequences[static_cast<std::size_t>(s)];
    for (std::int32_t r = 0; r < sequence.rows; ++r) {
      const float* row = in + at(sequence.row + r, stride);
      for (std::int32_t h = 0; h < spec.kv_heads; ++h) {
        float* q = whole_q_.data() + at(sequence.row, std::int64_t{spec.q_heads} * dim) +
                   at(std::int64_t{h} * sequence.rows + r, std::int64_t{group} * dim);
        std::memcpy(q, row + at(h, std::int64_t{group} * dim), at(group, dim) * sizeof(float));
      }
      float* block = whole_kv_.data() + static_cast<std::size_t>(whole_first_block_[static_cast<std::size_t>(s)] + r / kBlockTokens) * 2 * half;
      const float* k = row + at(spec.q_heads, dim);
      place(k, k + at(spec.kv_heads, dim), spec.kv_heads, dim, r % kBlockTokens, block, block + half);
    }
  });

  const kernels::KvView view{reinterpret_cast<std::byte*>(whole_kv_.data()), 2 * half * sizeof(float), half * sizeof(float), true};
  const std::size_t partials_size = static_cast<std::size_t>(kQueriesAtOnce) * kernels::partial_floats(dim);
  reserve_scratch(partials_size + kernels::attend_scratch_floats(dim));
  pool_.run(static_cast<std::int32_t>(whole_units_.size()), [&](std::int32_t u, int thread) {
    const WholeUnit& unit = whole_units_[static_cast<std::size_t>(u)];
    const SequenceRows& sequence = step_.sequences[static_cast<std::size_t>(unit.sequence)];
    const float* q = whole_q_.data() + at(sequence.row, std::int64_t{spec.q_heads} * dim) +
                     at(std::int64_t{unit.kv_head} * sequence.rows * group + unit.first, dim);
    const HeadShape heads{unit.queries, 1, dim, spec.scale, 0, spec.soft_cap};
    const kernels::AttendRows rows{q, 0, 1, sequence.rows - 1, unit.kv_head,
                                   whole_blocks_.data() + whole_first_block_[static_cast<std::size_t>(unit.sequence)]};
    float* partials = scratch(thread);
    ops_.attend_begin(unit.queries, dim, partials);
    ops_.attend(rows, heads, view, Range{0, (sequence.rows - 1) / kernels::kSpanTokens + 1}, partials, partials + partials_size);
    for (std::int32_t i = 0; i < unit.queries; ++i) {
      const std::int32_t query = unit.first + i, head = unit.kv_head * group + query % group;
      ops_.attend_finish(partials + static_cast<std::size_t>(i) * kernels::partial_floats(dim), dim,
                         to.values + at(sequence.row + query / group, to.stride) + at(head, dim));
    }
  });
  pool_.run_ranges(static_cast<std::int32_t>(step_.tokens.size()), to.columns, [&](std::int32_t first, std::int32_t count) {
    round(to, first, count);
    for (std::int32_t r = first; codes && r < first + count; ++r)
      ops_.quantize(to.values + at(r, to.stride), to.columns, to.codes + at(r, to.stride), to.groups + at(r, to.group_stride));
  });
}

}  // namespace tokenworks::backend
