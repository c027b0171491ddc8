#pragma once
// EncoderOps: what a bidirectional encoder of BERT's kind needs besides the ops of Backend: learned positions, a LayerNorm
// that leaves its result as the next residual too, an activation without a gate, attention that sees the whole sequence.
// A backend that has them gives them out as encoder_ops(); they live as long as it does and keep to its rules: enqueued in
// order, one thread, arguments asserted. The step is the one begin_step() named; a sequence's rows are all of it.
#include <cstdint>

#include "tokenworks/backend/backend.hpp"

namespace tokenworks::backend {

enum class ActivationKind : std::uint8_t { gelu, gelu_tanh, relu, silu };   // gelu: x/2 (1 + erf(x / sqrt 2))

class EncoderOps {
 public:
  virtual ~EncoderOps() = default;
  // hidden[r] += table[positions[r]], [num_rows, columns]; `table` is a make_vector() of [positions, columns].
  virtual void add_positions(const Weight& table, std::int32_t columns, Buffer& hidden) = 0;
  // hidden = (hidden - mean) / sqrt(variance + epsilon) * weight + bias over each row, in place, and the same into `out`.
  virtual void layer_norm(Buffer& hidden, const Weight& weight, const Weight& bias, float epsilon, std::int32_t rows,
                          std::int32_t columns, Activations& out) = 0;
  // out = act(in), [rows, columns].
  virtual void activate(const Buffer& in, ActivationKind kind, std::int32_t rows, std::int32_t columns, Activations& out) = 0;
  // out [num_rows, q_heads * head_dim] = softmax(q K^T * scale) V over all rows of each sequence of the step; qkv as in
  // Backend::attention. No cache, no positions, no mask.
  virtual void attend_all(const Buffer& qkv, const AttentionSpec& spec, Activations& out) = 0;
};

}  // namespace tokenworks::backend
