// Steps that overlap, on the emulator: the next step is enqueued before the tokens of the one before are read, starts from them
// where they lie on the device, and gives what the synchronous order gives. Work runs when it is waited for and only as far as
// it is waited for, so whoever read or wrote host memory too early would be noticed.
#include "backend/cuda/cuda_backend.hpp"
#include "engine/collector.hpp"
#include "harness.hpp"
#include "model/golden.hpp"
#include "model/steps.hpp"
#include "tokenworks/model/tensor_parallel.hpp"

namespace tokenworks::model {
namespace {

using backend::cuda::CudaBackend;
using backend::cuda::CudaOptions;
using emulator::EmulatedDevice;

struct Loaded {
  std::unique_ptr<Runner> runner;
  EmulatedDevice* device = nullptr;                  // the runner's
};

Loaded load_tiny() {
  Loaded l;
  const auto file = formats::ModelFile::open(test::golden_path("tiny_models") + "/llama/model.gguf");
  if (!file) {
    ADD_FAILURE() << file.error().message;
    return l;
  }
  auto device = std::make_unique<EmulatedDevice>();
  l.device = device.get();
  auto runner = load(*file, std::make_unique<CudaBackend>(std::move(device), CudaOptions{}),
                     {.context_tokens = 256, .kv_cache_bytes = 2 << 20, .sequences_max = 8, .rows_max = 64});
  if (runner) l.runner = std::move(*runner);
  else ADD_FAILURE() << runner.error().message;
  return l;
}

// The same over several cards that reach each other.
std::unique_ptr<Runner> load_tiny_over(int cards, std::vector<EmulatedDevice*>* devices = nullptr) {
  const auto file = formats::ModelFile::open(test::golden_path("tiny_models") + (cards == 2 ? "/llama/model.gguf" : "/qwen2_yarn/model.gguf"));
  std::vector<std::unique_ptr<backend::Backend>> backends;
  for (int r = 0; r < cards; ++r) {
    auto device = std::make_unique<EmulatedDevice>();
    if (devices != nullptr) devices->push_back(device.get());
    backends.push_back(std::make_unique<CudaBackend>(std::move(device), CudaOptions{}));
  }
  auto runner = load_tensor_parallel(*file, std::move(backends), {.context_tokens = 256, .kv_cache_bytes = 2 << 20, .sequences_max = 8, .rows_max = 64});
  EXPECT_TRUE(runner) << runner.error().message;
  return runner ? std::move(*runner) : nullptr;
}

// Three sequences that sample with rules; `steps` decode steps after their prompts.
struct Batch {
  explicit Batch(Runner& r) : runner(r), dealer(r, 3), sequences(3), drawn(3) {
    for (std::size_t s = 0; s < 3; ++s) {
      sequences[s].tokens.assign(5 + 3 * s, static_cast<TokenId>(20 + s));
      sequences[s].blocks = dealer.deal(64);
    }
  }
  // Rows of what is not done yet; in place of a token that is not known, the row that draws it.
  void prepare() {
    rows = {};
    last.clear(), asked.clear();
    for (test::Sequence& q : sequences) {
      const auto n = static_cast<std::int32_t>(q.tokens.size()) - q.done;
      rows.add(q, n);
      last.push_back(static_cast<std::int32_t>(rows.tokens.size()) - 1);
      asked.push_back({.params = &params, .position = q.done, .bias = bias});
      q.done += n;
    }
  }
  Step step() { return {rows.rows(), last, asked}; }
  void append(std::span<const backend::Sampled> sampled) {
    for (std::size_t s = 0; s < 3; ++s) {
      drawn[s].push_back(sampled[s].token);
      sequences[s].tokens.push_back(sampled[s].token);
    }
  }

