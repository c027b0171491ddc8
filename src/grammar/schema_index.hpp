#pragma once
// SchemaIndex: what the schemas of one document are called. References go by JSON pointer, by $anchor and by $id, each
// relative to the address of the schema they stand in (JSON Schema 2020-12, 8.2; draft-07's "$id": "#name" is an anchor).
// Nothing outside the document is ever looked at. Refers to the document; one thread.
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>

#include "grammar/budget.hpp"
#include "grammar/shape.hpp"

namespace tokenworks::grammar {

// `path` and a step further, as a JSON pointer in a fragment. Long names and long paths are cut: it is only shown.
std::string step_into(const std::string& path, std::string_view name);
// RFC 3986, 5.2: `reference` as seen from `base`; both, and what comes out, without fragment.
std::string resolve_uri(std::string_view base, std::string_view reference);

class SchemaIndex {
 public:
  SchemaIndex(const Json& root, Budget& budget);
  // What `reference`, a keyword of the schema `from`, refers to. Null, and why, when that is nothing or not one thing.
  const Json* find(const std::string& reference, const Json& from, std::string& why);
  std::string path(const Json& schema) const;        // "#/$defs/x"

 private:
  enum class Draft : std::uint8_t { unknown, older, newer };   // older: up to draft-07, where $ref hides what stands beside it
  struct Place {
    const Json* parent = nullptr;
    std::string step;                                // "properties/x"
    const std::string* outer = nullptr;              // the address of what it stands in
    const std::string* base = nullptr;               // and its own: where its references start
  };
  void walk(const Json& schema, Place place, bool known, std::size_t depth);
  void children(const Json& schema, const std::string* base, bool known, std::size_t depth);
  const std::string* name(const Json& schema, const std::string* outer, bool known);
  const std::string& base_of(const Json& schema) const;
  void enter(std::map<std::string, const Json*>& to, const std::string& name, const Json& schema);
  const Json* look_up(const std::string& address, const std::string& fragment, std::string& why);
  const Json* follow(const Json& resource, std::string_view pointer, std::string& why);

  Budget& budget_;
  Draft draft_ = Draft::unknown;
  std::set<std::string> addresses_;
  std::unordered_map<const Json*, Place> places_;
  std::map<std::string, const Json*> resources_, anchors_;   // null: the name was given twice
};

}  // namespace tokenworks::grammar
