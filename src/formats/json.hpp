#pragma once
// JSON from untrusted files: parsed without exceptions, duplicate keys refused, depth bounded. Private to this room.
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "tokenworks/base/byte_source.hpp"

namespace tokenworks::formats {

using Json = nlohmann::json;

// `what` opens every message ("FILE" or "FILE: header"). With `skip`, the value of that top-level key is checked for
// syntax and dropped, so that a large part nobody asks for costs no memory. Never null.
Result<std::unique_ptr<Json>> parse_json(std::string_view text, const std::string& what, std::string_view skip = {});

// A whole small file. nullopt when it does not exist.
Result<std::optional<std::string>> read_text_file(const std::string& path, std::uint64_t bytes_max);

}  // namespace tokenworks::formats
