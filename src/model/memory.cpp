#include "model/memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "model/encoder.hpp"
#include "model/tensors.hpp"
#include "tokenworks/base/log.hpp"

namespace tokenworks::model {
namespace {

// In the spelling of the configuration, rounded up so that what a message asks for is enough.
std::string spelled(std::size_t bytes) {
  if (bytes < std::size_t{16} << 20) return fmt::format("{}KiB", (bytes + 1023) >> 10);
  return fmt::format("{}MiB", (bytes + (1 << 20) - 1) >> 20);
}

}  // namespace

std::size_t Workspace::bytes(const LoadOptions& options) const {
  // Activations at no more than 16 bits an element, whatever form the backend gives them.
  return 4 * (hidden + qkv + gate_up + sampled + logits) +
         2 * static_cast<std::size_t>(options.rows_max) * static_cast<std::size_t>(activation_columns);
}

Workspace workspace_of(const formats::ModelConfig& c, const LoadOptions& options) {
  const auto rows = static_cast<std::size_t>(options.rows_max), last = static_cast<std::size_t>(options.sequences_max);
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const std::int64_t head = c.head_dim;
  return {.hidden = rows * size(c.hidden),
          .qkv = rows * size((c.q_heads + 2 * std::int64_t{c.kv_heads}) * head),
          .gate_up = rows * size(2 * std::int64_t{c.ffn}),
          .sampled = last * size(c.hidden),
          .logits = last * size(c.vocab),
          .activation_columns = static_cast<std::int32_t>(
              std::max({std::int64_t{c.hidden}, std::int64_t{c.ffn}, c.q_heads * head}))};
}

backend::KvShape kv_shape(const formats::ModelConfig& c) { return {c.layers, c.kv_heads, c.head_dim}; }

Result<LoadOptions> settle_options(const formats::ModelFile& file, LoadOptions options) {
  if (options.context_tokens <= 0 || options.sequences_max <= 0 || options.rows_max <= 0)
    return error(Errc::bad_config,
                 fmt::format("{}: context_tokens {}, max_sequences {} and {} rows a step must all be positive",
                             file.path(), options.context_tokens, options.sequences_max, options.rows_max));
  const std::int32_t own = file.config().context;
  if (options.context_tokens > own) {
    log::warn("context_lowered", {{"model", file.path()}, {"asked", options.context_tokens}, {"context_tokens", own}});
    options.context_tokens = own;
  }
  options.rows_max = std::max(options.rows_max, options.sequences_max);   // every running sequence decodes in one step
  return options;
}

Result<std::int32_t> kv_blocks(const formats::ModelFile& file, const LoadOptions& options, std::size_t block_bytes) {
  const std::size_t fit = options.kv_cache_bytes / block_bytes;
  const auto need =
      static_cast<std::size_t>((options.context_tokens + backend::kBlockTokens - 1) / backend::kBlockTokens);
  if (fit < need) {
    const std::string smaller =
        fit == 0 ? "" : fmt::format(" or lower context_tokens to {}", fit * backend::kBlockTokens);
    return error(Errc::bad_config,
                 fmt::format("{}: kv_cache {} holds {} tokens, but one context of {} needs {}; raise kv_cache{}",
                             file.path(), spelled(options.kv_cache_bytes), fit * backend::kBlockTokens,
                             options.context_tokens, spelled(need * block_bytes), smaller));
  }
  return static_cast<std::int32_t>(
      std::min<std::size_t>(fit, std::numeric_limits<std::int32_t>::max() / backend::kBlockTokens));
}

Result<MemoryPlan> plan_memory(const formats::ModelFile& file, const LoadOptions& asked) {
  if (const auto numbers = check_numbers(file); !numbers) return numbers.error();
  if (file.config().architecture == "bert") return plan_encoder_memory(file, asked);
  const auto architecture = find_architecture(file);
  if (!architecture) return architecture.error();
  const auto tensors = find_tensors(file, **architecture);
  if (!tensors) return tensors.error();
  const auto options = settle_options(file, asked);
  if (!options) return options.error();
  return MemoryPlan{.weight_bytes = tensors->file_bytes,
                    .kv_bytes_per_token = kv_shape(file.config()).block_bytes() / backend::kBlockTokens,
                    .workspace_bytes = workspace_of(file.config(), *options).bytes(*options)};
}

}  // namespace tokenworks::model
