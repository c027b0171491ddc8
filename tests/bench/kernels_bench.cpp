// Speed of the CPU kernels on the shapes of SmolLM2-135M (Q4_1 layers, Q8_0 head), with the machine's limits beside them.
// Not part of the tests; build and run by hand on a quiet machine:  ninja bench_kernels && build/.../bench_kernels
// GOP/s count a multiplication and an addition as two; tok/s of `AllLinears` are of all linear layers of the model.
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.hpp"

namespace tokenworks::backend {
namespace {

using formats::TensorType;
using formats::TensorView;

constexpr int kHidden = 576, kQkv = 960, kFfn = 1536, kVocab = 49152, kLayers = 30;

struct Tensor {                                      // random blocks with sane scales
  std::vector<std::byte> bytes;
  TensorView view;

  Tensor(TensorType type, std::int64_t rows, std::int64_t columns, unsigned seed) {
    const auto block = static_cast<std::size_t>(formats::block_bytes(type));
    const auto blocks = static_cast<std::size_t>(rows * columns / formats::block_elements(type));
    bytes.resize(blocks * block);
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i + 8 <= bytes.size(); i += 8) {
      const std::uint64_t word = random();
      std::memcpy(&bytes[i], &word, 8);
    }
    const std::uint16_t scale = 0x1C00;              // 2^-8
    for (std::size_t b = 0; b < blocks; ++b) {
      std::memcpy(&bytes[b * block], &scale, 2);
      if (type == TensorType::q4_1) std::memcpy(&bytes[b * block + 2], &scale, 2);
    }
    view.name = std::to_string(seed);
    view.type = type;
    view.shape = {rows, columns};
    view.bytes = bytes;
  }
};

std::unique_ptr<Weight> linear_of(Backend& backend, const Tensor& tensor) {
  Backend::LinearParts parts;
  parts.parts.push_back(tensor.view);
  return std::move(backend.make_linear(parts).value());
}

struct Bench {                                       // one backend, its buffers and random activations
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Buffer> hidden, out;
  std::unique_ptr<Activations> narrow, wide;
  std::unique_ptr<Weight> ones;

