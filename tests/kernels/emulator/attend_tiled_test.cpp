// Paged decode and prefill attention on tiles against softmax(q K^T) V in double, over head layouts, head sizes, elements of
// the cache, windows, soft caps and ragged batches; and the bugs that each must be seen.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "harness.hpp"
#include "rows.hpp"

namespace tokenworks::emulator {
namespace {

using namespace kernels::cuda;

struct Sequence {
  std::int32_t rows, context;
};
struct Case {
  Element cache = Element::bf16, out = Element::bf16;
  std::int32_t q_heads = 4, kv_heads = 2, head_dim = 64;
  std::int32_t window = 0;
  float soft_cap = 0;
  std::vector<Sequence> sequences;
  std::int32_t decode_rows = 1, chunk = 64, items_max = 0, blocks = 3, padding_rows = 0;   // items_max 0: plenty
  float k_scale = 1, v_scale = 1;
  std::size_t shared_bytes = std::size_t{227} << 10;   // of a block, on this card
};

// The step as host values: what the kernels are given, and the answer.
struct Step {
  std::int32_t rows = 0;
  std::vector<float> qkv;
  std::vector<SequenceRows> sequences;
  std::vector<std::int32_t> tables, row_sequence;
  std::vector<unsigned char> cache;
  std::size_t block_bytes = 0, value_offset = 0;
  std::vector<double> expected, magnitude;           // [rows, q_heads * head_dim]; magnitude: of |values|, so weighted
};

Step make_step(const Case& c) {
  Step s;
  const std::int32_t dim = c.head_dim, group = c.q_heads / c.kv_heads, width = (c.q_heads + 2 * c.kv_heads) * dim;
  std::int32_t blocks = 1;                           // block 0 is nobody's
  for (std::size_t i = 0; i < c.sequences.size(); ++i) {
    const Sequence q = c.sequences[i];
    s.sequences.push_back({s.rows, q.rows, q.context, static_cast<std::int32_t>(s.tables.size())});
    for (std::int32_t r = 0; r < q.rows; ++r) s.row_sequence.push_back(q.context > 0 ? static_cast<std::int32_t>(i) : -1);
    s.rows += q.rows;
    for (std::int32_t b = 0; b * 16 < q.context; ++b) s.tables.push_back(blocks++);
  }
  for (std::int32_t r = 0; r < c.padding_rows; ++r, ++s.rows) s.row_sequence.push_back(-1);
  std::mt19937 random(7);
  std::shuffle(s.tables.begin(), s.tables.end(), random);
  s.qkv = normal(static_cast<std::size_t>(s.rows) * width, 3);
  // One layer: keys then values of all heads. What no token wrote is poison, NaN in every format; beyond a head are zeros.
  const auto wide = static_cast<std::size_t>(kv_stride(c.head_dim));
  const std::size_t size = bytes_of(c.cache), head = 16 * wide * size;
  s.value_offset = head * c.kv_heads;
  s.block_bytes = 2 * s.value_offset;
  s.cache.assign(s.block_bytes * static_cast<std::size_t>(blocks), kPoison);
  s.expected.assign(static_cast<std::size_t>(s.rows) * c.q_heads * dim, 0.0);
  s.magnitude = s.expected;
  const auto q_value = [&](double x) {               // queries reach the tensor core in the cache's element (fp8: f16)
    const Element e = c.cache == Element::fp8 ? Element::f16 : c.cache;
    return decode(e, encode(e, x));
  };
  for (const SequenceRows& q : s.sequences) {
    std::vector<double> kv[2];
    for (int which = 0; which < 2; ++which) {
      const auto x = normal(static_cast<std::size_t>(q.context) * c.kv_heads * dim, 11 + static_cast<unsigned>(which + q.row), 1.5f);
      kv[which].resize(x.size());
      const double scale = which == 0 ? c.k_scale : c.v_scale;
      for (std::int32_t p = 0; p < q.context; ++p)
        for (std::int32_t h = 0; h < c.kv_heads; ++h) {
          const std::size_t row = s.block_bytes * static_cast<std::size_t>(s.tables[static_cast<std::size_t>(q.table + p / 16)]) +
                                  (which == 1 ? s.value_offset : 0) + head * static_cast<std::size_t>(h) +
                                  static_cast<std::size_t>(p % 16) * wide * size;
          std::memset(&s.cache[row], 0, wide * size);
          for (std::int32_t d = 0; d < dim; ++d) {
            const std::size_t at = (static_cast<std::size_t>(p) * c.kv_heads + h) * dim + d;
            const std::uint32_t bits = encode(c.cache, x[at] / scale);
            kv[which][at] = decode(c.cache, bits) * scale;
            std::memcpy(&s.cache[row + static_cast<std::size_t>(d) * size], &bits, size);
          }
        }
    }
    for (std::int32_t r = 0; r < q.rows && q.context > 0; ++r)
      for (std::int32_t h = 0; h < c.q_heads; ++h) {
        const std::int32_t position = q.context - q.rows + r;
        const float* query = &s.qkv[static_cast<std::size_t>(q.row + r) * width + static_cast<std::size_t>(h) * dim];
        std::vector<double> score(static_cast<std::size_t>(position) + 1, -INFINITY);
        double highest = -INFINITY, total = 0;
        for (std::int32_t p = c.window > 0 ? std::max(0, position - c.window + 1) : 0; p <= position; ++p) {
          double dot = 0;
          for (std::int32_t d = 0; d < dim; ++d)
            dot += q_value(query[d]) * kv[0][(static_cast<std::size_t>(p) * c.kv_heads + h / group) * dim + d];
          dot /= std::sqrt(static_cast<double>(dim));
          if (c.soft_cap > 0) dot = c.soft_cap * std::tanh(dot / c.soft_cap);
          score[static_cast<std::size_t>(p)] = dot;
          highest = std::max(highest, dot);
        }
        const std::size_t begin = (static_cast<std::size_t>(q.row + r) * c.q_heads + h) * dim;
        double *out = &s.expected[begin], *size_of = &s.magnitude[begin];
        for (std::int32_t p = 0; p <= position; ++p) {
          const double w = std::exp(score[static_cast<std::size_t>(p)] - highest);
          total += w;
          for (std::int32_t d = 0; d < dim && w > 0; ++d) {
            const double v = kv[1][(static_cast<std::size_t>(p) * c.kv_heads + h / group) * dim + d];
            out[d] += w * v;
            size_of[d] += w * std::abs(v);
          }
        }
        for (std::int32_t d = 0; d < dim; ++d) out[d] /= total, size_of[d] /= total;
      }
  }
  return s;
}

struct Outcome {
  std::string fault;
  double worst = 0;                                  // error over what rounding explains
  std::vector<std::int32_t> counts;
  std::vector<unsigned char> out;
};

// Weights of values are rounded to the product's element (f16 for an fp8 cache), half a last place each at most, while their
// sum is not; scores are fp32 sums. The output is rounded once more, to its own element.
double weight_rounding(const Case& c) { return (c.cache == Element::bf16 ? 0x1p-8 : 0x1p-11) + 0x1p-16; }

Outcome run_case(const Case& c) {
  const Step s = make_step(c);
  EmulatedDevice device;
#if !defined(TW_ON_DEVICE)
  device.set_shared_bytes(c.shared_bytes);
#endif
  const auto n = static_cast<std::int32_t>(c.sequences.size());
  const std::int32_t group = c.q_heads / c.kv_heads;
  const DeviceArray<float> qkv(device, s.qkv, "qkv");
  const DeviceArray<SequenceRows> sequences(device, s.sequences, "sequences");
  const DeviceArray<std::int32_t> tables(device, s.tables, "tables"), row_sequence(device, s.row_sequence, "row_sequence");
  DeviceArray<unsigned char> cache(device, s.cache, "cache");
  OutRows out(device, c.out, s.rows, c.q_heads * c.head_dim);

  const std::int32_t items = c.items_max > 0 ? c.items_max : 1000, tiles = attend_tiles_max(s.rows, n, group);
  DeviceArray<AttendItem> item_list(device, static_cast<std::size_t>(items), "items");
  DeviceArray<AttendTile> tile_list(device, static_cast<std::size_t>(tiles), "tiles");
  DeviceArray<std::int32_t> counts(device, 3, "counts"), first(device, static_cast<std::size_t>(n), "first items"),
      chunks(device, static_cast<std::size_t>(n), "chunks");
  DeviceArray<float> partials(device, attend_partial_floats(items, c.kv_heads, c.head_dim), "partials");
  const AttendPlan plan{item_list, tile_list, counts, first, chunks, items, tiles};

  AttendTiledArgs a;
  a.attend.qkv = qkv;
  a.attend.shape = {c.q_heads, c.kv_heads, c.head_dim, 1 / std::sqrt(static_cast<float>(c.head_dim)), c.window, c.soft_cap};
  a.attend.kv = {reinterpret_cast<std::byte*>(cache.get()), s.block_bytes, s.value_offset, c.cache, c.k_scale, c.v_scale};
  a.attend.sequences = sequences;
  a.attend.tables = tables;
  a.attend.row_sequence = row_sequence;
  a.attend.num_sequences = n;
  a.attend.rows = s.rows;
  a.attend.out = out.view();
  a.plan = plan;
  a.partials = partials;
  a.blocks = c.blocks;
  a.shared_bytes = c.shared_bytes;
  device.ops().attend_plan(device.stream(), {sequences, n, group, c.decode_rows, c.chunk, plan});
  device.ops().attend_decode(device.stream(), a);
  device.ops().attend_prefill(device.stream(), a);
  Outcome result;
  result.fault = run_all(device);
  if (!result.fault.empty()) return result;
  for (std::int32_t r = 0; r < s.rows; ++r)
    for (std::int32_t i = 0; i < c.q_heads * c.head_dim; ++i) {
      const std::size_t at = static_cast<std::size_t>(r) * c.q_heads * c.head_dim + static_cast<std::size_t>(i);
      const double inner = s.magnitude[at] * weight_rounding(c);
      const double most = inner + rounding(c.out, std::abs(s.expected[at]) + inner) + 1e-7;
      const double error = std::abs(out.value(r, i) - s.expected[at]) / most;
      result.worst = std::isnan(error) ? INFINITY : std::max(result.worst, error);
    }
  for (std::int32_t r = 0; r < s.rows; ++r)
    for (std::int32_t i = c.q_heads * c.head_dim; i < padded(c.q_heads * c.head_dim); ++i)
      if (out.value(r, i) != 0) result.worst = INFINITY;
  result.counts = counts.values();
  const auto* bytes = static_cast<const unsigned char*>(out.view().data);
  result.out.assign(bytes, bytes + static_cast<std::size_t>(s.rows) * padded(c.q_heads * c.head_dim) * 2);
  return result;
}

void expect_close(const Case& c, const std::string& what) {
  const Outcome o = run_case(c);
  ASSERT_EQ(o.fault, "") << what;
  EXPECT_LE(o.worst, 1.0) << what;
}
bool caught(const Case& c) {
  const Outcome o = run_case(c);
  return !o.fault.empty() || !(o.worst <= 1.0);
}

const std::vector<Sequence> kDecoding{{1, 1}, {1, 2}, {1, 15}, {1, 16}, {1, 17}, {1, 64}, {1, 65}, {1, 129}, {1, 200}};
const std::vector<Sequence> kRagged{{70, 70}, {1, 40}, {33, 100}, {2, 2}, {64, 64}, {5, 81}};

TEST(EmulatedTiledAttention, DecodesEveryHeadSizeAndCacheElement) {
  for (const Element e : {Element::bf16, Element::f16, Element::fp8})
    for (const std::int32_t dim : {16, 32, 64, 80, 96, 128})
      expect_close({.cache = e, .out = e == Element::f16 ? Element::f16 : Element::bf16, .head_dim = dim,
                    .sequences = {{1, 1}, {1, 17}, {1, 150}}, .k_scale = e == Element::fp8 ? 0.5f : 1.0f,
                    .v_scale = e == Element::fp8 ? 0.25f : 1.0f},
                   std::to_string(dim) + " element " + std::to_string(static_cast<int>(e)));
}

// Heads that no tile is made for take the next one, in the cache too.
TEST(EmulatedTiledAttention, HeadsOfAnyEvenSizeRunInTheNextTile) {
  for (const Element e : {Element::bf16, Element::f16, Element::fp8})
    for (const std::int32_t dim : {2, 8, 16, 20, 32, 40, 72, 90, 112})
      expect_close({.cache = e, .head_dim = dim, .sequences = {{1, 1}, {1, 70}, {20, 30}}}, std::to_string(dim));
}

TEST(EmulatedTiledAttention, DecodesEveryHeadLayout) {
  for (const auto& [q, kv] : std::vector<std::pair<int, int>>{{1, 1}, {3, 3}, {9, 3}, {8, 1}, {16, 1}, {20, 1}, {32, 2}})
    for (const Element e : {Element::bf16, Element::f16, Element::fp8})
      expect_close({.cache = e, .q_heads = q, .kv_heads = kv, .sequences = {{1, 5}, {1, 90}}}, std::to_string(q) + ":" + std::to_string(kv));
}

// sm_86 and sm_89 run the code of sm_80 and give a block 99 KiB: launches that ask for more are refused.
TEST(EmulatedTiledAttention, ACardWithLittleSharedMemoryHasEveryHeadSizeToo) {
  for (const std::int32_t dim : {64, 96, 128})
    for (const Element cache : {Element::bf16, Element::f16, Element::fp8}) {
      Case c{.cache = cache, .head_dim = dim, .sequences = {{1, 1}, {1, 100}, {1, 33}, {20, 50}}, .shared_bytes = std::size_t{99} << 10};
      const Outcome little = run_case(c);
      EXPECT_EQ(little.fault, "") << dim;
      EXPECT_LE(little.worst, 1) << dim;
      c.shared_bytes = std::size_t{227} << 10;
      EXPECT_EQ(run_case(c).out, little.out) << "the same sums in the same order";
    }
}

TEST(EmulatedTiledAttention, DecodesOddLengthsWithAnyPiecesAndAnyGrid) {
  expect_close({.sequences = kDecoding}, "pieces of 64");
  expect_close({.sequences = kDecoding, .chunk = 128, .blocks = 1}, "pieces of 128, one block");
  expect_close({.sequences = kDecoding, .chunk = 512, .blocks = 40}, "whole contexts, more blocks than items");
  expect_close({.q_heads = 2, .kv_heads = 1, .sequences = {{1, 2300}}, .chunk = 4096, .blocks = 1}, "more pages than lanes");
}

TEST(EmulatedTiledAttention, VerifiesSeveralRowsOfASequenceAsItems) {
  expect_close({.sequences = {{5, 40}, {1, 3}, {3, 3}, {4, 130}}, .decode_rows = 5}, "group 2");
  expect_close({.q_heads = 9, .kv_heads = 3, .sequences = {{7, 70}, {1, 1}}, .decode_rows = 8}, "more than 16 queries");
}

TEST(EmulatedTiledAttention, APlanThatDoesNotFitTakesLongerPieces) {
  const Case c{.sequences = {{1, 300}, {1, 290}, {1, 10}}, .items_max = 6};
  const Outcome o = run_case(c);
  ASSERT_EQ(o.fault, "");
  EXPECT_LE(o.worst, 1.0);
  EXPECT_EQ(o.counts[2], 256);                       // 64: 11 items, 128: 7, 256: 5
  EXPECT_EQ(o.counts[0], 5);
  EXPECT_EQ(o.counts[1], 0) << "and nothing is done twice, as tiles";
}

TEST(EmulatedTiledAttention, EmptyBatchesAndPaddingLeaveZeros) {
  expect_close({.sequences = {}}, "no sequence");
  expect_close({.sequences = {{1, 20}}, .padding_rows = 3}, "padding rows");
  expect_close({.sequences = {{1, 0}, {1, 33}, {1, 0}}}, "padding sequences");
  expect_close({.q_heads = 3, .kv_heads = 3, .head_dim = 80, .sequences = {{1, 20}}, .padding_rows = 1}, "padding columns");
}

TEST(EmulatedTiledAttention, ManySequencesAreMoreThanAThreadEach) {
  std::vector<Sequence> many;
  for (int i = 0; i < 270; ++i) many.push_back({i == 100 ? 3 : 1, 1 + i % 7 + (i == 100 ? 3 : 0)});
  expect_close({.q_heads = 1, .kv_heads = 1, .sequences = many, .blocks = 2}, "270 sequences");
}

TEST(EmulatedTiledAttention, PrefillsRaggedBatchesAndChunksOverAnExistingCache) {
  for (const Element e : {Element::bf16, Element::f16, Element::fp8})
    expect_close({.cache = e, .sequences = kRagged}, "element " + std::to_string(static_cast<int>(e)));
  expect_close({.sequences = {{1, 1}, {1, 130}, {20, 150}}, .decode_rows = 0}, "single rows as tiles");
}

TEST(EmulatedTiledAttention, PrefillsEveryHeadSizeAndLayout) {
  for (const std::int32_t dim : {16, 32, 64, 80, 96, 128})
    for (const Element e : {Element::bf16, Element::f16, Element::fp8})
      expect_close({.cache = e, .head_dim = dim, .sequences = {{35, 77}}}, std::to_string(dim));
  for (const auto& [q, kv] : std::vector<std::pair<int, int>>{{1, 1}, {9, 3}, {20, 1}})
    for (const Element e : {Element::bf16, Element::f16, Element::fp8})
      expect_close({.cache = e, .q_heads = q, .kv_heads = kv, .sequences = {{19, 40}, {65, 65}}}, std::to_string(q) + ":" + std::to_string(kv));
}

TEST(EmulatedTiledAttention, SlidingWindowsAndSoftCapsHoldInBoth) {
  for (const std::int32_t window : {1, 5, 16, 63, 64, 100, 1000})
    expect_close({.window = window, .sequences = {{1, 150}, {40, 170}, {1, 3}}}, "window " + std::to_string(window));
  expect_close({.window = 70, .soft_cap = 2, .sequences = {{1, 150}, {40, 90}}}, "window and cap");
  expect_close({.cache = Element::fp8, .soft_cap = 1.5f, .sequences = {{1, 50}, {17, 90}}, .k_scale = 0.5f}, "cap on fp8");
}

// The contexts of published models end at 131,072: in longer pieces than asked for, as the list is short, and the last rows of a prompt.
TEST(EmulatedTiledAttention, TheLongestContextsInBoth) {
  expect_close({.q_heads = 1, .kv_heads = 1, .head_dim = 16, .sequences = {{1, 131072}, {1, 1}}, .chunk = 512, .items_max = 40}, "decode");
  expect_close({.q_heads = 1, .kv_heads = 1, .head_dim = 16, .sequences = {{3, 131072}}}, "prefill");
}

TEST(EmulatedTiledAttention, AResultDoesNotDependOnTheGridOrTheOrderOfThreads) {
  Case c{.sequences = {{1, 200}, {40, 90}, {1, 77}}};
  const auto one = run_case(c).out;
  options().seed = 99;
  c.blocks = 7;
  EXPECT_EQ(run_case(c).out, one);
  options() = {};
}

TEST(EmulatedTiledAttention, PlantedBugsOfDecodeAreFound) {
  for (const int bug : {101, 102, 103, 104, 105, 106, 107, 108, 109}) {
    const Case c = bug == 104 ? Case{.sequences = {{1, 40}, {1, 40}, {1, 40}, {1, 40}}, .items_max = 3}
                   : bug == 101 ? Case{.window = 20, .sequences = {{1, 100}}}
                                : Case{.sequences = {{1, 200}, {1, 300}}, .chunk = 128};
    // A plan of fewer items than attend_items_min is itself a mistake, and the only one that bug 104 shows in.
    if (bug != 104) {
      EXPECT_FALSE(caught(c)) << "without a bug";
    }
    const Planted planted(bug);
    EXPECT_TRUE(caught(c)) << bug;
  }
}

TEST(EmulatedTiledAttention, PlantedBugsOfPrefillAreFound) {
  for (const int bug : {101, 102, 110, 111, 112}) {
    const Case c{.sequences = {{70, 70}, {33, 100}}};
    EXPECT_FALSE(caught(c)) << "without a bug";
    const Planted planted(bug);
    EXPECT_TRUE(caught(c)) << bug;
  }
}

}  // namespace
}  // namespace tokenworks::emulator
