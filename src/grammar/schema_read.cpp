// Schemas to shapes: keywords, references, allOf, anyOf, oneOf (JSON Schema 2020-12, with draft-07's items list,
// additionalItems and definitions).
#include <algorithm>
#include <cmath>
#include <numeric>

#include "grammar/schema.hpp"

namespace tokenworks::grammar {
namespace {

constexpr std::size_t kShapesMax = 256;  // of one schema, alternatives multiplied out
constexpr std::int64_t kDivisorMax = 10'000;

bool is_one_of(const std::string& key, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), key) != list.end();
}

// Say something about a value, allow nothing more and nothing less.
bool is_annotation(const std::string& key) {
  return is_one_of(key, {"title", "description", "default", "examples", "example", "$comment", "$schema", "deprecated",
                         "readOnly", "writeOnly", "$defs", "definitions", "contentEncoding", "contentMediaType",
                         "contentSchema", "$vocabulary", "discriminator", "externalDocs", "xml"}) ||
         key.starts_with("x-");
}

// Formats that are any text at all.
bool is_any_text(const std::string& format) {
  return is_one_of(format, {"binary", "password", "path", "file-path", "directory-path"});
}

// OpenAPI's discriminator names the property that tells the options of a oneOf or anyOf apart; its mapping says nothing new.
const std::string* discriminator(const Json& schema) {
  const auto found = schema.find("discriminator");
  if (found == schema.end() || !found->is_object()) return nullptr;
  const auto name = found->find("propertyName");
  return name != found->end() && name->is_string() ? &name->get_ref<const std::string&>() : nullptr;
}

}  // namespace

void SchemaCompiler::unsupported(const std::string& keyword, const std::string& path, const std::string& why) {
  budget_.fail("the schema keyword '" + keyword + "' at " + path + " is not supported" +
                   (why.empty() ? "" : ": " + why),
               step_into(path, keyword));
}

void SchemaCompiler::wrong(const std::string& keyword, const std::string& path, const std::string& what) {
  budget_.fail("the schema keyword '" + keyword + "' at " + path + " " + what, step_into(path, keyword));
}

std::int64_t SchemaCompiler::count(const std::string& key, const Json& value, const std::string& path) {
  const double n = value.is_number() ? value.get<double>() : -1;   // 3.0 is a count too
  if (n < 0 || n != std::floor(n)) {
    wrong(key, path, "must be a whole number that is not negative");
    return 0;
  }
  return static_cast<std::int64_t>(std::min(n, 1e15));   // more is no other bound: nothing is that long
}

std::vector<Shape> SchemaCompiler::expand(const Sub& sub) {
  std::vector<Shape> shapes{Shape{.path = sub.path}};
  for (const Json* part : sub.parts) {
    Refs refs;
    shapes = all_of(shapes, expand(*part, sub.path, refs));
  }
  return shapes;
}

Sub SchemaCompiler::child(const Json& schema, std::string path) {
  const Json* at = &schema;
  // {"$ref": ...} and nothing else is the place it refers to, so that a recursive schema comes back to the same rules.
  for (std::size_t i = 0; i < limits_.depth && at->is_object() && at->size() == 1 && at->contains("$ref") && budget_.ok(); ++i) {
    const Json* next = resolve(*at, path);
    if (next == nullptr) break;
    path = index_.path(*next);
    at = next;
  }
  if (at->is_boolean() && at->get<bool>()) return {{}, std::move(path)};
  return {{at}, std::move(path)};
}

