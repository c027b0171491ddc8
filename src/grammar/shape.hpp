#pragma once
// Shape: one conjunction of JSON Schema keywords, in one form: references followed, allOf merged, anyOf and oneOf
// spread over several shapes. A schema is a list of shapes of which one must fit. Children stay schemas and are read
// when needed.
#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "grammar/decimal.hpp"

namespace tokenworks::grammar {

using Json = nlohmann::ordered_json;  // properties are written in the schema's order

// A child schema: places in the document that must all hold, none for "anything". Nothing is copied: the document
// outlives its compilation.
struct Sub {
  std::vector<const Json*> parts;  // sorted, different
  std::string path;                // of the first, for messages: "#/properties/x"
  bool everything() const { return parts.empty(); }
  bool none() const {
    return std::any_of(parts.begin(), parts.end(), [](const Json* p) { return p->is_boolean() && !p->get<bool>(); });
  }
  bool operator==(const Sub& other) const { return parts == other.parts; }
};

enum Type : unsigned { kNull = 1, kBoolean = 2, kNumber = 4, kString = 8, kArray = 16, kObject = 32, kAnyType = 63 };

struct Shape {
  std::string path;
  unsigned types = kAnyType;
  bool integers = false;                           // numbers are whole
  std::optional<std::vector<const Json*>> values;  // enum, const
  std::optional<Bound> low, high;
  std::int64_t divisor = 1;
  std::int64_t min_length = 0, max_length = -1;  // -1: no end
  std::vector<std::string> patterns, formats;
  std::vector<Sub> prefix;
  Sub items;
  std::int64_t min_items = 0, max_items = -1;
  std::optional<std::string> unique;  // uniqueItems, and where it stands
  std::vector<std::pair<std::string, Sub>> properties;
  std::set<std::string> required;
  std::vector<std::pair<std::string, Sub>> pattern_properties;
  Sub additional;
  std::int64_t min_properties = 0, max_properties = -1;

  const Sub* property(const std::string& name) const {
    for (const auto& [key, sub] : properties) {
      if (key == name) return &sub;
    }
    return nullptr;
  }
};

// A largest length or count as it is written. Some schemas have the largest number of their language there, which is no bound:
// no answer has 2^31 characters. Others are far above what an answer comes to, and counting takes a state for each: what would
// be longer than `most` is not written, unless `least` asks for it.
constexpr std::int64_t kNoBound = INT32_MAX, kTextMost = 65'536, kListMost = 16'384, kMembersMost = 1'024;
inline std::int64_t counted_to(std::int64_t bound, std::int64_t least, std::int64_t most) {
  return bound < 0 || bound >= kNoBound ? -1 : std::min(bound, std::max(least, most));
}

// Both schemas hold.
Sub both(const Sub& a, const Sub& b);

}  // namespace tokenworks::grammar
