// Attention over a paged cache: every table against a double softmax, and the promise that chunks, spans, tiles and blocks
// never change a bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "support.hpp"

namespace tokenworks::kernels {
namespace {

struct Case {
  std::int32_t q_heads, kv_heads, dim, window;
  float soft_cap;
  bool fp32;
  std::int32_t context;
};

float bfloat(float x) {
  std::uint32_t b;
  std::memcpy(&b, &x, 4);
  b = (b + 0x7FFF + (b >> 16 & 1)) & 0xFFFF0000u;
  std::memcpy(&x, &b, 4);
  return x;
}

// One sequence: queries, and keys and values spread over blocks in random order.
struct World {
  Case c;
  HeadShape shape;
  std::vector<float> q, k, v;                        // [context, heads, dim]
  std::vector<std::int32_t> blocks;
  std::vector<std::byte> cache;
  KvView view;

  World(const Case& of, unsigned seed, unsigned order) : c(of) {
    shape = {c.q_heads, c.kv_heads, c.dim, 1.0f / std::sqrt(static_cast<float>(c.dim)), c.window, c.soft_cap};
    const auto n = static_cast<std::size_t>(c.context);
    q = normal(n * static_cast<std::size_t>(c.q_heads * c.dim), seed, 2.0f);
    k = normal(n * static_cast<std::size_t>(c.kv_heads * c.dim), seed + 1);
    v = normal(n * static_cast<std::size_t>(c.kv_heads * c.dim), seed + 2);
    if (!c.fp32)
      for (auto* x : {&k, &v}) std::transform(x->begin(), x->end(), x->begin(), bfloat);
    blocks.resize((n + 15) / 16 + 3);
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937(order));
    const std::size_t element = c.fp32 ? 4 : 2,
                      layer = static_cast<std::size_t>(c.kv_heads * c.dim) * kBlockTokens * element;
    cache.resize(blocks.size() * 2 * layer + 256);
    view = {cache.data(), 2 * layer, layer, c.fp32};
    for (std::int32_t t = 0; t < c.context; ++t) {
      for (std::int32_t h = 0; h < c.kv_heads; ++h) {
        for (std::int32_t d = 0; d < c.dim; ++d) {
          const auto from = static_cast<std::size_t>((t * c.kv_heads + h) * c.dim + d);
          std::byte* block =
              cache.data() + static_cast<std::size_t>(blocks[static_cast<std::size_t>(t / 16)]) * 2 * layer;
          const auto tile = static_cast<std::size_t>(h * c.dim * kBlockTokens);
          put(block, tile + static_cast<std::size_t>(d * 16 + t % 16), k[from]);
          put(block + layer, tile + static_cast<std::size_t>(t % 16 * c.dim + d), v[from]);
        }
      }
    }
  }
  void put(std::byte* base, std::size_t index, float x) const {
    if (c.fp32) std::memcpy(base + index * 4, &x, 4);
    else std::memcpy(base + index * 2, reinterpret_cast<const char*>(&x) + 2, 2);
  }

  // Rows [first, first + rows) of the sequence, every head, through `attend` with these spans per call (0: all at once).
  std::vector<float> run(const CpuOps& table, std::int32_t first, std::int32_t rows,
                         std::int32_t spans_per_call) const {
    const std::int32_t group = c.q_heads / c.kv_heads, queries = rows * group;
    std::vector<float> out(static_cast<std::size_t>(rows * c.q_heads * c.dim));
    std::vector<float> scratch(attend_scratch_floats(c.dim) + 16), partials(queries * partial_floats(c.dim)),
        part = partials;
    for (std::int32_t h = 0; h < c.kv_heads; ++h) {
      const AttendRows a{&q[static_cast<std::size_t>((first * c.q_heads + h * group) * c.dim)],
                         c.q_heads * c.dim,
                         rows,
                         first,
                         h,
                         blocks.data()};
      const std::int32_t spans = (first + rows - 1) / kSpanTokens + 1;
      table.attend_begin(queries, c.dim, partials.data());
      if (spans_per_call == 0) {
        table.attend(a, shape, view, {0, spans}, partials.data(), scratch.data());
      } else {
        for (std::int32_t s = 0; s < spans; ++s) {
          table.attend_begin(queries, c.dim, part.data());
          table.attend(a, shape, view, {s, 1}, part.data(), scratch.data());
          table.attend_merge(queries, c.dim, part.data(), partials.data());
        }
      }
      for (std::int32_t i = 0; i < queries; ++i)
        table.attend_finish(&partials[static_cast<std::size_t>(i) * partial_floats(c.dim)], c.dim,
                            &out[static_cast<std::size_t>(((i / group) * c.q_heads + h * group + i % group) * c.dim)]);
    }
    return out;
  }

