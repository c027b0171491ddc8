#include "backend/cpu/objects.hpp"

#include <cassert>

namespace tokenworks::backend {

kernels::Rows& CpuActivations::shape(std::int32_t columns, bool values, bool codes) {
  assert(columns <= columns_max_);
  // Always the same place for each form: fp32 first, then the groups, then the codes.
  const std::size_t rows = static_cast<std::size_t>(rows_max_);
  std::byte* at = pages_.data();
  const std::size_t stride_max = stride_of(columns_max_);
  rows_ = {};
  rows_.columns = columns;
  rows_.stride = static_cast<std::int32_t>(stride_of(columns));
  rows_.group_stride = static_cast<std::int32_t>(groups_of(columns));
  if (values) rows_.values = reinterpret_cast<float*>(at);
  at += rows * stride_max * sizeof(float);
  if (codes) {
    rows_.groups = reinterpret_cast<kernels::GroupScale*>(at);
    at += (rows * groups_of(columns_max_) * sizeof(kernels::GroupScale) + 63) / 64 * 64;
    rows_.codes = reinterpret_cast<std::int8_t*>(at);
  }
  return rows_;
}

}  // namespace tokenworks::backend
