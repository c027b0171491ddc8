// load: from a ModelFile and a Backend to a Runner. Everything that can be refused is refused before a byte is copied.
#include <utility>

#include "model/architecture.hpp"
#include "model/memory.hpp"
#include "model/rope.hpp"
#include "model/tensors.hpp"
#include "model/transformer.hpp"
#include "model/weights.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/model/check.hpp"

namespace tokenworks::model {

namespace {

// What a load needs to know of the file, all of it checked.
struct Checked {
  backend::GateKind gate;
  backend::RopeSpec rope;
  ModelTensors tensors;
  LoadOptions options;
  std::size_t block_bytes;
  std::int32_t blocks;
};

Result<Checked> check(const formats::ModelFile& file, const backend::Backend& backend, const LoadOptions& asked) {
  const auto architecture = find_architecture(file);
  if (!architecture) return architecture.error();
  if (const auto numbers = check_numbers(file); !numbers) return numbers.error();
  const auto gate = gate_kind(file);
  if (!gate) return gate.error();
  auto rope = rope_spec(file.config(), file.path());
  if (!rope) return rope.error();
  auto tensors = find_tensors(file, **architecture);
  if (!tensors) return tensors.error();
  const auto options = settle_options(file, asked);
  if (!options) return options.error();
  const std::size_t block_bytes = backend.kv_block_bytes(kv_shape(file.config()));
  const auto blocks = kv_blocks(file, *options, block_bytes);
  if (!blocks) return blocks.error();
  return Checked{*gate, std::move(*rope), std::move(*tensors), *options, block_bytes, *blocks};
}

}  // namespace

Result<> can_load(const formats::ModelFile& file, const backend::Backend& backend, const LoadOptions& options) {
  const auto checked = check(file, backend, options);
  if (!checked) return checked.error();
  return {};
}

Result<std::unique_ptr<Runner>> load(std::shared_ptr<const formats::ModelFile> file,
                                     std::unique_ptr<backend::Backend> backend, const LoadOptions& asked) {
  auto checked = check(*file, *backend, asked);
  if (!checked) return checked.error();
  const formats::ModelConfig& config = file->config();
  const LoadOptions& options = checked->options;
  if (options.context_tokens < asked.context_tokens) {
    log::warn("context_lowered", {{"model", file->path()}, {"asked", asked.context_tokens}, {"context_tokens", options.context_tokens}});
  }
  auto weights = build_weights(*file, checked->tensors, checked->rope, options.context_tokens, *backend);
  if (!weights) return weights.error();

  const Workspace workspace = workspace_of(config, options);
  RunnerInfo info{.vocab = config.vocab,
                  .context_tokens = options.context_tokens,
                  .kv_blocks = checked->blocks,
                  .rows_max = options.rows_max,
                  .sequences_max = options.sequences_max,
                  .weight_bytes = weights->bytes,
                  .kv_bytes = checked->block_bytes * static_cast<std::size_t>(checked->blocks),
                  .workspace_bytes = workspace.bytes(options),
                  .stop_tokens = file->tokenizer().stop,
                  .fingerprint = fingerprint_of(*file, checked->tensors, checked->rope, backend->info())};
  Transformer::Parts parts{.backend = std::move(backend), .config = config, .attention = attention_spec(config),
                           .gate = checked->gate, .weights = std::move(*weights), .info = std::move(info),
                           .workspace = workspace};
  return Transformer::make(std::move(parts));
}

}  // namespace tokenworks::model
