// Attention over whole texts on the CPU backend against a double softmax, on every path and thread count.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "backend/cpu/cpu_backend.hpp"

namespace tokenworks::backend {
namespace {

struct Shape {
  std::int32_t q_heads, kv_heads, dim;
};

TEST(AttendAll, EveryRowSeesItsWholeTextAndNoOther) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  for (const Shape s : {Shape{12, 12, 32}, Shape{4, 4, 12}, Shape{6, 2, 16}, Shape{1, 1, 80}}) {
    const std::int32_t lengths[] = {1, 17, 300, 16, 5};
    std::vector<SequenceRows> sequences;
    std::int32_t rows = 0;
    for (const std::int32_t n : lengths) sequences.push_back({rows, n, n, 0}), rows += n;
    const std::int32_t columns = (s.q_heads + 2 * s.kv_heads) * s.dim, width = s.q_heads * s.dim;
    std::vector<float> qkv(static_cast<std::size_t>(rows * columns));
    for (float& x : qkv) x = normal(random);
    const std::vector<TokenId> tokens(static_cast<std::size_t>(rows));
    std::vector<std::int32_t> positions;
    for (const std::int32_t n : lengths)
      for (std::int32_t i = 0; i < n; ++i) positions.push_back(i);
    const std::vector<std::int32_t> tables(32);
    const float scale = 1.0f / std::sqrt(static_cast<float>(s.dim));
    const AttentionSpec spec{.q_heads = s.q_heads, .kv_heads = s.kv_heads, .head_dim = s.dim, .scale = scale};

    std::vector<float> first;
    for (const kernels::CpuPath path : {kernels::CpuPath::portable, kernels::CpuPath::avx2, kernels::CpuPath::avx512}) {
      if (!kernels::machine_has(path)) continue;
      for (const int threads : {1, 3}) {
        CpuBackend backend(path, true, threads);
        auto in = backend.allocate(qkv.size() * sizeof(float));
        auto out = backend.make_activations(rows, width);
        ASSERT_TRUE(in && out);
        backend.upload(**in, 0, std::as_bytes(std::span(qkv)));
        backend.begin_step({tokens, positions, sequences, tables});
        ASSERT_NE(backend.encoder_ops(), nullptr);
        backend.encoder_ops()->attend_all(**in, spec, **out);
        const kernels::Rows& found = static_cast<const CpuActivations&>(**out).rows();
        for (const SequenceRows& q : sequences) {
          for (std::int32_t r = 0; r < q.rows; r += q.rows > 50 ? 37 : 1) {
            for (std::int32_t h = 0; h < s.q_heads; ++h) {
              const std::int32_t kv = h / (s.q_heads / s.kv_heads);
              const auto at = [&](std::int32_t row, std::int32_t column) { return static_cast<double>(qkv[static_cast<std::size_t>((q.row + row) * columns + column)]); };
              std::vector<double> score(static_cast<std::size_t>(q.rows));
              double sum = 0;
              for (std::int32_t t = 0; t < q.rows; ++t) {
                double dot = 0;
                for (std::int32_t d = 0; d < s.dim; ++d) dot += at(r, h * s.dim + d) * at(t, (s.q_heads + kv) * s.dim + d);
                sum += score[static_cast<std::size_t>(t)] = std::exp(dot * scale);
              }
              for (std::int32_t d = 0; d < s.dim; ++d) {
                double want = 0;
                for (std::int32_t t = 0; t < q.rows; ++t) want += score[static_cast<std::size_t>(t)] / sum * at(t, (s.q_heads + s.kv_heads + kv) * s.dim + d);
                ASSERT_NEAR(found.values[static_cast<std::size_t>((q.row + r) * found.stride + h * s.dim + d)], want, 2e-5)
                    << kernels::name(path) << " text of " << q.rows << " row " << r << " head " << h;
              }
            }
          }
        }
        std::vector<float> all;
        for (std::int32_t r = 0; r < rows; ++r) all.insert(all.end(), found.values + r * found.stride, found.values + r * found.stride + width);
        if (threads == 1) first = all;
        EXPECT_EQ(std::memcmp(all.data(), first.data(), all.size() * sizeof(float)), 0) << "threads change no bit";
      }
    }
  }
}

}  // namespace
}  // namespace tokenworks::backend
