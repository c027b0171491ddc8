#pragma once
// GgufContainer: the outer layer of a GGUF file (ggml docs/gguf.md, version 3): metadata and tensor table, every count,
// length and offset checked against the file before it is used. What the keys mean is gguf_model.cpp's business.
// Strings and arrays point into the source, which must outlive the container. Immutable after reading; any thread.
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenworks/base/result.hpp"
#include "tokenworks/formats/tensor.hpp"

namespace tokenworks::formats {

struct GgufArray {
  std::uint32_t type = 0;                            // GGUF value type of the elements, never "array"
  std::uint64_t count = 0;
  std::span<const std::byte> bytes;                  // exactly the elements, as stored
};
using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string_view, GgufArray>;

class GgufContainer {
 public:
  // `bytes`: the whole file; `file`: its name for messages.
  static Result<GgufContainer> read(const std::string& file, std::span<const std::byte> bytes);

  const GgufValue* find(std::string_view key) const;
  const std::vector<TensorView>& tensors() const {
    return tensors_;
  }  // names as in the file, outermost dimension first
  const std::string& file() const { return file_; }

  // The value of `key` in the type asked for; nullopt when the key is absent, an error (naming file and key) when it
  // has another type or does not fit.
  Result<std::optional<std::int64_t>> integer(std::string_view key) const;
  Result<std::optional<double>> number(std::string_view key) const;
  Result<std::optional<bool>> boolean(std::string_view key) const;
  Result<std::optional<std::string>> text(std::string_view key) const;
  Result<std::optional<std::vector<std::string>>> texts(std::string_view key) const;
  Result<std::optional<std::vector<float>>> floats(std::string_view key) const;
  Result<std::optional<std::vector<std::int32_t>>> integers(std::string_view key) const;

 private:
  Error wrong_type(std::string_view key, const char* wanted) const;

  std::string file_;
  std::map<std::string, GgufValue, std::less<>> values_;
  std::vector<TensorView> tensors_;
};

}  // namespace tokenworks::formats
