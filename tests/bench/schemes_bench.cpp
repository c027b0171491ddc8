// How fast the linear layers of SmolLM2-135M (Q4_1, kept exactly) would run with activations rounded in other ways than the
// default one: the speeds beside the accuracies in docs/benchmarks.md. Each scheme has its own inner loop here, in the shape of
// kernels/cpu/linear_avx512.hpp (32 rows by as many tokens as the registers hold); the default and the exact path are the
// real kernels. Every loop is checked against double sums before it is timed. AVX-512 VNNI only.
//   ninja -C build/release bench_schemes && build/release/bench_schemes [ROUNDS]
#define TW_PATH probe
#define TW_WIDTH 16
#include "kernels/cpu/panels.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu/pack.hpp"
#include "backend/cpu/thread_pool.hpp"

namespace tokenworks::kernels::probe {
namespace {

constexpr std::int32_t kHidden = 576, kQkv = 960, kFfn = 1536, kLayers = 30, kRowsMax = 256;
constexpr PanelKind kKind = PanelKind::n4_hm;

struct Acts {                                        // rows of activations, rounded with a scale per `group` columns (0: per row)
  std::int32_t columns, group;
  std::vector<std::int8_t> low, high;                // value = scale * (256 * high + low); high only of 16-bit schemes
  std::vector<float> scales, sums;                   // [row][group], [row][32 columns]: the sum of the codes

