#pragma once
// One YAML file, read whole: a mapping, or a mistake that names file and line. Text in it goes into entries, logs and
// answers, all of which are UTF-8, so bytes that are not are a mistake here and nowhere later. Private to src/config.
#include <yaml-cpp/yaml.h>

#include <optional>
#include <string>
#include <vector>

namespace tokenworks::config {

// Nullopt with the mistake noted.
std::optional<YAML::Node> parse_yaml(const std::string& path, std::vector<std::string>& mistakes);

bool is_utf8(std::string_view text);

}  // namespace tokenworks::config
