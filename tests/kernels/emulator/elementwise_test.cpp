// Norm, gate, quantisation and the movers of rows against arithmetic in double, over odd sizes, one row, none.
#include <cmath>

#include "checks.hpp"

namespace tokenworks::emulator {

using namespace kernels::cuda;

namespace {

std::string worst_of(const OutRows& out, std::int32_t rows, std::int32_t columns, const std::vector<double>& expected,
                     double allowed) {
  for (std::int32_t r = 0; r < rows; ++r) {
    const auto begin = expected.begin() + static_cast<std::ptrdiff_t>(r) * columns;
    const double e = out.error_of_row(r, {begin, begin + columns});
    if (!(e <= allowed)) return "row " + std::to_string(r) + " is off by " + std::to_string(e) + " roundings";
  }
  return {};
}

std::size_t at(std::int32_t row, std::int32_t columns) { return static_cast<std::size_t>(row) * static_cast<std::size_t>(columns); }

}  // namespace

std::string check_norm(Element e, std::int32_t rows, std::int32_t columns, float size) {
  EmulatedDevice device;
  const auto x = normal(at(rows, columns), 1, size), w = normal(static_cast<std::size_t>(columns), 2);
  const DeviceArray<float> hidden(device, x, "hidden"), weight(device, w, "weight");
  OutRows out(device, e, rows, columns);
  device.ops().norm(device.stream(), {.hidden = hidden, .weight = weight, .epsilon = 1e-5f, .rows = rows, .out = out.view()});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  std::vector<double> expected;
  for (std::int32_t r = 0; r < rows; ++r) {
    double squares = 0;
    const float* row = x.data() + at(r, columns);
    for (std::int32_t c = 0; c < columns; ++c) squares += static_cast<double>(row[c]) * row[c];
    const double factor = 1 / std::sqrt(squares / columns + 1e-5);
    for (std::int32_t c = 0; c < columns; ++c) expected.push_back(row[c] * factor * w[static_cast<std::size_t>(c)]);
  }
  return worst_of(out, rows, columns, expected, 1.01);
}

std::string check_gate(Element e, bool gelu, std::int32_t rows, std::int32_t columns) {
  EmulatedDevice device;
  const auto x = normal(2 * at(rows, columns), 3, 2.0f);
  const DeviceArray<float> in(device, x, "gate and up");
  OutRows out(device, e, rows, columns);
  device.ops().gate(device.stream(), {.gate_up = in, .gelu = gelu, .rows = rows, .out = out.view()});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  std::vector<double> expected;
  for (std::size_t i = 0; i < x.size(); i += 2) {
    const double g = x[i];
    const double act = gelu ? 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))) : g / (1 + std::exp(-g));
    expected.push_back(act * x[i + 1]);
  }
  return worst_of(out, rows, columns, expected, 1.05);
}

std::string check_quantize(Element from, std::int32_t rows, std::int32_t columns) {
  EmulatedDevice device;
  const InRows in(device, from, normal(at(rows, columns), 4, 5.0f), rows, columns);
  OutRows out(device, Element::fp8, rows, columns);
  device.ops().quantize(device.stream(), {.in = in.view(), .out = out.view(), .rows = rows});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  return worst_of(out, rows, columns, in.values(), 1.01);
}

std::string check_embed(Element e, std::int32_t rows, std::int32_t columns) {
  EmulatedDevice device;
  const std::int32_t vocab = 19;
  const InRows table(device, e, normal(at(vocab, columns), 5), vocab, columns);
  std::vector<std::int32_t> tokens;
  for (std::int32_t r = 0; r < rows; ++r) tokens.push_back(r == 1 ? -1 : r == 2 ? vocab : r * 7 % vocab);   // padding; unknown
  const DeviceArray<std::int32_t> ids(device, tokens, "tokens");
  DeviceArray<float> out(device, at(rows, columns), "hidden");
  device.ops().embed(device.stream(), {.table = table.view().data, .element = e, .scales = table.view().scales, .tokens = ids,
                                       .rows = rows, .columns = columns, .stride = table.view().stride, .vocab = vocab, .out = out});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  for (std::int32_t r = 0; r < rows; ++r)
    for (std::int32_t c = 0; c < columns; ++c) {
      const std::int32_t t = tokens[static_cast<std::size_t>(r)];
      const double expected = t < 0 || t >= vocab ? 0 : table.values()[at(t, columns) + static_cast<std::size_t>(c)];
      const float got = out.get()[at(r, columns) + static_cast<std::size_t>(c)];
      if (!(std::abs(got - expected) <= std::abs(expected) * 0x1p-23)) return "row " + std::to_string(r) + " differs";
    }
  return {};
}

