// Memory and weights of CudaBackend: everything that is made once, at load.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>

#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/narrow.hpp"
#include "backend/tensor_checks.hpp"

namespace tokenworks::backend::cuda {

using formats::TensorType;
using formats::TensorView;
using kernels::cuda::Element;
using kernels::cuda::Quant;

namespace {

constexpr std::size_t kBounceBytes = std::size_t{4} << 20;

// What blocks can be kept as they are; none when parts differ.
Quant quant_of(const std::vector<TensorView>& parts) {
  for (const TensorView& part : parts)
    if (part.type != parts[0].type) return Quant::none;
  switch (parts[0].type) {
    case TensorType::q8_0: return Quant::q8_0;
    case TensorType::q4_0: return Quant::q4_0;
    case TensorType::q4_1: return Quant::q4_1;
    case TensorType::q4_k: return Quant::q4_k;
    default: return Quant::none;
  }
}

// One row of a part in the element the kernels read, `to` being zero beyond it. fp8: returns the row's scale.
float narrow_row(const TensorView& part, std::int64_t row, Element element, std::vector<float>& scratch, std::byte* to) {
  const std::size_t bytes = row_bytes(part);
  const auto from = part.bytes.subspan(static_cast<std::size_t>(row) * bytes, bytes);
  const auto columns = static_cast<std::size_t>(part.columns());
  if ((part.type == TensorType::bf16 && element == Element::bf16) || (part.type == TensorType::f16 && element == Element::f16)) {
    std::memcpy(to, from.data(), bytes);
    return 1;
  }
  formats::dequantize(part.type, from, std::span(scratch).first(columns));
  float scale = 1;
  if (element == Element::fp8) {
    float largest = 0;
    for (std::size_t c = 0; c < columns; ++c) largest = std::max(largest, std::abs(scratch[c]));
    scale = largest > 0 ? largest / 448.0f : 1.0f;
  }
  for (std::size_t c = 0; c < columns; ++c) {
    if (element == Element::fp8) {
      to[c] = static_cast<std::byte>(narrow_fp8(scratch[c] / scale));
    } else {
      const std::uint16_t bits = element == Element::f16 ? narrow_f16(scratch[c]) : narrow_bf16(scratch[c]);
      std::memcpy(to + 2 * c, &bits, 2);
    }
  }
  return scale;
}

}  // namespace

Result<std::unique_ptr<Buffer>> CudaBackend::allocate(std::size_t bytes) {
  auto memory = Memory::make(*device_, bytes, "a step buffer");
  if (!memory) return memory.error();
  return std::unique_ptr<Buffer>(std::make_unique<CudaBuffer>(std::move(*memory)));
}

void CudaBackend::upload(Buffer& to, std::size_t offset, std::span<const std::byte> from) {
  assert(offset + from.size() <= to.bytes());
  graphs_.finish();
  if (bounce_.bytes() == 0) {
    auto made = Pinned::make(*device_, kBounceBytes, "pinned memory");
    if (!made) return keep(made.error());
    bounce_ = std::move(*made);
  }
  for (std::size_t at = 0; at < from.size(); at += kBounceBytes) {
    const std::size_t n = std::min(kBounceBytes, from.size() - at);
    std::memcpy(bounce_.data(), from.data() + at, n);
    device_->copy_to_device(static_cast<CudaBuffer&>(to).data() + offset + at, bounce_.data(), n, stream());
    if (!wait()) return;
  }
}

Result<Memory> CudaBackend::upload_new(std::span<const std::byte> from, const char* what) {
  auto memory = Memory::make(*device_, std::max<std::size_t>(from.size(), 16), what);
  if (!memory) return memory.error();
  CudaBuffer buffer(std::move(*memory));
  upload(buffer, 0, from);
  if (failure_) return *failure_;
  return buffer.release();
}

Result<std::unique_ptr<Activations>> CudaBackend::make_activations(std::int32_t rows_max, std::int32_t columns_max) {
  assert(rows_max > 0 && columns_max > 0);
  auto out = std::make_unique<CudaActivations>();
  out->element = options_.compute;
  out->rows_max = rows_max;
  out->stride_max = CudaActivations::stride_of(columns_max);
  rows_max_ = std::max(rows_max_, rows_max);
  const std::size_t elements = static_cast<std::size_t>(rows_max) * static_cast<std::size_t>(out->stride_max);
  auto data = Memory::make(*device_, elements * kernels::cuda::bytes_of(options_.compute), "activations");
  if (!data) return data.error();
  out->data = std::move(*data);
  if (options_.compute == Element::fp8) {
    auto scales = Memory::make(*device_, static_cast<std::size_t>(rows_max) * sizeof(float), "scales of activations");
    if (!scales) return scales.error();
    auto unquantised = Memory::make(*device_, elements * 2, "activations before quantisation");
    if (!unquantised) return unquantised.error();
    out->scales = std::move(*scales);
    out->unquantised = std::move(*unquantised);
  }
  return std::unique_ptr<Activations>(std::move(out));
}

void CudaBackend::time_products(std::int32_t rows) {
  std::vector<std::shared_ptr<const Matrix>> matrices;
  for (const auto& m : matrices_)
    if (auto alive = m.lock()) matrices.push_back(std::move(alive));
  products_.tune(matrices, std::max(rows, 1));
}

Result<std::unique_ptr<KvCache>> CudaBackend::make_kv_cache(const KvShape& shape, std::int32_t blocks) {
  assert(blocks > 0 && shape.layers > 0 && shape.kv_heads > 0 && shape.head_dim > 0);
  time_products(rows_max_);                          // all weights are here
  const std::size_t bytes = kv_block_bytes(shape) * static_cast<std::size_t>(blocks);
  // The last and largest thing at load; a step's plan, rows and samples come with the first step, for any usual group of heads,
  // and with the first rules: masks of all sequences in both rings of lists, and logits of some rows that rules change.
  std::size_t vocab = 0;
  for (const auto& m : matrices_)
    if (const auto alive = m.lock()) vocab = std::max(vocab, static_cast<std::size_t>(alive->view.n));
  const auto sequences = static_cast<std::size_t>(std::clamp(rows_max_, 1, 256));
  const std::size_t later = AttendMemory::bytes(*device_, std::max(rows_max_, 1), {8 * shape.kv_heads, shape.kv_heads, shape.head_dim}) +
                            (std::size_t{3} << 20) + static_cast<std::size_t>(rows_max_) * 1024 +
                            4 * sequences * (vocab / 8 + 256) + std::min<std::size_t>(sequences, 16) * vocab * sizeof(float);
  const std::size_t left = device_->free_bytes(), free = left - std::min(left, later);
  if (bytes > free)
    return error(Errc::bad_config,
                 fmt::format("the KV cache takes {} MiB, but weights and buffers have left {} of {} MiB on {}; {}", (bytes + (1 << 20) - 1) >> 20,
                             free >> 20, device_->info().memory_bytes >> 20, device_->info().name,
                             free >> 20 > 0 ? fmt::format("kv_cache: {}MiB would fit", free >> 20) : "the model does not fit this card"));
  auto memory = Memory::make(*device_, bytes, "the KV cache");
  if (!memory) return memory.error();
  device_->fill(memory->data(), 0, bytes, stream());
  return std::unique_ptr<KvCache>(std::make_unique<CudaKvCache>(std::move(*memory), shape, blocks, options_.kv));
}

Result<> CudaBackend::pack_rows(const LinearParts& parts, Matrix& matrix) {
  kernels::cuda::Weights& w = matrix.view;
  const bool packed = w.quant != Quant::none;
  const std::size_t stride_bytes = packed ? w.row_bytes : static_cast<std::size_t>(w.stride) * kernels::cuda::bytes_of(w.element);
  auto memory = Memory::make(*device_, stride_bytes * static_cast<std::size_t>(w.n), parts.parts[0].name.c_str());
  if (!memory) return memory.error();
  CudaBuffer buffer(std::move(*memory));
  const std::size_t rows_at_once = std::max<std::size_t>(1, kBounceBytes / stride_bytes);
  std::vector<float> scratch(static_cast<std::size_t>(w.k)), scales;
  std::vector<std::byte> chunk;
  std::size_t sent = 0;
  const auto flush = [&] {
    upload(buffer, sent, chunk);
    sent += chunk.size();
    chunk.clear();
  };
  const auto add = [&](const TensorView& part, std::int64_t row) {
    chunk.resize(chunk.size() + stride_bytes);       // zeros
    if (packed) std::memcpy(chunk.data() + chunk.size() - stride_bytes, part.bytes.data() + static_cast<std::size_t>(row) * stride_bytes, stride_bytes);
    else scales.push_back(narrow_row(part, row, w.element, scratch, chunk.data() + chunk.size() - stride_bytes));
    if (chunk.size() >= rows_at_once * stride_bytes) flush();
  };
  if (parts.interleave) {
    for (std::int64_t r = 0; r < parts.parts[0].rows(); ++r)
      for (const TensorView& part : parts.parts) add(part, r);
  } else {
    for (const TensorView& part : parts.parts)
      for (std::int64_t r = 0; r < part.rows(); ++r) add(part, r);
  }
  flush();
  if (failure_) return *failure_;
  matrix.data = buffer.release();
  w.data = matrix.data.data();
  if (w.element == Element::fp8) {
    auto uploaded = upload_new(std::as_bytes(std::span(scales)), "scales of a weight");
    if (!uploaded) return uploaded.error();
    matrix.scales = std::move(*uploaded);
    w.scales = matrix.scales.floats();
  }
  return {};
}

Result<std::shared_ptr<const Matrix>> CudaBackend::pack(const LinearParts& parts, bool packed) {
  if (auto ok = check_parts(parts); !ok) return ok.error();
  auto matrix = std::make_shared<Matrix>();
  kernels::cuda::Weights& w = matrix->view;
  w.element = options_.compute;
  w.k = static_cast<std::int32_t>(parts.parts[0].columns());
  w.stride = CudaActivations::stride_of(w.k);
  for (const TensorView& part : parts.parts) w.n += static_cast<std::int32_t>(part.rows());
  if (packed && options_.packed && options_.compute != Element::fp8) w.quant = quant_of(parts.parts);
  if (w.quant != Quant::none) {
    w.row_bytes = row_bytes(parts.parts[0]);
    const std::size_t bytes = static_cast<std::size_t>(w.n) * static_cast<std::size_t>(w.stride) * kernels::cuda::bytes_of(w.element);
    if (bytes > unpacked_.bytes()) {
      auto room = Memory::make(*device_, bytes, "room to unpack a matrix");
      if (!room) return room.error();
      unpacked_ = std::move(*room);
    }
  }
  if (auto packed = pack_rows(parts, *matrix); !packed) return packed.error();
  if (!parts.bias.empty()) {
    std::vector<std::vector<float>> each;
    for (const TensorView& b : parts.bias) {
      auto values = as_floats(b);
      if (!values) return values.error();
      each.push_back(std::move(*values));
    }
    std::vector<float> bias;
    if (parts.interleave) {
      for (std::size_t r = 0; r < each[0].size(); ++r)
        for (const auto& values : each) bias.push_back(values[r]);
    } else {
      for (const auto& values : each) bias.insert(bias.end(), values.begin(), values.end());
    }
    auto uploaded = upload_new(std::as_bytes(std::span(bias)), "a bias");
    if (!uploaded) return uploaded.error();
    matrix->bias = std::move(*uploaded);
    w.bias = matrix->bias.floats();
  }
  return std::shared_ptr<const Matrix>(std::move(matrix));
}

Result<std::unique_ptr<Weight>> CudaBackend::make_linear(const LinearParts& parts) { return make_matrix(parts, true); }

Result<std::unique_ptr<Weight>> CudaBackend::make_matrix(const LinearParts& parts, bool packed) {
  auto weight = std::make_unique<CudaWeight>();
  const bool shareable = parts.parts.size() == 1 && parts.bias.empty() && !parts.interleave;
  const std::string key = shareable ? identity(parts.parts[0]) : "";
  if (shareable)
    if (const auto found = packed_.find(key); found != packed_.end()) weight->matrix = found->second.lock();
  weight->shares = weight->matrix != nullptr;
  if (!weight->matrix) {
    auto matrix = pack(parts, packed);
    if (!matrix) return matrix.error();
    weight->matrix = std::move(*matrix);
    matrices_.push_back(weight->matrix);
    if (shareable) packed_[key] = weight->matrix;
  }
  return std::unique_ptr<Weight>(std::move(weight));
}

Result<std::unique_ptr<Weight>> CudaBackend::make_table(const TensorView& rows) { return make_matrix({.parts = {rows}}, false); }

Result<std::unique_ptr<Weight>> CudaBackend::make_vector(const TensorView& vector) {
  const auto values = as_floats(vector);
  if (!values) return values.error();
  auto weight = std::make_unique<CudaWeight>();
  auto uploaded = upload_new(std::as_bytes(std::span(*values)), vector.name.c_str());
  if (!uploaded) return uploaded.error();
  weight->vector = std::move(*uploaded);
  return std::unique_ptr<Weight>(std::move(weight));
}

Result<std::unique_ptr<Weight>> CudaBackend::make_rope(const RopeSpec& rope, std::int32_t positions_max) {
  assert(rope.dims % 2 == 0 && static_cast<std::size_t>(rope.dims / 2) == rope.inverse_frequency.size());
  const auto half = static_cast<std::size_t>(rope.dims / 2), dims = static_cast<std::size_t>(rope.dims);
  std::vector<float> table(static_cast<std::size_t>(positions_max) * dims);
  for (std::size_t p = 0; p < static_cast<std::size_t>(positions_max); ++p) {
    for (std::size_t i = 0; i < half; ++i) {
      // The angle is rounded to fp32 as the models' own code does; its functions are computed in double.
      const float angle = static_cast<float>(p) * rope.inverse_frequency[i];
      table[p * dims + i] = static_cast<float>(std::cos(static_cast<double>(angle))) * rope.magnitude;
      table[p * dims + half + i] = static_cast<float>(std::sin(static_cast<double>(angle))) * rope.magnitude;
    }
  }
  auto weight = std::make_unique<CudaWeight>();
  auto uploaded = upload_new(std::as_bytes(std::span(table)), "the rotary table");
  if (!uploaded) return uploaded.error();
  weight->vector = std::move(*uploaded);
  weight->rope_dims = rope.dims;
  weight->rope_interleaved = rope.interleaved;
  return std::unique_ptr<Weight>(std::move(weight));
}

}  // namespace tokenworks::backend::cuda
