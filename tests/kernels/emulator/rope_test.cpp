// Head norms, rotation and the write into the paged cache against arithmetic in double: q in place, k and v at their slots,
// every other byte of the cache untouched.
#include <cmath>

#include "checks.hpp"

namespace tokenworks::emulator {

using namespace kernels::cuda;

std::string check_rope(const RopeCase& c) {
  EmulatedDevice device;
  const std::int32_t blocks = 4, layers = 2, layer = 1, positions_max = c.positions_max;
  const auto dim = static_cast<std::size_t>(c.head_dim);
  const auto stride = static_cast<std::size_t>(c.q_heads + 2 * c.kv_heads) * dim;
  const auto x = normal(static_cast<std::size_t>(c.rows) * stride, 1), q_norm = normal(dim, 2), k_norm = normal(dim, 3);
  std::vector<float> table;
  for (std::int32_t p = 0; p < positions_max; ++p)
    for (const bool sine : {false, true})
      for (std::int32_t i = 0; i < c.dims / 2; ++i) {
        const double angle = p * std::pow(100.0, -2.0 * i / c.dims);
        table.push_back(static_cast<float>(sine ? std::sin(angle) : std::cos(angle)));
      }
  std::vector<std::int32_t> positions, slots;
  for (std::int32_t r = 0; r < c.rows; ++r) {
    positions.push_back(r == 2 ? positions_max - 1 : (r * 11 + 5) % positions_max);
    slots.push_back(r == 1 ? -1 : (r * 7 + 15) % (blocks * 16));       // row 1 is padding
  }
  const auto wide = static_cast<std::size_t>(kv_stride(c.head_dim));
  const std::size_t size = bytes_of(c.kv), half = static_cast<std::size_t>(c.kv_heads) * wide * 16 * size;
  const std::size_t block_bytes = half * 2 * layers;
  DeviceArray<float> qkv(device, x, "qkv");
  const DeviceArray<float> t(device, table, "rope table"), qn(device, q_norm, "q norm"), kn(device, k_norm, "k norm");
  const DeviceArray<std::int32_t> p(device, positions, "positions"), s(device, slots, "slots");
  DeviceArray<unsigned char> cache(device, std::vector<unsigned char>(block_bytes * blocks, 0), "cache");
  RopeArgs args{.qkv = qkv, .rows = c.rows, .shape = {c.q_heads, c.kv_heads, c.head_dim, 1, 0, 0}, .table = t, .dims = c.dims,
                .interleaved = c.interleaved, .q_norm = c.norms ? qn.get() : nullptr, .k_norm = c.norms ? kn.get() : nullptr,
                .epsilon = 1e-6f, .positions = p, .slots = s};
  args.kv = {reinterpret_cast<std::byte*>(cache.get()) + half * 2 * layer, block_bytes, half, c.kv, c.k_scale, c.v_scale};
  device.ops().rope_and_store(device.stream(), args);
  if (auto fault = run_all(device); !fault.empty()) return fault;

  std::vector<double> expected_cache(block_bytes * blocks / size, 0.0);
  for (std::int32_t r = 0; r < c.rows; ++r) {
    const std::int32_t slot = slots[static_cast<std::size_t>(r)], position = positions[static_cast<std::size_t>(r)];
    for (std::int32_t h = 0; h < c.q_heads + 2 * c.kv_heads; ++h) {
      const std::size_t first = static_cast<std::size_t>(r) * stride + static_cast<std::size_t>(h) * dim;
      std::vector<double> v(x.begin() + static_cast<std::ptrdiff_t>(first), x.begin() + static_cast<std::ptrdiff_t>(first + dim));
      const bool value = h >= c.q_heads + c.kv_heads, key = !value && h >= c.q_heads;
      if (!value && c.norms) {
        double squares = 0;
        for (const double e : v) squares += e * e;
        for (std::size_t d = 0; d < dim; ++d)
          v[d] *= (key ? k_norm : q_norm)[d] / std::sqrt(squares / static_cast<double>(dim) + 1e-6);
      }
      for (std::int32_t i = 0; !value && i < c.dims / 2; ++i) {
        const auto a = static_cast<std::size_t>(c.interleaved ? 2 * i : i), b = static_cast<std::size_t>(c.interleaved ? 2 * i + 1 : i + c.dims / 2);
        const float* row = &table[static_cast<std::size_t>(position * c.dims)];
        const double u = v[a], w = v[b], cosine = row[i], sine = row[i + c.dims / 2];
        v[a] = u * cosine - w * sine;
        v[b] = w * cosine + u * sine;
      }
      if (key || value) {
        if (slot < 0) continue;
        const std::int32_t head = (h - c.q_heads) % c.kv_heads;
        const std::size_t to = static_cast<std::size_t>(slot / 16) * block_bytes / size + (half * 2 * layer + (value ? half : 0)) / size +
                               (static_cast<std::size_t>(head) * 16 + static_cast<std::size_t>(slot % 16)) * wide;
        for (double& e : v) e /= value ? c.v_scale : c.k_scale;
        std::copy(v.begin(), v.end(), expected_cache.begin() + static_cast<std::ptrdiff_t>(to));
        continue;
      }
      for (std::size_t d = 0; d < dim; ++d)
        if (!(std::abs(qkv.get()[first + d] - v[d]) <= 1e-5 * (1 + std::abs(v[d])))) return "q of row " + std::to_string(r) + " is wrong";
    }
  }
  for (std::size_t i = 0; i < expected_cache.size(); ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, cache.get() + i * size, size);
    const double e = expected_cache[i];
    if (!(std::abs(decode(c.kv, bits) - e) <= (e == 0 ? 0 : 1.01 * rounding(c.kv, e) + 1e-5 * std::abs(e)))) return "element " + std::to_string(i) + " of the cache is wrong";
  }
  return {};
}

namespace {

TEST(EmulatorRope, RotatesAndStoresForEveryHeadLayout) {
  const struct { std::int32_t q, kv, dim, dims; } layouts[] = {{1, 1, 8, 8},   {4, 2, 16, 16}, {6, 2, 16, 8},  {9, 3, 64, 64},
                                                               {8, 1, 128, 128}, {3, 3, 32, 30}, {10, 2, 8, 8}, {2, 2, 256, 64}};
  for (const auto& l : layouts)
    for (const Element kv : {Element::bf16, Element::f16, Element::fp8})
      for (const bool interleaved : {false, true})
        for (const bool norms : {false, true})
          EXPECT_EQ(check_rope({l.q, l.kv, l.dim, l.dims, 3, interleaved, norms, kv}), "")
              << l.q << " " << l.kv << " " << l.dim << " " << l.dims << " " << interleaved << norms << static_cast<int>(kv);
}

TEST(EmulatorRope, NoRowsAndOneRow) {
  EXPECT_EQ(check_rope({.rows = 0}), "");
  EXPECT_EQ(check_rope({.rows = 1}), "");
}

TEST(EmulatorRope, KeysAndValuesAreStoredByTheirOwnScales) {
  for (const Element kv : {Element::bf16, Element::f16, Element::fp8}) EXPECT_EQ(check_rope({.kv = kv, .k_scale = 0.25f, .v_scale = 2.0f}), "");
}

TEST(EmulatorRope, TheLastPositionOfALongContext) {
  for (const bool interleaved : {false, true}) EXPECT_EQ(check_rope({.head_dim = 16, .dims = 8, .interleaved = interleaved, .positions_max = 131072}), "");
}

}  // namespace
}  // namespace tokenworks::emulator