std::vector<Shape> SchemaCompiler::expand(const Json& schema, const std::string& path, Refs& refs) {
  if (!budget_.step(8)) return {};
  if (schema.is_boolean()) {
    if (!schema.get<bool>()) return {};
    return {Shape{.path = path}};
  }
  if (!schema.is_object()) {
    budget_.fail("the schema at " + path + " is neither an object nor true or false");
    return {};
  }
  Shape own{.path = path};
  for (const auto& [key, value] : schema.items()) {
    if (!budget_.step()) return {};
    if (!is_one_of(key, {"$ref", "allOf", "anyOf", "oneOf", "items", "prefixItems", "additionalItems", "propertyNames"}))
      read_keyword(key, value, path, own);
  }
  read_items(schema, path, own);
  if (const auto names = schema.find("propertyNames"); names != schema.end()) read_names(*names, path, own);
  std::vector<Shape> shapes{std::move(own)};

  if (schema.contains("$ref") && budget_.ok()) {
    const Json* found = resolve(schema, path);
    if (found == nullptr) return {};
    if (std::find(refs.begin(), refs.end(), found) != refs.end()) {
      wrong("$ref", path, "leads back to itself ('" + schema.at("$ref").get<std::string>() + "') without a value in between");
      return {};
    }
    if (refs.size() >= limits_.depth) {
      wrong("$ref", path, "is followed through too many other references");
      return {};
    }
    refs.push_back(found);
    shapes = all_of(shapes, expand(*found, index_.path(*found), refs));
    refs.pop_back();
  }
  for (const char* key : {"allOf", "anyOf", "oneOf"}) {
    const auto list = schema.find(key);
    if (list == schema.end() || !budget_.ok()) continue;
    if (!list->is_array() || list->empty()) {
      wrong(key, path, "must be a list that is not empty");
      return {};
    }
    std::vector<Shape> any;
    std::size_t last = 0;  // where the shapes of the previous options end
    for (std::size_t i = 0; i < list->size() && budget_.ok(); ++i) {
      std::vector<Shape> option = expand((*list)[i], step_into(path + "/" + key, std::to_string(i)), refs);
      if (std::string_view(key) == "allOf") {
        shapes = all_of(shapes, option);
        continue;
      }
      if (std::string_view(key) ==
          "oneOf") {  // together with the rest of the schema the options must exclude each other
        option = all_of(shapes, option);
        // Where it may be left out, as with pydantic's defaults, the options would not exclude each other.
        if (const std::string* name = discriminator(schema)) {
          for (Shape& shape : option) shape.types &= kObject, shape.required.insert(*name);
          std::erase_if(option, [](const Shape& shape) { return shape.types == 0; });
        }
        last = any.size();
        for (std::size_t a = 0; a < last; ++a) {
          for (const Shape& b : option) {
            if (budget_.ok() && !disjoint(any[a], b, 0)) {
              unsupported("oneOf", path,
                          "its options are not seen to exclude each other; use anyOf, or tell them apart by a required "
                          "property of type const");
            }
          }
        }
      }
      any.insert(any.end(), std::make_move_iterator(option.begin()), std::make_move_iterator(option.end()));
      if (any.size() > kShapesMax) unsupported(key, path, "it has too many alternatives");
    }
    if (std::string_view(key) == "anyOf") shapes = all_of(shapes, any);
    if (std::string_view(key) == "oneOf") shapes = std::move(any);
  }
  return budget_.ok() ? shapes : std::vector<Shape>{};
}

std::vector<Shape> SchemaCompiler::all_of(const std::vector<Shape>& a, const std::vector<Shape>& b) {
  std::vector<Shape> out;
  for (const Shape& x : a) {
    for (const Shape& y : b) {
      if (!budget_.step(16)) return {};
      Shape merged;
      if (conjoin(x, y, merged)) out.push_back(std::move(merged));
      if (out.size() > kShapesMax) {
        budget_.fail("the schema at " + (a.empty() ? std::string("#") : a[0].path) +
                     " has too many alternatives when its parts are combined");
        return {};
      }
    }
  }
  return out;
}

const Json* SchemaCompiler::resolve(const Json& schema, const std::string& path) {
  const Json& ref = schema.at("$ref");
  if (!ref.is_string()) {
    wrong("$ref", path, "must be a string");
    return nullptr;
  }
  std::string why;
  const Json* found = index_.find(ref.get_ref<const std::string&>(), schema, why);
  if (found == nullptr) wrong("$ref", path, why);
  return found;
}

void SchemaCompiler::read_types(const Json& value, const std::string& path, Shape& shape) {
  const Json list = value.is_array() ? value : Json::array({value});
  unsigned types = 0;
  bool integer = false, number = false;
  for (const Json& entry : list) {
    const std::string name = entry.is_string() ? entry.get<std::string>() : "";
    if (name == "null")
      types |= kNull;
    else if (name == "boolean")
      types |= kBoolean;
    else if (name == "integer")
      types |= kNumber, integer = true;
    else if (name == "number")
      types |= kNumber, number = true;
    else if (name == "string")
      types |= kString;
    else if (name == "array")
      types |= kArray;
    else if (name == "object")
      types |= kObject;
    else
      return wrong("type", path, "must be null, boolean, integer, number, string, array or object, or a list of these");
  }
  shape.types &= types;
  if (integer && !number) shape.integers = true;
}

void SchemaCompiler::read_bound(const std::string& key, const Json& value, const std::string& path, Shape& shape) {
  if (!value.is_number()) return wrong(key, path, "must be a number");
  const auto decimal = parse_decimal_text(value.dump());
  if (!decimal) return wrong(key, path, "is " + value.dump() + ", a number with too many digits");
  const bool lower = key == "minimum" || key == "exclusiveMinimum";
  const Bound bound{*decimal, key.starts_with("exclusive")};
  std::optional<Bound>& to = lower ? shape.low : shape.high;
  const int order = to ? compare(bound.value, to->value) : 0;
  if (!to || (lower ? order > 0 : order < 0) || (order == 0 && bound.exclusive)) to = bound;
}

void SchemaCompiler::read_properties(const std::string& key, const Json& value, const std::string& path, Shape& shape) {
  if (!value.is_object()) return wrong(key, path, "must be an object");
  for (const auto& [name, schema] : value.items()) {
    if (!budget_.step(4)) return;
    (key == "properties" ? shape.properties : shape.pattern_properties)
        .emplace_back(name, child(schema, step_into(path + "/" + key, name)));
    if (key == "patternProperties") pattern(name, step_into(path, key));  // a mistake in it is found now
  }
}