  std::vector<double> oracle(std::int32_t row) const {
    std::vector<double> out(static_cast<std::size_t>(c.q_heads * c.dim));
    for (std::int32_t h = 0; h < c.q_heads; ++h) {
      const std::int32_t kv = h / (c.q_heads / c.kv_heads), from = c.window > 0 ? std::max(0, row - c.window + 1) : 0;
      std::vector<double> score(static_cast<std::size_t>(row - from + 1));
      for (std::int32_t t = from; t <= row; ++t) {
        double s = 0;
        for (std::int32_t d = 0; d < c.dim; ++d)
          s += static_cast<double>(q[static_cast<std::size_t>((row * c.q_heads + h) * c.dim + d)]) *
               k[static_cast<std::size_t>((t * c.kv_heads + kv) * c.dim + d)];
        s *= shape.scale;
        score[static_cast<std::size_t>(t - from)] = c.soft_cap > 0 ? c.soft_cap * std::tanh(s / c.soft_cap) : s;
      }
      const double top = *std::max_element(score.begin(), score.end());
      double sum = 0;
      for (double& s : score) sum += s = std::exp(s - top);
      for (std::int32_t t = from; t <= row; ++t)
        for (std::int32_t d = 0; d < c.dim; ++d)
          out[static_cast<std::size_t>(h * c.dim + d)] +=
              score[static_cast<std::size_t>(t - from)] / sum *
              v[static_cast<std::size_t>((t * c.kv_heads + kv) * c.dim + d)];
    }
    return out;
  }
};

const Case kCases[] = {
    {9, 3, 64, 0, 0, false, 70},     {9, 3, 64, 0, 0, false, 600},       {4, 4, 128, 0, 0, false, 300},
    {6, 2, 8, 24, 0, true, 100},     {14, 2, 64, 0, 0, false, 40},       {4, 2, 80, 100, 0, false, 530},
    {8, 1, 24, 0, 30.0f, true, 290}, {2, 1, 96, 300, 50.0f, false, 900}, {1, 1, 16, 1, 0, true, 33},
    {5, 1, 40, 0, 0, false, 257},    {12, 2, 256, 0, 0, false, 34},
};

TEST(Attend, IsTheDoubleSoftmaxAtEveryPosition) {
  for (const Case& c : kCases) {
    const World w(c, 1, 2);
    for (const CpuPath path : paths()) {
      const auto got = w.run(ops(path), 0, c.context, 0);
      for (std::int32_t row = 0; row < c.context; row += row > 40 ? 13 : 1) {
        const auto want = w.oracle(row);
        for (std::size_t i = 0; i < want.size(); ++i)
          ASSERT_NEAR(got[static_cast<std::size_t>(row) * want.size() + i], want[i], 1e-5)
              << name(path) << " row " << row << " dim " << c.dim << " context " << c.context;
      }
    }
  }
}

TEST(Attend, ChunksSpansAndPlacementNeverChangeABit) {
  for (const Case& c : kCases) {
    const World w(c, 3, 4), elsewhere(c, 3, 5);
    const auto columns = static_cast<std::size_t>(c.q_heads * c.dim);
    for (const CpuPath path : paths()) {
      const auto whole = w.run(ops(path), 0, c.context, 0);
      EXPECT_EQ(std::memcmp(whole.data(), elsewhere.run(ops(path), 0, c.context, 0).data(), whole.size() * 4), 0)
          << "other blocks";
      EXPECT_EQ(std::memcmp(whole.data(), w.run(ops(path), 0, c.context, 1).data(), whole.size() * 4), 0)
          << "span by span";
      std::mt19937 random(6);
      for (std::int32_t first = 0; first < c.context;) {
        const std::int32_t rows =
            std::min(c.context - first, 1 + static_cast<std::int32_t>(random() % (random() % 3 == 0 ? 60 : 3)));
        const auto some = w.run(ops(path), first, rows, static_cast<std::int32_t>(random() % 2));
        ASSERT_EQ(std::memcmp(some.data(), &whole[static_cast<std::size_t>(first) * columns], some.size() * 4), 0)
            << name(path) << " rows " << first << "+" << rows << " dim " << c.dim;
        first += rows;
      }
    }
  }
}

TEST(Attend, HugeScoresOverflowNothing) {
  Case c{2, 1, 32, 0, 0, true, 300};
  World w(c, 7, 8);
  for (float& x : w.q) x *= 1000;
  for (const CpuPath path : paths())
    for (const float y : w.run(ops(path), 0, c.context, 0)) ASSERT_TRUE(std::isfinite(y)) << name(path);
}

TEST(Attend, ABrokenQueryBreaksItsOwnRowOnly) {
  const Case c{3, 1, 16, 0, 0, true, 40};
  World w(c, 9, 10);
  const auto whole = w.run(ops(CpuPath::portable), 0, 40, 0);
  for (const CpuPath path : paths()) {
    const auto before = w.run(ops(path), 0, 40, 0);
    World broken(c, 9, 10);
    broken.q[20 * 48 + 16] = std::nanf("");          // row 20, head 1
    const auto after = broken.run(ops(path), 0, 40, 0);
    for (std::size_t i = 0; i < after.size(); ++i) {
      if (i / 16 == 20 * 3 + 1) ASSERT_TRUE(std::isnan(after[i])) << name(path);
      else ASSERT_EQ(after[i], before[i]) << name(path);
    }
  }
}

}  // namespace
}  // namespace tokenworks::kernels
