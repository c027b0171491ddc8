// Memory and weights of CpuBackend: everything that is made once, at load. Packing runs on all compute threads.
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "backend/cpu/cpu_backend.hpp"
#include "backend/cpu/pack.hpp"
#include "backend/tensor_checks.hpp"

namespace tokenworks::backend {

using formats::TensorType;
using formats::TensorView;
using kernels::kPanelRows;

namespace {

// Which row of which part stands at each row of a segment.
struct Layout {
  PanelForm form;
  std::int32_t column = 0;                           // of the output
  std::vector<RowSource> rows;
  std::vector<float> bias;                           // empty, or one per row
};

void add_row(Layout& layout, const TensorView& part, const std::vector<float>* bias, std::int64_t row) {
  layout.rows.push_back({part.type, part.bytes.data() + static_cast<std::size_t>(row) * row_bytes(part)});
  if (bias != nullptr) layout.bias.push_back((*bias)[static_cast<std::size_t>(row)]);
}

std::vector<Layout> lay_out(const Backend::LinearParts& parts, const std::vector<std::vector<float>>& bias) {
  const auto bias_of = [&](std::size_t p) { return bias.empty() ? nullptr : &bias[p]; };
  std::vector<Layout> layouts;
  if (parts.interleave) {
    const TensorType types[] = {parts.parts[0].type, parts.parts[1].type};
    layouts.push_back({common_form(types), 0, {}, {}});
    for (std::int64_t r = 0; r < parts.parts[0].rows(); ++r)
      for (std::size_t p = 0; p < 2; ++p) add_row(layouts[0], parts.parts[p], bias_of(p), r);
    return layouts;
  }
  std::int32_t column = 0;
  for (std::size_t p = 0; p < parts.parts.size(); ++p) {
    const TensorView& part = parts.parts[p];
    if (p == 0 || part.type != parts.parts[p - 1].type) layouts.push_back({form_of(part.type), column, {}, {}});
    for (std::int64_t r = 0; r < part.rows(); ++r) add_row(layouts.back(), part, bias_of(p), r);
    column += static_cast<std::int32_t>(part.rows());
  }
  return layouts;
}

}  // namespace

Result<std::unique_ptr<Buffer>> CpuBackend::allocate(std::size_t bytes) {
  auto pages = Pages::allocate(bytes, "a buffer");
  if (!pages) return pages.error();
  return std::unique_ptr<Buffer>(std::make_unique<CpuBuffer>(std::move(*pages)));
}

void CpuBackend::upload(Buffer& to, std::size_t offset, std::span<const std::byte> from) {
  assert(offset + from.size() <= to.bytes());
  if (!from.empty()) std::memcpy(static_cast<CpuBuffer&>(to).data() + offset, from.data(), from.size());
}

void CpuBackend::download(const Buffer& from, std::size_t offset, std::span<std::byte> to) {
  assert(offset + to.size() <= from.bytes());
  if (!to.empty()) std::memcpy(to.data(), static_cast<const CpuBuffer&>(from).data() + offset, to.size());
}

Result<std::unique_ptr<Activations>> CpuBackend::make_activations(std::int32_t rows_max, std::int32_t columns_max) {
  assert(rows_max > 0 && columns_max > 0);
  auto pages = Pages::allocate(CpuActivations::bytes_for(rows_max, columns_max), "activations");
  if (!pages) return pages.error();
  return std::unique_ptr<Activations>(std::make_unique<CpuActivations>(std::move(*pages), rows_max, columns_max));
}

Result<std::unique_ptr<KvCache>> CpuBackend::make_kv_cache(const KvShape& shape, std::int32_t blocks) {
  assert(blocks > 0 && shape.layers > 0 && shape.kv_heads > 0 && shape.head_dim > 0);
  const std::size_t block_bytes = kv_block_bytes(shape);
  // Vectors may read a little past the last head.
  auto pages = Pages::allocate(block_bytes * static_cast<std::size_t>(blocks) + 256, "the KV cache");
  if (!pages) return pages.error();
  return std::unique_ptr<KvCache>(std::make_unique<CpuKvCache>(std::move(*pages), shape, blocks, block_bytes, exact_));
}

void CpuBackend::zero_blocks(KvCache& cache, std::span<const std::int32_t> blocks) {
  auto& c = static_cast<CpuKvCache&>(cache);
  for (const std::int32_t b : blocks) std::memset(c.block(b), 0, c.block_bytes());
}

Result<std::shared_ptr<const Matrix>> CpuBackend::pack(const LinearParts& parts) {
  if (auto ok = check_parts(parts); !ok) return ok.error();
  std::vector<std::vector<float>> bias;
  for (const TensorView& b : parts.bias) {
    auto values = as_floats(b);
    if (!values) return values.error();
    bias.push_back(std::move(*values));
  }
  const std::vector<Layout> layouts = lay_out(parts, bias);
  auto matrix = std::make_shared<Matrix>();
  matrix->columns = static_cast<std::int32_t>(parts.parts[0].columns());
  std::size_t bytes = 0, bias_floats = 0;
  std::vector<std::int32_t> first_panel;
  std::int32_t panels = 0;
  for (const Layout& layout : layouts) {
    const auto rows = static_cast<std::int32_t>(layout.rows.size()), count = (rows + kPanelRows - 1) / kPanelRows;
    first_panel.push_back(panels);
    panels += count;
    matrix->rows += rows;
    bytes += static_cast<std::size_t>(count) * panel_bytes(layout.form, matrix->columns);
    bytes = (bytes + 63) / 64 * 64;
    bias_floats += layout.bias.empty() ? 0 : static_cast<std::size_t>(count) * kPanelRows;
  }
  auto pages = Pages::allocate(bytes + 64, parts.parts[0].name.c_str());
  if (!pages) return pages.error();
  matrix->pages = std::move(*pages);
  matrix->bias.resize(bias_floats);

  std::byte* at = matrix->pages.data();
  float* bias_at = matrix->bias.data();
  for (const Layout& layout : layouts) {
    const auto rows = static_cast<std::int32_t>(layout.rows.size()), count = (rows + kPanelRows - 1) / kPanelRows;
    const std::size_t stride = panel_bytes(layout.form, matrix->columns);
    pool_.run(count, [&](std::int32_t p, int) {
      const auto first = static_cast<std::size_t>(p) * kPanelRows;
      const std::span<const RowSource> of_panel(layout.rows.data() + first,
                                                std::min<std::size_t>(kPanelRows, layout.rows.size() - first));
      pack_panel(layout.form, of_panel, matrix->columns, at + static_cast<std::size_t>(p) * stride);
    });
    Matrix::Segment segment;
    segment.panels = {layout.form.kind, layout.form.zero_shift, rows, matrix->columns, stride, at, nullptr};
    segment.column = layout.column;
    if (!layout.bias.empty()) {
      std::copy(layout.bias.begin(), layout.bias.end(), bias_at);
      segment.panels.bias = bias_at;
      bias_at += static_cast<std::size_t>(count) * kPanelRows;
    }
    matrix->segments.push_back(segment);
    at += (static_cast<std::size_t>(count) * stride + 63) / 64 * 64;
  }
  return std::shared_ptr<const Matrix>(std::move(matrix));
}

Result<std::unique_ptr<Weight>> CpuBackend::make_linear(const LinearParts& parts) {
  auto weight = std::make_unique<CpuWeight>();
  const bool shareable = parts.parts.size() == 1 && parts.bias.empty() && !parts.interleave;
  const std::string key = shareable ? identity(parts.parts[0]) : "";
  if (shareable)
    if (const auto found = packed_.find(key); found != packed_.end()) weight->matrix = found->second.lock();
  weight->shares = weight->matrix != nullptr;
  if (!weight->matrix) {
    auto matrix = pack(parts);
    if (!matrix) return matrix.error();
    weight->matrix = std::move(*matrix);
    if (shareable) packed_[key] = weight->matrix;
  }
  for (const Matrix::Segment& s : weight->matrix->segments)
    (kernels::is_float(s.panels.kind) ? reads_values_ : reads_codes_) = true;
  reserve_scratch(static_cast<std::size_t>(weight->matrix->columns) * kPanelRows);
  return std::unique_ptr<Weight>(std::move(weight));
}

Result<std::unique_ptr<Weight>> CpuBackend::make_table(const TensorView& rows) {
  auto weight = std::make_unique<CpuWeight>();
  const std::string key = identity(rows);
  if (const auto found = packed_.find(key); found != packed_.end()) weight->matrix = found->second.lock();
  weight->shares = weight->matrix != nullptr;
  if (!weight->matrix) {
    LinearParts parts;
    parts.parts.push_back(rows);
    auto matrix = pack(parts);
    if (!matrix) return matrix.error();
    weight->matrix = std::move(*matrix);
    packed_[key] = weight->matrix;
  }
  return std::unique_ptr<Weight>(std::move(weight));
}

Result<std::unique_ptr<Weight>> CpuBackend::make_vector(const TensorView& vector) {
  auto values = as_floats(vector);
  if (!values) return values.error();
  auto weight = std::make_unique<CpuWeight>();
  weight->vector = std::move(*values);
  return std::unique_ptr<Weight>(std::move(weight));
}

Result<std::unique_ptr<Weight>> CpuBackend::make_rope(const RopeSpec& rope, std::int32_t positions_max) {
  assert(rope.dims % 2 == 0 && static_cast<std::size_t>(rope.dims / 2) == rope.inverse_frequency.size());
  auto weight = std::make_unique<CpuWeight>();
  const std::int32_t half = rope.dims / 2;
  weight->vector.resize(static_cast<std::size_t>(positions_max) * static_cast<std::size_t>(rope.dims));
  pool_.run((positions_max + 255) / 256, [&](std::int32_t job, int) {
    for (std::int32_t p = job * 256; p < std::min(positions_max, job * 256 + 256); ++p) {
      float* row = weight->vector.data() + static_cast<std::size_t>(p) * static_cast<std::size_t>(rope.dims);
      for (std::int32_t i = 0; i < half; ++i) {
        // The angle is rounded to fp32 as the models' own code does; its functions are computed in double.
        const float angle = static_cast<float>(p) * rope.inverse_frequency[static_cast<std::size_t>(i)];
        row[i] = static_cast<float>(std::cos(static_cast<double>(angle))) * rope.magnitude;
        row[half + i] = static_cast<float>(std::sin(static_cast<double>(angle))) * rope.magnitude;
      }
    }
  });
  weight->rope = {weight->vector.data(), rope.dims, rope.interleaved};
  return std::unique_ptr<Weight>(std::move(weight));
}

}  // namespace tokenworks::backend
