#pragma once
// Reading what the golden scripts wrote, and loading a model for a test. A missing golden folder fails the test with
// the command that makes it.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/paths.hpp"
#include "tokenworks/model/runner.hpp"

namespace tokenworks::model::test {

using namespace tokenworks::test;                    // golden_path, demo_model_path

inline std::string golden_file(const std::string& name, const std::string& file) {
  std::ifstream in(golden_path(name) + "/" + file, std::ios::binary);
  if (!in) {
    ADD_FAILURE() << golden_path(name) << "/" << file << " is missing: run tests/golden/" << name << ".py "
                  << golden_path(name);
    return {};
  }
  return {std::istreambuf_iterator<char>(in), {}};
}

inline nlohmann::json golden_json(const std::string& name, const std::string& file) {
  const std::string text = golden_file(name, file);
  return text.empty() ? nlohmann::json() : nlohmann::json::parse(text);
}

inline std::vector<float> golden_floats(const std::string& name, const std::string& file) {
  const std::string bytes = golden_file(name, file);
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), floats.size() * sizeof(float));
  return floats;
}

// Null, and a failed test, when the model does not load.
inline std::unique_ptr<Runner> load_runner(const std::string& path, const std::string& compute,
                                           const LoadOptions& options) {
  const auto file = formats::ModelFile::open(path);
  if (!file) {
    ADD_FAILURE() << file.error().message;
    return nullptr;
  }
  auto backend = backend::make_backend({.backend = "cpu", .compute = compute, .threads = 2});
  if (!backend) {
    ADD_FAILURE() << backend.error().message;
    return nullptr;
  }
  auto runner = load(*file, std::move(*backend), options);
  if (!runner) {
    ADD_FAILURE() << runner.error().message;
    return nullptr;
  }
  return std::move(*runner);
}

}  // namespace tokenworks::model::test
