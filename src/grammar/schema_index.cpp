#include "grammar/schema_index.hpp"

#include <algorithm>

namespace tokenworks::grammar {
namespace {

constexpr std::size_t kNameShown = 100, kPathShown = 400;
constexpr std::size_t kAddressMax = 512;            // of a resolved $id; longer ones are nobody's name
constexpr std::size_t kDepthMax = 512;               // far above what the parser lets through

// Keywords that hold a schema or a list of them, and those that hold schemas by name.
constexpr std::string_view kSchemas[] = {"items", "prefixItems", "additionalItems", "additionalProperties", "allOf", "anyOf", "oneOf", "not", "if", "then",
                                         "else", "contains", "propertyNames", "unevaluatedItems", "unevaluatedProperties", "contentSchema"};
constexpr std::string_view kNamed[] = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"};

template <std::size_t N>
bool among(const std::string_view (&list)[N], std::string_view key) {
  return std::find(std::begin(list), std::end(list), key) != std::end(list);
}

const std::string* text_of(const Json& schema, const char* key) {
  const auto found = schema.find(key);
  return found == schema.end() ? nullptr : found->get_ptr<const std::string*>();
}

int digit_of(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? digit_of(text[i + 1]) : -1, low = high >= 0 ? digit_of(text[i + 2]) : -1;
    if (low >= 0) {
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

std::string step_into(const std::string& path, std::string_view name) {
  if (path.size() > kPathShown) return path.ends_with("/...") ? path : path + "/...";
  std::string out = path + "/";
  std::size_t end = std::min(name.size(), kNameShown);
  while (end < name.size() && end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0u) == 0x80u) --end;   // whole characters
  for (const char c : name.substr(0, end)) {
    if (c == '~' || c == '/') {
      out += c == '~' ? "~0" : "~1";
    } else if (c == ' ' || c == '%') {
      out += c == ' ' ? "%20" : "%25";
    } else {
      out += c;
    }
  }
  return end < name.size() ? out + "..." : out;
}

SchemaIndex::SchemaIndex(const Json& root, Budget& budget) : budget_(budget) {
  if (const std::string* draft = root.is_object() ? text_of(root, "$schema") : nullptr) {
    if (draft->find("json-schema.org/draft-0") != std::string::npos) draft_ = Draft::older;
    if (draft->find("json-schema.org/draft/20") != std::string::npos) draft_ = Draft::newer;
  }
  enter(resources_, "", root);
  walk(root, {nullptr, {}, &*addresses_.insert("").first, nullptr}, true, 0);
}

void SchemaIndex::enter(std::map<std::string, const Json*>& to, const std::string& name, const Json& schema) {
  if (name.size() > kAddressMax || !budget_.step(name.size() / 8 + 1)) return;
  const auto [at, entered] = to.emplace(name, &schema);
  if (!entered && at->second != &schema) at->second = nullptr;
}

// The address of what stands in `schema`, whose own names are entered.
const std::string* SchemaIndex::name(const Json& schema, const std::string* outer, bool known) {
  const std::string* inside = outer;
  const std::string* id = text_of(schema, "$id");
  if (id != nullptr && draft_ == Draft::older && schema.contains("$ref")) id = nullptr;
  if (id != nullptr && id->size() <= kAddressMax) {
    const std::size_t hash = std::min(id->find('#'), id->size());
    if (hash > 0) {
      std::string address = resolve_uri(*outer, std::string_view(*id).substr(0, hash));
      if (known) enter(resources_, address, schema);
      if (address.size() <= kAddressMax) inside = &*addresses_.insert(std::move(address)).first;
    }
    if (known && hash + 1 < id->size()) enter(anchors_, *inside + id->substr(hash), schema);
  }
  for (const char* key : {"$anchor", "$dynamicAnchor"}) {
    if (const std::string* anchor = text_of(schema, key); anchor != nullptr && known) enter(anchors_, *inside + "#" + *anchor, schema);
  }
  return inside;
}

void SchemaIndex::walk(const Json& schema, Place place, bool known, std::size_t depth) {
  if ((!schema.is_object() && !schema.is_boolean()) || depth > kDepthMax || !budget_.step(2)) return;
  const std::string* base = place.base = schema.is_object() ? name(schema, place.outer, known) : place.outer;
  if (!places_.emplace(&schema, std::move(place)).second || !schema.is_object()) return;
  children(schema, base, known, depth);
}

void SchemaIndex::children(const Json& schema, const std::string* base, bool known, std::size_t depth) {
  for (const auto& [key, value] : schema.items()) {
    const bool named = among(kNamed, key);
    if (!named && !among(kSchemas, key)) continue;
    if (!named && !value.is_array()) {
      walk(value, {&schema, key, base, nullptr}, known, depth + 1);
    } else if (named && value.is_object()) {
      for (const auto& [name, one] : value.items()) walk(one, {&schema, step_into(key, name), base, nullptr}, known, depth + 1);
    } else if (!named) {
      for (std::size_t i = 0; i < value.size(); ++i) walk(value[i], {&schema, key + "/" + std::to_string(i), base, nullptr}, known, depth + 1);
    }
  }
}

std::string SchemaIndex::path(const Json& schema) const {
  std::vector<const std::string*> steps;
  const Json* at = &schema;
  for (auto place = places_.find(at); place != places_.end() && place->second.parent != nullptr; place = places_.find(place->second.parent)) {
    steps.push_back(&place->second.step);
  }
  std::string out = "#";
  for (auto step = steps.rbegin(); step != steps.rend() && out.size() <= kPathShown; ++step) out += "/" + **step;
  return out;
}

const std::string& SchemaIndex::base_of(const Json& schema) const {
  const auto place = places_.find(&schema);
  return place == places_.end() ? *addresses_.begin() : *place->second.base;
}

const Json* SchemaIndex::find(const std::string& reference, const Json& from, std::string& why) {
  const auto place = places_.find(&from);
  const std::string& base = base_of(from);
  const std::size_t hash = std::min(reference.find('#'), reference.size());
  const std::string_view address = std::string_view(reference).substr(0, hash);
  const std::string fragment = hash < reference.size() ? percent_decoded(std::string_view(reference).substr(hash + 1)) : "";
  if (reference.size() > kAddressMax) {
    why = "is longer than a reference may be";
    return nullptr;
  }
  const Json* found = look_up(resolve_uri(base, address), fragment, why);
  // Up to draft-07 an $id beside a $ref is not looked at, since then it is.
  if (found != nullptr && draft_ == Draft::unknown && place != places_.end() && *place->second.outer != base && from.contains("$id")) {
    std::string unused;
    const Json* older = look_up(resolve_uri(*place->second.outer, address), fragment, unused);
    if (older != nullptr && older != found) {
      why = "is '" + reference + "' beside an '$id', which means another place in draft-07 than in 2020-12: name the draft by '$schema'";
      return nullptr;
    }
  }
  if (found == nullptr) why = "is '" + reference + "', " + why;
  return found;
}

const Json* SchemaIndex::look_up(const std::string& address, const std::string& fragment, std::string& why) {
  const auto resource = resources_.find(address);
  if (resource == resources_.end()) {
    why = "which is not within the schema; only what its own '$id', '$anchor' and JSON pointers name can be referred to";
    return nullptr;
  }
  if (resource->second == nullptr) {
    why = "which is the '$id' of more than one place";
    return nullptr;
  }
  if (fragment.empty()) return resource->second;
  if (fragment[0] == '/') return follow(*resource->second, fragment, why);
  const auto anchor = anchors_.find(address + "#" + fragment);
  if (anchor == anchors_.end() || anchor->second == nullptr) {
    why = anchor == anchors_.end() ? "which does not exist: no '$anchor' has this name" : "which is the '$anchor' of more than one place";
    return nullptr;
  }
  return anchor->second;
}

// A JSON pointer (RFC 6901). What is found may stand where no keyword expects a schema: it gets its place then.
const Json* SchemaIndex::follow(const Json& resource, std::string_view pointer, std::string& why) {
  const Json *at = &resource, *schema = &resource;   // the last of those on the way that is known as a schema
  std::string steps;
  for (std::size_t begin = 1; begin <= pointer.size();) {
    const std::size_t end = std::min(pointer.find('/', begin), pointer.size());
    std::string name;
    for (std::size_t i = begin; i < end; ++i) {      // ~1 is /, ~0 is ~
      if (pointer[i] == '~' && i + 1 < end) {
        name += pointer[++i] == '1' ? '/' : '~';
      } else {
        name += pointer[i];
      }
    }
    const Json* next = nullptr;
    if (at->is_object()) {
      const auto found = at->find(name);
      if (found != at->end()) next = &*found;
    } else if (at->is_array() && !name.empty() && name.size() < 7 && std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      const std::size_t i = std::stoul(name);
      if (i < at->size()) next = &(*at)[i];
    }
    if (next == nullptr) {
      why = "which does not exist";
      return nullptr;
    }
    at = next;
    steps = step_into(steps, name);
    if (places_.contains(at)) schema = at, steps.clear();
    begin = end + 1;
  }
  if (at != schema) walk(*at, {schema, steps.empty() ? "" : steps.substr(1), &base_of(*schema), nullptr}, false, 0);
  return at;
}

}  // namespace tokenworks::grammar