std::string check_gather(std::int32_t count, std::int32_t columns) {
  EmulatedDevice device;
  const std::int32_t from_rows = 9;
  const auto x = normal(at(from_rows, columns), 6);
  std::vector<std::int32_t> rows;
  for (std::int32_t i = 0; i < count; ++i) rows.push_back(i * 5 % from_rows);
  const DeviceArray<float> from(device, x, "from");
  const DeviceArray<std::int32_t> list(device, rows, "row list");
  DeviceArray<float> to(device, at(count, columns), "to");
  device.ops().gather(device.stream(), {.from = from, .rows = list, .count = count, .columns = columns, .to = to});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  for (std::int32_t i = 0; i < count; ++i)
    if (std::memcmp(to.get() + at(i, columns), x.data() + at(rows[static_cast<std::size_t>(i)], columns), static_cast<std::size_t>(columns) * 4) != 0)
      return "row " + std::to_string(i) + " differs";
  return {};
}

std::string check_scatter(std::int32_t count) {
  EmulatedDevice device;
  std::vector<std::int32_t> words(1000), list;
  for (std::int32_t i = 0; i < 1000; ++i) words[static_cast<std::size_t>(i)] = i;
  std::vector<std::int32_t> expected = words;
  for (std::int32_t i = 0; i < count; ++i) {
    list.push_back(i * 7 % 1000);
    list.push_back(-5 - i);
    expected[static_cast<std::size_t>(i * 7 % 1000)] = -5 - i;
  }
  const DeviceArray<std::int32_t> pairs(device, list, "pairs");
  DeviceArray<std::int32_t> to(device, words, "words");
  device.ops().scatter(device.stream(), {.pairs = pairs, .count = count, .words = to});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  return to.values() == expected ? "" : "words differ";
}

std::string check_zero_blocks(std::size_t block_bytes, std::int32_t blocks) {
  EmulatedDevice device;
  const std::int32_t all = 7;
  DeviceArray<unsigned char> cache(device, std::vector<unsigned char>(block_bytes * all, 0x5A), "cache");
  std::vector<std::int32_t> list;
  for (std::int32_t i = 0; i < blocks; ++i) list.push_back(i * 2 % all);
  const DeviceArray<std::int32_t> ids(device, list, "blocks");
  device.ops().zero_blocks(device.stream(), {.cache = reinterpret_cast<std::byte*>(cache.get()), .block_bytes = block_bytes,
                                             .blocks = ids, .count = blocks});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  for (std::size_t i = 0; i < cache.size(); ++i) {
    const auto block = static_cast<std::int32_t>(i / block_bytes);
    const bool zeroed = std::find(list.begin(), list.end(), block) != list.end();
    if (cache.get()[i] != (zeroed ? 0 : 0x5A)) return "byte " + std::to_string(i) + " of the cache is wrong";
  }
  return {};
}

