// What encoders and pooled texts need, kernel by kernel against arithmetic in double: odd sizes, one row, none, planted bugs.
#include <cmath>

#include "rows.hpp"

namespace tokenworks::emulator {

using namespace kernels::cuda;

namespace {

constexpr Element kElements[] = {Element::bf16, Element::f16, Element::fp8};

std::size_t at(std::int32_t row, std::int32_t columns) { return static_cast<std::size_t>(row) * static_cast<std::size_t>(columns); }

std::string off(const OutRows& out, std::int32_t rows, std::int32_t columns, const std::vector<double>& expected, double allowed) {
  for (std::int32_t r = 0; r < rows; ++r) {
    const auto begin = expected.begin() + static_cast<std::ptrdiff_t>(at(r, columns));
    const double e = out.error_of_row(r, {begin, begin + columns});
    if (!(e <= allowed)) return "row " + std::to_string(r) + " is off by " + std::to_string(e) + " roundings";
  }
  return {};
}

std::string check_positions(std::int32_t rows, std::int32_t columns) {
  EmulatedDevice device;
  const std::int32_t most = 9;
  const auto x = normal(at(rows, columns), 1), t = normal(at(most, columns), 2);
  std::vector<std::int32_t> places;
  for (std::int32_t r = 0; r < rows; ++r) places.push_back(r * 4 % most);
  const DeviceArray<float> hidden(device, x), table(device, t);
  const DeviceArray<std::int32_t> positions(device, places);
  device.ops().add_positions(device.stream(), {.table = table, .positions = positions, .rows = rows, .columns = columns, .hidden = hidden});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  for (std::int32_t r = 0; r < rows; ++r)
    for (std::int32_t c = 0; c < columns; ++c)
      if (hidden.get()[at(r, columns) + static_cast<std::size_t>(c)] !=
          x[at(r, columns) + static_cast<std::size_t>(c)] + t[at(places[static_cast<std::size_t>(r)], columns) + static_cast<std::size_t>(c)])
        return "row " + std::to_string(r) + " differs";
  return {};
}

std::string check_layer_norm(Element e, std::int32_t rows, std::int32_t columns, float size = 3) {
  EmulatedDevice device;
  auto x = normal(at(rows, columns), 1, size);
  for (float& v : x) v += size < 1 ? 0 : 5;          // a mean that matters
  const auto w = normal(static_cast<std::size_t>(columns), 2), b = normal(static_cast<std::size_t>(columns), 3);
  const DeviceArray<float> hidden(device, x), weight(device, w), bias(device, b);
  OutRows out(device, e, rows, columns);
  device.ops().layer_norm(device.stream(), {.hidden = hidden, .weight = weight, .bias = bias, .epsilon = 1e-5f, .rows = rows, .out = out.view()});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  std::vector<double> found;                         // what the residual became is what the next linear reads
  for (std::int32_t r = 0; r < rows; ++r) {
    const float* row = x.data() + at(r, columns);
    double mean = 0, variance = 0;
    for (std::int32_t c = 0; c < columns; ++c) mean += row[c];
    mean /= columns;
    for (std::int32_t c = 0; c < columns; ++c) variance += (row[c] - mean) * (row[c] - mean);
    const double factor = 1 / std::sqrt(variance / columns + 1e-5);
    for (std::int32_t c = 0; c < columns; ++c) {
      const double want = (row[c] - mean) * factor * w[static_cast<std::size_t>(c)] + b[static_cast<std::size_t>(c)];
      const double got = hidden.get()[at(r, columns) + static_cast<std::size_t>(c)];
      if (!(std::abs(got - want) <= 2e-5)) return "row " + std::to_string(r) + " became " + std::to_string(got) + ", not " + std::to_string(want);
      found.push_back(got);
    }
  }
  return off(out, rows, columns, found, 1.01);
}

std::string check_activate(Element e, std::int32_t kind, std::int32_t rows, std::int32_t columns) {
  EmulatedDevice device;
  const auto x = normal(at(rows, columns), 3, 2.0f);
  const DeviceArray<float> in(device, x);
  OutRows out(device, e, rows, columns);
  device.ops().activate(device.stream(), {.in = in, .kind = kind, .rows = rows, .out = out.view()});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  std::vector<double> expected;
  for (const double v : x)
    expected.push_back(kind == 0   ? 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)))
                       : kind == 1 ? 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)))
                       : kind == 2 ? std::max(v, 0.0)
                                   : v / (1 + std::exp(-v)));
  // The tails of gelu are differences of nearly equal numbers: exact to fp32's last place of x, not of the result.
  for (std::int32_t r = 0; r < rows; ++r)
    for (std::int32_t c = 0; c < columns; ++c) {
      const double want = expected[at(r, columns) + static_cast<std::size_t>(c)], s = out.scale(r);
      if (!(std::abs(out.value(r, c) - want) <= 1.05 * rounding(e, want / s) * s + 1e-6)) return "row " + std::to_string(r) + " differs";
    }
  return {};
}

