// The CPU backend as a model sees it: results that depend on nothing but the sequence, exact weights, honest errors.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "mini_layer.hpp"

namespace tokenworks::backend {
namespace {

using formats::TensorType;

// This machine may have a card or not: what must not happen is fp8 asked for and something else given.
TEST(MakeBackend, WordsOfACardAreNotTakenByTheCpu) {
  for (const char* compute : {"bf16", "fp16", "fp8", "bf16-kv8", "fp8-kv8"}) {
    const auto cpu = make_backend({"cpu", compute, 1});
    ASSERT_FALSE(cpu) << compute;
    EXPECT_NE(cpu.error().message.find("backend cuda only"), std::string::npos) << cpu.error().message;
    if (gpu_report().usable) continue;
    for (const char* backend : {"auto", "cuda"}) {
      const auto none = make_backend({backend, compute, 1});
      ASSERT_FALSE(none) << compute;
      EXPECT_NE(none.error().message.find("cannot be had"), std::string::npos) << none.error().message;
    }
  }
  EXPECT_NE(make_backend({"cuda", "exact", 1}).error().message.find("fp8-kv8"), std::string::npos);
  EXPECT_NE(make_backend({"cpu", "fp7", 1}).error().message.find("is unknown"), std::string::npos);
}

std::unique_ptr<Backend> backend_of(const char* path, int threads, const char* compute = "default") {
  setenv("TOKENWORKS_CPU", path, 1);
  auto made = make_backend({"cpu", compute, threads});
  unsetenv("TOKENWORKS_CPU");
  return made ? std::move(*made) : nullptr;
}

struct Sequence {
  std::vector<TokenId> tokens;
  std::vector<std::int32_t> blocks;
  std::vector<std::vector<float>> logits;            // per position, once computed
};

std::vector<Sequence> sequences(int count, int length_max, int vocab, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Sequence> all(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].tokens.resize(i == 0 ? static_cast<std::size_t>(length_max)
                                : 1 + random() % static_cast<unsigned>(length_max));
    for (TokenId& t : all[i].tokens) t = static_cast<TokenId>(random() % static_cast<unsigned>(vocab));
  }
  return all;
}

// Runs all sequences to their ends in random chunks, several in a step, blocks in random order.
void run_shuffled(MiniLayer& layer, std::vector<Sequence>& all, int blocks, int vocab, unsigned seed, int rows_max) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> free(static_cast<std::size_t>(blocks));
  std::iota(free.begin(), free.end(), 0);
  std::shuffle(free.begin(), free.end(), random);
  for (Sequence& s : all) s.blocks.clear(), s.logits.clear();
  while (true) {
    std::vector<TokenId> tokens;
    std::vector<std::int32_t> positions, tables;
    std::vector<SequenceRows> rows;
    std::vector<std::size_t> who;
    std::vector<std::size_t> order(all.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::shuffle(order.begin(), order.end(), random);
    for (const std::size_t i : order) {
      Sequence& s = all[i];
      const auto done = static_cast<std::int32_t>(s.logits.size()),
                 left = static_cast<std::int32_t>(s.tokens.size()) - done;
      const auto room = rows_max - static_cast<std::int32_t>(tokens.size());
      if (left == 0 || room == 0 || random() % 4 == 0) continue;
      const std::int32_t n =
          std::min({left, room, 1 + static_cast<std::int32_t>(random() % (random() % 2 == 0 ? 2 : 70))});
      while (static_cast<std::int32_t>(s.blocks.size()) * kBlockTokens < done + n) {
        s.blocks.push_back(free.back());
        free.pop_back();
      }
      rows.push_back({static_cast<std::int32_t>(tokens.size()), n, done + n, static_cast<std::int32_t>(tables.size())});
      tables.insert(tables.end(), s.blocks.begin(), s.blocks.end());
      for (std::int32_t p = done; p < done + n; ++p) {
        tokens.push_back(s.tokens[static_cast<std::size_t>(p)]);
        positions.push_back(p);
        who.push_back(i);
      }
    }
    if (tokens.empty()) {
      if (std::all_of(all.begin(), all.end(), [](const Sequence& s) { return s.logits.size() == s.tokens.size(); }))
        return;
      continue;
    }
    const auto logits = layer.run({tokens, positions, rows, tables});
    for (std::size_t r = 0; r < who.size(); ++r)
      all[who[r]].logits.emplace_back(logits.begin() + static_cast<std::ptrdiff_t>(r) * vocab,
                                      logits.begin() + static_cast<std::ptrdiff_t>(r + 1) * vocab);
  }
}

struct Numerics {
  const char* what;
  MiniShape shape;
  const char* compute;
  int length_max;
};
const Numerics kNumerics[] = {
    {"head groups that 32 does not divide", {}, "default", 90},
    {"whole groups, mixed types", {128, 4, 2, 32, 192, 301, 0, TensorType::q4_1, TensorType::q5_1}, "exact", 60},
    {"float weights", {48, 3, 1, 16, 80, 77, 0, TensorType::f16, TensorType::bf16}, "default", 60},
    {"floats beside integers", {64, 2, 2, 32, 96, 33, 20, TensorType::q5_0, TensorType::f32}, "default", 70},
    {"contexts cut into spans", {64, 2, 1, 32, 64, 50, 0, TensorType::q4_0, TensorType::q4_0}, "default", 1100},
};

TEST(CpuBackend, ARowDependsOnItsSequenceAloneAtAnyThreadCount) {
  for (const Numerics& n : kNumerics) {
    std::vector<Sequence> reference;
    for (const int threads : {1, 2, 5}) {
      for (unsigned seed = 1; seed <= 3; ++seed) {
        const auto backend = backend_of("", threads, n.compute);
        ASSERT_TRUE(backend);
        MiniLayer layer(*backend, n.shape, 100, 400);
        auto all = sequences(6, n.length_max, n.shape.vocab, 9);
        run_shuffled(layer, all, 400, n.shape.vocab, seed, seed == 3 ? 1 : 100);
        if (reference.empty()) reference = all;
        for (std::size_t s = 0; s < all.size(); ++s)
          for (std::size_t p = 0; p < all[s].logits.size(); ++p)
            ASSERT_EQ(std::memcmp(all[s].logits[p].data(), reference[s].logits[p].data(), all[s].logits[p].size() * 4),
                      0)
                << n.what << ": threads " << threads << " seed " << seed << " sequence " << s << " position " << p;
        for (const float x : reference[0].logits.back()) ASSERT_TRUE(std::isfinite(x)) << n.what;
        if (n.length_max > 500 && seed == 2) break;
      }
    }
  }
}

TEST(CpuBackend, PathsAgreeAndTheDefaultIsNearTheExactOne) {
  MiniShape shape{128, 4, 2, 32, 192, 301, 0, TensorType::q8_0, TensorType::q8_0};
  std::vector<Sequence> exact;
  for (const char* compute : {"exact", "default"}) {
    for (const char* path : {"portable", "avx2", "avx512"}) {
      const auto backend = backend_of(path, 2, compute);
      if (!backend) continue;                        // this machine has no such instructions
      MiniLayer layer(*backend, shape, 100, 100);
      auto all = sequences(3, 50, shape.vocab, 10);
      run_shuffled(layer, all, 100, shape.vocab, 4, 100);
      if (exact.empty()) exact = all;
      double difference = 0, size = 0;
      for (std::size_t s = 0; s < all.size(); ++s)
        for (std::size_t p = 0; p < all[s].logits.size(); ++p)
          for (std::size_t t = 0; t < all[s].logits[p].size(); ++t) {
            difference += std::pow(static_cast<double>(all[s].logits[p][t]) - exact[s].logits[p][t], 2);
            size += std::pow(static_cast<double>(exact[s].logits[p][t]), 2);
          }
      // 3.7 % here: two random layers forgive int8 activations less than a trained model does.
      EXPECT_LT(std::sqrt(difference / size), std::string(compute) == "exact" ? 1e-5 : 0.06) << compute << " " << path;
    }
  }
}

TEST(CpuBackend, LinearStacksPartsOfAnyTypesAndInterleavesTwo) {
  const auto backend = backend_of("", 2);
  const std::int32_t k = 256;
  std::vector<float> x(2 * k), one(k, 1.0f);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  const auto vector_of = [&](const std::vector<float>& v) {
    return std::move(
        backend->make_vector({"v", TensorType::f32, {static_cast<std::int64_t>(v.size())}, std::as_bytes(std::span(v))})
            .value());
  };
  const auto ones = vector_of(one);
  const auto hidden = std::move(backend->allocate(x.size() * 4).value());
  backend->upload(*hidden, 0, std::as_bytes(std::span(x)));
  const auto in = std::move(backend->make_activations(2, k).value());
  const std::vector<TensorType> types{TensorType::q4_k, TensorType::q6_k, TensorType::q6_k, TensorType::f16,
                                      TensorType::q4_0};
  for (const bool interleave : {false, true}) {
    for (std::size_t first = 0; first + 2 <= types.size(); ++first) {
      std::vector<OwnedTensor> tensors;
      const std::size_t count = interleave ? 2 : types.size() - first;
      for (std::size_t p = 0; p < count; ++p)
        tensors.emplace_back("t", types[first + p], interleave ? 37 : 5 + 31 * static_cast<std::int64_t>(p), k,
                             50 + static_cast<unsigned>(p));
      Backend::LinearParts parts;
      parts.interleave = interleave;
      for (const OwnedTensor& t : tensors) parts.parts.push_back(t.view);
      const auto weight = std::move(backend->make_linear(parts).value());
      std::vector<std::vector<float>> rows;          // of the stacked matrix, dequantised
      const auto add = [&](const OwnedTensor& t, std::size_t r) {
        const auto values = t.values();
        rows.emplace_back(values.begin() + static_cast<std::ptrdiff_t>(r) * k,
                          values.begin() + static_cast<std::ptrdiff_t>(r + 1) * k);
      };
      if (interleave)
        for (std::size_t r = 0; r < 37; ++r) add(tensors[0], r), add(tensors[1], r);
      else
        for (const OwnedTensor& t : tensors)
          for (std::size_t r = 0; r < static_cast<std::size_t>(t.view.rows()); ++r) add(t, r);
      backend->norm(*hidden, *ones, 1e-5f, 2, k, *in);
      const auto out = std::move(backend->allocate(2 * rows.size() * 4).value());
      backend->linear(*in, *weight, 2, *out, false);
      std::vector<float> got(2 * rows.size());
      backend->download(*out, 0, std::as_writable_bytes(std::span(got)));
      for (std::size_t t = 0; t < 2; ++t) {
        double squares = 0;
        for (std::size_t c = 0; c < k; ++c) squares += std::pow(static_cast<double>(x[t * k + c]), 2);
        const double factor = 1 / std::sqrt(squares / k + 1e-5);
        for (std::size_t r = 0; r < rows.size(); ++r) {
          double want = 0, size = 0;
          for (std::size_t c = 0; c < k; ++c) {
            want += static_cast<double>(rows[r][c]) * x[t * k + c] * factor;
            size += std::pow(static_cast<double>(rows[r][c]), 2);
          }
          // The rounding of int8 activations: 256 errors of at most half a step of 1.42 / 127.
          ASSERT_NEAR(got[t * rows.size() + r], want, 5 * std::sqrt(size) * 1.42 / 127 / std::sqrt(12.0) + 1e-5)
              << "first type " << first << " row " << r;
        }
      }
    }
  }
}

TEST(CpuBackend, TiedEmbeddingsAreKeptOnce) {
  const auto backend = backend_of("", 2);
  MiniLayer tied(*backend, {}, 10, 4);
  EXPECT_GT(tied.table().bytes(), 0u);
  EXPECT_EQ(tied.head().bytes(), 0u) << "the table's own memory";
  // Another tensor at the same address with the same name is another tensor.
  OwnedTensor t("t", TensorType::f32, 33, 64, 1);
  const auto before = std::move(backend->make_table(t.view).value());
  const float changed = 5;
  std::memcpy(t.bytes.data(), &changed, 4);
  const auto after = std::move(backend->make_table(t.view).value());
  const auto hidden = std::move(backend->allocate(64 * 4).value());
  const TokenId token = 0;
  const std::int32_t position = 0, block = 0;
  const SequenceRows row{0, 1, 1, 0};
  backend->begin_step({{&token, 1}, {&position, 1}, {&row, 1}, {&block, 1}});
  backend->embed(*after, *hidden);
  float first = 0;
  backend->download(*hidden, 0, std::as_writable_bytes(std::span(&first, 1)));
  EXPECT_EQ(first, 5.0f);
}

TEST(CpuBackend, WeightsTakeNoMoreMemoryThanTheFileWhereScalesAreHalves) {
  const auto backend = backend_of("", 1);
  for (const auto& [type, factor] : {std::pair{TensorType::q4_1, 1.0}, {TensorType::q4_0, 1.0}, {TensorType::q8_0, 1.0},
                                     {TensorType::f16, 1.0}, {TensorType::q4_k, 1.34}, {TensorType::q6_k, 1.53}}) {
    const OwnedTensor t("t", type, 320, 1024, 3);
    const auto weight = std::move(backend->make_linear({{t.view}, {}, false}).value());
    EXPECT_LE(static_cast<double>(weight->bytes()), factor * static_cast<double>(t.bytes.size()) + 64)
        << formats::name(type);
  }
}

TEST(CpuBackend, MemoryIsCopiedGatheredAndZeroed) {
  const auto backend = backend_of("", 2);
  const auto from = std::move(backend->allocate(12 * 4).value()), to = std::move(backend->allocate(6 * 4).value());
  std::vector<float> values(12);
  std::iota(values.begin(), values.end(), 0.0f);
  backend->upload(*from, 0, std::as_bytes(std::span(values)));
  const std::int32_t rows[] = {1, 3};
  backend->gather(*from, rows, 3, *to);
  std::vector<float> got(6);
  backend->download(*to, 0, std::as_writable_bytes(std::span(got)));
  EXPECT_EQ(got, (std::vector<float>{3, 4, 5, 9, 10, 11}));

  MiniLayer layer(*backend, {}, 10, 4);
  const TokenId tokens[] = {5, 6};
  const std::int32_t positions[] = {0, 1}, blocks[] = {2};
  const SequenceRows row{0, 2, 2, 0};
  const auto first = layer.run({tokens, positions, {&row, 1}, blocks});
  const SequenceRows second{0, 1, 2, 0};             // position 1 again: attends to what position 0 left in the block
  const StepRows step{{&tokens[1], 1}, {&positions[1], 1}, {&second, 1}, blocks};
  EXPECT_TRUE(std::equal(first.begin() + 301, first.end(), layer.run(step).begin()));
  backend->zero_blocks(layer.cache(), blocks);
  EXPECT_FALSE(std::equal(first.begin() + 301, first.end(), layer.run(step).begin()));
}

TEST(CpuBackend, RefusesTensorsThatDoNotFitAndSaysWhich) {
  const auto backend = backend_of("", 1);
  const OwnedTensor a("a.weight", TensorType::q8_0, 4, 64, 1), b("b.weight", TensorType::q8_0, 4, 96, 2);
  const auto expect = [](const auto& result, const std::string& part) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Errc::bad_file);
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
  };
  expect(backend->make_linear({{a.view, b.view}, {}, false}), "b.weight");
  formats::TensorView cut = a.view;
  cut.bytes = cut.bytes.first(100);
  expect(backend->make_linear({{cut}, {}, false}), "a.weight");
  expect(backend->make_table(cut), "a.weight");
  expect(backend->make_vector(cut), "a.weight");
  formats::TensorView odd = a.view;
  odd.shape = {4, 65};
  expect(backend->make_linear({{odd}, {}, false}), "whole blocks");
  const OwnedTensor bias("a.bias", TensorType::f32, 1, 5, 3);
  expect(backend->make_linear({{a.view}, {bias.view}, false}), "a.bias");
}