namespace {

constexpr Element kElements[] = {Element::bf16, Element::f16, Element::fp8};
constexpr std::int32_t kColumns[] = {1, 2, 31, 33, 64, 96, 255, 257, 576};

TEST(EmulatorNorm, EqualsDoubleArithmeticWithinOneRoundingOverOddSizes) {
  for (const Element e : kElements)
    for (const std::int32_t columns : kColumns)
      for (const std::int32_t rows : {0, 1, 3})
        EXPECT_EQ(check_norm(e, rows, columns), "") << static_cast<int>(e) << ": " << rows << " x " << columns;
}

TEST(EmulatorNorm, OfRowsAsSmallAsItsEpsilon) {
  for (const Element e : kElements) EXPECT_EQ(check_norm(e, 2, 96, 0.003f), "");
}

TEST(EmulatorGate, EqualsDoubleArithmeticWithinOneRoundingOverOddSizes) {
  for (const Element e : kElements)
    for (const std::int32_t columns : kColumns)
      for (const std::int32_t rows : {0, 1, 3})
        for (const bool gelu : {false, true})
          EXPECT_EQ(check_gate(e, gelu, rows, columns), "") << static_cast<int>(e) << ": " << rows << " x " << columns;
}

TEST(EmulatorQuantize, RowsBecomeFp8WithinOneRounding) {
  for (const Element e : {Element::bf16, Element::f16})
    for (const std::int32_t columns : kColumns)
      for (const std::int32_t rows : {0, 1, 4}) EXPECT_EQ(check_quantize(e, rows, columns), "") << rows << " x " << columns;
}

TEST(EmulatorEmbed, RowsOfTheTableAndZerosForPaddingAndUnknownTokens) {
  for (const Element e : kElements)
    for (const std::int32_t columns : {1, 48, 96, 300})
      for (const std::int32_t rows : {0, 1, 5}) EXPECT_EQ(check_embed(e, rows, columns), "") << rows << " x " << columns;
}

// The probe of tests/gpu: every word once, or the sums differ.
std::string check_probe(std::size_t words, std::int32_t blocks) {
  EmulatedDevice device;
  std::mt19937 random(3);
  std::vector<std::uint32_t> values(words);
  std::uint32_t all = 0, found = 0;
  for (std::uint32_t& v : values) all ^= v = static_cast<std::uint32_t>(random());
  const DeviceArray<std::uint32_t> data(device, values, "what is read");
  const DeviceArray<std::uint32_t> sums(device, static_cast<std::size_t>(blocks) * 8, "sums");
  device.ops().probe_read(device.stream(), {data, words * 4, sums, blocks});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  for (const std::uint32_t s : sums.values()) found ^= s;
  return found == all ? "" : "a word was read twice or not at all";
}

TEST(EmulatorProbe, ReadsEveryWordOnce) {
  for (const std::size_t words : {4u, 1020u, 1024u, 1028u, 30000u})
    for (const std::int32_t blocks : {1, 3}) EXPECT_EQ(check_probe(words, blocks), "") << words << " " << blocks;
}

TEST(EmulatorGather, CopiesTheRowsAsked) {
  for (const std::int32_t columns : {1, 96, 256, 257})
    for (const std::int32_t rows : {0, 1, 12}) EXPECT_EQ(check_gather(rows, columns), "") << rows << " x " << columns;
}

TEST(EmulatorScatter, PutsTheWordsListedInTheirPlacesAndNoOthers) {
  for (const std::int32_t count : {0, 1, 255, 256, 257, 1000}) EXPECT_EQ(check_scatter(count), "") << count;
}

// The widest rows of published models: 16,384 of the residual, 53,248 of a feed-forward; blocks of 2 MiB and more.
TEST(EmulatorElementwise, TheWidestRowsAndTheLargestBlocks) {
  for (const Element e : kElements) {
    EXPECT_EQ(check_norm(e, 1, 16384), "");
    EXPECT_EQ(check_gate(e, false, 1, 53248), "");
    EXPECT_EQ(check_embed(e, 1, 16384), "");
    if (e != Element::fp8) {
      EXPECT_EQ(check_quantize(e, 1, 16384), "");
    }
  }
  EXPECT_EQ(check_gather(1, 16384), "");
  EXPECT_EQ(check_zero_blocks((std::size_t{2} << 20) + 4096, 2), "");
}

TEST(EmulatorZeroBlocks, ZeroesTheBlocksListedAndNoOthers) {
  for (const std::size_t bytes : {16u, 3072u, 49152u + 16u})
    for (const std::int32_t blocks : {0, 1, 3}) EXPECT_EQ(check_zero_blocks(bytes, blocks), "") << bytes;
}

}  // namespace
}  // namespace tokenworks::emulator