// items, prefixItems and draft-07's list form belong together.
void SchemaCompiler::read_items(const Json& schema, const std::string& path, Shape& shape) {
  const auto prefix = schema.find("prefixItems"), items = schema.find("items"),
             additional = schema.find("additionalItems");
  const auto read_list = [&](const Json& list, const std::string& key) {
    if (!list.is_array()) return wrong(key, path, "must be a list");
    for (std::size_t i = 0; i < list.size() && budget_.step(4); ++i)
      shape.prefix.push_back(child(list[i], step_into(path + "/" + key, std::to_string(i))));
  };
  if (prefix != schema.end()) read_list(*prefix, "prefixItems");
  if (items != schema.end() && items->is_array()) {
    if (prefix != schema.end()) return wrong("items", path, "must be a schema beside prefixItems");
    read_list(*items, "items");
    if (additional != schema.end()) shape.items = child(*additional, path + "/additionalItems");
  } else if (items != schema.end()) {
    shape.items = child(*items, path + "/items");
  }
}

void SchemaCompiler::read_keyword(const std::string& key, const Json& value, const std::string& path, Shape& shape) {
  if (is_annotation(key)) return;
  if (key == "$id" || key == "$anchor" || key == "$dynamicAnchor") {  // names of this place, which the index has read
    if (!value.is_string()) wrong(key, path, "must be a string");
    return;
  }
  if (key == "type") return read_types(value, path, shape);
  if (key == "enum" || key == "const") {
    if (key == "enum" && !value.is_array()) return wrong(key, path, "must be a list");
    std::vector<const Json*> values;
    if (key == "const") values.push_back(&value);
    for (std::size_t i = 0; key == "enum" && i < value.size(); ++i) values.push_back(&value[i]);
    budget_.step(values.size());
    if (shape.values) {  // both given
      std::erase_if(values, [&](const Json* v) {
        return std::none_of(shape.values->begin(), shape.values->end(), [&](const Json* w) { return *v == *w; });
      });
    }
    shape.values = std::move(values);
  } else if (key == "minimum" || key == "maximum" || key == "exclusiveMinimum" || key == "exclusiveMaximum") {
    read_bound(key, value, path, shape);
  } else if (key == "multipleOf") {
    const double n = value.is_number() ? value.get<double>() : 0;
    if (n <= 0) return wrong(key, path, "must be a number above 0");
    if (n != static_cast<double>(static_cast<std::int64_t>(std::min(n, 1e15))) ||
        n > static_cast<double>(kDivisorMax)) {
      return unsupported(key, path, "only whole numbers up to " + std::to_string(kDivisorMax) + " are (of 0.01 and its like JSON Schema's own validators say different things)");
    }
    shape.divisor = std::lcm(shape.divisor, static_cast<std::int64_t>(n));
  } else if (key == "minLength") {
    shape.min_length = count(key, value, path);
  } else if (key == "maxLength") {
    shape.max_length = count(key, value, path);
  } else if (key == "pattern") {
    if (!value.is_string()) return wrong(key, path, "must be a string");
    shape.patterns.push_back(value.get<std::string>());
    pattern(shape.patterns.back(), step_into(path, key));
  } else if (key == "format") {
    if (!value.is_string()) return wrong(key, path, "must be a string");
    const std::string format = value.get<std::string>();
    if (is_any_text(format)) return;
    if (format == "int32" || format == "int64") {    // OpenAPI's: of numbers a range, of texts the digits
      static const Json kLeast32 = -2147483648LL, kMost32 = 2147483647LL, kLeast64 = INT64_MIN, kMost64 = INT64_MAX;
      read_bound("minimum", format == "int32" ? kLeast32 : kLeast64, path, shape);
      read_bound("maximum", format == "int32" ? kMost32 : kMost64, path, shape);
    }
    if (format_pattern(format) == nullptr) return unsupported(key, path, "the format '" + format + "' is not known");
    shape.formats.push_back(format);
  } else if (key == "minItems") {
    shape.min_items = count(key, value, path);
  } else if (key == "maxItems") {
    shape.max_items = count(key, value, path);
  } else if (key == "uniqueItems") {
    if (!value.is_boolean()) return wrong(key, path, "must be true or false");
    if (value.get<bool>()) shape.unique = path;
  } else if (key == "properties" || key == "patternProperties") {
    read_properties(key, value, path, shape);
  } else if (key == "additionalProperties") {
    shape.additional = child(value, path + "/additionalProperties");
  } else if (key == "required") {
    if (!value.is_array()) return wrong(key, path, "must be a list of names");
    for (const Json& name : value) {
      if (!name.is_string()) return wrong(key, path, "must be a list of names");
      shape.required.insert(name.get<std::string>());
    }
  } else if (key == "minProperties") {
    shape.min_properties = count(key, value, path);
  } else if (key == "maxProperties") {
    shape.max_properties = count(key, value, path);
  } else {
    unsupported(key, path);
  }
}

}  // namespace tokenworks::grammar
