#include "planted_fault.hpp"

#include <cstdlib>
#include <string>
#include <utility>

#include "tokenworks/base/log.hpp"

namespace tokenworks::app {
namespace {

class Faulty final : public model::Runner {
 public:
  enum class Kind { lost, memory, nan, nans };
  Faulty(std::unique_ptr<model::Runner> inner, Kind kind, std::int64_t step) : inner_(std::move(inner)), kind_(kind), step_(step) {}

  const model::RunnerInfo& info() const override { return inner_->info(); }
  Result<> run(const model::Step& step, std::span<backend::Sampled> sampled) override {
    if (auto begun = begin(step); !begun) return begun;
    if (auto done = inner_->run(step, sampled); !done) return done;
    spoil(sampled);
    return {};
  }
  Result<> launch(const model::Step& step) override {
    if (auto begun = begin(step); !begun) return begun;
    return inner_->launch(step);
  }
  Result<> take(std::span<backend::Sampled> sampled) override {
    if (auto done = inner_->take(sampled); !done) return done;
    spoil(sampled);
    return {};
  }
  void zero_blocks(std::span<const std::int32_t> blocks) override { inner_->zero_blocks(blocks); }
  void swap_out(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) override { inner_->swap_out(blocks, slots); }
  void swap_in(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots, std::span<const std::int32_t> freed) override {
    inner_->swap_in(blocks, slots, freed);
  }
  Result<> logits(const backend::StepRows& rows, std::span<const std::int32_t> wanted, std::span<float> out) override {
    return inner_->logits(rows, wanted, out);
  }

 private:
  Result<> begin(const model::Step& step) {
    if (!step.sample_rows.empty()) ++begun_;
    if (begun_ < step_) return {};
    if (kind_ == Kind::lost) return error(Errc::engine_failed, "the device planted failed: it fell off the bus");
    if (kind_ == Kind::memory) return error(Errc::internal, "lists of a step: 1048576 bytes asked for, 0 free (planted)");
    return {};
  }
  void spoil(std::span<backend::Sampled> sampled) {
    if (sampled.empty() || (kind_ != Kind::nan && kind_ != Kind::nans)) return;
    ++taken_;
    if (kind_ == Kind::nan ? taken_ != step_ : taken_ < step_) return;
    for (backend::Sampled& s : sampled) s = {.token = -1};
  }

  const std::unique_ptr<model::Runner> inner_;
  const Kind kind_;
  const std::int64_t step_;
  std::int64_t begun_ = 0, taken_ = 0;
};

}  // namespace

Result<std::unique_ptr<model::Runner>> with_planted_fault(std::unique_ptr<model::Runner> runner) {
  const char* const asked = std::getenv("TOKENWORKS_TEST_FAULT");
  if (asked == nullptr || *asked == '\0') return runner;
  const std::string text = asked;
  const std::size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  const std::int64_t step = colon == std::string::npos ? 0 : std::atoll(text.c_str() + colon + 1);
  using Kind = Faulty::Kind;
  for (const auto& [word, meant] : {std::pair{"lost", Kind::lost}, {"memory", Kind::memory}, {"nan", Kind::nan}, {"nans", Kind::nans}}) {
    if (kind != word || step < 1) continue;
    log::warn("fault_planted", {{"fault", text}});
    return std::unique_ptr<model::Runner>(std::make_unique<Faulty>(std::move(runner), meant, step));
  }
  return error(Errc::bad_config, "TOKENWORKS_TEST_FAULT=" + text + ": lost:N, memory:N, nan:N or nans:N with N from 1 on");
}

}  // namespace tokenworks::app
