#include "backend/cpu/cpu_backend.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>

namespace tokenworks::backend {

using kernels::Range;
using kernels::Rows;

namespace {

CpuBuffer& cpu(Buffer& b) { return static_cast<CpuBuffer&>(b); }
const CpuBuffer& cpu(const Buffer& b) { return static_cast<const CpuBuffer&>(b); }
const CpuWeight& cpu(const Weight& w) { return static_cast<const CpuWeight&>(w); }

std::size_t at(std::int32_t row, std::int32_t columns) {
  return static_cast<std::size_t>(row) * static_cast<std::size_t>(columns);
}

constexpr std::int32_t kLookAheadRows = 2;           // of a sequence; more find a block in the cache after the first of them

// How the panels of a matrix are cut into jobs. A thread should read a long stretch: the kernel asks memory
// ahead of itself for the next panel, which is lost when that is another thread's. So each thread gets one long run, and
// what is left goes in short ones to whoever comes first.
struct Runs {
  std::int32_t panels, longs = 0, length = 0, shorts, count;

  Runs(std::int32_t all, std::int32_t threads) : panels(all) {
    if (threads > 1 && all >= 4 * threads) {
      longs = threads;
      length = all * 3 / 4 / threads;
    }
    shorts = std::max(1, all / (threads * 16));
    count = longs + (all - longs * length + shorts - 1) / shorts;
  }
  Range operator[](std::int32_t job) const {
    if (job < longs) return {job * length, length};
    const std::int32_t first = longs * length + (job - longs) * shorts;
    return {first, std::min(shorts, panels - first)};
  }
};

}  // namespace

CpuBackend::CpuBackend(kernels::CpuPath path, bool exact, int threads)
    : ops_(kernels::ops(path)), exact_(exact), pool_(threads), scratch_(static_cast<std::size_t>(threads)),
      samplers_(static_cast<std::size_t>(threads), kernels::Sampler(ops_)) {
  info_.name = "cpu";
  info_.path = exact ? "exact" : ops_.name;
  info_.device = kernels::processor_name();
  info_.numerics = fmt::format("cpu/{}/{}/1", ops_.name, exact ? "fp32" : "g32");
}

CpuBackend::CpuBackend(kernels::CpuPath path, const Rounding& rounding, const std::string& scheme, int threads)
    : CpuBackend(path, true, threads) {
  rounding_ = rounding;
  info_.numerics += "/" + scheme;
}

void CpuBackend::round(const Rows& rows, std::int32_t first, std::int32_t count) const {
  if (!rounding_) return;
  for (std::int32_t r = first; r < first + count; ++r) rounding_->apply(rows.values + at(r, rows.stride), rows.columns);
}

void CpuBackend::reserve_scratch(std::size_t floats) {
  for (Pages& pages : scratch_) {
    if (pages.bytes() >= floats * sizeof(float)) continue;
    auto larger = Pages::allocate(floats * sizeof(float), "a thread's scratch");
    if (!larger) throw ErrorException(larger.error());   // at load; the first step at the latest
    pages = std::move(*larger);
  }
}

Rows& CpuBackend::shape(Activations& out, std::int32_t columns) {
  // Before any linear exists nothing is known about the readers: both forms, so that an op alone can be tested.
  const bool unknown = !reads_values_ && !reads_codes_;
  return static_cast<CpuActivations&>(out).shape(columns, exact_ || reads_values_ || unknown,
                                                 !exact_ && (reads_codes_ || unknown));
}

void CpuBackend::begin_step(const StepRows& rows) {
  step_ = rows;
  planned_group_ = 0;
  later_ = {};
  later_blocks_.clear();
  for (const SequenceRows& s : rows.sequences) {
    if (s.rows > kLookAheadRows) continue;
    const auto table = rows.block_tables.begin() + s.table;
    later_blocks_.insert(later_blocks_.end(), table, table + (s.context + kBlockTokens - 1) / kBlockTokens);
  }
  row_block_.resize(rows.tokens.size());
  for (const SequenceRows& s : rows.sequences) {
    for (std::int32_t i = 0; i < s.rows; ++i) {
      const std::int32_t position = s.context - s.rows + i;
      assert(rows.positions[static_cast<std::size_t>(s.row + i)] == position);
      row_block_[static_cast<std::size_t>(s.row + i)] =
          rows.block_tables[static_cast<std::size_t>(s.table + position / kBlockTokens)];
    }
  }
}

void CpuBackend::embed(const Weight& table, Buffer& hidden) {
  const Matrix& m = *cpu(table).matrix;
  const kernels::Panels& panels = m.segments[0].panels;
  float* out = cpu(hidden).floats();
  pool_.run_ranges(static_cast<std::int32_t>(step_.tokens.size()), m.columns,
                   [&](std::int32_t first, std::int32_t count) {
                     for (std::int32_t r = first; r < first + count; ++r)
                       ops_.embed(panels, step_.tokens[static_cast<std::size_t>(r)], out + at(r, m.columns));
                   });
}

void CpuBackend::norm(const Buffer& hidden, const Weight& weight, float epsilon, std::int32_t rows,
                      std::int32_t columns, Activations& out) {
  const Rows& to = shape(out, columns);
  pool_.run_ranges(rows, columns / 4, [&](std::int32_t first, std::int32_t count) {
    ops_.norm(cpu(hidden).floats(), cpu(weight).vector.data(), epsilon, columns, {first, count}, to);
    round(to, first, count);
  });
}

// The part of later_ that a job may ask for, in proportion to its part of a layer's work.
kernels::Later CpuBackend::later_share(Range panels, std::int32_t columns, std::int32_t slice, std::int32_t slices) const {
  kernels::Later share = later_;
  if (layer_work_ == 0 || later_.end == 0) return {};
  const std::int64_t from = layer_done_ + std::int64_t{panels.first} * columns, work = std::int64_t{panels.count} * columns;
  const auto line = [&](std::int64_t done) { return later_.end * std::min(done, layer_work_) / layer_work_; };
  share.first = line(from + work * slice / slices);
  share.end = line(from + work * (slice + 1) / slices);
  return share;
}

void CpuBackend::linear(const Activations& in, const Weight& weight, std::int32_t rows, Buffer& out, bool accumulate) {
  const Matrix& m = *cpu(weight).matrix;
  const Rows& x = static_cast<const CpuActivations&>(in).rows();
  assert(x.columns == m.columns);
  for (const Matrix::Segment& segment : m.segments) {
    const kernels::Panels& w = segment.panels;
    const bool exactly = exact_ || kernels::is_float(w.kind);
    float* to = cpu(out).floats() + segment.column;
    const std::int32_t panels = (w.rows + kernels::kPanelRows - 1) / kernels::kPanelRows;
    // A job is a run of panels for all rows; rows are split as well when there are few panels for the threads.
    const Runs runs(panels, pool_.threads());
    const std::int32_t slices =
        std::clamp((pool_.threads() * 4 + runs.count - 1) / runs.count, 1, std::max(1, rows / 48));
    pool_.run(runs.count * slices, [&](std::int32_t job, int thread) {
      const std::int32_t slice = job % slices;
      const Range columns = runs[job / slices];
      const auto row = static_cast<std::int32_t>(std::int64_t{rows} * slice / slices);
      const Range range{row, static_cast<std::int32_t>(std::int64_t{rows} * (slice + 1) / slices) - row};
      if (exactly)
        ops_.linear_float(w, columns, x, range, to, m.rows, accumulate, scratch(thread));
      else
        ops_.linear(w, columns, x, range, to, m.rows, accumulate, later_share(columns, m.columns, slice, slices));
    });
    layer_done_ += std::int64_t{panels} * m.columns;
  }
}

void CpuBackend::gate(const Buffer& gate_up, GateKind kind, std::int32_t rows, std::int32_t columns, Activations& out) {
  const Rows& to = shape(out, columns);
  pool_.run_ranges(rows, columns / 2, [&](std::int32_t first, std::int32_t count) {
    ops_.gate(cpu(gate_up).floats(), kind == GateKind::gelu_tanh, columns, {first, count}, to);
    round(to, first, count);
  });
}

void CpuBackend::gather(const Buffer& from, std::span<const std::int32_t> rows, std::int32_t columns, Buffer& to) {
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::memmove(cpu(to).floats() + i * static_cast<std::size_t>(columns), cpu(from).floats() + at(rows[i], columns),
                 static_cast<std::size_t>(columns) * sizeof(float));
}

Result<> CpuBackend::sample(const Buffer& logits, std::int32_t vocab, std::span<const SampleRow> rows,
                            std::span<Sampled> out) {
  assert(rows.size() == out.size());
  pool_.run(static_cast<std::int32_t>(rows.size()), [&](std::int32_t i, int thread) {
    const auto row = static_cast<std::size_t>(i);
    out[row] = samplers_[static_cast<std::size_t>(thread)].sample(
        {cpu(logits).floats() + at(i, vocab), static_cast<std::size_t>(vocab)}, rows[row]);
  });
  verify_drafts(rows, out);
  return {};
}

}  // namespace tokenworks::backend
