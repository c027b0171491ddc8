#include "model/slices.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "tokenworks/base/log.hpp"

namespace tokenworks::model {
namespace {

std::size_t row_bytes(const TensorView& t) {
  return static_cast<std::size_t>(t.columns() / formats::block_elements(t.type)) * static_cast<std::size_t>(formats::block_bytes(t.type));
}

// Rows [begin, begin + count) of a matrix, or values of a vector.
TensorView rows_of(const TensorView& t, std::int64_t begin, std::int64_t count) {
  TensorView out = t;
  const bool vector = t.shape.size() == 1;
  const std::size_t each = vector ? static_cast<std::size_t>(formats::block_bytes(t.type)) : row_bytes(t);
  out.shape.front() = count;
  out.bytes = t.bytes.subspan(static_cast<std::size_t>(begin) * each, static_cast<std::size_t>(count) * each);
  return out;
}

// The same share of every part, and of its bias.
void rows(LinearParts& linear, Rank rank) {
  for (TensorView& part : linear.parts) {
    const std::int64_t share = part.rows() / rank.size;
    part = rows_of(part, share * rank.index, share);
  }
  for (TensorView& bias : linear.bias) {
    const std::int64_t share = bias.elements() / rank.size;
    bias = rows_of(bias, share * rank.index, share);
  }
}

}  // namespace

Result<> check_split(const formats::ModelFile& file, std::int32_t size) {
  const formats::ModelConfig& c = file.config();
  const std::int32_t common = std::gcd(c.kv_heads, std::gcd(c.q_heads, c.ffn));
  if (size > 0 && common % size == 0) return {};
  std::string sizes;
  for (std::int32_t n = 1; n <= common; ++n)
    if (common % n == 0) sizes += fmt::format("{}{}", sizes.empty() ? "" : ", ", n);
  return error(Errc::bad_config, fmt::format("{}: {} query heads, {} key/value heads and a feed-forward of {} cannot be divided among {} ranks; {} would do",
                                             file.path(), c.q_heads, c.kv_heads, c.ffn, size, sizes));
}

formats::ModelConfig slice_config(const formats::ModelConfig& config, Rank rank) {
  formats::ModelConfig c = config;
  c.q_heads /= rank.size;
  c.kv_heads /= rank.size;
  c.ffn /= rank.size;
  return c;
}

std::int32_t head_rows_most(std::int32_t vocab, Rank rank) { return (vocab + rank.size - 1) / rank.size; }

std::int32_t head_rows(std::int32_t vocab, Rank rank) {
  const std::int32_t most = head_rows_most(vocab, rank);
  return std::clamp(vocab - rank.index * most, 0, most);
}

// A cut that goes through blocks: the share's values as fp32, each what its block says, for the backend to keep as it keeps those.
void Slices::widen(TensorView& part, Rank rank) {
  const auto columns = static_cast<std::size_t>(part.columns()), share = columns / static_cast<std::size_t>(rank.size), whole = row_bytes(part);
  std::vector<std::byte>& copy = copies_.emplace_back(share * static_cast<std::size_t>(part.rows()) * sizeof(float));
  std::vector<float> row(columns);
  for (std::size_t r = 0; r < static_cast<std::size_t>(part.rows()); ++r) {
    formats::dequantize(part.type, part.bytes.subspan(r * whole, whole), row);
    std::memcpy(copy.data() + r * share * sizeof(float), row.data() + share * static_cast<std::size_t>(rank.index), share * sizeof(float));
  }
  if (rank.index == 0 && !std::exchange(told_, true))
    log::info("blocks_cut", {{"tensor", part.name}, {"stored_as", formats::name(part.type)}, {"columns_of_a_rank", share},
                             {"instead", "matrices like it are kept in the backend's own element, which takes more memory"}});
  part.type = formats::TensorType::f32;
  part.shape.back() = static_cast<std::int64_t>(share);
  part.bytes = copy;
}

void Slices::columns(LinearParts& linear, Rank rank) {
  for (TensorView& part : linear.parts) {
    const std::int64_t share = part.columns() / rank.size;
    if (share % formats::block_elements(part.type) != 0) {
      widen(part, rank);
      continue;
    }
    const std::size_t whole = row_bytes(part), mine = whole / static_cast<std::size_t>(rank.size);
    std::vector<std::byte>& copy = copies_.emplace_back(mine * static_cast<std::size_t>(part.rows()));
    for (std::size_t r = 0; r < static_cast<std::size_t>(part.rows()); ++r)
      std::memcpy(copy.data() + r * mine, part.bytes.data() + r * whole + mine * static_cast<std::size_t>(rank.index), mine);
    part.shape.back() = share;
    part.bytes = copy;
  }
  if (rank.index != 0) linear.bias.clear();          // added once
}

Result<> Slices::cut(const formats::ModelConfig& config, Rank rank) {
  for (LayerTensors& layer : tensors_.layers) {
    rows(layer.qkv, rank);
    rows(layer.gate_up, rank);
    columns(layer.output, rank);
    columns(layer.down, rank);
  }
  const std::int32_t most = head_rows_most(config.vocab, rank), mine = head_rows(config.vocab, rank);
  if (mine == 0) return error(Errc::bad_config, fmt::format("a vocabulary of {} leaves rank {} of {} nothing", config.vocab, rank.index, rank.size));
  tensors_.head = &views_.emplace_back(rows_of(*tensors_.head, std::int64_t{most} * rank.index, mine));
  return {};
}

Result<Slices> Slices::make(const ModelTensors& tensors, const formats::ModelConfig& config, Rank rank) {
  Slices s(tensors);
  if (rank.size > 1)
    if (auto ok = s.cut(config, rank); !ok) return ok.error();
  return s;
}

}  // namespace tokenworks::model
