#include "backend/cuda/attend_memory.hpp"

#include <algorithm>

namespace tokenworks::backend::cuda {

using kernels::cuda::AttendItem;
using kernels::cuda::AttendTile;

namespace {

struct Sizes {
  std::int32_t items, tiles;
  std::size_t list_bytes, partial_bytes;
};

Sizes sizes(const Device& device, std::int32_t rows_max, const kernels::cuda::HeadShape& shape) {
  const std::int32_t group = shape.q_heads / shape.kv_heads;
  // The least that holds every sequence whole (rows * group queries in sixteens, each sequence rounded up), and enough pieces
  // to fill the card when sequences are few and long.
  const std::int32_t whole = (rows_max * group + 15) / 16 + rows_max;
  const std::int32_t filling = 8 * std::max(1, device.info().multiprocessors) / shape.kv_heads;
  Sizes s{};
  s.items = std::max(whole, filling);
  s.tiles = kernels::cuda::attend_tiles_max(rows_max, rows_max, group);
  const auto bytes = [](std::int32_t n, std::size_t each) { return static_cast<std::size_t>(n) * each; };
  s.list_bytes = bytes(s.items, sizeof(AttendItem)) + bytes(s.tiles, sizeof(AttendTile)) + bytes(4 + 2 * rows_max, sizeof(std::int32_t));
  s.partial_bytes = kernels::cuda::attend_partial_floats(s.items, shape.kv_heads, shape.head_dim) * sizeof(float);
  return s;
}

}  // namespace

std::size_t AttendMemory::bytes(const Device& device, std::int32_t rows_max, const kernels::cuda::HeadShape& shape) {
  const Sizes s = sizes(device, rows_max, shape);
  return s.list_bytes + s.partial_bytes;
}

Result<> AttendMemory::reserve(Device& device, std::int32_t rows_max, const kernels::cuda::HeadShape& shape, bool* moved) {
  *moved = false;
  if (rows_max <= rows_max_ && shape.q_heads == shape_.q_heads && shape.kv_heads == shape_.kv_heads &&
      shape.head_dim == shape_.head_dim)
    return {};
  if (auto idle = device.synchronise(device.stream()); !idle) return idle;     // the old memory may be in use
  const Sizes size = sizes(device, rows_max, shape);
  auto lists = Memory::make(device, size.list_bytes, "the plan of attention");
  if (!lists) return lists.error();
  auto partials = Memory::make(device, size.partial_bytes, "partial results of attention");
  if (!partials) return partials.error();
  lists_ = std::move(*lists);
  partials_ = std::move(*partials);
  plan_.items = reinterpret_cast<AttendItem*>(lists_.data());
  plan_.tiles = reinterpret_cast<AttendTile*>(plan_.items + size.items);
  plan_.counts = reinterpret_cast<std::int32_t*>(plan_.tiles + size.tiles);
  plan_.first_item = plan_.counts + 4;
  plan_.chunks = plan_.first_item + rows_max;
  plan_.items_max = size.items;
  plan_.tiles_max = size.tiles;
  rows_max_ = rows_max;
  shape_ = shape;
  *moved = true;
  return {};
}

}  // namespace tokenworks::backend::cuda
