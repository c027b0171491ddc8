// Whole steps of a real model in this process: decode steps of some sequences at some context, and prefill of one prompt in
// chunks, with the time of each kind of op and what is left outside them. No engine, no HTTP: what the backend can do.
//   ninja -C build/release bench_steps && build/release/bench_steps MODEL [--json] [--rounds N] [--threads N] [--compute default|exact]
//       [--only "decode 16"]   lines that begin so
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <vector>

#include "bench/timed_backend.hpp"
#include "tokenworks/model/runner.hpp"

namespace tokenworks::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::int32_t kContextMax = 8192;

struct Flags {
  std::string model, compute = "default", only;
  int rounds = 5, threads = 0;
  bool json = false;
};

// Sequences that hold blocks of their own, all at the same context.
class Batch {
 public:
  Batch(model::Runner& runner, std::int32_t sequences, std::int32_t context)
      : runner_(runner), sequences_(sequences), blocks_((context + backend::kBlockTokens - 1) / backend::kBlockTokens) {
    tables_.resize(static_cast<std::size_t>(sequences * blocks_));
    std::iota(tables_.begin(), tables_.end(), 0);
  }
  bool fits() const { return sequences_ * blocks_ <= runner_.info().kv_blocks; }

  // `rows` more tokens of every sequence, up to `context`; the last one of each is sampled when `sampled`.
  void step(std::int32_t rows, std::int32_t context, bool sampled) {
    tokens_.clear(), positions_.clear(), spans_.clear(), last_.clear();
    for (std::int32_t s = 0; s < sequences_; ++s) {
      spans_.push_back({static_cast<std::int32_t>(tokens_.size()), rows, context, s * blocks_});
      for (std::int32_t i = context - rows; i < context; ++i) {
        tokens_.push_back(1000 + (s * 131 + i * 7) % 40000 % (runner_.info().vocab - 1000));
        positions_.push_back(i);
      }
      if (sampled) last_.push_back(static_cast<std::int32_t>(tokens_.size()) - 1);
    }
    const backend::SampleRow greedy{.params = &params_};
    std::vector<backend::SampleRow> rows_of(last_.size(), greedy);
    std::vector<backend::Sampled> out(last_.size());
    const auto ran = runner_.run({{tokens_, positions_, spans_, tables_}, last_, rows_of}, out);
    if (!ran) {
      std::fprintf(stderr, "%s\n", ran.error().message.c_str());
      std::exit(1);
    }
  }

 private:
  model::Runner& runner_;
  std::int32_t sequences_, blocks_;
  backend::SamplingParams params_{.temperature = 0};
  std::vector<std::int32_t> tables_, positions_, last_;
  std::vector<TokenId> tokens_;
  std::vector<backend::SequenceRows> spans_;
};

struct Line {
  std::string what;
  double ms = 0, tokens = 0, outside_ms = 0;         // of the round with the median time
  Times times{};
};

template <class Round>
Line measure(std::string what, int rounds, double steps, double tokens, Times& times, const Round& round) {
  if (rounds > 1) round();                           // once to touch the memory
  std::vector<Line> lines;
  for (int r = 0; r < rounds; ++r) {
    times = {};
    const auto begin = Clock::now();
    round();
    const std::chrono::duration<double, std::milli> all = Clock::now() - begin;
    std::chrono::nanoseconds inside{};
    for (const auto t : times) inside += t;
    const double inside_ms = std::chrono::duration<double, std::milli>(inside).count();
    lines.push_back({what, all.count() / steps, tokens, (all.count() - inside_ms) / steps, times});
  }
  std::sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) { return a.ms < b.ms; });
  Line line = lines[lines.size() / 2];
  for (auto& t : line.times) t /= static_cast<int>(steps);
  return line;
}