TEST(CpuBackend, SamplesEveryRowByItsOwnParameters) {
  const auto backend = backend_of("", 2);
  constexpr std::int32_t kVocab = 1000;
  std::vector<float> logits(3 * kVocab);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i * i % 7919));
  const auto buffer = std::move(backend->allocate(logits.size() * 4).value());
  backend->upload(*buffer, 0, std::as_bytes(std::span(logits)));
  SamplingParams greedy, warm;
  greedy.temperature = 0;
  greedy.top_logprobs = 2;
  warm.seed = 5;
  SampleRow rows[3];
  rows[0].params = rows[2].params = &warm;
  rows[1].params = &greedy;
  Sampled out[3], again[3];
  ASSERT_TRUE(backend->sample(*buffer, kVocab, rows, out));
  ASSERT_TRUE(backend->sample(*buffer, kVocab, rows, again));
  const auto best = std::max_element(logits.begin() + kVocab, logits.begin() + 2 * kVocab) - logits.begin() - kVocab;
  EXPECT_EQ(out[1].token, best);
  EXPECT_EQ(out[1].top.size(), 2u);
  EXPECT_EQ(out[1].top[0].token, best);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(out[i].token, again[i].token);
  EXPECT_TRUE(out[0].top.empty());
}

TEST(MakeBackend, NamesWhatItKnowsWhenAChoiceIsWrong) {
  const auto expect = [](const Result<std::unique_ptr<Backend>>& made, const std::string& part) {
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, Errc::bad_config);
    EXPECT_NE(made.error().message.find(part), std::string::npos) << made.error().message;
  };
  expect(make_backend({"tpu", "default", 1}), "auto, cpu or cuda");
  expect(make_backend({"cuda", "default", 1}), "cuda cannot be had");
  expect(make_backend({"cpu", "fast", 1}), "default or exact");
  setenv("TOKENWORKS_CPU", "sse9", 1);
  expect(make_backend({"auto", "default", 1}), "portable, avx2 or avx512");
  unsetenv("TOKENWORKS_CPU");
  const auto made = make_backend({});
  ASSERT_TRUE(made);
  EXPECT_EQ((*made)->info().name, "cpu");
  EXPECT_FALSE((*made)->info().device.empty());
  EXPECT_NE((*made)->info().numerics, (*make_backend({"cpu", "exact", 1}))->info().numerics);
  EXPECT_EQ((*made)->info().numerics, (*make_backend({"cpu", "default", 1}))->info().numerics)
      << "threads change nothing";
}

}  // namespace
}  // namespace tokenworks::backend