  explicit Bench(int threads, int rows) {
    backend = std::move(make_backend({"cpu", "default", threads}).value());
    hidden = std::move(backend->allocate(static_cast<std::size_t>(rows) * kFfn * 2 * 4).value());
    out = std::move(backend->allocate(static_cast<std::size_t>(rows) * kVocab * 4).value());
    narrow = std::move(backend->make_activations(rows, kFfn).value());
    wide = std::move(backend->make_activations(rows, kFfn).value());
    std::vector<float> values(static_cast<std::size_t>(rows) * kFfn * 2);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (float& v : values) v = normal(random);
    backend->upload(*hidden, 0, std::as_bytes(std::span(values)));
    std::vector<float> weight(kFfn, 1.0f);
    TensorView vector{"ones", TensorType::f32, {kFfn}, std::as_bytes(std::span(weight))};
    ones = std::move(backend->make_vector(vector).value());
  }
  void fill(int rows) {
    backend->norm(*hidden, *ones, 1e-5f, rows, kHidden, *narrow);
    backend->norm(*hidden, *ones, 1e-5f, rows, kFfn, *wide);
  }
};

void Linear(benchmark::State& state, TensorType type, int n, int k) {
  const int rows = static_cast<int>(state.range(0)), threads = static_cast<int>(state.range(1));
  Bench bench(threads, rows);
  const Tensor tensor(type, n, k, 7);
  const auto weight = linear_of(*bench.backend, tensor);
  bench.backend->norm(*bench.hidden, *bench.ones, 1e-5f, rows, k, *bench.narrow);
  for (auto _ : state) bench.backend->linear(*bench.narrow, *weight, rows, *bench.out, false);
  state.counters["GOP/s"] = benchmark::Counter(2e-9 * n * k * rows, benchmark::Counter::kIsIterationInvariantRate);
}

// Every linear layer of the model, each with weights of its own, as a step reads them.
void AllLinears(benchmark::State& state) {
  const int rows = static_cast<int>(state.range(0)), head_rows = std::min(rows, 32);
  Bench bench(static_cast<int>(state.range(1)), rows);
  struct Layer {
    std::unique_ptr<Weight> qkv, o, gate_up, down;
  };
  std::vector<Layer> layers;
  for (int l = 0; l < kLayers; ++l) {
    const unsigned seed = static_cast<unsigned>(10 * l);
    layers.push_back({linear_of(*bench.backend, Tensor(TensorType::q4_1, kQkv, kHidden, seed)),
                      linear_of(*bench.backend, Tensor(TensorType::q4_1, kHidden, kHidden, seed + 1)),
                      linear_of(*bench.backend, Tensor(TensorType::q4_1, 2 * kFfn, kHidden, seed + 2)),
                      linear_of(*bench.backend, Tensor(TensorType::q4_1, kHidden, kFfn, seed + 3))});
  }
  const auto head = linear_of(*bench.backend, Tensor(TensorType::q8_0, kVocab, kHidden, 9999));
  bench.fill(rows);
  for (auto _ : state) {
    for (const Layer& layer : layers) {
      bench.backend->linear(*bench.narrow, *layer.qkv, rows, *bench.out, false);
      bench.backend->linear(*bench.narrow, *layer.o, rows, *bench.out, true);
      bench.backend->linear(*bench.narrow, *layer.gate_up, rows, *bench.out, false);
      bench.backend->linear(*bench.wide, *layer.down, rows, *bench.out, true);
    }
    bench.backend->linear(*bench.narrow, *head, head_rows, *bench.out, false);
  }
  const double layer_ops = 2.0 * kLayers * (kQkv * kHidden + kHidden * kHidden + 3.0 * kFfn * kHidden);
  const double ops = layer_ops * rows + 2.0 * kVocab * kHidden * head_rows;
  state.counters["GOP/s"] = benchmark::Counter(1e-9 * ops, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["tok/s"] = benchmark::Counter(rows, benchmark::Counter::kIsIterationInvariantRate);
}

void rows_and_threads(benchmark::internal::Benchmark* b) {
  b->ArgNames({"M", "threads"})->UseRealTime()->Unit(benchmark::kMicrosecond);
  for (const int threads : {1, 2})
    for (const int m : {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 256}) b->Args({m, threads});
}

// The limits of the machine, measured on the spot: what the figures above are to be compared with.
#if defined(__x86_64__)
__attribute__((target("avx512f,avx512vnni"), noinline)) void dots(std::int64_t rounds) {
  for (std::int64_t i = 0; i < rounds; ++i)          // 16 independent chains of 64 products and sums
    asm volatile(
        "vpdpbusd %%zmm30, %%zmm31, %%zmm0\n vpdpbusd %%zmm30, %%zmm31, %%zmm1\n vpdpbusd %%zmm30, %%zmm31, %%zmm2\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm3\n vpdpbusd %%zmm30, %%zmm31, %%zmm4\n vpdpbusd %%zmm30, %%zmm31, %%zmm5\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm6\n vpdpbusd %%zmm30, %%zmm31, %%zmm7\n vpdpbusd %%zmm30, %%zmm31, %%zmm8\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm9\n vpdpbusd %%zmm30, %%zmm31, %%zmm10\n vpdpbusd %%zmm30, %%zmm31, %%zmm11\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm12\n vpdpbusd %%zmm30, %%zmm31, %%zmm13\n vpdpbusd %%zmm30, %%zmm31, %%zmm14\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm15" ::
            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
              "xmm13", "xmm14", "xmm15");
}

void Int8Peak(benchmark::State& state) {
  if (!kernels::machine_has(kernels::CpuPath::avx512)) return state.SkipWithError("no AVX-512 VNNI");
  const int threads = static_cast<int>(state.range(0));
  ThreadPool pool(threads);
  for (auto _ : state) pool.run(threads * 4, [](std::int32_t, int) { dots(100000); });
  state.counters["GOP/s"] =
      benchmark::Counter(1e-9 * threads * 4 * 100000 * 16 * 128, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(Int8Peak)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMicrosecond);
#endif

void ReadBandwidth(benchmark::State& state) {
  const std::size_t bytes = static_cast<std::size_t>(state.range(0)) << 20;
  ThreadPool pool(static_cast<int>(state.range(1)));
  const Pages pages = std::move(Pages::allocate(bytes, "the probe").value());
  std::memset(pages.data(), 1, bytes);
  constexpr std::size_t kPiece = 64 << 10;
  for (auto _ : state) {
    pool.run(static_cast<std::int32_t>(bytes / kPiece), [&](std::int32_t piece, int) {
      const auto* words =
          reinterpret_cast<const std::uint64_t*>(pages.data() + static_cast<std::size_t>(piece) * kPiece);
      std::uint64_t sum[4] = {};
      for (std::size_t i = 0; i < kPiece / 8; i += 32)               // one word of each cache line: the lines are what moves
        for (std::size_t j = 0; j < 4; ++j) sum[j] += words[i + 8 * j];
      benchmark::DoNotOptimize(sum);
    });
  }
  state.counters["GB/s"] =
      benchmark::Counter(1e-9 * static_cast<double>(bytes), benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(ReadBandwidth)->ArgNames({"MiB", "threads"})->Args({90, 1})->Args({90, 2})->Args({140, 2})->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

BENCHMARK_CAPTURE(Linear, qkv_q4_1, TensorType::q4_1, kQkv, kHidden)->Apply(rows_and_threads);
BENCHMARK_CAPTURE(Linear, o_q4_1, TensorType::q4_1, kHidden, kHidden)->Apply(rows_and_threads);
BENCHMARK_CAPTURE(Linear, gate_up_q4_1, TensorType::q4_1, 2 * kFfn, kHidden)->Apply(rows_and_threads);
BENCHMARK_CAPTURE(Linear, down_q4_1, TensorType::q4_1, kHidden, kFfn)->Apply(rows_and_threads);
BENCHMARK_CAPTURE(Linear, head_q8_0, TensorType::q8_0, kVocab, kHidden)->Apply(rows_and_threads);
BENCHMARK(AllLinears)->Apply(rows_and_threads);

}  // namespace
}  // namespace tokenworks::backend

BENCHMARK_MAIN();
