#pragma once
// JsonText: a piece of JSON that travels on as text. The HTTP codec has checked that it parses; only the template
// engine and the grammar compiler read it again. No JSON library type crosses a room's border.
#include <string>

namespace tokenworks {

struct JsonText {
  std::string text;
  bool empty() const { return text.empty(); }
  bool operator==(const JsonText&) const = default;
};

}  // namespace tokenworks
