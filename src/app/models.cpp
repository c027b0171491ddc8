#include "models.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <future>

#include "planted_fault.hpp"
#include "tokenworks/backend/places.hpp"
#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/formats/model_file.hpp"
#include "tokenworks/model/tensor_parallel.hpp"

namespace tokenworks::app {
namespace {

// What a client sees: numerics as the runner knows them, and whose weights. Another file of the same shape answers differently.
std::string served_fingerprint(const std::string& numerics, const std::string& digest) {
  return "fp_" + hex(sha256(numerics + '\n' + digest)).substr(0, 12);
}

// Why it runs where it runs, for the log.
std::string why_here(const config::ModelSpec& spec, const model::RunnerInfo& info, const std::string& backend) {
  if (spec.backend != "auto") return "backend: " + spec.backend;
  if (!info.generates) return "backend: auto, and an encoder needs no card";
  return backend == "cpu" ? "backend: auto, and " + backend::why_no_card(spec.compute) : "backend: auto, and card 0 can be used";
}

}  // namespace

Result<std::shared_ptr<gateway::ServedModel>> load_model(const config::ModelSpec& spec, OpenedModel opened, const config::Plant::Limits& limits,
                                                         const std::string& cache_secret, const Clock& clock,
                                                         std::function<void(const engine::StepReport&)> on_step) {
  const std::int64_t began = clock.steady_ns();
  const auto failed = [&](const Error& e) { return error(e.code, "model '" + spec.id + "': " + e.message); };
  const std::shared_ptr<const formats::ModelFile> file = std::move(opened.file);
  // The digest reads every byte; it runs beside the load and shares its page cache.
  auto digest = std::async(std::launch::async, [file] { return formats::model_digest(*file); });

  auto model = std::make_shared<gateway::ServedModel>();
  model->spec = spec;
  model->tokenizer = std::move(opened.tokenizer);
  model->tokenizer_digest = hex(model->tokenizer->digest());
  for (TokenId id = 0; id < model->tokenizer->vocab_size(); ++id) {
    model->longest_token_bytes = std::max(model->longest_token_bytes, model->tokenizer->token_bytes(id).size());
  }
  model->chat_template = std::move(opened.chat_template);
  model->special = file->tokenizer().special_strings;
  model->style = gateway::answer_style(file->tokenizer().chat_template, *model->tokenizer);

  const backend::BackendInfo backend_info = opened.backends[0]->info();
  const std::size_t ranks = opened.backends.size();
  auto runner = model::load_tensor_parallel(file, std::move(opened.backends), opened.options);
  if (!runner) return failed(runner.error());
  const model::RunnerInfo info = (*runner)->info();
  runner = with_planted_fault(std::move(*runner));
  if (!runner) return failed(runner.error());

  model->model_digest = hex(digest.get());
  model->card.id = spec.id;
  model->card.owned_by = "tokenworks";
  model->card.digest = model->model_digest;
  model->card.fingerprint = served_fingerprint(info.fingerprint, model->model_digest);
  model->card.format = file->format();
  model->card.aliases = spec.aliases;
  model->card.context_tokens = info.context_tokens;
  struct stat status {};
  if (::stat(spec.path.c_str(), &status) == 0) model->card.created_unix_s = status.st_mtime;

  engine::EngineOptions engine_options;
  engine_options.inbox = static_cast<std::size_t>(limits.queue_requests);
  engine_options.queue_per_tenant = limits.queue_per_tenant;
  engine_options.speculation = spec.speculation == "ngram";
  engine_options.step_target_ns = spec.step_target_ns;
  engine_options.cost_units_micro = spec.cost_units_micro;
  engine_options.cache_secret = cache_secret;
  engine_options.prefix_cache = info.generates;      // an encoder computes every text whole
  model->engine = engine::make_engine(std::move(*runner), engine_options, clock, std::move(on_step));
  log::info("model_ready", {{"model", spec.id}, {"backend", backend_info.name}, {"path", backend_info.path},
                            {"because", why_here(spec, info, backend_info.name)},
                            {"device", backend_info.device}, {"ranks", ranks}, {"context_tokens", info.context_tokens}, {"kv_blocks", info.kv_blocks},
                            {"weight_bytes", info.weight_bytes}, {"kv_bytes", info.kv_bytes}, {"workspace_bytes", info.workspace_bytes},
                            {"swap_blocks", info.swap_slots}, {"swap_bytes", info.swap_bytes}, {"digest", model->model_digest.substr(0, 16)},
                            {"ms", (clock.steady_ns() - began) / 1'000'000}});
  return model;
}

}  // namespace tokenworks::app