struct Heads {
  std::int32_t q_heads, kv_heads, dim;
  float soft_cap = 0;
};

std::string check_attend_all(const Heads& h, const std::vector<std::int32_t>& lengths, std::int32_t padding, Element e) {
  EmulatedDevice device;
  const HeadShape shape{.q_heads = h.q_heads, .kv_heads = h.kv_heads, .head_dim = h.dim, .scale = 1.0f / std::sqrt(static_cast<float>(h.dim)), .soft_cap = h.soft_cap};
  std::vector<SequenceRows> list;
  std::vector<std::int32_t> belongs;
  std::int32_t rows = 0;
  for (const std::int32_t n : lengths) {
    belongs.insert(belongs.end(), static_cast<std::size_t>(n), static_cast<std::int32_t>(list.size()));
    list.push_back({rows, n, n, 0});
    rows += n;
  }
  for (std::int32_t i = 0; i < padding; ++i) {
    list.push_back({rows + i, 1, 0, 0});
    belongs.push_back(-1);
  }
  const std::int32_t all = rows + padding, stride = shape.row_stride(), columns = h.q_heads * h.dim;
  const auto x = normal(at(all, stride), 5);
  const DeviceArray<float> qkv(device, x);
  const DeviceArray<SequenceRows> sequences(device, list);
  const DeviceArray<std::int32_t> row_sequence(device, belongs);
  OutRows out(device, e, all, columns);
  std::memset(out.view().data, 0, at(all, out.view().stride) * 2);
  device.ops().attend_all(device.stream(), {.qkv = qkv, .shape = shape, .sequences = sequences, .row_sequence = row_sequence,
                                            .num_sequences = static_cast<std::int32_t>(list.size()), .rows = all, .out = out.view()});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  for (std::int32_t r = 0; r < all; ++r) {
    const SequenceRows q = belongs[static_cast<std::size_t>(r)] < 0 ? SequenceRows{0, 0, 0, 0} : list[static_cast<std::size_t>(belongs[static_cast<std::size_t>(r)])];
    for (std::int32_t head = 0; head < h.q_heads; ++head) {
      const std::int32_t kv = head / (h.q_heads / h.kv_heads);
      std::vector<double> weights;
      double sum = 0;
      for (std::int32_t t = 0; t < q.rows; ++t) {
        double dot = 0;
        for (std::int32_t d = 0; d < h.dim; ++d)
          dot += static_cast<double>(x[at(r, stride) + static_cast<std::size_t>(head * h.dim + d)]) * x[at(q.row + t, stride) + static_cast<std::size_t>((h.q_heads + kv) * h.dim + d)];
        dot *= shape.scale;
        if (h.soft_cap > 0) dot = h.soft_cap * std::tanh(dot / h.soft_cap);
        weights.push_back(std::exp(dot));
        sum += weights.back();
      }
      for (std::int32_t d = 0; d < h.dim; ++d) {
        double want = 0;
        for (std::int32_t t = 0; t < q.rows; ++t)
          want += weights[static_cast<std::size_t>(t)] / sum * x[at(q.row + t, stride) + static_cast<std::size_t>((h.q_heads + h.kv_heads + kv) * h.dim + d)];
        const double got = out.value(r, head * h.dim + d);
        if (!(std::abs(got - want) <= rounding(e, want) * 1.01 + 2e-5))
          return "row " + std::to_string(r) + " head " + std::to_string(head) + ": " + std::to_string(got) + ", not " + std::to_string(want);
      }
    }
  }
  return {};
}

std::string check_pool(std::int32_t count, std::int32_t texts, std::int32_t columns, bool norm, bool further) {
  EmulatedDevice device;
  const auto x = normal(at(count, columns), 4, 3.0f), w = normal(static_cast<std::size_t>(columns), 5), before = normal(at(texts, columns), 6);
  std::vector<std::int32_t> list;
  for (std::int32_t i = 0; i < count; ++i) list.push_back(i % 5 == 4 ? -1 : i * texts / std::max(count, 1));
  const DeviceArray<float> rows(device, x), weight(device, w);
  const DeviceArray<std::int32_t> into(device, list);
  const DeviceArray<float> factors(device, static_cast<std::size_t>(count)), sums(device, before);
  device.ops().pool(device.stream(), {.rows = rows, .norm = norm ? weight.get() : nullptr, .epsilon = 1e-5f, .into = into, .count = count,
                                      .columns = columns, .texts = texts, .further = further, .factors = factors, .sums = sums});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  std::vector<double> expected(at(texts, columns));
  for (std::size_t i = 0; further && i < expected.size(); ++i) expected[i] = before[i];
  for (std::int32_t i = 0; i < count; ++i) {
    if (list[static_cast<std::size_t>(i)] < 0) continue;
    const float* row = x.data() + at(i, columns);
    double squares = 0;
    for (std::int32_t c = 0; c < columns; ++c) squares += static_cast<double>(row[c]) * row[c];
    const double factor = norm ? 1 / std::sqrt(squares / columns + 1e-5) : 1;
    for (std::int32_t c = 0; c < columns; ++c)
      expected[at(list[static_cast<std::size_t>(i)], columns) + static_cast<std::size_t>(c)] += row[c] * factor * (norm ? w[static_cast<std::size_t>(c)] : 1.0f);
  }
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (!(std::abs(sums.get()[i] - expected[i]) <= 1e-5 * (10 + std::abs(expected[i])))) return "value " + std::to_string(i) + " differs";
  return {};
}

