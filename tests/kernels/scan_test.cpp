// argmax and exponentials of every table against their definitions, and against each other to the bit, at lengths around
// every width and block they work in.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "support.hpp"

namespace tokenworks::kernels {
namespace {

const std::int32_t kLengths[] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, 256, 257, 300, 511, 513, 1000, 4097};

TEST(Argmax, IsTheLowestIdOfTheHighestAtAnyLength) {
  for (const std::int32_t n : kLengths) {
    for (unsigned seed = 0; seed < 8; ++seed) {
      auto logits = normal(static_cast<std::size_t>(n), 100 * seed + static_cast<unsigned>(n));
      if (seed % 2 == 1) {                           // ties
        for (float& x : logits) x = std::round(x);
      }
      if (seed == 4) logits[static_cast<std::size_t>(n / 2)] = std::numeric_limits<float>::infinity();
      if (seed == 6) std::fill(logits.begin(), logits.end(), -3.0f);
      const auto want = static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      for (const CpuPath path : paths()) ASSERT_EQ(ops(path).argmax(logits.data(), n), want) << name(path) << " n " << n << " seed " << seed;
    }
  }
}

TEST(Argmax, SaysWhenThereIsWhatIsNotANumberWhereverItStands) {
  for (const std::int32_t n : kLengths) {
    for (const std::int32_t at : {0, n / 3, n - 1}) {
      auto logits = normal(static_cast<std::size_t>(n), static_cast<unsigned>(n));
      logits[static_cast<std::size_t>(at)] = std::numeric_limits<float>::quiet_NaN();
      for (const CpuPath path : paths()) ASSERT_EQ(ops(path).argmax(logits.data(), n), -1) << name(path) << " n " << n << " at " << at;
    }
  }
}

TEST(Exponentials, AreTheDoubleOnesAndTheSameBitsInEveryTable) {
  for (const std::int32_t n : kLengths) {
    auto logits = normal(static_cast<std::size_t>(n), static_cast<unsigned>(n), 8.0f);
    if (n > 20) logits[3] = -std::numeric_limits<float>::infinity(), logits[static_cast<std::size_t>(n - 1)] = -400;
    const float shift = *std::max_element(logits.begin(), logits.end()), scale = 1 / 0.7f;
    const auto blocks = static_cast<std::size_t>((n + 255) / 256);
    std::vector<float> reference(static_cast<std::size_t>(n));
    std::vector<double> sums(blocks);
    ops(CpuPath::portable).exponentials(logits.data(), n, shift, scale, reference.data(), sums.data());
    for (std::size_t b = 0; b < blocks; ++b) {
      double sum = 0;
      for (std::size_t i = 256 * b; i < std::min<std::size_t>(256 * (b + 1), static_cast<std::size_t>(n)); ++i) {
        const double x = (static_cast<double>(logits[i]) - shift) * scale, want = std::exp(x);
        // The argument is rounded to fp32 twice, which the exponential multiplies by its size.
        const double bound = std::isfinite(x) ? (5e-7 + 1.5e-7 * std::abs(x)) * want + 1e-30 : 0;
        ASSERT_NEAR(reference[i], want, bound) << "n " << n << " at " << i;
        sum += want;
      }
      ASSERT_NEAR(sums[b], sum, 3e-6 * sum + 1e-30);
    }
    for (const CpuPath path : paths()) {
      std::vector<float> weights(static_cast<std::size_t>(n) + 1, -7.0f);
      std::vector<double> got(blocks);
      ops(path).exponentials(logits.data(), n, shift, scale, weights.data(), got.data());
      ASSERT_EQ(std::memcmp(weights.data(), reference.data(), reference.size() * sizeof(float)), 0) << name(path) << " n " << n;
      ASSERT_EQ(std::memcmp(got.data(), sums.data(), blocks * sizeof(double)), 0) << name(path) << " n " << n;
      ASSERT_EQ(weights.back(), -7.0f) << name(path) << " wrote past the end, n " << n;
    }
  }
}

}  // namespace
}  // namespace tokenworks::kernels
