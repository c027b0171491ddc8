#pragma once
// Helpers of this room's tests: files whole, golden JSON, models opened or the test stops.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/paths.hpp"
#include "tokenworks/formats/model_file.hpp"

namespace tokenworks::formats {

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path << " is missing: run the script in tests/golden that makes it (tests/run does)";
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary);
  out << bytes;
  ASSERT_TRUE(out.good()) << path;
}

inline nlohmann::json read_json(const std::string& path) {
  auto json = nlohmann::json::parse(read_file(path), nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << path << " is missing or no JSON: run the script in tests/golden that makes it";
  return json;
}

inline std::string tiny(const std::string& model_and_file) {
  return test::golden_path("tiny_models/") + model_and_file;
}

inline std::vector<std::string> tiny_models() {
  const auto index = read_json(tiny("index.json"));
  return index.is_object() ? index["models"].get<std::vector<std::string>>() : std::vector<std::string>{};
}

inline std::shared_ptr<const ModelFile> open_model(const std::string& path) {
  auto file = ModelFile::open(path);
  EXPECT_TRUE(file) << (file ? "" : file.error().message);
  return file ? *file : nullptr;
}

inline std::vector<float> values(const TensorView& tensor) {
  std::vector<float> out(static_cast<std::size_t>(tensor.elements()));
  dequantize(tensor.type, tensor.bytes, out);
  return out;
}

// A copy of a golden model folder that a test may break.
inline std::string copy_folder(const std::string& from, const std::string& to) {
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
  return to;
}

}  // namespace tokenworks::formats
