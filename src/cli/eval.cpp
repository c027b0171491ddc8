#include "tokenworks/model/eval.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "commands.hpp"
#include "tokenworks/backend/backend.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::cli {
namespace {

struct Flags {
  std::string model, text, scheme = "default";
  std::int64_t tokens = 3072, window = 512, threads = 0;
  bool no_reference = false, json = false;
} flags;

Result<std::unique_ptr<model::Runner>> load(const std::shared_ptr<const formats::ModelFile>& file, const std::string& compute) {
  backend::BackendChoice choice;
  choice.compute = compute;
  choice.threads = static_cast<std::int32_t>(flags.threads);
  auto backend = backend::make_backend(choice);
  if (!backend) return backend.error();
  model::LoadOptions options;
  options.context_tokens = std::min(static_cast<std::int32_t>(flags.window) + 16, file->config().context);
  options.sequences_max = 1;
  return model::load(file, std::move(*backend), options);
}

// A gate reads these: what was not measured is null, never a zero that would pass, and so is what is no number.
void print_json(const model::Evaluation& e, bool compared) {
  const auto number = [](double value, bool measured = true) {
    return measured && std::isfinite(value) ? nlohmann::ordered_json(value) : nullptr;
  };
  const nlohmann::ordered_json j{{"scheme", flags.scheme},
                                 {"tokens", e.predicted},
                                 {"perplexity", number(e.perplexity)},
                                 {"reference_perplexity", number(e.reference_perplexity, compared)},
                                 {"change_percent", number(e.perplexity_change_percent, compared)},
                                 {"change_error_percent", number(e.change_error_percent, compared)},
                                 {"mean_kl", number(e.mean_kl, compared)},
                                 {"largest_kl", number(e.largest_kl, compared)},
                                 {"top1_agreement", number(e.top1_agreement, compared)},
                                 {"largest_logit_difference", number(e.largest_logit_difference, compared)},
                                 {"seconds", number(e.seconds)}};
  std::printf("%s\n", j.dump().c_str());
}

int eval() {
  auto file = formats::ModelFile::open(flags.model);
  if (!file) return fail(file.error());
  auto tokenizer = tokenizer::Tokenizer::make((*file)->tokenizer());
  if (!tokenizer) return fail(tokenizer.error());
  if (const std::int64_t longest = (*file)->config().context; flags.window > longest) {
    return fail(error(Errc::bad_config, "--window is " + std::to_string(flags.window) + "; the model has a context of " +
                                            std::to_string(longest)));
  }
  std::ifstream in(flags.text, std::ios::binary);
  if (std::error_code ec; std::filesystem::is_directory(flags.text, ec)) {
    return fail(error(Errc::io, flags.text + ": is a directory"));
  }
  if (!in) return fail(error(Errc::io, flags.text + ": cannot be read"));
  std::stringstream text;
  text << in.rdbuf();
  std::vector<TokenId> ids = (*tokenizer)->encode(text.str());
  if (static_cast<std::int64_t>(ids.size()) > flags.tokens) ids.resize(static_cast<std::size_t>(flags.tokens));
  auto runner = load(*file, flags.scheme);
  if (!runner) return fail(runner.error());
  std::unique_ptr<model::Runner> reference;
  if (!flags.no_reference) {
    auto exact = load(*file, "exact");
    if (!exact) return fail(exact.error());
    reference = std::move(*exact);
  }
  model::EvalOptions options;
  options.window = static_cast<std::int32_t>(flags.window);
  options.bos = (*tokenizer)->bos();
  if (isatty(STDERR_FILENO) != 0) {
    options.progress = [](std::int64_t done, std::int64_t total) {
      std::fprintf(stderr, "\r%lld of %lld tokens", static_cast<long long>(done), static_cast<long long>(total));
      if (done == total) std::fputc('\n', stderr);
    };
  }
  auto e = model::evaluate(**runner, reference.get(), ids, options);
  if (!e) return fail(e.error());
  if (flags.json) {
    print_json(*e, reference != nullptr);
    return app::kOk;
  }
  std::printf("tokens predicted          %lld\nperplexity                %.4f\n", static_cast<long long>(e->predicted), e->perplexity);
  if (reference) {
    std::printf("perplexity, exact path    %.4f  (%+.3f %% +- %.3f)\nmean KL to the exact path %.3e  (largest %.3e)\n"
                "top-1 agreement           %.2f %%\nlargest logit difference  %.3f\n",
                e->reference_perplexity, e->perplexity_change_percent, e->change_error_percent, e->mean_kl, e->largest_kl,
                e->top1_agreement * 100, e->largest_logit_difference);
  }
  std::printf("speed                     %.0f tokens/s\n", e->seconds > 0 ? static_cast<double>(e->predicted) / e->seconds : 0.0);
  return app::kOk;
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  CLI::App* sub = app.add_subcommand("eval", "Perplexity of a text, and what the default arithmetic costs against fp32");
  sub->add_option("--model", flags.model, "A GGUF file or a Hugging Face folder")->required();
  sub->add_option("--text", flags.text, "A text file")->required();
  sub->add_option("--tokens", flags.tokens, "At most this many tokens of it")->check(CLI::Range(2, 100'000'000));
  sub->add_option("--window", flags.window, "Tokens of one window")->check(CLI::Range(2, 1 << 20));
  sub->add_option("--scheme", flags.scheme, "The arithmetic under test: default, exact, or a rounding of activations over the exact path: q8_1 "
                                            "(llama.cpp's), int8-gN, int8-row, int16-row");
  sub->add_option("--threads", flags.threads, "Compute threads; 0: one per core")->check(CLI::Range(0, 1024));
  sub->add_flag("--no-reference", flags.no_reference, "Perplexity only");
  sub->add_flag("--json", flags.json, "Print JSON");
  sub->callback([&action] { action = eval; });
}

}  // namespace tokenworks::cli