  Runner& runner;
  test::BlockDealer dealer;
  std::vector<test::Sequence> sequences;
  std::vector<std::vector<TokenId>> drawn;
  test::StepStorage rows;
  std::vector<std::int32_t> last;
  std::vector<backend::SampleRow> asked;
  const backend::SamplingParams params{.temperature = 0.9f, .top_p = 0.95f, .seed = 7};
  const std::vector<backend::TokenBias> bias{{11, 0.5f}};
};

constexpr int kSteps = 9;

TEST(EmulatorOverlap, TheNextStepIsLaunchedBeforeTheTokensAreReadAndGivesTheSame) {
  const Loaded one = load_tiny(), two = load_tiny();
  ASSERT_TRUE(one.runner && two.runner);
  ASSERT_TRUE(one.runner->info().overlaps);
  Batch sync(*one.runner), ahead(*two.runner);
  for (int i = 0; i < kSteps; ++i) {
    sync.prepare();
    std::vector<backend::Sampled> sampled(3);
    const auto ran = one.runner->run(sync.step(), sampled);
    ASSERT_TRUE(ran) << ran.error().message;
    sync.append(sampled);
  }
  emulator::EmulatedDevice& device = *two.device;
  ahead.prepare();
  ASSERT_TRUE(two.runner->launch(ahead.step()));
  for (int i = 1; i <= kSteps; ++i) {
    const auto before = device.counts();
    if (i < kSteps) {
      for (std::size_t s = 0; s < 3; ++s) ahead.sequences[s].tokens.push_back(backend::drawn_by(static_cast<std::int32_t>(s)));
      ahead.prepare();
      const auto launched = two.runner->launch(ahead.step());
      ASSERT_TRUE(launched) << launched.error().message;
      ahead.rows = {};                               // nothing of the caller's is looked at any more
      ahead.asked.clear();
      const auto after = device.counts();
      EXPECT_GT(after.launches + after.graph_launches, before.launches + before.graph_launches);
      EXPECT_EQ(after.synchronisations, before.synchronisations) << "to launch a step nobody waits";
      EXPECT_EQ(after.captures - before.captures, i == 2 ? 1u : 0u);
      if (i > 3) {
        EXPECT_EQ(after.allocations, before.allocations);
      }
    }
    std::vector<backend::Sampled> sampled(3);
    const auto took = two.runner->take(sampled);
    ASSERT_TRUE(took) << took.error().message;
    EXPECT_EQ(device.waiting() > 0, i < kSteps) << "only the older step was waited for";
    for (std::size_t s = 0; s < 3; ++s) {
      ahead.drawn[s].push_back(sampled[s].token);
      if (i < kSteps) ahead.sequences[s].tokens.back() = sampled[s].token;
    }
  }
  EXPECT_EQ(ahead.drawn, sync.drawn);
  EXPECT_EQ(device.counts().graph_launches, one.device->counts().graph_launches);
}

// Cards go on by flags in each other's memory: the first one's ids are the others' next tokens, and nothing of the second step
// is waited for when the first is read.
TEST(EmulatorOverlap, SeveralCardsOverlapStepsAndGiveTheSame) {
  for (const int cards : {2, 4}) {
    if (cards == 4 && std::getenv("TOKENWORKS_LONG") == nullptr) continue;
    std::vector<EmulatedDevice*> devices;
    const auto one = load_tiny_over(cards), two = load_tiny_over(cards, &devices);
    ASSERT_TRUE(one && two);
    ASSERT_TRUE(two->info().overlaps);
    Batch sync(*one), ahead(*two);
    for (int i = 0; i < kSteps; ++i) {
      sync.prepare();
      std::vector<backend::Sampled> sampled(3);
      const auto ran = one->run(sync.step(), sampled);
      ASSERT_TRUE(ran) << ran.error().message;
      sync.append(sampled);
    }
    ahead.prepare();
    ASSERT_TRUE(two->launch(ahead.step()));
    for (int i = 1; i <= kSteps; ++i) {
      const auto before = devices.back()->counts();
      if (i < kSteps) {
        for (std::size_t s = 0; s < 3; ++s) ahead.sequences[s].tokens.push_back(backend::drawn_by(static_cast<std::int32_t>(s)));
        ahead.prepare();
        const auto launched = two->launch(ahead.step());
        ASSERT_TRUE(launched) << launched.error().message;
        ahead.rows = {};
        ahead.asked.clear();
        EXPECT_EQ(devices.back()->counts().synchronisations, before.synchronisations) << "to launch a step nobody waits";
      }
      std::vector<backend::Sampled> sampled(3);
      const auto took = two->take(sampled);
      ASSERT_TRUE(took) << took.error().message;
      for (EmulatedDevice* device : devices) EXPECT_EQ(device->waiting() > 0, i < kSteps) << "only the older step was waited for";
      EXPECT_EQ(devices.back()->counts().bytes_to_host, before.bytes_to_host) << "only the first rank reads ids";
      for (std::size_t s = 0; s < 3; ++s) {
        ahead.drawn[s].push_back(sampled[s].token);
        if (i < kSteps) ahead.sequences[s].tokens.back() = sampled[s].token;
      }
    }
    EXPECT_EQ(ahead.drawn, sync.drawn) << cards << " cards";
    EXPECT_GT(devices.back()->counts().graph_launches, 3u);
  }
}

// A card of two is lost with two steps under way: nobody hangs, and the step that is taken says so.
TEST(EmulatorOverlap, ALostCardOfSeveralShowsWhenAStepIsTaken) {
  for (const std::size_t lost : {0u, 1u}) {
    std::vector<EmulatedDevice*> devices;
    const auto m = load_tiny_over(2, &devices);
    ASSERT_TRUE(m);
    Batch batch(*m);
    std::vector<backend::Sampled> sampled(3);
    batch.prepare();
    ASSERT_TRUE(m->launch(batch.step()));
    ASSERT_TRUE(m->take(sampled));
    batch.append(sampled);
    batch.prepare();
    ASSERT_TRUE(m->launch(batch.step()));
    devices[lost]->lose("fallen off the bus");
    const auto took = m->take(sampled);
    ASSERT_FALSE(took);
    EXPECT_EQ(took.error().code, Errc::engine_failed);
  }
}

TEST(EmulatorOverlap, ATokenThatNoStepDrawsIsRefused) {
  const Loaded m = load_tiny();
  ASSERT_TRUE(m.runner);
  Batch batch(*m.runner);
  batch.sequences[0].tokens[1] = backend::drawn_by(0);
  batch.prepare();
  std::vector<backend::Sampled> sampled(3);
  EXPECT_FALSE(m.runner->run(batch.step(), sampled));
  EXPECT_FALSE(m.runner->launch(batch.step()));
}

// A card that is lost with two steps under way: the engine's next look says so.
TEST(EmulatorOverlap, ALostDeviceShowsWhenAStepIsTaken) {
  const Loaded m = load_tiny();
  ASSERT_TRUE(m.runner);
  Batch batch(*m.runner);
  batch.prepare();
  ASSERT_TRUE(m.runner->launch(batch.step()));
  m.device->lose("fallen off the bus");
  std::vector<backend::Sampled> sampled(3);
  const auto took = m.runner->take(sampled);
  ASSERT_FALSE(took);
  EXPECT_EQ(took.error().code, Errc::engine_failed);
}

// The same runner, without the halves.
class Synchronous final : public Runner {
 public:
  explicit Synchronous(std::unique_ptr<Runner> runner) : runner_(std::move(runner)), info_(runner_->info()) { info_.overlaps = false; }
  const RunnerInfo& info() const override { return info_; }
  Result<> run(const Step& step, std::span<backend::Sampled> sampled) override { return runner_->run(step, sampled); }
  void zero_blocks(std::span<const std::int32_t> blocks) override { runner_->zero_blocks(blocks); }

