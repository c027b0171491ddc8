// Drafts on the device: which rows count is found there.
#include <random>

#include "harness.hpp"
#include "tokenworks/backend/sampling.hpp"

namespace tokenworks::emulator {
namespace {

using kernels::cuda::SampleSpec;
using kernels::cuda::TopLogprob;

// Runs of rows with drafts, right and wrong ones, against verify_drafts() on the host.
std::string check_verify(std::size_t rows, std::int32_t top_max, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<SampleSpec> specs(rows);
  std::vector<backend::SampleRow> asked(rows);
  std::vector<backend::Sampled> expected(rows);
  std::vector<std::int32_t> drawn(rows);
  std::vector<TopLogprob> likely(rows * static_cast<std::size_t>(top_max), TopLogprob{5, -1.0f});
  for (std::size_t i = 0; i < rows; ++i) {
    drawn[i] = expected[i].token = static_cast<TokenId>(random() % 2);
    const bool drafted = i + 1 < rows && random() % 4 != 0;
    specs[i].draft = asked[i].draft = drafted ? static_cast<TokenId>(random() % 2) : -1;
  }
  backend::verify_drafts(asked, expected);
  EmulatedDevice device;
  const DeviceArray<SampleSpec> spec(device, specs, "specs");
  const DeviceArray<std::int32_t> tokens(device, drawn, "tokens");
  const DeviceArray<float> logprobs(device, std::vector<float>(rows, -1.0f), "logprobs");
  const DeviceArray<TopLogprob> top(device, likely, "top");
  device.ops().verify(device.stream(), {spec, static_cast<std::int32_t>(rows), top_max, tokens, logprobs, top_max > 0 ? top.get() : nullptr});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  for (std::size_t i = 0; i < rows; ++i) {
    if (tokens.get()[i] != expected[i].token) return "row " + std::to_string(i) + " has token " + std::to_string(tokens.get()[i]);
    const bool reached = tokens.get()[i] != backend::kNotReached;
    if (logprobs.get()[i] != (reached ? -1.0f : 0.0f)) return "another logprob";
    if (top_max > 0 && top.get()[i * static_cast<std::size_t>(top_max)].token != (reached ? 5 : -1)) return "another list";
  }
  return {};
}

TEST(EmulatorVerify, RowsBehindADraftThatWasNotDrawnLoseTheirResult) {
  for (const std::size_t rows : {0u, 1u, 2u, 5u, 64u, 65u, 200u})
    for (const unsigned seed : {1u, 2u, 3u}) EXPECT_EQ(check_verify(rows, static_cast<std::int32_t>(seed - 1), seed), "") << rows << " rows";
}

TEST(EmulatorVerify, PlantedBugsAreFound) {
  const struct {
    int number;
    const char* what;
  } bugs[] = {{208, "the draft of the row after"}, {209, "every row walks its run"}, {210, "the row that drew it loses its result"}};
  for (const auto& bug : bugs)
    for (const std::uint64_t seed : {1, 2, 3}) {
      const Planted planted(bug.number, seed);
      EXPECT_NE(check_verify(40, 1, 7), "") << bug.what << ", order " << seed;
    }
}

}  // namespace
}  // namespace tokenworks::emulator