  std::int32_t scales_a_row() const { return group == 0 ? 1 : columns / group; }
};

Acts rounded(const std::vector<float>& x, std::int32_t columns, std::int32_t group, int planes) {
  Acts a{columns, group, std::vector<std::int8_t>(x.size()), std::vector<std::int8_t>(planes == 2 ? x.size() : 0), {}, {}};
  const std::int32_t width = group == 0 ? columns : group;
  const float most = planes == 2 ? 32639.0f : 127.0f;
  for (std::size_t at = 0; at < x.size(); at += static_cast<std::size_t>(width)) {
    float largest = 0;
    for (std::int32_t i = 0; i < width; ++i) largest = std::max(largest, std::abs(x[at + static_cast<std::size_t>(i)]));
    a.scales.push_back(largest / most);
    for (std::int32_t i = 0; i < width; ++i) {
      const auto n = at + static_cast<std::size_t>(i);
      const auto code = static_cast<std::int32_t>(std::lrint(x[n] / a.scales.back()));
      a.low[n] = static_cast<std::int8_t>(code);
      if (planes == 2) a.high[n] = static_cast<std::int8_t>((code - a.low[n]) / 256);
    }
  }
  for (std::size_t at = 0; at < x.size(); at += kGroup) {
    std::int32_t sum = 0;
    for (std::size_t i = at; i < at + kGroup; ++i) sum += a.low[i] + (planes == 2 ? 256 * a.high[i] : 0);
    a.sums.push_back(static_cast<float>(sum));
  }
  return a;
}

TW_INLINE void dot(I& acc, I codes, I x) { asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(codes), "v"(x)); }
TW_INLINE I four(const std::int8_t* x) {
  std::int32_t word;
  std::memcpy(&word, x, 4);
  return iset1(word);
}

// 32 rows by kTokens tokens. kScale: columns that share a scale, 0 for all of them.
template <int kScale, int kPlanes, int kTokens>
__attribute__((noinline)) void tile(const std::byte* unit, const Acts& a, std::int32_t row, std::size_t panel_bytes, float* out,
                                    std::int64_t stride) {
  constexpr bool kLater = kScale == 0 || kScale > kGroup;      // the scale is applied after several groups of weights
  constexpr int kHalves = kScale == 16 ? 2 : 1;
  const std::int32_t groups = a.columns / kGroup, scales_a_row = a.scales_a_row();
  const std::int64_t stride_x = a.columns;
  const std::int8_t *x = a.low.data() + row * stride_x, *x_high = kPlanes == 2 ? a.high.data() + row * stride_x : nullptr;
  const float *sums = a.sums.data() + std::int64_t{row} * groups, *scales = a.scales.data() + std::int64_t{row} * scales_a_row;
  F y[kTokens][2], z[kTokens][2];
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < 2; ++v) y[t][v] = z[t][v] = set1(0);
  for (std::int32_t g = 0; g < groups; ++g, unit += unit_bytes(kKind), x += kGroup, x_high += kPlanes == 2 ? kGroup : 0, ++sums) {
    for (std::size_t line = 0; line < unit_bytes(kKind); line += 64)
      _mm_prefetch(reinterpret_cast<const char*>(unit) + panel_bytes + line, _MM_HINT_T0);
    for (int half = 0; half < kHalves; ++half) {
      I acc[kTokens][2], top[kTokens][2];
      for (int t = 0; t < kTokens; ++t)
        for (int v = 0; v < 2; ++v) acc[t][v] = top[t][v] = iset1(0);
#pragma GCC unroll 8
      for (int q = half * 4; q < (kHalves == 2 ? half * 4 + 4 : 8); ++q) {
        I w[2];
        for (int v = 0; v < 2; ++v) w[v] = load_quad(kKind, unit, q, v * 16);
        for (int t = 0; t < kTokens; ++t) {
          const I quad = four(x + t * stride_x + 4 * q);
          for (int v = 0; v < 2; ++v) dot(acc[t][v], w[v], quad);
          if constexpr (kPlanes == 2) {
            const I high = four(x_high + t * stride_x + 4 * q);
            for (int v = 0; v < 2; ++v) dot(top[t][v], w[v], high);
          }
        }
      }
      for (int v = 0; v < 2; ++v) {
        const F d = load_scale(kKind, unit, 0, v * 16), m = load_scale(kKind, unit, 1, v * 16);
        for (int t = 0; t < kTokens; ++t) {
          if constexpr (kPlanes == 2) acc[t][v] = iadd(acc[t][v], shift_left(top[t][v], 8));
          const F sum = set1(sums[t * groups]);
          if constexpr (kLater) {
            z[t][v] = fma(to_float(acc[t][v]), d, z[t][v]);
            z[t][v] = fma(m, sum, z[t][v]);
          } else {
            const F s = set1(scales[t * scales_a_row + (kHalves == 2 ? 2 * g + half : g)]);
            y[t][v] = fma(mul(to_float(acc[t][v]), d), s, y[t][v]);
            // With two scales a group has two scaled sums, kept as one: the activations' part of it in sums.
            if (half == kHalves - 1) y[t][v] = fma(m, kHalves == 2 ? sum : mul(sum, s), y[t][v]);
          }
        }
      }
    }
    if constexpr (kScale > kGroup) {
      if ((g + 1) % (kScale / kGroup) != 0) continue;
      for (int t = 0; t < kTokens; ++t) {
        const F s = set1(scales[t * scales_a_row + g / (kScale / kGroup)]);
        for (int v = 0; v < 2; ++v) y[t][v] = fma(z[t][v], s, y[t][v]), z[t][v] = set1(0);
      }
    }
  }
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < 2; ++v) {
      if constexpr (kScale == 0) y[t][v] = mul(z[t][v], set1(scales[t]));
      store(out + t * stride + v * 16, y[t][v]);
    }
}

struct Matrix {
  Panels panels;
  std::vector<std::byte> memory, file;
};

template <int kScale, int kPlanes, int kTokens>
void run_panels(const Matrix& m, Range range, const Acts& a, std::int32_t rows, float* out) {
  for (std::int32_t p = range.first; p < range.first + range.count; ++p) {
    const std::byte* const panel = m.panels.data + static_cast<std::size_t>(p) * m.panels.panel_bytes;
    std::int32_t r = 0;
    const auto at = [&] { return out + std::int64_t{r} * m.panels.rows + p * kPanelRows; };
    for (; r + kTokens <= rows; r += kTokens) tile<kScale, kPlanes, kTokens>(panel, a, r, m.panels.panel_bytes, at(), m.panels.rows);
    for (; r < rows; ++r) tile<kScale, kPlanes, 1>(panel, a, r, m.panels.panel_bytes, at(), m.panels.rows);
  }
}

