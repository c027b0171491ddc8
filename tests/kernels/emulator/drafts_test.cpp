// The engine over the backend whole says with drafts what it says without them.
#include "backend/cuda/cuda_backend.hpp"
#include "engine/collector.hpp"
#include "harness.hpp"
#include "model/golden.hpp"

namespace tokenworks::emulator {
namespace {

using backend::cuda::CudaBackend;

// The backend whole under the engine: few tokens are likely, so that texts repeat themselves and guesses are made, right and
// wrong ones; one request draws from what top_p leaves and says logprobs, one ends in a stop token among its drafts.
TEST(EmulatorDrafts, TheEngineSaysWithDraftsWhatItSaysWithout) {
  struct Said {
    std::vector<TokenId> tokens;
    std::vector<float> logprobs;
    engine::Finish finish;
  };
  std::vector<Said> said[2];
  engine::EngineStatus status[2];
  for (const bool drafts : {false, true}) {
    const auto file = formats::ModelFile::open(test::golden_path("tiny_models") + "/llama/model.gguf");
    ASSERT_TRUE(file) << file.error().message;
    auto runner = model::load(*file, std::make_unique<CudaBackend>(std::make_unique<EmulatedDevice>(), backend::cuda::CudaOptions{}),
                              {.context_tokens = 256, .kv_cache_bytes = 2 << 20, .sequences_max = 32, .rows_max = 64});
    ASSERT_TRUE(runner) << runner.error().message;
    ManualClock clock{1'700'000'000'000'000'000};
    engine::EngineOptions options;
    options.speculation = drafts;
    options.prefix_cache = false;
    const auto e = engine::make_engine(std::move(*runner), options, clock);
    for (std::uint64_t n = 0; n < 3; ++n) {
      engine::Collector c;
      engine::Sequence s = engine::sequence({40, 41, 42, 40, 41, 42, 40, 41}, n == 1 ? 16 : 12, n);
      s.bias = {{40, 30.0f}, {41, 30.0f}, {42, 30.0f}};
      if (n == 0) s.sampling.temperature = 0;
      if (n == 1) s.sampling.temperature = 0.6f, s.sampling.top_p = 0.9f, s.sampling.top_logprobs = 2;
      if (n == 2) s.sampling.temperature = 0, s.stop_tokens = {said[0][0].tokens[9]};
      ASSERT_TRUE(e->submit(TicketForTest::make(engine::request_id(n), 0, 16), std::move(s), c.stream()));
      c.wait();
      said[drafts].push_back({c.tokens(), c.logprobs(), c.finish()});
    }
    e->stop();
    status[drafts] = e->status();
  }
  for (std::size_t n = 0; n < 3; ++n) {
    EXPECT_EQ(said[1][n].tokens, said[0][n].tokens) << n;
    EXPECT_EQ(said[1][n].finish, said[0][n].finish) << n;
    ASSERT_EQ(said[1][n].logprobs.size(), said[0][n].logprobs.size());
    for (std::size_t i = 0; i < said[0][n].logprobs.size(); ++i) EXPECT_NEAR(said[1][n].logprobs[i], said[0][n].logprobs[i], 1e-2);
  }
  EXPECT_EQ(status[1].tokens_generated, status[0].tokens_generated) << "guesses count for nothing";
  EXPECT_EQ(status[0].draft_tokens, 0);
  EXPECT_GT(status[1].draft_tokens_kept, 0);
  EXPECT_GT(status[1].draft_tokens, status[1].draft_tokens_kept) << "some are wrong";
}

}  // namespace
}  // namespace tokenworks::emulator
