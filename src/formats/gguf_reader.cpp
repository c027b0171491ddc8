#include "formats/gguf_reader.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "formats/text.hpp"

namespace tokenworks::formats {
namespace {

// Value types of the format.
enum : std::uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

constexpr std::uint64_t kKeyBytesMax = 65535;
constexpr std::uint64_t kTensorNameBytesMax = 64;
constexpr std::uint64_t kAlignmentDefault = 32;
constexpr std::uint64_t kAlignmentMax = 1 << 20;

std::size_t width(std::uint32_t type) {
  switch (type) {
    case kU8: case kI8: case kBool: return 1;
    case kU16: case kI16: return 2;
    case kU32: case kI32: case kF32: return 4;
    case kU64: case kI64: case kF64: return 8;
    default: return 0;
  }
}

template <class T>
T load(const std::byte* p) {
  static_assert(std::endian::native == std::endian::little, "GGUF is little endian and read in place");
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

std::optional<TensorType> tensor_type(std::uint32_t ggml) {
  switch (ggml) {
    case 0: return TensorType::f32;
    case 1: return TensorType::f16;
    case 2: return TensorType::q4_0;
    case 3: return TensorType::q4_1;
    case 6: return TensorType::q5_0;
    case 7: return TensorType::q5_1;
    case 8: return TensorType::q8_0;
    case 12: return TensorType::q4_k;
    case 13: return TensorType::q5_k;
    case 14: return TensorType::q6_k;
    case 30: return TensorType::bf16;
    default: return std::nullopt;
  }
}

// Names of types that exist and are not served, for the message.
const char* foreign_type_name(std::uint32_t ggml) {
  switch (ggml) {
    case 9: return " (Q8_1)";
    case 10: return " (Q2_K)";
    case 11: return " (Q3_K)";
    case 15: return " (Q8_K)";
    case 16: return " (IQ2_XXS)";
    case 17: return " (IQ2_XS)";
    case 18: return " (IQ3_XXS)";
    case 19: return " (IQ1_S)";
    case 20: return " (IQ4_NL)";
    case 21: return " (IQ3_S)";
    case 22: return " (IQ2_S)";
    case 23: return " (IQ4_XS)";
    case 24: return " (I8)";
    case 25: return " (I16)";
    case 26: return " (I32)";
    case 27: return " (I64)";
    case 28: return " (F64)";
    case 29: return " (IQ1_M)";
    case 34: return " (TQ1_0)";
    case 35: return " (TQ2_0)";
    case 39: return " (MXFP4)";
    default: return "";
  }
}

// Reads forward through the file; after the first failure every further read fails too and `failure` says why.
class Cursor {
 public:
  Cursor(const std::string& file, std::span<const std::byte> bytes) : file_(file), bytes_(bytes) {}

  std::uint64_t at() const { return at_; }
  std::uint64_t left() const { return bytes_.size() - at_; }
  bool failed() const { return failure_.has_value(); }
  const Error& failure() const { return *failure_; }
  bool fail(const std::string& what) {
    if (!failure_) failure_ = error(Errc::bad_file, file_ + ": " + what);
    return false;
  }

  const std::byte* take(std::uint64_t count, const std::string& what) {
    if (failed()) return nullptr;
    if (count > left()) {
      fail("the file ends inside " + what + " (" + std::to_string(count) + " bytes needed at offset " +
           std::to_string(at_) + ", " + std::to_string(left()) + " left)");
      return nullptr;
    }
    const std::byte* p = bytes_.data() + at_;
    at_ += count;
    return p;
  }
  template <class T>
  T number(const std::string& what) {
    const std::byte* p = take(sizeof(T), what);
    return p != nullptr ? load<T>(p) : T{};
  }
  std::string_view text(std::uint64_t bytes_max, const std::string& what) {
    const auto length = number<std::uint64_t>("the length of " + what);
    if (failed()) return {};
    if (length > bytes_max) {
      fail(what + " claims " + std::to_string(length) + " bytes; at most " + std::to_string(bytes_max) +
           " are allowed");
      return {};
    }
    const std::byte* p = take(length, what);
    return p != nullptr ? std::string_view(reinterpret_cast<const char*>(p), length) : std::string_view{};
  }

  GgufArray array(const std::string& what) {
    GgufArray a;
    a.type = number<std::uint32_t>("the element type of " + what);
    a.count = number<std::uint64_t>("the length of " + what);
    if (failed()) return a;
    const std::uint64_t begin = at_;
    if (a.type == kString) {
      if (a.count > left() / sizeof(std::uint64_t)) {
        fail(what + " claims " + std::to_string(a.count) + " strings, more than the rest of the file can hold");
      }
      for (std::uint64_t i = 0; i < a.count && !failed(); ++i) {
        text(left(), "string " + std::to_string(i) + " of " + what);
      }
    } else if (width(a.type) == 0) {
      fail(what + " is an array of type " + std::to_string(a.type) + ", which this reader does not know");
    } else if (a.count > left() / width(a.type)) {
      fail(what + " claims " + std::to_string(a.count) + " elements, more than the rest of the file can hold");
    } else {
      take(a.count * width(a.type), what);
    }
    if (!failed()) a.bytes = bytes_.subspan(begin, at_ - begin);
    return a;
  }

  GgufValue value(std::uint32_t type, const std::string& what) {
    switch (type) {
      case kU8: return std::uint64_t{number<std::uint8_t>(what)};
      case kU16: return std::uint64_t{number<std::uint16_t>(what)};
      case kU32: return std::uint64_t{number<std::uint32_t>(what)};
      case kU64: return number<std::uint64_t>(what);
      case kI8: return std::int64_t{number<std::int8_t>(what)};
      case kI16: return std::int64_t{number<std::int16_t>(what)};
      case kI32: return std::int64_t{number<std::int32_t>(what)};
      case kI64: return number<std::int64_t>(what);
      case kF32: return static_cast<double>(number<float>(what));
      case kF64: return number<double>(what);
      case kString: return text(left(), what);
      case kArray: return array(what);
      case kBool: {
        const auto b = number<std::uint8_t>(what);
        if (b > 1) fail(what + " is a boolean with the value " + std::to_string(b));
        return b == 1;
      }
      default:
        fail(what + " has value type " + std::to_string(type) + ", which this reader does not know");
        return false;
    }
  }

 private:
  const std::string& file_;
  std::span<const std::byte> bytes_;
  std::uint64_t at_ = 0;
  std::optional<Error> failure_;
};

struct TensorInfo {
  TensorView view;
  std::uint64_t offset = 0, size = 0;
};

TensorInfo read_tensor_info(Cursor& in, std::uint64_t index) {
  TensorInfo info;
  info.view.name = std::string(in.text(kTensorNameBytesMax, "the name of tensor " + std::to_string(index)));
  const std::string what = "tensor " + shown(info.view.name);
  const auto dimensions = in.number<std::uint32_t>("the table entry of " + what);
  if (in.failed()) return info;
  if (dimensions > 4) {
    in.fail(what + " claims " + std::to_string(dimensions) + " dimensions; GGUF has at most 4");
    return info;
  }
  std::uint64_t elements = 1;
  for (std::uint32_t d = 0; d < dimensions; ++d) {
    const auto size = in.number<std::uint64_t>("the shape of " + what);
    if (in.failed()) return info;
    if (size == 0 || size > std::numeric_limits<std::int64_t>::max() / elements) {
      in.fail(what + " has a dimension of " + std::to_string(size) +
              (size == 0 ? "" : ": more elements than 63 bits count"));
      return info;
    }
    elements *= size;
    info.view.shape.insert(info.view.shape.begin(),
                           static_cast<std::int64_t>(size));  // the file has the innermost first
  }
  const auto type = in.number<std::uint32_t>("the type of " + what);
  info.offset = in.number<std::uint64_t>("the offset of " + what);
  if (in.failed()) return info;
  const auto known = tensor_type(type);
  if (!known) {
    in.fail(what + " has type " + std::to_string(type) + foreign_type_name(type) +
            ", which is not supported (F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K are)");
    return info;
  }
  info.view.type = *known;
  const auto block = static_cast<std::uint64_t>(block_elements(*known));
  if (static_cast<std::uint64_t>(info.view.columns()) % block != 0) {
    in.fail(what + " has rows of " + std::to_string(info.view.columns()) + " elements, not a multiple of the " +
            std::to_string(block) + "-element blocks of " + name(*known));
    return info;
  }
  const std::uint64_t blocks = elements / block, bytes = static_cast<std::uint64_t>(block_bytes(*known));
  if (blocks > std::numeric_limits<std::int64_t>::max() / bytes) {
    in.fail(what + " is larger than 63 bits count");
    return info;
  }
  info.size = blocks * bytes;
  return info;
}

}  // namespace

Result<GgufContainer> GgufContainer::read(const std::string& file, std::span<const std::byte> bytes) {
  GgufContainer out;
  out.file_ = file;
  Cursor in(file, bytes);
  const std::byte* magic = in.take(4, "the magic bytes");
  if (magic != nullptr && std::memcmp(magic, "GGUF", 4) != 0) in.fail("not a GGUF file: it does not start with GGUF");
  const auto version = in.number<std::uint32_t>("the version");
  if (!in.failed() && version != 2 && version != 3) {            // 2 and 3 differ in nothing a little-endian file shows
    in.fail((version & 0xffff) == 0 ? "is a big-endian GGUF file, which is not supported"
                                    : "is GGUF version " + std::to_string(version) + "; version 3 is supported");
  }
  const auto tensor_count = in.number<std::uint64_t>("the tensor count");
  const auto value_count = in.number<std::uint64_t>("the metadata count");

  for (std::uint64_t i = 0; i < value_count && !in.failed(); ++i) {
    const std::string key(in.text(kKeyBytesMax, "metadata key " + std::to_string(i)));
    const std::string what = "metadata " + shown(key);
    const auto type = in.number<std::uint32_t>("the type of " + what);
    if (in.failed()) break;
    GgufValue value = in.value(type, what);
    if (!in.failed() && !out.values_.emplace(key, value).second) in.fail(what + " is there twice");
  }
  std::vector<TensorInfo> infos;
  std::set<std::string, std::less<>> names;
  for (std::uint64_t i = 0; i < tensor_count && !in.failed(); ++i) {
    TensorInfo info = read_tensor_info(in, i);
    if (in.failed()) break;
    if (!names.insert(info.view.name).second) in.fail("tensor " + shown(info.view.name) + " is there twice");
    infos.push_back(std::move(info));
  }
  if (in.failed()) return in.failure();

  auto alignment = out.integer("general.alignment");
  if (!alignment) return alignment.error();
  const auto align = static_cast<std::uint64_t>(alignment->value_or(kAlignmentDefault));
  if (align < 8 || align > kAlignmentMax || !std::has_single_bit(align)) {
    return error(Errc::bad_file, file + ": general.alignment is " + std::to_string(align) +
                                     "; a power of two from 8 to " + std::to_string(kAlignmentMax) + " is needed");
  }
  const std::uint64_t data_begin = std::min<std::uint64_t>((in.at() + align - 1) / align * align, bytes.size());
  const std::uint64_t data_bytes = bytes.size() - data_begin;
  for (TensorInfo& info : infos) {
    const std::string what = file + ": tensor " + shown(info.view.name);
    if (info.offset % align != 0) {
      return error(Errc::bad_file, what + " starts at offset " + std::to_string(info.offset) + ", not a multiple of " +
                                       std::to_string(align));
    }
    if (info.offset > data_bytes || info.size > data_bytes - info.offset) {
      return error(Errc::bad_file, what + " needs bytes " + std::to_string(info.offset) + "+" +
                                       std::to_string(info.size) + " of the data section, which has " +
                                       std::to_string(data_bytes) + ": the file is truncated or lies about its size");
    }
    info.view.bytes = bytes.subspan(data_begin + info.offset, info.size);
    out.tensors_.push_back(std::move(info.view));
  }
  return out;
}

const GgufValue* GgufContainer::find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

Error GgufContainer::wrong_type(std::string_view key, const char* wanted) const {
  return error(Errc::bad_file, file_ + ": metadata " + shown(key) + " is not " + wanted);
}

Result<std::optional<std::int64_t>> GgufContainer::integer(std::string_view key) const {
  const GgufValue* v = find(key);
  if (v == nullptr) return std::optional<std::int64_t>{};
  if (const auto* i = std::get_if<std::int64_t>(v)) return std::optional(*i);
  if (const auto* u = std::get_if<std::uint64_t>(v); u != nullptr && *u <= std::numeric_limits<std::int64_t>::max()) {
    return std::optional(static_cast<std::int64_t>(*u));
  }
  return wrong_type(key, "an integer of 63 bits");
}

Result<std::optional<double>> GgufContainer::number(std::string_view key) const {
  const GgufValue* v = find(key);
  if (v == nullptr) return std::optional<double>{};
  if (const auto* d = std::get_if<double>(v); d != nullptr && std::isfinite(*d)) return std::optional(*d);
  if (const auto* u = std::get_if<std::uint64_t>(v)) return std::optional(static_cast<double>(*u));
  if (const auto* i = std::get_if<std::int64_t>(v)) return std::optional(static_cast<double>(*i));
  return wrong_type(key, "a finite number");
}

Result<std::optional<bool>> GgufContainer::boolean(std::string_view key) const {
  const GgufValue* v = find(key);
  if (v == nullptr) return std::optional<bool>{};
  if (const auto* b = std::get_if<bool>(v)) return std::optional(*b);
  return wrong_type(key, "a boolean");
}

Result<std::optional<std::string>> GgufContainer::text(std::string_view key) const {
  const GgufValue* v = find(key);
  if (v == nullptr) return std::optional<std::string>{};
  if (const auto* s = std::get_if<std::string_view>(v)) return std::optional(std::string(*s));
  return wrong_type(key, "a string");
}

Result<std::optional<std::vector<std::string>>> GgufContainer::texts(std::string_view key) const {
  const GgufValue* v = find(key);
  if (v == nullptr) return std::optional<std::vector<std::string>>{};
  const auto* a = std::get_if<GgufArray>(v);
  if (a == nullptr || a->type != kString) return wrong_type(key, "an array of strings");
  std::vector<std::string> out;
  out.reserve(a->count);
  const std::byte* p = a->bytes.data();
  for (std::uint64_t i = 0; i < a->count; ++i) {                 // lengths were checked when the array was read
    const auto length = load<std::uint64_t>(p);
    out.emplace_back(reinterpret_cast<const char*>(p + sizeof length), length);
    p += sizeof length + length;
  }
  return std::optional(std::move(out));
}

Result<std::optional<std::vector<float>>> GgufContainer::floats(std::string_view key) const {
  const GgufValue* v = find(key);
  if (v == nullptr) return std::optional<std::vector<float>>{};
  const auto* a = std::get_if<GgufArray>(v);
  if (a == nullptr || a->type != kF32) return wrong_type(key, "an array of F32");
  std::vector<float> out(a->count);
  if (!out.empty()) std::memcpy(out.data(), a->bytes.data(), a->bytes.size());
  return std::optional(std::move(out));
}

Result<std::optional<std::vector<std::int32_t>>> GgufContainer::integers(std::string_view key) const {
  const GgufValue* v = find(key);
  if (v == nullptr) return std::optional<std::vector<std::int32_t>>{};
  const auto* a = std::get_if<GgufArray>(v);
  if (a == nullptr || (a->type != kI32 && a->type != kU32)) return wrong_type(key, "an array of 32-bit integers");
  std::vector<std::int32_t> out(a->count);
  if (!out.empty()) std::memcpy(out.data(), a->bytes.data(), a->bytes.size());
  return std::optional(std::move(out));
}

}  // namespace tokenworks::formats