TEST(EmulatorEncode, PositionsNormsAndActivationsEqualDoubleArithmeticOverOddSizes) {
  for (const std::int32_t columns : {1, 31, 64, 65, 257, 384})
    for (const std::int32_t rows : {0, 1, 3}) {
      EXPECT_EQ(check_positions(rows, columns), "") << rows << " x " << columns;
      for (const Element e : kElements) {
        if (columns > 1) {
          EXPECT_EQ(check_layer_norm(e, rows, columns), "") << static_cast<int>(e) << ": " << rows << " x " << columns;
        }
        for (const std::int32_t kind : {0, 1, 2, 3}) EXPECT_EQ(check_activate(e, kind, rows, columns), "") << kind << " " << static_cast<int>(e) << ": " << rows << " x " << columns;
      }
    }
}

TEST(EmulatorEncode, EveryRowSeesItsWholeTextAndNoOther) {
  for (const Heads& h : {Heads{4, 4, 12}, Heads{2, 1, 32}, Heads{1, 1, 64}, Heads{2, 2, 80, 5.0f}, Heads{1, 1, 160}})
    for (const auto& lengths : std::vector<std::vector<std::int32_t>>{{}, {1}, {33}, {31, 1, 5, 40}, {3, 64, 2}})
      for (const std::int32_t padding : {0, 3})
        EXPECT_EQ(check_attend_all(h, lengths, lengths.empty() ? 0 : padding, padding > 0 ? Element::f16 : Element::bf16), "")
            << h.q_heads << "/" << h.kv_heads << " x " << h.dim << ", " << lengths.size() << " texts";
}

// Texts of the length encoders are made for, the widest rows, and many rows to add up.
TEST(EmulatorEncode, TheLongestTextsAndTheWidestRows) {
  EXPECT_EQ(check_attend_all({1, 1, 12}, {512, 3}, 0, Element::bf16), "");
  for (const Element e : kElements) {
    EXPECT_EQ(check_layer_norm(e, 1, 4096), "");
    EXPECT_EQ(check_activate(e, 0, 1, 16384), "");
  }
  EXPECT_EQ(check_layer_norm(Element::bf16, 2, 96, 0.003f), "") << "as small as the epsilon";
  EXPECT_EQ(check_positions(1, 4096), "");
  EXPECT_EQ(check_pool(1100, 2, 3, true, false), "");
}

TEST(EmulatorEncode, RowsAreAddedUpByText) {
  for (const bool norm : {false, true})
    for (const bool further : {false, true})
      for (const std::int32_t columns : {1, 96, 257})
        for (const std::int32_t count : {0, 1, 9, 40}) EXPECT_EQ(check_pool(count, 3, columns, norm, further), "") << count << " x " << columns;
}

TEST(EmulatorEncode, PlantedBugsAreFound) {
  const struct {
    int number;
    const char* what;
    std::string (*check)();
  } bugs[] = {
      {26, "every thread writes the row's factor", [] { return check_pool(4, 2, 96, true, false); }},
      {27, "what was added before is forgotten", [] { return check_pool(4, 2, 96, false, true); }},
      {28, "rows of the texts before count as well", [] { return check_pool(12, 3, 96, false, false); }},
      {29, "positions of one column too many", [] { return check_positions(2, 65); }},
      {30, "a variance that is not the mean's", [] { return check_layer_norm(Element::bf16, 2, 96); }},
      {31, "one column too many is activated", [] { return check_activate(Element::bf16, 0, 1, 65); }},
      {32, "no barrier before a tile is written over", [] { return check_attend_all({1, 1, 16}, {70}, 0, Element::bf16); }},
      {33, "rows see the texts beside them", [] { return check_attend_all({1, 1, 16}, {9, 12}, 0, Element::bf16); }},
      {34, "a sum is not rescaled to the new maximum", [] { return check_attend_all({1, 1, 16}, {70}, 0, Element::bf16); }},
  };
  for (const auto& bug : bugs) {
    EXPECT_EQ(bug.check(), "") << bug.what;
    for (const std::uint64_t seed : {1, 2, 3}) {
      const Planted planted(bug.number, seed);
      const std::string words = bug.check();
      EXPECT_NE(words, "") << bug.what << ", order " << seed;
      if (seed == 1) std::printf("[ planted %3d ] %s: %s\n", bug.number, bug.what, words.c_str());
    }
  }
}

}  // namespace
}  // namespace tokenworks::emulator
