// gpu_bench OUT [--tiny] [--fp8] [SECTION...]: what the card can do (probes), and what the engine's model reaches on it at the
// shape of Llama-3.1-8B with random weights. Sections: probes gemm decode prefill mixed attention, and peers if named. --tiny: a toy shape and few
// repetitions, which is what the emulator runs in tests; its times mean nothing.
#include <chrono>
#include <cstring>
#include <functional>
#include <numeric>
#include <set>

#include "backend/cuda/nvml.hpp"
#include "gpu/peers.hpp"
#include "gpu/report.hpp"
#include "gpu/synthetic.hpp"

namespace tokenworks::gpu {
namespace {

using namespace backend::cuda;
using kernels::cuda::Element;

struct Settings {
  bool tiny = false;
  Element element = Element::bf16;
  std::set<std::string> sections;
  bool wants(const std::string& s) const { return sections.empty() || sections.contains(s); }
};

constexpr std::size_t kNoLongerCached = std::size_t{400} << 20;

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Seconds of one repetition of `enqueue`, after one for warmth.
double timed(Device& d, int repetitions, const std::function<void(int)>& enqueue) {
  enqueue(0);
  (void)d.synchronise(d.stream());
  const double began = now_s();
  for (int i = 0; i < repetitions; ++i) enqueue(i);
  (void)d.synchronise(d.stream());
  return (now_s() - began) / repetitions;
}

void probes(Report& report, const Settings& s) {
  auto made = make_device();
  if (!made) return report.failed("probes", "device", made.error().message);
  Device& d = **made;
  const std::size_t bytes = s.tiny ? std::size_t{1} << 16 : std::size_t{4} << 30;
  const int repetitions = s.tiny ? 2 : 20;
  auto a = Memory::make(d, bytes, "probe"), b = Memory::make(d, bytes, "probe");
  const std::int32_t blocks = d.info().multiprocessors * (s.tiny ? 1 : 16);
  auto sums = Memory::make(d, static_cast<std::size_t>(blocks) * 32, "probe sums");
  if (!a || !b || !sums) return report.failed("probes", "memory", "the card has too little free memory");
  d.fill(a->data(), 1, bytes, d.stream());
  const double copy = timed(d, repetitions, [&](int) { d.copy_on_device(b->data(), a->data(), bytes, d.stream()); });
  report.add("probes", "copy", {{"gb_s", 2e-9 * static_cast<double>(bytes) / copy}});
  const double read = timed(d, repetitions, [&](int) {
    d.ops().probe_read(d.stream(), {a->data(), bytes, reinterpret_cast<std::uint32_t*>(sums->data()), blocks});
  });
  report.add("probes", "read", {{"gb_s", 1e-9 * static_cast<double>(bytes) / read}});
  const double zero = timed(d, repetitions, [&](int) { d.fill(b->data(), 0, bytes, d.stream()); });
  report.add("probes", "fill", {{"gb_s", 1e-9 * static_cast<double>(bytes) / zero}});

  const kernels::cuda::ProbeArgs small{a->data(), 16, reinterpret_cast<std::uint32_t*>(sums->data()), 1};
  const int nodes = s.tiny ? 20 : 1000;
  const double launch = timed(d, repetitions, [&](int) {
    for (int i = 0; i < nodes; ++i) d.ops().probe_read(d.stream(), small);
  });
  d.begin_capture(d.stream());
  for (int i = 0; i < nodes; ++i) d.ops().probe_read(d.stream(), small);
  auto graph = d.end_capture(d.stream());
  if (!graph) return report.failed("probes", "graph", graph.error().message);
  const double node = timed(d, repetitions, [&](int) { d.launch(**graph, d.stream()); });
  report.add("probes", "launch", {{"us_launch", 1e6 * launch / nodes}, {"us_graph_node", 1e6 * node / nodes}});
}

// The five products of a step, by the kernel the backend would take. As many matrices of a shape take turns as do not fit the
// card's L2 together (50 to 60 MB on Hopper): one alone would be read from there, as no step's weights are.
void gemm(Report& report, const Settings& s) {
  const formats::ModelConfig c = s.tiny ? shape_tiny() : shape_8b();
  const struct { const char* name; std::int32_t n, k; } shapes[] = {
      {"qkv", (c.q_heads + 2 * c.kv_heads) * c.head_dim, c.hidden}, {"output", c.hidden, c.q_heads * c.head_dim},
      {"gate_up", 2 * c.ffn, c.hidden}, {"down", c.hidden, c.ffn}, {"head", c.vocab, c.hidden}};
  for (const Element e : {Element::bf16, Element::fp8}) {
    auto made = make_device();
    if (!made) return report.failed("gemm", "device", made.error().message);
    auto owned = std::make_unique<CudaBackend>(std::move(*made), CudaOptions{.compute = e, .graphs = false});
    CudaBackend& backend = *owned;
    for (const auto& shape : shapes) {
      const std::int32_t rows_max = s.tiny ? 32 : 2048;
      std::vector<std::unique_ptr<backend::Weight>> weights;
      for (std::size_t bytes = 0; weights.empty() || (!s.tiny && weights.back() && bytes < kNoLongerCached);) {
        weights.push_back(random_linear(backend, e, shape.n, shape.k));
        if (weights.back()) bytes += weights.back()->bytes();
      }
      auto in = backend.make_activations(rows_max, shape.k);
      auto out = backend.allocate(static_cast<std::size_t>(rows_max) * static_cast<std::size_t>(shape.n) * 4);
      auto hidden = backend.allocate(static_cast<std::size_t>(rows_max) * static_cast<std::size_t>(shape.k) * 4);
      const std::vector<float> ones(static_cast<std::size_t>(shape.k), 1.0f);
      auto norm = backend.make_vector({.name = "ones", .shape = {shape.k}, .bytes = std::as_bytes(std::span(ones))});
      if (!weights.back() || !in || !out || !hidden || !norm) return report.failed("gemm", shape.name, "no memory");
      Device& d = backend.device();
      d.fill(static_cast<CudaBuffer&>(**hidden).data(), 1, (*hidden)->bytes(), d.stream());
      backend.norm(**hidden, **norm, 1e-5f, rows_max, shape.k, **in);
      backend.time_products(rows_max);
      for (const std::int32_t rows : s.tiny ? std::vector<std::int32_t>{1, 32} : std::vector<std::int32_t>{1, 4, 16, 32, 64, 128, 256, 2048}) {
        const double t = timed(d, s.tiny ? 1 : 20, [&](int i) { backend.linear(**in, *weights[static_cast<std::size_t>(i) % weights.size()], rows, **out, false); });
        const double flops = 2.0 * rows * shape.n * shape.k;
        const double bytes = static_cast<double>(weights[0]->bytes()) + 4.0 * rows * shape.n;
        report.add("gemm", std::string(e == Element::fp8 ? "fp8 " : "bf16 ") + shape.name,
                   {{"rows", rows}, {"us", 1e6 * t}, {"tflop_s", 1e-12 * flops / t}, {"gb_s", 1e-9 * bytes / t}});
      }
      if (auto ok = backend.check(); !ok) return report.failed("gemm", shape.name, ok.error().message);
    }
  }
}

// Sequences of a running batch: `context` tokens each in the cache (whatever stands there), decoding one at a time.
class Batch {
 public:
  Batch(model::Runner& runner, std::int32_t n, std::int32_t context, std::int32_t room) : runner_(runner), params_{.temperature = 0} {
    const std::int32_t blocks = (context + room + 15) / 16;
    std::int32_t next = 0;
    for (std::int32_t i = 0; i < n; ++i) {
      tokens_.push_back(i % runner.info().vocab);
      positions_.push_back(context - 1);
      sequences_.push_back({i, 1, context, static_cast<std::int32_t>(tables_.size())});
      for (std::int32_t b = 0; b < blocks; ++b) tables_.push_back(next++ % runner.info().kv_blocks);
      rows_.push_back(i);
      asked_.push_back({.params = &params_});
    }
    sampled_.resize(static_cast<std::size_t>(n));
  }
  // One step: every sequence one token further, and `prompt` rows of a new one.
  Result<> step(std::int32_t prompt = 0) {
    auto tokens = tokens_;
    auto positions = positions_;
    auto sequences = sequences_;
    const auto n = static_cast<std::int32_t>(tokens_.size());
    if (prompt > 0) {
      sequences.push_back({n, prompt, prompt, 0});
      for (std::int32_t i = 0; i < prompt; ++i) tokens.push_back(i % runner_.info().vocab), positions.push_back(i);
    }
    const auto ran = runner_.run({{tokens, positions, sequences, tables_}, rows_, asked_}, sampled_);
    if (!ran) return ran;
    go_on();
    keep_tokens();
    return {};
  }
  // The same in halves, as the engine has it: a step is launched before the one it follows is read, whose tokens it takes from
  // where they were drawn.
  Result<> launch(bool follows) {
    auto tokens = tokens_;
    if (follows)
      for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = backend::drawn_by(static_cast<std::int32_t>(i));
    const auto launched = runner_.launch({{tokens, positions_, sequences_, tables_}, rows_, asked_});
    go_on();
    return launched;
  }
  Result<> take() {
    const auto took = runner_.take(sampled_);
    keep_tokens();
    return took;
  }

