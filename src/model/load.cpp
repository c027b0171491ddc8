// load: from a ModelFile and a Backend to a Runner. Everything that can be refused is refused before a byte is copied.
#include "model/load.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "model/architecture.hpp"
#include "model/encoder.hpp"
#include "model/memory.hpp"
#include "model/rope.hpp"
#include "model/transformer.hpp"
#include "model/weights.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/model/check.hpp"

namespace tokenworks::model {

namespace {

// What a load needs to know of the file, all of it checked.
struct Checked {
  formats::ModelConfig config;                       // of this rank's slice
  backend::GateKind gate;
  backend::RopeSpec rope;
  ModelTensors tensors;
  LoadOptions options;
  std::size_t block_bytes;
  std::int32_t blocks;
};

Result<Checked> check(const formats::ModelFile& file, const backend::Backend& backend, const LoadOptions& asked, Rank rank) {
  const auto architecture = find_architecture(file);
  if (!architecture) return architecture.error();
  if (const auto numbers = check_numbers(file); !numbers) return numbers.error();
  const auto gate = gate_kind(file);
  if (!gate) return gate.error();
  if (const auto split = check_split(file, rank.size); !split) return split.error();
  formats::ModelConfig config = slice_config(file.config(), rank);
  auto rope = rope_spec(config, file.path());
  if (!rope) return rope.error();
  auto tensors = find_tensors(file, **architecture);
  if (!tensors) return tensors.error();
  const auto options = settle_options(file, asked);
  if (!options) return options.error();
  const std::size_t block_bytes = backend.kv_block_bytes(kv_shape(config));
  const auto blocks = kv_blocks(file, *options, block_bytes);
  if (!blocks) return blocks.error();
  return Checked{std::move(config), *gate, std::move(*rope), std::move(*tensors), *options, block_bytes, *blocks};
}

std::int32_t slots_of(std::size_t bytes, std::size_t block_bytes) {
  return static_cast<std::int32_t>(std::min<std::size_t>(bytes / block_bytes, std::numeric_limits<std::int32_t>::max() / backend::kBlockTokens));
}

}  // namespace

Result<> can_load(const formats::ModelFile& file, backend::Backend& backend, const LoadOptions& options, std::int32_t ranks) {
  if (file.config().architecture == "bert") {
    if (ranks > 1) return error(Errc::bad_config, file.path() + ": an encoder runs in one place, not over " + std::to_string(ranks), "backend");
    return can_load_encoder(file, backend, options);
  }
  if (auto split = check_split(file, ranks); !split) return error(split.error().code, split.error().message, "backend");
  const auto checked = check(file, backend, options, {0, ranks});
  if (!checked) return checked.error();
  return {};
}

Result<std::unique_ptr<Runner>> load_rank(const formats::ModelFile& file, std::unique_ptr<backend::Backend> backend,
                                          const LoadOptions& asked, Rank rank, backend::Communicator* communicator) {
  auto checked = check(file, *backend, asked, rank);
  if (!checked) return checked.error();
  const formats::ModelConfig& config = checked->config;
  const LoadOptions& options = checked->options;
  if (options.context_tokens < asked.context_tokens && rank.index == 0) {
    log::warn("context_lowered", {{"model", file.path()}, {"asked", asked.context_tokens}, {"context_tokens", options.context_tokens}});
  }
  const auto slices = Slices::make(checked->tensors, file.config(), rank);
  if (!slices) return slices.error();
  auto weights = build_weights(file, slices->tensors(), checked->rope, options.context_tokens, *backend);
  if (!weights) return weights.error();

  std::vector<float> final_norm(static_cast<std::size_t>(config.hidden));
  formats::dequantize(checked->tensors.final_norm->type, checked->tensors.final_norm->bytes, final_norm);
  const Workspace workspace = workspace_of(config, options);
  RunnerInfo info{.vocab = config.vocab,
                  .context_tokens = options.context_tokens,
                  .kv_blocks = checked->blocks,
                  .rows_max = options.rows_max,
                  .sequences_max = options.sequences_max,
                  .weight_bytes = weights->bytes,
                  .kv_bytes = checked->block_bytes * static_cast<std::size_t>(checked->blocks),
                  .workspace_bytes = workspace.bytes(options),
                  .stop_tokens = file.tokenizer().stop,
                  .embedding_columns = config.hidden,
                  .fingerprint = fingerprint_of(file, checked->tensors, checked->rope, backend->info())};
  Transformer::Parts parts{.backend = std::move(backend), .config = config, .attention = attention_spec(config),
                           .gate = checked->gate, .weights = std::move(*weights), .info = std::move(info),
                           .swap_slots = slots_of(options.swap_bytes, checked->block_bytes),
                           .workspace = workspace, .communicator = communicator,
                           .head_rows = head_rows(config.vocab, rank), .final_norm = std::move(final_norm)};
  return Transformer::make(std::move(parts));
}

Result<std::unique_ptr<Runner>> load(std::shared_ptr<const formats::ModelFile> file,
                                     std::unique_ptr<backend::Backend> backend, const LoadOptions& options) {
  if (file->config().architecture == "bert") return load_encoder(*file, std::move(backend), options);
  return load_rank(*file, std::move(backend), options, {}, nullptr);
}

}  // namespace tokenworks::model
