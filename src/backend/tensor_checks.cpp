#include "backend/tensor_checks.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tokenworks::backend {

using formats::TensorView;

namespace {

Error wrong(const TensorView& t, const std::string& reason) {
  return error(Errc::bad_file, fmt::format("tensor {} ({}): {}", t.name, formats::name(t.type), reason));
}

Result<> check_matrix(const TensorView& t) {
  if (t.rows() <= 0 || t.columns() <= 0 || t.elements() > (std::int64_t{1} << 40))
    return wrong(t, fmt::format("[{}, {}] is no matrix", t.rows(), t.columns()));
  if (t.columns() % formats::block_elements(t.type) != 0)
    return wrong(
        t, fmt::format("rows of {} values are not whole blocks of {}", t.columns(), formats::block_elements(t.type)));
  if (t.bytes.size() != row_bytes(t) * static_cast<std::size_t>(t.rows()))
    return wrong(t, fmt::format("{} bytes where {} rows need {}", t.bytes.size(), t.rows(),
                                row_bytes(t) * static_cast<std::size_t>(t.rows())));
  return {};
}

}  // namespace

std::size_t row_bytes(const TensorView& t) {
  return static_cast<std::size_t>(t.columns() / formats::block_elements(t.type)) *
         static_cast<std::size_t>(formats::block_bytes(t.type));
}

std::string identity(const TensorView& t) {
  std::uint64_t hash = 0xCBF29CE484222325u;          // FNV-1a
  const std::size_t step = std::max<std::size_t>(1, t.bytes.size() / 4096);
  for (std::size_t i = 0; i < t.bytes.size(); i += step)
    hash = (hash ^ static_cast<std::uint64_t>(t.bytes[i])) * 0x100000001B3u;
  return fmt::format("{}@{}:{}:{}x{}:{:x}", t.name, static_cast<const void*>(t.bytes.data()), formats::name(t.type),
                     t.rows(), t.columns(), hash);
}

Result<std::vector<float>> as_floats(const TensorView& t) {
  if (t.elements() <= 0 || t.elements() % formats::block_elements(t.type) != 0 ||
      t.bytes.size() != static_cast<std::size_t>(t.elements() / formats::block_elements(t.type)) *
                            static_cast<std::size_t>(formats::block_bytes(t.type)))
    return wrong(t, fmt::format("{} bytes do not hold {} values", t.bytes.size(), t.elements()));
  std::vector<float> values(static_cast<std::size_t>(t.elements()));
  formats::dequantize(t.type, t.bytes, values);
  return values;
}

Result<> check_parts(const Backend::LinearParts& parts) {
  if (parts.parts.empty()) return error(Errc::internal, "a linear of no parts");
  if (!parts.bias.empty() && parts.bias.size() != parts.parts.size())
    return error(Errc::internal, "a linear needs a bias for every part, or none");
  for (std::size_t p = 0; p < parts.parts.size(); ++p) {
    const TensorView& part = parts.parts[p];
    if (auto ok = check_matrix(part); !ok) return ok;
    if (part.columns() != parts.parts[0].columns())
      return wrong(part, fmt::format("{} columns beside {} with {}", part.columns(), parts.parts[0].name,
                                     parts.parts[0].columns()));
    if (!parts.bias.empty() && parts.bias[p].elements() != part.rows())
      return wrong(parts.bias[p],
                   fmt::format("{} values for {} rows of {}", parts.bias[p].elements(), part.rows(), part.name));
  }
  if (parts.interleave && (parts.parts.size() != 2 || parts.parts[0].rows() != parts.parts[1].rows()))
    return wrong(parts.parts[0], "rows can only alternate between two parts of the same number of rows");
  return {};
}

}  // namespace tokenworks::backend