 private:
  void go_on() {
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      ++positions_[i];
      ++sequences_[i].context;
      ++asked_[i].position;
    }
  }
  void keep_tokens() {
    for (std::size_t i = 0; i < tokens_.size(); ++i) tokens_[i] = std::max(0, sampled_[i].token);
  }
  model::Runner& runner_;
  backend::SamplingParams params_;
  std::vector<TokenId> tokens_;
  std::vector<std::int32_t> positions_, tables_, rows_;
  std::vector<backend::SequenceRows> sequences_;
  std::vector<backend::SampleRow> asked_;
  std::vector<backend::Sampled> sampled_;
};

std::uint64_t energy_mj(const Nvml* nvml) {
  if (nvml == nullptr) return 0;
  const auto r = nvml->read(0);
  return r && r->energy_millijoules ? *r->energy_millijoules : 0;
}

void decode(Report& report, const Settings& s, Model& m, const Nvml* nvml, bool mixed) {
  const std::vector<std::int32_t> batches = mixed ? std::vector<std::int32_t>{s.tiny ? 3 : 64} : s.tiny ? std::vector<std::int32_t>{1, 3} : std::vector<std::int32_t>{1, 16, 64, 256};
  const std::vector<std::int32_t> contexts = s.tiny ? std::vector<std::int32_t>{40} : mixed ? std::vector<std::int32_t>{512} : std::vector<std::int32_t>{512, 2048};
  const std::int32_t prompt = mixed ? (s.tiny ? 20 : 512) : 0;
  const char* const section = mixed ? "mixed" : "decode";
  for (const std::int32_t context : contexts)
    for (const std::int32_t n : batches) {
      const double seconds = s.tiny ? 0 : mixed ? 2 : 4;
      const std::int32_t most = s.tiny ? 3 : 600;
      Batch batch(*m.runner, n, context, most + 8);
      const std::string name = "B=" + std::to_string(n) + " context=" + std::to_string(context) + (mixed ? " + a prompt of " + std::to_string(prompt) + " a step" : "");
      Result<> done;
      const auto steps_of = [&](double budget, std::int32_t limit, const std::function<Result<>()>& once, double* elapsed) {
        const double began = now_s();
        std::int32_t steps = 0;
        for (*elapsed = 0; done && (steps < 3 || (*elapsed < budget && steps < limit)); *elapsed = now_s() - began) {
          done = once();
          ++steps;
        }
        return steps;
      };
      double alone = 0, elapsed = 0;
      for (int i = 0; i < 4 && done; ++i) done = batch.step(prompt);
      const auto read_at_once = [&] { return batch.step(prompt); };
      const std::int32_t read_steps = mixed ? 0 : steps_of(seconds / 8, most / 8, read_at_once, &alone);
      const std::uint64_t joules = energy_mj(nvml);
      std::int32_t steps = 0;
      if (mixed) {
        steps = steps_of(seconds, most, read_at_once, &elapsed);
      } else if (done) {
        done = batch.launch(false);
        steps = steps_of(seconds, most - most / 8, [&] {
          if (auto launched = batch.launch(true); !launched) return launched;
          return batch.take();
        }, &elapsed);
        if (done) done = batch.take();
      }
      if (!done) {
        report.failed(section, name, done.error().message);
        continue;
      }
      const std::uint64_t spent = energy_mj(nvml) - joules;
      Report::Numbers numbers{{"batch", n}, {"context", context + 4 + read_steps + steps / 2.0}, {"ms_step", 1e3 * elapsed / steps},
                              {"tok_s", n * steps / elapsed}, {"weight_bytes", static_cast<double>(m.runner->info().weight_bytes)}};
      if (mixed) numbers.emplace_back("prompt_tok_s", prompt * steps / elapsed);
      else numbers.emplace_back("ms_step_read_at_once", 1e3 * alone / read_steps);
      if (spent > 0) numbers.emplace_back("tok_j", n * steps / (1e-3 * static_cast<double>(spent)));
      report.add(section, name, numbers);
    }
}

void prefill(Report& report, const Settings& s, Model& m) {
  const std::int32_t chunk = m.runner->info().rows_max;
  for (const std::int32_t length : s.tiny ? std::vector<std::int32_t>{50} : std::vector<std::int32_t>{512, 2048, 8192}) {
    std::vector<std::int32_t> tables(static_cast<std::size_t>((length + 15) / 16));
    std::iota(tables.begin(), tables.end(), 0);
    const auto once = [&]() -> Result<> {
      for (std::int32_t at = 0; at < length; at += chunk) {
        const std::int32_t n = std::min(chunk, length - at), last = n - 1;
        std::vector<TokenId> tokens(static_cast<std::size_t>(n), 7);
        std::vector<std::int32_t> positions(static_cast<std::size_t>(n));
        std::iota(positions.begin(), positions.end(), at);
        const std::vector<backend::SequenceRows> sequences{{0, n, at + n, 0}};
        const backend::SamplingParams params{.temperature = 0};
        const std::vector<backend::SampleRow> asked{{.params = &params}};
        std::vector<backend::Sampled> sampled(1);
        if (auto ran = m.runner->run({{tokens, positions, sequences, tables}, {&last, 1}, asked}, sampled); !ran) return ran;
      }
      return {};
    };
    const std::string name = "prompt of " + std::to_string(length);
    if (auto warm = once(); !warm) {
      report.failed("prefill", name, warm.error().message);
      continue;
    }
    const int repetitions = s.tiny ? 1 : length > 4096 ? 3 : 8;
    const double began = now_s();
    for (int i = 0; i < repetitions; ++i) (void)once();
    const double t = (now_s() - began) / repetitions;
    report.add("prefill", name, {{"tokens", length}, {"ms", 1e3 * t}, {"tok_s", length / t}});
  }
}

// Paged decode attention alone, over the layers of the cache in turn so that no layer is still in the L2.
void attention(Report& report, const Settings& s) {
  const formats::ModelConfig c = s.tiny ? shape_tiny() : shape_8b();
  const backend::KvShape shape{c.layers, c.kv_heads, c.head_dim};
  const backend::AttentionSpec spec = {c.q_heads, c.kv_heads, c.head_dim, 0.1f, 0, 0};
  for (const std::int32_t context : s.tiny ? std::vector<std::int32_t>{40} : std::vector<std::int32_t>{512, 2048})
    for (const std::int32_t n : s.tiny ? std::vector<std::int32_t>{3} : std::vector<std::int32_t>{1, 16, 64, 256}) {
      auto made = make_device();
      if (!made) return report.failed("attention", "device", made.error().message);
      CudaBackend backend(std::move(*made), {.graphs = false});
      const std::int32_t blocks = n * ((context + 15) / 16);
      auto cache = backend.make_kv_cache(shape, blocks);
      auto qkv = backend.allocate(static_cast<std::size_t>(n) * static_cast<std::size_t>((c.q_heads + 2 * c.kv_heads) * c.head_dim) * 4);
      auto out = backend.make_activations(n, c.q_heads * c.head_dim);
      const std::string name = "B=" + std::to_string(n) + " context=" + std::to_string(context);
      if (!cache || !qkv || !out) {
        report.failed("attention", name, "no memory");
        continue;
      }
      std::vector<std::int32_t> tokens(static_cast<std::size_t>(n), 1), positions(static_cast<std::size_t>(n), context - 1),
          tables(static_cast<std::size_t>(blocks));
      std::iota(tables.begin(), tables.end(), 0);
      std::vector<backend::SequenceRows> sequences;
      for (std::int32_t i = 0; i < n; ++i) sequences.push_back({i, 1, context, i * ((context + 15) / 16)});
      Device& d = backend.device();
      d.fill(static_cast<CudaBuffer&>(**qkv).data(), 0, (*qkv)->bytes(), d.stream());
      backend.begin_step({tokens, positions, sequences, tables});
      const double t = timed(d, s.tiny ? 2 : 4 * c.layers, [&](int i) { backend.attention(**qkv, spec, **cache, i % c.layers, **out); });
      const double bytes = 2.0 * n * context * c.kv_heads * c.head_dim * 2;
      if (auto ok = backend.check(); !ok) report.failed("attention", name, ok.error().message);
      else report.add("attention", name, {{"batch", n}, {"context", context}, {"us", 1e6 * t}, {"gb_s", 1e-9 * bytes / t}});
    }
}

void models(Report& report, const Settings& s, const Nvml* nvml) {
  const bool any = s.wants("decode") || s.wants("prefill") || s.wants("mixed");
  if (!any) return;
  auto device = make_device();
  if (!device) return report.failed("model", "device", device.error().message);
  const formats::ModelConfig shape = s.tiny ? shape_tiny() : shape_8b();
  // 256 sequences of 2048 and what they decode: 80 GB in bf16, on a card that has them; else what is left after the weights.
  const std::size_t left = (*device)->free_bytes() - std::min((*device)->free_bytes(), std::size_t{s.element == Element::fp8 ? 14ull : 22ull} << 30);
  const model::LoadOptions load{.context_tokens = s.tiny ? 256 : 16384,
                                .kv_cache_bytes = s.tiny ? std::size_t{1} << 19 : std::min(left, std::size_t{92} << 30),
                                .sequences_max = s.tiny ? 8 : 256, .rows_max = s.tiny ? 32 : 2048};
  const double began = now_s();
  auto m = random_model(std::move(*device), {.compute = s.element, .kv = Element::bf16}, shape, load);
  if (!m) return report.failed("model", "load", m.error().message);
  report.add("model", "load", {{"seconds", now_s() - began}, {"weight_bytes", static_cast<double>(m->runner->info().weight_bytes)}});
  if (s.wants("decode")) decode(report, s, *m, nvml, false);
  if (s.wants("prefill")) prefill(report, s, *m);
  if (s.wants("mixed")) decode(report, s, *m, nvml, true);
}

}  // namespace

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: gpu_bench OUT.jsonl [--tiny] [--fp8] [probes gemm attention decode prefill mixed peers]\n");
    return 2;
  }
  Settings s;
  for (int i = 2; i < argc; ++i) {
    const std::string a = argv[i];
    if (a == "--tiny") s.tiny = true;
    else if (a == "--fp8") s.element = Element::fp8;
    else s.sections.insert(a);
  }
  Report report(argv[1]);
  if (!report.open()) {
    std::fprintf(stderr, "gpu_bench: %s cannot be written\n", argv[1]);
    return 2;
  }
  auto nvml = Nvml::open();
  if (s.wants("probes")) probes(report, s);
  if (s.wants("gemm")) gemm(report, s);
  if (s.wants("attention")) attention(report, s);
  if (s.sections.contains("peers")) peers(report, s.tiny);
  models(report, s, nvml ? nvml->get() : nullptr);
  return 0;
}

}  // namespace tokenworks::gpu

int main(int argc, char** argv) { return tokenworks::gpu::run(argc, argv); }