void print(const Line& l, bool json) {
  std::string ops;
  for (std::size_t i = 0; i < l.times.size(); ++i) {
    const double ms = std::chrono::duration<double, std::milli>(l.times[i]).count();
    ops += json ? fmt::format(", \"{}_ms\": {:.4f}", kOpNames[i], ms) : fmt::format(" {:s} {:.3f}", kOpNames[i], ms);
  }
  if (json)
    std::printf("{\"what\": \"%s\", \"ms\": %.4f, \"tokens_per_s\": %.1f, \"outside_kernels_ms\": %.4f%s}\n",
                l.what.c_str(), l.ms, l.tokens / l.ms * 1e3, l.outside_ms, ops.c_str());
  else
    std::printf("%-22s %9.3f ms %7.0f tok/s  outside %.3f |%s\n", l.what.c_str(), l.ms, l.tokens / l.ms * 1e3,
                l.outside_ms, ops.c_str());
  std::fflush(stdout);
}

int run(const Flags& flags) {
  auto file = formats::ModelFile::open(flags.model);
  auto backend = backend::make_backend({.backend = "cpu", .compute = flags.compute, .threads = flags.threads});
  if (!file || !backend) {
    std::fprintf(stderr, "%s\n", (!file ? file.error() : backend.error()).message.c_str());
    return 1;
  }
  const auto times = std::make_shared<Times>();
  model::LoadOptions options;
  options.context_tokens = std::min(kContextMax, (*file)->config().context);
  options.kv_cache_bytes = std::size_t{1} << 30;
  auto runner = model::load(*file, std::make_unique<TimedBackend>(std::move(*backend), times), options);
  if (!runner) {
    std::fprintf(stderr, "%s\n", runner.error().message.c_str());
    return 1;
  }
  for (const std::int32_t sequences : {1, 2, 4, 8, 16, 32, 64}) {
    for (const std::int32_t context : {128, 512, 2048, 8192}) {
      if (context > options.context_tokens || (context > 512 && sequences != 1 && sequences != 16)) continue;
      Batch batch(**runner, sequences, context + 1);
      if (!batch.fits()) continue;
      const int steps = std::max(2, 64 / sequences);
      const auto all = [&] {
        for (int i = 0; i < steps; ++i) batch.step(1, context, true);
      };
      const std::string what = fmt::format("decode {} x {}", sequences, context);
      if (what.starts_with(flags.only)) print(measure(what, flags.rounds, steps, sequences, *times, all), flags.json);
    }
  }
  for (const std::int32_t prompt : {128, 512, 2048, 8192}) {
    if (prompt > options.context_tokens) continue;
    Batch batch(**runner, 1, prompt);
    const std::int32_t chunk = std::min(prompt, 256);
    const auto all = [&] {
      for (std::int32_t at = chunk; at <= prompt; at += chunk) batch.step(chunk, at, at == prompt);
    };
    const std::string what = fmt::format("prefill {} by {}", prompt, chunk);
    if (what.starts_with(flags.only)) print(measure(what, prompt > 512 ? 1 : flags.rounds, 1, prompt, *times, all), flags.json);
  }
  return 0;
}

}  // namespace
}  // namespace tokenworks::bench

int main(int argc, char** argv) {
  tokenworks::bench::Flags flags;
  for (int i = 1; i < argc; ++i) {
    const bool more = i + 1 < argc;
    if (std::strcmp(argv[i], "--json") == 0)
      flags.json = true;
    else if (std::strcmp(argv[i], "--rounds") == 0 && more)
      flags.rounds = std::max(1, std::atoi(argv[++i]));
    else if (std::strcmp(argv[i], "--compute") == 0 && more)
      flags.compute = argv[++i];
    else if (std::strcmp(argv[i], "--only") == 0 && more)
      flags.only = argv[++i];
    else if (std::strcmp(argv[i], "--threads") == 0 && more)
      flags.threads = std::atoi(argv[++i]);
    else
      flags.model = argv[i];
  }
  if (flags.model.empty()) {
    std::fprintf(stderr, "usage: bench_steps MODEL [--json] [--rounds N] [--threads N] [--compute default|exact] [--only TEXT]\n");
    return 2;
  }
  return tokenworks::bench::run(flags);
}
