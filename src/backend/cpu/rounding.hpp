#pragma once
// Rounding: activations rounded as another arithmetic would round them, laid over the exact path. What a scheme costs in
// accuracy is measured with it before, or without, a kernel for it; `tokenworks eval --scheme` and the accuracy gate use
// it, a daemon cannot (the configuration knows `default` and `exact`). Pure; any thread.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tokenworks::backend {

struct Rounding {
  std::int32_t group = 0;                            // columns that share a scale; 0: the whole row
  std::int32_t highest = 127;                        // codes are -highest .. highest
  bool half_scale = false;                           // the scale is stored in fp16

  // One row in place: scale = max|x| / highest, code = x * (highest / max|x|) rounded to nearest, value = scale * code.
  void apply(float* row, std::int32_t columns) const;
};

// "q8_1": int8 per 32 with an fp16 scale, llama.cpp's activations for Q4_0 to Q8_0 weights (block_q8_1 and
// quantize_row_q8_1 of ggml, MIT). "int8-gN", "int8-row", "int16-row": a scale per N columns, or per row, in fp32.
std::optional<Rounding> rounding_of(std::string_view scheme);
extern const char* const kRoundingNames;             // for messages

}  // namespace tokenworks::backend
