// What CudaBackend has for encoders and for texts that are embedded.
#include <algorithm>
#include <cassert>

#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/op_keys.hpp"

namespace tokenworks::backend::cuda {

using kernels::cuda::Element;

void CudaBackend::add_positions(const Weight& table, std::int32_t columns, Buffer& hidden) {
  const kernels::cuda::AddPositionsArgs args{cuda(table).vector.floats(), state_.positions(), padded(step_rows_, hidden, columns), columns,
                                             cuda(hidden).floats()};
  graphs_.run({kAddPositions, key(args.table), key(args.hidden), key(args.rows)}, [this, args] { ops().add_positions(stream(), args); });
}

void CudaBackend::layer_norm(Buffer& hidden, const Weight& weight, const Weight& bias, float epsilon, std::int32_t rows,
                             std::int32_t columns, Activations& out) {
  CudaActivations& to = cuda(out);
  to.columns = columns;
  const kernels::cuda::LayerNormArgs args{cuda(hidden).floats(), cuda(weight).vector.floats(), cuda(bias).vector.floats(), epsilon,
                                          padded(rows, hidden, columns), to.view(columns)};
  assert(args.rows <= to.rows_max && args.out.stride <= to.stride_max);
  graphs_.run({kLayerNorm, key(args.hidden), key(args.weight), key(args.out.data), key(args.rows), key(columns)},
              [this, args] { ops().layer_norm(stream(), args); });
}

void CudaBackend::activate(const Buffer& in, ActivationKind kind, std::int32_t rows, std::int32_t columns, Activations& out) {
  CudaActivations& to = cuda(out);
  to.columns = columns;
  const kernels::cuda::ActivateArgs args{cuda(in).floats(), static_cast<std::int32_t>(kind), padded(rows, in, columns), to.view(columns)};
  assert(args.rows <= to.rows_max && args.out.stride <= to.stride_max);
  graphs_.run({kActivate, key(args.in), key(args.out.data), key(args.rows), key(columns), key(args.kind)},
              [this, args] { ops().activate(stream(), args); });
}

void CudaBackend::attend_all(const Buffer& qkv, const AttentionSpec& spec, Activations& out) {
  CudaActivations& to = cuda(out);
  const std::int32_t columns = spec.q_heads * spec.head_dim;
  to.columns = columns;
  const kernels::cuda::Rows final = to.view(columns);
  const bool quantised = to.element == Element::fp8;
  kernels::cuda::AttendAllArgs args{.qkv = cuda(qkv).floats(), .shape = head_shape(spec), .sequences = state_.sequences(),
                                    .row_sequence = state_.row_sequence(), .num_sequences = state_.sequences_count(), .rows = 0, .out = final};
  args.rows = padded(step_rows_, qkv, args.shape.row_stride());
  if (quantised) args.out = {to.unquantised.data(), nullptr, Element::bf16, columns, final.stride};
  graphs_.run({kAttendAll, key(args.qkv), key(args.out.data), key(args.rows), key(args.num_sequences)}, [this, args, final, quantised] {
    // The padding columns are multiplied by zero weights, and zero times anything must be zero.
    if (args.out.stride != args.out.columns)
      device_->fill(args.out.data, 0, static_cast<std::size_t>(args.rows) * static_cast<std::size_t>(args.out.stride) * 2, stream());
    ops().attend_all(stream(), args);
    if (quantised) ops().quantize(stream(), {args.out, final, args.rows});
  });
}

void CudaBackend::pool(const Buffer& rows, const Weight* norm, float epsilon, std::span<const std::int32_t> into, std::int32_t columns,
                       bool further, std::int32_t count, Buffer& sums) {
  graphs_.finish();                                  // the list is of this step, no graph may keep it
  if (const std::size_t need = into.size() * sizeof(float); norm != nullptr && factors_.bytes() < need) {
    keep(device_->synchronise(stream()));            // the old ones may be in use
    auto made = Memory::make(*device_, std::max(need, static_cast<std::size_t>(rows_max_) * sizeof(float)), "norms of pooled rows");
    if (!made) return keep(made.error());
    factors_ = std::move(*made);
  }
  const auto list = state_.send(into);
  if (!list) return keep(list.error());
  ops().pool(stream(), {.rows = cuda(rows).floats(), .norm = norm != nullptr ? cuda(*norm).vector.floats() : nullptr, .epsilon = epsilon,
                        .into = *list, .count = static_cast<std::int32_t>(into.size()), .columns = columns, .texts = count,
                        .further = further, .factors = factors_.floats(), .sums = cuda(sums).floats()});
}

}  // namespace tokenworks::backend::cuda