 private:
  std::unique_ptr<Runner> runner_;
  RunnerInfo info_;
};

// The engine over the backend whole: one request after the other, so that both orders run the same steps and every bit of a
// row is the same. Stops that nobody foresaw, lengths, budgets, logprobs, a penalty.
class EmulatorOverlapEngine : public testing::TestWithParam<int> {};

TEST_P(EmulatorOverlapEngine, GivesTheSameTokensAndFinishesInBothOrders) {
  struct Ended {
    std::vector<TokenId> tokens;
    std::vector<float> logprobs;
    engine::Finish finish;
  };
  std::vector<Ended> ended[2];
  engine::EngineStatus status[2];
  for (const bool overlaps : {false, true}) {
    std::unique_ptr<Runner> runner = GetParam() == 1 ? load_tiny().runner : load_tiny_over(GetParam());
    ASSERT_TRUE(runner);
    if (!overlaps) runner = std::make_unique<Synchronous>(std::move(runner));
    ManualClock clock{1'700'000'000'000'000'000};
    engine::EngineOptions options;
    options.prefix_cache = false;
    const auto e = engine::make_engine(std::move(runner), options, clock);
    for (std::uint64_t n = 0; n < 8; ++n) {
      engine::Collector c;
      engine::Sequence s = engine::sequence(std::vector<TokenId>(4 + n, static_cast<TokenId>(30 + n)), 14, n);
      if (n % 2 == 0) s.sampling.temperature = 0;
      if (n == 3) s.sampling.frequency_penalty = 0.4f;
      if (n == 5) s.sampling.top_logprobs = 2;
      if (n >= 6) s.stop_tokens = {ended[0][1].tokens[4], ended[0][2].tokens[4]};
      if (n == 7) s.prompt = std::vector<TokenId>(5, 31), s.sampling.seed = 1;       // as the second, which says one of them
      ASSERT_TRUE(e->submit(TicketForTest::make(engine::request_id(n), 0, n == 4 ? 6 : 14), std::move(s), c.stream()));
      c.wait();
      ended[overlaps].push_back({c.tokens(), c.logprobs(), c.finish()});
    }
    e->stop();
    status[overlaps] = e->status();
  }
  for (std::size_t n = 0; n < 8; ++n) {
    EXPECT_EQ(ended[1][n].tokens, ended[0][n].tokens) << n;
    EXPECT_EQ(ended[1][n].logprobs, ended[0][n].logprobs) << n;
    EXPECT_EQ(ended[1][n].finish, ended[0][n].finish) << n;
  }
  EXPECT_EQ(ended[0][7].finish, engine::Finish::stop);
  EXPECT_EQ(status[0].steps_overlapped, 0);
  EXPECT_GT(status[1].steps_overlapped, 40);
  EXPECT_GE(status[1].rows_discarded, 1);
  EXPECT_EQ(status[1].decode_tokens, status[0].decode_tokens);
  EXPECT_EQ(status[1].tokens_generated, status[0].tokens_generated);
}

INSTANTIATE_TEST_SUITE_P(Cards, EmulatorOverlapEngine, testing::Values(1, 2), testing::PrintToStringParamName());

}  // namespace
}  // namespace tokenworks::model
