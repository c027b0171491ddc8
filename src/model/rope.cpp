#include "model/rope.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tokenworks::model {
namespace {

using formats::ModelConfig;

// Llama 3.1: wavelengths beyond the original context are stretched by `factor`, short ones kept, those between blended.
double llama3(const ModelConfig& c, double inverse) {
  const double original = c.rope_original_context;
  const double wavelength = 2 * std::numbers::pi / inverse;
  if (wavelength > original / c.rope_low_freq) return inverse / c.rope_factor;
  if (wavelength < original / c.rope_high_freq) return inverse;
  const double keep = (original / wavelength - c.rope_low_freq) / (c.rope_high_freq - c.rope_low_freq);
  return (1 - keep) * inverse / c.rope_factor + keep * inverse;
}

// YaRN (arXiv 2309.00071): dimensions that turn more than beta_fast times over the original context are kept, those
// that turn less than beta_slow times are interpolated, a ramp between.
struct Yarn {
  explicit Yarn(const ModelConfig& c) : factor(c.rope_factor) {
    const auto dimension_of = [&](double turns) {
      return c.rope_dims * std::log(c.rope_original_context / (turns * 2 * std::numbers::pi)) /
             (2 * std::log(static_cast<double>(c.rope_base)));
    };
    low = std::max(std::floor(dimension_of(c.rope_beta_fast)), 0.0);
    high = std::min(std::ceil(dimension_of(c.rope_beta_slow)), c.rope_dims - 1.0);
    if (low == high) high += 0.001;                  // a step instead of a ramp
  }
  double operator()(double inverse, std::int32_t i) const {
    const double interpolate = std::clamp((i - low) / (high - low), 0.0, 1.0);
    return inverse / factor * interpolate + inverse * (1 - interpolate);
  }
  double factor, low, high;
};

}  // namespace

Result<backend::RopeSpec> rope_spec(const ModelConfig& c, const std::string& path) {
  const auto bad = [&](Errc code, const std::string& why) { return error(code, path + ": " + why); };
  const std::string& kind = c.rope_scaling;
  if (kind != "none" && kind != "linear" && kind != "llama3" && kind != "yarn")
    return bad(Errc::bad_config, fmt::format("rope scaling '{}' is not supported; supported are none, linear, llama3 "
                                             "and yarn", kind));
  if (!(c.rope_base > 1) || !std::isfinite(c.rope_base))
    return bad(Errc::bad_file, fmt::format("the rope base is {}, which must be above 1", c.rope_base));
  if (kind != "none" && (!(c.rope_factor > 0) || !std::isfinite(c.rope_factor)))
    return bad(Errc::bad_file, fmt::format("the rope scaling factor is {}, which must be positive", c.rope_factor));
  if ((kind == "llama3" || kind == "yarn") && c.rope_original_context <= 0)
    return bad(Errc::bad_file, fmt::format("rope scaling '{}' needs the original context length", kind));
  if (kind == "llama3" && !(c.rope_low_freq > 0 && c.rope_high_freq > c.rope_low_freq))
    return bad(Errc::bad_file, fmt::format("rope scaling 'llama3' with low {} and high {} frequency factors: high must "
                                           "be above low", c.rope_low_freq, c.rope_high_freq));
  if (kind == "yarn" && !(c.rope_beta_slow > 0 && c.rope_beta_fast >= c.rope_beta_slow))
    return bad(Errc::bad_file, fmt::format("rope scaling 'yarn' with beta_fast {} and beta_slow {}: fast must not be "
                                           "below slow", c.rope_beta_fast, c.rope_beta_slow));
  const std::size_t pairs = static_cast<std::size_t>(c.rope_dims) / 2;
  if (!c.rope_factors.empty() && c.rope_factors.size() != pairs)
    return bad(Errc::bad_file, fmt::format("tensor rope_freqs.weight has {} factors; {} rotated dimensions need {}",
                                           c.rope_factors.size(), c.rope_dims, pairs));

  backend::RopeSpec spec{.dims = c.rope_dims, .interleaved = c.rope_interleaved};
  spec.inverse_frequency.resize(pairs);
  for (std::size_t i = 0; i < pairs; ++i) {
    double inverse = std::pow(static_cast<double>(c.rope_base), -2.0 * static_cast<double>(i) / c.rope_dims);
    if (!c.rope_factors.empty()) {
      if (!(c.rope_factors[i] > 0)) return bad(Errc::bad_file, fmt::format("rope_freqs.weight[{}] is not positive", i));
      inverse /= c.rope_factors[i];
    }
    if (kind == "linear") inverse /= c.rope_factor;
    if (kind == "llama3") inverse = llama3(c, inverse);
    if (kind == "yarn") inverse = Yarn(c)(inverse, static_cast<std::int32_t>(i));
    spec.inverse_frequency[i] = static_cast<float>(inverse);
  }
  if (kind == "yarn") {
    const double by_factor = c.rope_factor <= 1 ? 1.0 : 0.1 * std::log(c.rope_factor) + 1.0;
    spec.magnitude = c.rope_attention_factor > 0 ? c.rope_attention_factor : static_cast<float>(by_factor);
  }
  return spec;
}

}  // namespace tokenworks::model
