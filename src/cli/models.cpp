#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "models_served.hpp"
#include "tokenworks/formats/inspect.hpp"
#include "tokenworks/formats/model_file.hpp"
#include "tokenworks/formats/pull.hpp"
#include "tokenworks/model/runner.hpp"

namespace tokenworks::cli {
namespace {

struct Flags {
  std::string config, path, source, sha256, output;
  bool json = false, tensors = false, digest = false;
  std::int64_t context = 8192;
} flags;

int inspect() {
  auto file = formats::ModelFile::open(flags.path);
  if (!file) return fail(file.error());
  Digest digest{};
  if (flags.digest) digest = formats::model_digest(**file);
  const Digest* shown = flags.digest ? &digest : nullptr;
  if (flags.json) {
    std::printf("%s\n", formats::inspect_json(**file, shown, flags.tensors).c_str());
    return app::kOk;
  }
  std::printf("%s", formats::inspect_text(**file, shown, flags.tensors).c_str());
  model::LoadOptions options;
  options.context_tokens = static_cast<std::int32_t>(flags.context);
  if (auto plan = model::plan_memory(**file, options)) {
    const std::size_t kv = plan->kv_bytes_per_token * static_cast<std::size_t>(flags.context);
    std::printf("to serve one sequence of %lld tokens: %s weights + %s keys and values + %s workspace\n",
                static_cast<long long>(flags.context), formats::format_bytes(plan->weight_bytes).c_str(),
                formats::format_bytes(kv).c_str(), formats::format_bytes(plan->workspace_bytes).c_str());
  } else {
    std::printf("cannot be served: %s\n", plan.error().message.c_str());
  }
  return app::kOk;
}

int pull() {
  const bool terminal = isatty(STDERR_FILENO) != 0;
  std::string last;
  const auto on_progress = [&](const formats::PullProgress& p) {
    const std::string line = formats::format_progress(p);
    if (terminal) {
      std::fprintf(stderr, "\r\033[K%s", line.c_str());
      if (p.total != 0 && p.bytes == p.total) std::fputc('\n', stderr);
    } else if (p.file != last || (p.total != 0 && p.bytes == p.total)) {   // plain lines: one at the start and one at the end of a file
      std::fprintf(stderr, "%s\n", line.c_str());
    }
    last = p.file;
    return true;
  };
  auto pulled = formats::pull({flags.source, flags.sha256, flags.output}, formats::HubEnvironment::from_environment(), on_progress);
  if (!pulled) return fail(pulled.error());
  if (flags.json) {
    // A path need not be UTF-8; the answer has to be.
    const nlohmann::ordered_json j{
        {"path", pulled->path}, {"bytes_fetched", pulled->bytes_fetched}, {"revision", pulled->revision}};
    std::printf("%s\n", j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else {
    std::printf("%s\n", pulled->path.c_str());
  }
  return app::kOk;
}

int list() {
  config::Config c;
  int code = app::kOk;
  if (!load_config(flags.config, c, code)) return code;
  auto rows = nlohmann::ordered_json::array();
  for (const config::ModelSpec& m : c.plant.models) {
    auto file = formats::ModelFile::open(m.path);
    const std::string what = file ? (*file)->config().architecture + ", " + (*file)->format() : file.error().message;
    const std::string bytes = file ? formats::format_bytes(formats::memory_need(**file).weights) : "-";
    if (flags.json) {
      rows.push_back({{"id", m.id}, {"path", m.path}, {"ok", static_cast<bool>(file)}});
    } else {
      std::printf("%-32s %-10s %-24s %s\n", m.id.c_str(), bytes.c_str(), what.c_str(), m.path.c_str());
    }
  }
  if (flags.json) std::printf("%s\n", nlohmann::ordered_json{{"data", rows}}.dump().c_str());
  return app::kOk;
}

}  // namespace

void add_models(CLI::App& app, Action& action) {
  CLI::App* group = app.add_subcommand("models", "Model files: inspect, pull, list; models of a daemon: status, load, unload, replace, alias");
  group->require_subcommand(1);
  CLI::App* sub = group->add_subcommand("inspect", "What is inside a GGUF file or a Hugging Face folder, and what it needs in memory");
  sub->add_option("path", flags.path, "The file or folder")->required();
  sub->add_flag("--json", flags.json, "Print JSON");
  sub->add_flag("--tensors", flags.tensors, "List every tensor");
  sub->add_flag("--digest", flags.digest, "Compute the model digest (reads the whole file)");
  sub->add_option("--context", flags.context, "Context to plan memory for")->check(CLI::Range(1, 16'777'216));
  sub->callback([&action] { action = inspect; });
  sub = group->add_subcommand("pull", "Fetch a model: hf:org/repo[@revision][:file], an https URL or a path");
  sub->add_option("source", flags.source, "Where from")->required();
  sub->add_option("--sha256", flags.sha256, "Expected hash of the file");
  sub->add_option("--output", flags.output, "URL only: file or folder to write");
  sub->add_flag("--json", flags.json, "Print JSON");
  sub->callback([&action] { action = pull; });
  sub = group->add_subcommand("list", "The configured models");
  sub->add_option("--config", flags.config, "tokenworks.yaml")->required();
  sub->add_flag("--json", flags.json, "Print JSON");
  sub->callback([&action] { action = list; });
  add_models_served(*group, action);
}

}  // namespace tokenworks::cli
