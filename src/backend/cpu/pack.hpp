#pragma once
// Repacking of weights as a file stores them into the panels of kernels/ops.hpp. Nothing is requantised: codes, scales
// and offsets keep the file's values exactly (K-quants' two-level scales multiply out exactly in fp32).
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/ops.hpp"
#include "tokenworks/formats/tensor.hpp"

namespace tokenworks::backend {

struct PanelForm {
  kernels::PanelKind kind;
  std::uint8_t zero_shift;
};
PanelForm form_of(formats::TensorType type);

struct RowSource {                                   // one row of a matrix in a file
  formats::TensorType type;
  const std::byte* bytes;                            // null: a row of zeros
};
// One panel: 32 rows of `columns` values into `out` (panel bytes). The rows' types must have `form`, or `form` must be
// f32 or b8_fm and able to hold them (see common_form).
void pack_panel(PanelForm form, std::span<const RowSource> rows, std::int32_t columns, std::byte* out);

// The form of rows that alternate between types: their own if it is one, else b8_fm (whose codes have five bits), else
// f32. Exact in each case.
PanelForm common_form(std::span<const formats::TensorType> types);

std::size_t panel_bytes(PanelForm form, std::int32_t columns);

}  // namespace tokenworks::backend
