// The daemon with a model that takes a fixed time per step and none of the processor: what is left is the front door. Linked
// in front of model::load_tensor_parallel (--wrap, see CMakeLists.txt); the model's file gives vocabulary and shape. Every
// step begins on a grid of TOKENWORKS_TEST_PACE_US (20,000 unless given) and gives each sequence the next of 4,096 words of
// plain letters, so that every token is an event. 0: no pace, steps as fast as they come.
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "tokenworks/formats/model_file.hpp"
#include "tokenworks/model/tensor_parallel.hpp"

namespace tokenworks::model {
namespace {

using Backends = std::vector<std::unique_ptr<backend::Backend>>;
using Clock = std::chrono::steady_clock;

// Tokens of the file whose spelling is letters, perhaps behind the mark of a blank (U+0120 in byte-level vocabularies).
std::vector<TokenId> words_of(const formats::ModelFile& file) {
  std::vector<TokenId> words;
  const auto& pieces = file.tokenizer().tokens;
  for (std::size_t id = 0; id < pieces.size() && words.size() < 4096; ++id) {
    std::string_view text = pieces[id];
    if (text.starts_with("\xc4\xa0")) text.remove_prefix(2);
    bool letters = text.size() >= 2;
    for (const char c : text) letters = letters && std::isalpha(static_cast<unsigned char>(c)) != 0;
    if (letters) words.push_back(static_cast<TokenId>(id));
  }
  return words;
}

class PacedRunner final : public Runner {
 public:
  PacedRunner(std::unique_ptr<Runner> inner, std::vector<TokenId> words) : inner_(std::move(inner)), words_(std::move(words)) {
    const char* given = std::getenv("TOKENWORKS_TEST_PACE_US");
    pace_ = std::chrono::microseconds(given == nullptr ? 20'000 : std::atol(given));
  }

  const RunnerInfo& info() const override { return inner_->info(); }
  Result<> run(const Step& step, std::span<backend::Sampled> sampled) override {
    if (pace_.count() > 0) {
      const auto now = Clock::now().time_since_epoch();
      std::this_thread::sleep_until(Clock::time_point(now + pace_ - now % pace_));
    }
    for (std::size_t i = 0; i < sampled.size(); ++i) sampled[i].token = words_[(next_ + 37 * i) % words_.size()];
    ++next_;
    (void)step;
    return {};
  }
  void zero_blocks(std::span<const std::int32_t>) override {}

 private:
  const std::unique_ptr<Runner> inner_;
  const std::vector<TokenId> words_;
  Clock::duration pace_;
  std::size_t next_ = 0;
};

}  // namespace

using File = std::shared_ptr<const formats::ModelFile>;
Result<std::unique_ptr<Runner>> real_load(File file, Backends backends, const LoadOptions& options) asm("__real_" TOKENWORKS_LOAD_SYMBOL);
Result<std::unique_ptr<Runner>> paced_load(File file, Backends backends, const LoadOptions& options) asm("__wrap_" TOKENWORKS_LOAD_SYMBOL);

Result<std::unique_ptr<Runner>> paced_load(File file, Backends backends, const LoadOptions& options) {
  auto inner = real_load(file, std::move(backends), options);
  if (!inner) return inner.error();
  return std::unique_ptr<Runner>(std::make_unique<PacedRunner>(std::move(*inner), words_of(*file)));
}

}  // namespace tokenworks::model