using RunPanels = void (*)(const Matrix&, Range, const Acts&, std::int32_t, float*);
struct Scheme {
  const char* name;
  std::int32_t group;
  int planes;
  RunPanels run;                                     // null: a real kernel
};
constexpr Scheme kSchemes[] = {
    {"exact (fp32 activations)", 0, 0, nullptr}, {"int16-row", 0, 2, run_panels<0, 2, 4>},   {"int8-g16", 16, 1, run_panels<16, 1, 4>},
    {"default (int8-g32)", 32, 1, nullptr},      {"int8-g32, this loop", 32, 1, run_panels<32, 1, 4>}, {"int8-g64", 64, 1, run_panels<64, 1, 4>},
    {"int8-g96", 96, 1, run_panels<96, 1, 4>},   {"int8-row", 0, 1, run_panels<0, 1, 4>}};

Matrix make_matrix(std::int32_t rows, std::int32_t columns, unsigned seed) {
  Matrix m;
  constexpr std::size_t kBlock = 20;
  m.file.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns / kGroup) * kBlock);
  std::mt19937 random(seed);
  for (std::byte& b : m.file) b = static_cast<std::byte>(random());
  for (std::size_t b = 0; b < m.file.size(); b += kBlock) {
    const std::uint16_t scales[] = {0x1C00, static_cast<std::uint16_t>(0x9C00 + random() % 512)};   // 2^-8; about -2^-8
    std::memcpy(&m.file[b], scales, 4);
  }
  const backend::PanelForm form = backend::form_of(formats::TensorType::q4_1);
  const std::size_t bytes = backend::panel_bytes(form, columns), count = static_cast<std::size_t>(rows) / kPanelRows;
  m.memory.resize(bytes * count + 64);
  auto* const data = m.memory.data() + (64 - reinterpret_cast<std::uintptr_t>(m.memory.data()) % 64);
  for (std::size_t p = 0; p < count; ++p) {
    std::vector<backend::RowSource> sources;
    for (std::size_t r = 0; r < kPanelRows; ++r)
      sources.push_back({formats::TensorType::q4_1, m.file.data() + (p * kPanelRows + r) * static_cast<std::size_t>(columns / kGroup) * kBlock});
    backend::pack_panel(form, sources, columns, data + p * bytes);
  }
  m.panels = {form.kind, form.zero_shift, rows, columns, bytes, data, nullptr};
  return m;
}

// One activation row set in every form a scheme or a real kernel reads.
struct Input {
  std::vector<float> values;
  std::vector<std::int8_t> codes;
  std::vector<GroupScale> groups;
  Rows rows;
  Acts acts;

  Input(std::int32_t columns, const Scheme& scheme, const CpuOps& ops) : values(static_cast<std::size_t>(kRowsMax * columns)) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (float& v : values) v = normal(random);
    codes.resize(values.size()), groups.resize(values.size() / kGroup);
    for (std::int32_t r = 0; r < kRowsMax; ++r)
      ops.quantize(values.data() + std::size_t(r) * columns, columns, codes.data() + std::size_t(r) * columns, groups.data() + std::size_t(r) * (columns / kGroup));
    rows = {values.data(), codes.data(), groups.data(), columns, columns, columns / kGroup};
    acts = rounded(values, columns, scheme.group, std::max(scheme.planes, 1));
    if (scheme.group == 16) {                        // sums of scaled activations: see tile
      for (std::size_t g = 0; g < acts.sums.size(); ++g) {
        float sum = 0;
        for (std::size_t i = 0; i < kGroup; ++i) sum += acts.scales[2 * g + i / 16] * static_cast<float>(acts.low[g * kGroup + i]);
        acts.sums[g] = sum;
      }
    }
  }
};

