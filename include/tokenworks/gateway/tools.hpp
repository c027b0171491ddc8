#pragma once
// Tools: the functions a client lets the model call, and a call on its way back. Schemas are opaque text here; the grammar
// compiler reads them.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tokenworks/base/json_text.hpp"

namespace tokenworks::gateway {

struct Tool {
  std::string name, description;
  JsonText parameters;                               // a JSON Schema of an object; empty: no parameters
  bool strict = false;                               // an automatic call is held to the schema, too
  bool callable = true;                              // false: shown, but not among the allowed tools of this request
};

struct ToolUse {
  enum class Choice : std::uint8_t { none, automatic, required } choice = Choice::none;
  std::vector<Tool> tools;                           // by different names
  std::optional<std::size_t> named;                  // required: exactly one call, of this tool
  bool parallel = true;                              // several calls in one answer
  bool forced() const { return choice == Choice::required; }
};

// A piece of a call: the first of an index carries id and name, all of them parts of the arguments' text.
struct CallDelta {
  std::uint32_t index = 0;                           // within its choice
  std::string id, name, arguments;
  bool operator==(const CallDelta&) const = default;
};

}  // namespace tokenworks::gateway
