#include "backend/cpu/rounding.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace tokenworks::backend {
namespace {

// To the nearest fp16 value, ties to even, for 0 <= x.
float to_half(float x) {
  int exponent = 0;
  std::frexp(x, &exponent);
  const float last_place = std::ldexp(1.0f, std::max(exponent - 11, -24));
  const float rounded = std::nearbyint(x / last_place) * last_place;
  return rounded > 65504.0f ? INFINITY : rounded;
}

}  // namespace

const char* const kRoundingNames = "q8_1, int8-gN, int8-row, int16-row";

void Rounding::apply(float* row, std::int32_t columns) const {
  const std::int32_t width = group > 0 ? group : columns;
  for (std::int32_t c = 0; c < columns; c += width) {
    const std::int32_t n = std::min(width, columns - c);
    float* const x = row + c;
    float largest = 0;
    for (std::int32_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(x[i]));
    if (!std::isfinite(largest) || largest < 1e-30f) continue;
    const float exact = largest / static_cast<float>(highest), inverse = static_cast<float>(highest) / largest;
    const float scale = half_scale ? to_half(exact) : exact;
    for (std::int32_t i = 0; i < n; ++i) x[i] = scale * std::nearbyint(x[i] * inverse);
  }
}

std::optional<Rounding> rounding_of(std::string_view scheme) {
  if (scheme == "q8_1") return Rounding{32, 127, true};
  if (scheme == "int8-row") return Rounding{0, 127, false};
  if (scheme == "int16-row") return Rounding{0, 32767, false};
  constexpr std::string_view kGrouped = "int8-g";
  if (!scheme.starts_with(kGrouped)) return std::nullopt;
  const std::string_view digits = scheme.substr(kGrouped.size());
  std::int32_t group = 0;
  const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), group);
  if (failed != std::errc() || end != digits.data() + digits.size() || group < 1 || group > 65536) return std::nullopt;
  return Rounding{group, 127, false};
}

}  // namespace tokenworks::backend