struct Bench {
  const CpuOps& ops = kernels::ops(CpuPath::avx512);
  backend::ThreadPool pool{2};
  std::vector<std::vector<float>> scratch;
  std::vector<float> out;

  Bench() : scratch(2, std::vector<float>(kFfn * kPanelRows + 16)), out(static_cast<std::size_t>(kRowsMax) * 2 * kFfn) {}

  void linear(const Scheme& scheme, const Matrix& m, const Input& in, std::int32_t rows) {
    const std::int32_t panels = m.panels.rows / kPanelRows, jobs = std::min(panels, 6);
    pool.run(jobs, [&](std::int32_t job, int thread) {
      const Range range{panels * job / jobs, panels * (job + 1) / jobs - panels * job / jobs};
      auto& own = scratch[static_cast<std::size_t>(thread)];
      float* const aligned = own.data() + (64 - reinterpret_cast<std::uintptr_t>(own.data()) % 64) / 4 % 16;
      if (scheme.run != nullptr) scheme.run(m, range, in.acts, rows, out.data());
      else if (scheme.planes == 0) ops.linear_float(m.panels, range, in.rows, {0, rows}, out.data(), m.panels.rows, false, aligned);
      else ops.linear(m.panels, range, in.rows, {0, rows}, out.data(), m.panels.rows, false, {});
    });
  }

  // The largest distance from the double sums over unrounded activations, in units of their root mean square.
  double distance(const Scheme& scheme) {
    const Matrix m = make_matrix(64, kHidden, 1);
    const Input in(kHidden, scheme, ops);
    constexpr std::int32_t kRows = 13;
    linear(scheme, m, in, kRows);
    std::vector<float> row(kHidden);
    double worst = 0, squares = 0;
    for (std::int32_t n = 0; n < 64; ++n) {
      embed(m.panels, n, row.data());
      for (std::int32_t r = 0; r < kRows; ++r) {
        double sum = 0;
        for (std::int32_t c = 0; c < kHidden; ++c) sum += double(row[std::size_t(c)]) * double(in.values[std::size_t(r * kHidden + c)]);
        worst = std::max(worst, std::abs(sum - double(out[std::size_t(r * 64 + n)])));
        squares += sum * sum;
      }
    }
    return worst / std::sqrt(squares / (64 * kRows));
  }
};

int main_of(int rounds) {
  if (!machine_has(CpuPath::avx512)) return std::puts("this machine has no AVX-512 VNNI"), 1;
  Bench bench;
  std::vector<Matrix> layers;
  for (unsigned l = 0; l < kLayers; ++l)
    for (const auto& [n, k] : {std::pair{kQkv, kHidden}, {kHidden, kHidden}, {2 * kFfn, kHidden}, {kHidden, kFfn}}) layers.push_back(make_matrix(n, k, l));
  std::printf("| activations | largest error / rms | tok/s, 1 row | 16 rows | 256 rows |\n|---|---|---|---|---|\n");
  for (const Scheme& scheme : kSchemes) {
    const double distance = bench.distance(scheme);
    if (distance > 0.2) return std::printf("%s computes something else: %g\n", scheme.name, distance), 1;
    const Input narrow(kHidden, scheme, bench.ops), wide(kFfn, scheme, bench.ops);
    std::printf("| %s | %.1e |", scheme.name, distance);
    for (const std::int32_t rows : {1, 16, 256}) {
      double best = 1e9;
      for (int r = 0; r < rounds; ++r) {
        const auto begin = std::chrono::steady_clock::now();
        for (const Matrix& m : layers) bench.linear(scheme, m, m.panels.columns == kFfn ? wide : narrow, rows);
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
      }
      std::printf(" %.0f |", rows / best);
    }
    std::printf("\n");
  }
  return 0;
}

}  // namespace
}  // namespace tokenworks::kernels::probe

int main(int argc, char** argv) { return tokenworks::kernels::probe::main_of(argc > 1 ? std::max(1, std::atoi(argv[1])) : 9); }
