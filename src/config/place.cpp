// Where a key stands: for messages about what only opening a file or a device has shown.
#include <cstdlib>

#include "fields.hpp"
#include "tokenworks/config/check.hpp"

namespace tokenworks::config {
namespace {

// "models[0].kv_cache" -> "models", "0", "kv_cache".
std::vector<std::string> steps_of(const std::string& path) {
  std::vector<std::string> steps{""};
  for (const char c : path) {
    if (c == '.' || c == '[') {
      steps.emplace_back();
    } else if (c != ']') {
      steps.back() += c;
    }
  }
  return steps;
}

}  // namespace

std::string place_of(const std::string& file, const std::string& path) {
  const std::string variable = "TOKENWORKS_" + capitals(path);
  if (std::getenv(variable.c_str()) != nullptr) return "environment variable " + variable;
  int line = 1;
  try {
    YAML::Node node = YAML::LoadFile(file);
    for (const std::string& step : steps_of(path)) {
      YAML::Node next = node.IsSequence() ? node[static_cast<std::size_t>(std::strtoul(step.c_str(), nullptr, 10))] : node[step];
      if (!next.IsDefined()) break;
      node.reset(next);
      line = line_of(node);
    }
  } catch (const YAML::Exception&) {
    // It was read before; whoever changed it meanwhile gets the line found so far.
  }
  return file + ":" + std::to_string(line);
}

}  // namespace tokenworks::config
