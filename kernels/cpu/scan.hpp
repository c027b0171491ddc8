// The sampler's passes over a row of logits, bit-equal in every table: ids in blocks of 256, in a block 16 lanes of
// 16 ids each, lanes added by one fixed tree.
#pragma once
#include "vec.hpp"

#include "kernels/ops.hpp"

namespace tokenworks::kernels::TW_PATH {

static int32_t argmax(const float* logits, int32_t n) {
  F best[2] = {set1(-__builtin_inff()), set1(-__builtin_inff())};
  I highest = iset1(0);                              // of the magnitudes as integers: above infinity means a NaN
  int32_t i = 0;
  for (; i + 2 * kWidth <= n; i += 2 * kWidth) {
    const F a = load(logits + i), b = load(logits + i + kWidth);
    highest = imax(highest, imax(iand(as_int(a), iset1(0x7FFFFFFF)), iand(as_int(b), iset1(0x7FFFFFFF))));
    best[0] = max(best[0], a);
    best[1] = max(best[1], b);
  }
  float top = reduce_max(max(best[0], best[1]));
  bool broken = reduce_imax(highest) > 0x7F800000;
  for (; i < n; ++i) {
    broken = broken || logits[i] != logits[i];
    top = logits[i] > top ? logits[i] : top;
  }
  if (broken) return -1;
  for (i = 0; i + 64 <= n; i += 64) {                // where: skip blocks without it
    F block = load(logits + i);
    for (int j = kWidth; j < 64; j += kWidth) block = max(block, load(logits + i + j));
    if (reduce_max(block) == top) break;
  }
  for (; i < n; ++i)
    if (logits[i] == top) return i;
  return -1;
}

static void exponentials(const float* logits, int32_t n, float shift, float scale, float* weights, double* sums) {
  const F s = set1(shift), f = set1(scale);
  alignas(64) float padded[256];
  for (int32_t begin = 0; begin < n; begin += 256) {
    const int32_t left = n - begin < 256 ? n - begin : 256;
    const float* in = logits + begin;
    if (left < 256) {
      for (int i = 0; i < 256; ++i) padded[i] = i < left ? in[i] : -__builtin_inff();
      in = padded;
    }
    F lanes[16 / kWidth];
    for (int j = 0; j < 16 / kWidth; ++j) lanes[j] = set1(0);
    for (int i = 0; i < 256; i += 16) {
      for (int j = 0; j < 16 / kWidth; ++j) {
        const int at = i + j * kWidth;
        const F w = exp<false>(mul(sub(load(in + at), s), f));
        lanes[j] = add(lanes[j], w);
        if (at + kWidth <= left)
          store(weights + begin + at, w);
        else if (at < left)
          store_n(weights + begin + at, w, left - at);
      }
    }
    for (int half = 16 / kWidth / 2; half > 0; half /= 2)
      for (int j = 0; j < half; ++j) lanes[j] = add(lanes[j], lanes[j + half]);
    sums[begin / 256] = static_cast<double>(reduce_add(lanes[0]));
  }
}

}  // namespace tokenworks::kernels::TW_PATH
