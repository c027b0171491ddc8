#include "formats/safetensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <vector>

#include "formats/json.hpp"
#include "formats/text.hpp"

namespace tokenworks::formats {
namespace {

constexpr std::uint64_t kHeaderBytesMax = 100'000'000;

struct Extent {
  std::uint64_t begin = 0, end = 0;
  std::string name;
};

// Whole numbers are no weights: old checkpoints keep buffers of them beside (position_ids). Their place is checked like any
// other's; nobody gets to see them.
std::int64_t integer_bytes(const Json& entry) {
  static const std::map<std::string, std::int64_t, std::less<>> kBytes = {{"I64", 8}, {"I32", 4}, {"I16", 2}, {"I8", 1}, {"U8", 1}, {"BOOL", 1}};
  const auto it = entry.is_object() ? entry.find("dtype") : entry.end();
  if (!entry.is_object() || it == entry.end() || !it->is_string()) return 0;
  const auto known = kBytes.find(it->get_ref<const std::string&>());
  return known == kBytes.end() ? 0 : known->second;
}

Result<TensorType> type_of(const std::string& what, const Json& entry) {
  const auto it = entry.find("dtype");
  if (it == entry.end() || !it->is_string()) return error(Errc::bad_file, what + " has no dtype");
  const std::string& dtype = it->get_ref<const std::string&>();
  if (dtype == "F32") return TensorType::f32;
  if (dtype == "F16") return TensorType::f16;
  if (dtype == "BF16") return TensorType::bf16;
  return error(Errc::bad_file, what + " has type " + shown(dtype) + ", which is not supported (F32, F16 and BF16 are)");
}

Result<TensorView> read_entry(const std::string& what, const std::string& name, const Json& entry, Extent& extent) {
  if (!entry.is_object()) return error(Errc::bad_file, what + " is not described by an object");
  const std::int64_t integers = integer_bytes(entry);
  TensorView view{.name = name};
  if (integers == 0) {
    const auto type = type_of(what, entry);
    if (!type) return type.error();
    view.type = *type;
  }

  const auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array() || shape->size() > 8) {
    return error(Errc::bad_file, what + " has no shape of up to 8 dimensions");
  }
  std::uint64_t elements = 1;
  for (const Json& d : *shape) {
    if (!d.is_number_unsigned()) return error(Errc::bad_file, what + " has a dimension that is not a whole number");
    const auto size = d.get<std::uint64_t>();
    if (size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / 8 /
                   std::max<std::uint64_t>(elements, 1)) {
      return error(Errc::bad_file, fmt::format("{} has a dimension of {}: more bytes than 63 bits count", what, size));
    }
    elements *= size;
    view.shape.push_back(static_cast<std::int64_t>(size));
  }

  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2 || !(*offsets)[0].is_number_unsigned() ||
      !(*offsets)[1].is_number_unsigned()) {
    return error(Errc::bad_file, what + " has no data_offsets of two whole numbers");
  }
  extent = {(*offsets)[0].get<std::uint64_t>(), (*offsets)[1].get<std::uint64_t>(), name};
  const std::uint64_t bytes = elements * static_cast<std::uint64_t>(integers > 0 ? integers : block_bytes(view.type));
  if (extent.begin > extent.end || extent.end - extent.begin != bytes) {
    return error(Errc::bad_file, fmt::format("{} claims bytes {} to {}; its shape and type {} mean {} bytes", what,
                                             extent.begin, extent.end, integers > 0 ? "of whole numbers" : formats::name(view.type), bytes));
  }
  return view;
}

Result<> check_metadata(const std::string& file, const Json& metadata) {
  const bool strings =
      metadata.is_object() && std::ranges::all_of(metadata, [](const Json& v) { return v.is_string(); });
  if (!strings) return error(Errc::bad_file, file + ": __metadata__ is not a map of strings");
  return {};
}

}  // namespace

Result<std::map<std::string, TensorView>> read_safetensors(const std::string& file, std::span<const std::byte> bytes) {
  const auto bad = [&](const std::string& what) { return error(Errc::bad_file, file + ": " + what); };
  std::uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes) return bad("is shorter than the 8 bytes every safetensors file begins with");
  for (int i = 7; i >= 0; --i) {
    header_bytes = header_bytes << 8 | std::to_integer<std::uint64_t>(bytes[static_cast<std::size_t>(i)]);
  }
  if (header_bytes > kHeaderBytesMax) {
    return bad(fmt::format("claims a header of {} bytes; at most {} are allowed", header_bytes, kHeaderBytesMax));
  }
  if (header_bytes > bytes.size() - 8) {
    return bad(fmt::format("claims a header of {} bytes but has {}: it is truncated", header_bytes, bytes.size() - 8));
  }
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + 8, header_bytes);
  if (!header.starts_with('{')) return bad("is not a safetensors file: its header does not start with {");
  auto json = parse_json(header, file + ": header");
  if (!json) return json.error();
  if (!(*json)->is_object()) return bad("its header is not an object");

  const std::span<const std::byte> data = bytes.subspan(8 + header_bytes);
  std::map<std::string, TensorView> tensors;
  std::vector<Extent> extents;
  for (const auto& [name, entry] : (*json)->items()) {
    if (name == "__metadata__") {
      if (auto ok = check_metadata(file, entry); !ok) return ok.error();
      continue;
    }
    Extent extent;
    auto view = read_entry(file + ": tensor " + shown(name), name, entry, extent);
    if (!view) return view.error();
    if (extent.end > data.size()) {
      return bad(fmt::format("tensor {} ends at byte {} of {}: the file is truncated or lies about its size",
                             shown(name), extent.end, data.size()));
    }
    view->bytes = data.subspan(extent.begin, extent.end - extent.begin);
    extents.push_back(std::move(extent));
    if (integer_bytes(entry) == 0) tensors.emplace(name, std::move(*view));
  }
  std::ranges::sort(
      extents, [](const Extent& a, const Extent& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  std::uint64_t covered = 0;
  for (const Extent& e : extents) {
    if (e.begin != covered) {
      return bad(fmt::format("tensor {} begins at byte {}, the one before it ends at {}: {}", shown(e.name), e.begin,
                             covered, e.begin < covered ? "they overlap" : "there is a hole"));
    }
    covered = e.end;
  }
  if (covered != data.size()) {
    return bad(fmt::format("has {} bytes of tensors and {} behind its header", covered, data.size()));
  }
  return tensors;
}

}  // namespace tokenworks::formats
