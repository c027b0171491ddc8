// Plain paged attention against softmax in double: ragged batches, windows, soft cap, head layouts, cache elements.
#include <cmath>

#include "checks.hpp"

namespace tokenworks::emulator {

using namespace kernels::cuda;

std::string check_attend_plain(const AttendCase& c) {
  EmulatedDevice device;
  const auto dim = static_cast<std::size_t>(c.head_dim), kv_heads = static_cast<std::size_t>(c.kv_heads);
  std::int32_t rows = 0, blocks = 0;
  std::vector<kernels::cuda::SequenceRows> sequences;
  std::vector<std::int32_t> row_sequence, tables;
  for (const auto& [n, context] : c.sequences) {
    sequences.push_back({rows, n, context, static_cast<std::int32_t>(tables.size())});
    for (std::int32_t i = 0; i < n; ++i) row_sequence.push_back(static_cast<std::int32_t>(sequences.size()) - 1);
    rows += n;
    for (std::int32_t b = 0; b < (context + 15) / 16; ++b) tables.push_back(blocks++);
  }
  for (std::int32_t i = 0; i < c.padding_rows; ++i) row_sequence.push_back(-1);
  rows += c.padding_rows;
  std::reverse(tables.begin(), tables.end());        // blocks lie in any order
  const HeadShape shape{c.q_heads, c.kv_heads, c.head_dim, 1 / std::sqrt(static_cast<float>(c.head_dim)), c.window, c.soft_cap};
  const auto stride = static_cast<std::size_t>(shape.row_stride());
  const auto x = normal(static_cast<std::size_t>(rows) * stride, 1);
  const std::size_t size = bytes_of(c.kv), wide = static_cast<std::size_t>(kv_stride(c.head_dim)), per_half = kv_heads * 16 * wide, per_block = 2 * per_half;
  std::vector<unsigned char> bytes(static_cast<std::size_t>(blocks) * per_block * size);
  std::vector<double> values(bytes.size() / size);
  const auto raw = normal(values.size(), 2);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint32_t bits = encode(c.kv, raw[i]);
    std::memcpy(&bytes[i * size], &bits, size);
    values[i] = decode(c.kv, bits);
  }
  const DeviceArray<float> qkv(device, x, "qkv");
  DeviceArray<unsigned char> cache(device, bytes, "cache");
  const DeviceArray<kernels::cuda::SequenceRows> s(device, sequences, "sequences");
  const DeviceArray<std::int32_t> t(device, tables, "tables"), rs(device, row_sequence, "row sequences");
  const std::int32_t columns = c.q_heads * c.head_dim;
  OutRows out(device, c.out, rows, columns);
  AttendArgs args;
  args.qkv = qkv;
  args.shape = shape;
  args.kv = {reinterpret_cast<std::byte*>(cache.get()), per_block * size, per_half * size, c.kv, c.k_scale, c.v_scale};
  args.sequences = s;
  args.tables = t;
  args.row_sequence = rs;
  args.num_sequences = static_cast<std::int32_t>(sequences.size());
  args.rows = rows;
  args.out = out.view();
  device.ops().attend_plain(device.stream(), args);
  if (auto fault = run_all(device); !fault.empty()) return fault;

  for (std::int32_t r = 0; r < rows; ++r)
    for (std::int32_t h = 0; h < c.q_heads; ++h) {
      std::vector<double> o(dim, 0.0);
      const std::int32_t number = row_sequence[static_cast<std::size_t>(r)];
      if (number >= 0) {
        const auto& q = sequences[static_cast<std::size_t>(number)];
        const std::int32_t position = q.context - q.rows + r - q.row, kv_head = h / (c.q_heads / c.kv_heads);
        const auto element = [&](std::int32_t p, bool value, std::size_t d) {
          const auto block = static_cast<std::size_t>(tables[static_cast<std::size_t>(q.table + p / 16)]);
          return values[block * per_block + (value ? per_half : 0) + (static_cast<std::size_t>(kv_head) * 16 + static_cast<std::size_t>(p % 16)) * wide + d];
        };
        std::vector<double> scores;
        double highest = -INFINITY, total = 0;
        const std::int32_t from = c.window > 0 ? std::max(0, position - c.window + 1) : 0;
        for (std::int32_t p = from; p <= position; ++p) {
          double dot = 0;
          for (std::size_t d = 0; d < dim; ++d) dot += x[static_cast<std::size_t>(r) * stride + static_cast<std::size_t>(h) * dim + d] * element(p, false, d);
          dot *= shape.scale * c.k_scale;
          if (c.soft_cap > 0) dot = c.soft_cap * std::tanh(dot / c.soft_cap);
          scores.push_back(dot);
          highest = std::max(highest, dot);
        }
        for (double& v : scores) total += v = std::exp(v - highest);
        for (std::int32_t p = from; p <= position; ++p)
          for (std::size_t d = 0; d < dim; ++d) o[d] += scores[static_cast<std::size_t>(p - from)] / total * element(p, true, d) * c.v_scale;
      }
      for (std::size_t d = 0; d < dim; ++d) {
        const double got = out.value(r, h * c.head_dim + static_cast<std::int32_t>(d));
        if (!(std::abs(got - o[d]) <= 1.01 * rounding(c.out, o[d]) + 3e-6))
          return "row " + std::to_string(r) + " head " + std::to_string(h) + " is wrong: " + std::to_string(got) + ", not " + std::to_string(o[d]);
      }
    }
  return {};
}

namespace {

TEST(EmulatorAttendPlain, EqualsSoftmaxInDouble) {
  for (const auto& [q, kv, dim] : {std::tuple{1, 1, 8}, {4, 2, 16}, {6, 3, 20}, {9, 3, 64}, {8, 1, 256}})
    for (const Element e : {Element::bf16, Element::f16, Element::fp8}) {
      AttendCase c{.q_heads = q, .kv_heads = kv, .head_dim = dim, .sequences = {{1, 1}, {1, 33}, {3, 3}, {5, 40}, {1, 16}}, .kv = e,
                   .out = e == Element::f16 ? Element::f16 : Element::bf16};
      EXPECT_EQ(check_attend_plain(c), "") << q << " " << kv << " " << dim;
      c.padding_rows = 2;
      c.window = 7;
      c.soft_cap = 2.5f;
      EXPECT_EQ(check_attend_plain(c), "") << q << " " << kv << " " << dim << " with window and soft cap";
    }
}

TEST(EmulatorAttendPlain, EmptyBatchesLongContextsAndEveryOutput) {
  EXPECT_EQ(check_attend_plain({.sequences = {}}), "");
  EXPECT_EQ(check_attend_plain({.sequences = {}, .padding_rows = 3}), "");
  EXPECT_EQ(check_attend_plain({.q_heads = 1, .kv_heads = 1, .head_dim = 8, .sequences = {{1, 20000}}}), "");
  for (const Element kv : {Element::bf16, Element::f16, Element::fp8})
    for (const Element out : {Element::bf16, Element::f16})
      EXPECT_EQ(check_attend_plain({.sequences = {{2, 37}}, .kv = kv, .out = out, .k_scale = 0.5f, .v_scale = 0.25f}), "");
}

}  // namespace
}  // namespace tokenworks::emulator
