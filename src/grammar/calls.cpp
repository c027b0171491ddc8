#include "grammar/calls.hpp"

#include <deque>

#include "grammar/automaton.hpp"
#include "grammar/regex.hpp"
#include "grammar/schema.hpp"
#include "grammar/trie.hpp"

namespace tokenworks::grammar {
namespace {

constexpr std::size_t kMarkerMax = 256;
constexpr unsigned kControlByte = 0xFF;              // leads control tokens, see trie.hpp: free text has none

std::string text_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || !found->is_string() ? std::string() : found->get<std::string>();
}

bool truth_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

// Length of the longest beginning of `marker` that `seen` ends with.
std::size_t overlap(std::string_view seen, std::string_view marker) {
  for (std::size_t n = std::min(seen.size(), marker.size()); n > 0; --n) {
    if (seen.ends_with(marker.substr(0, n))) return n;
  }
  return 0;
}

// Text up to the first marker (`through`), or text without any. State n has just seen the first n bytes of the marker.
Dfa text_until(const std::string& marker, bool through) {
  Dfa dfa;
  dfa.states.resize(marker.size() + 1);
  for (std::size_t n = 0; n <= marker.size(); ++n) {
    Dfa::State& state = dfa.states[n];
    state.twin = static_cast<std::uint32_t>(n);
    state.final = (n == marker.size()) == through;
    if (n == marker.size()) continue;
    for (unsigned b = 0; b < kControlByte; ++b) {
      const auto target = static_cast<std::uint32_t>(overlap(marker.substr(0, n) + static_cast<char>(b), marker));
      if (target == marker.size() && !through) continue;
      const auto byte = static_cast<std::uint8_t>(b);
      if (!state.bytes.empty() && state.bytes.back().target == target && state.bytes.back().high + 1u == b) {
        state.bytes.back().high = byte;
      } else {
        state.bytes.push_back({byte, byte, target});
      }
    }
  }
  if (!through) dfa.states.pop_back();
  return dfa;
}

// Empty, white space, or text that begins, behind it, with something else than a brace.
Expr text_without_brace() {
  ByteSet space, other, any;
  for (unsigned b = 0; b < kControlByte; ++b) {
    any.add(static_cast<unsigned char>(b));
    if (b == ' ' || b == '\t' || b == '\n' || b == '\r') {
      space.add(static_cast<unsigned char>(b));
    } else if (b != '{') {
      other.add(static_cast<unsigned char>(b));
    }
  }
  return sequence({repeat(any_of(space), 0, -1), optional(sequence({any_of(other), repeat(any_of(any), 0, -1)}))});
}

// A text around the calls, with its control tokens as such.
Expr frame(const std::string& text, const std::vector<std::string>& controls) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto control = std::find_if(controls.begin(), controls.end(), [&](const std::string& c) { return text.compare(at, c.size(), c) == 0; });
    if (control == controls.end()) {
      out += text[at++];
    } else {
      out += control_bytes(*control);
      at += control->size();
    }
  }
  return literal(out);
}

// The schema of a call's arguments: they are an object, whatever else the schema says.
Json object_schema(const Json* parameters, Budget& budget) {
  if (parameters == nullptr || parameters->is_null()) return {{"type", "object"}, {"additionalProperties", false}};
  if (parameters->is_boolean() && parameters->get<bool>()) return {{"type", "object"}};
  if (!parameters->is_object()) {
    budget.fail("the parameters are no JSON Schema of an object", "#");
    return {};
  }
  Json schema = *parameters;
  const auto type = schema.find("type");
  const bool list = type != schema.end() && type->is_array() && std::find(type->begin(), type->end(), Json("object")) != type->end();
  if (type != schema.end() && !list && *type != "object") {
    budget.fail("the schema keyword 'type' at # must be object: the arguments of a call are one", "#/type");
  }
  schema["type"] = "object";
  return schema;
}

// A string as it is: without the tag that ends it.
Expr text_value(const Json& schema, const std::string& path, const Limits& limits, Budget& budget) {
  std::vector<Expr> listed;
  if (const auto list = schema.find("enum"); list != schema.end()) {
    for (const Json& v : *list) {
      if (v.is_string()) listed.push_back(literal(v.get<std::string>()));
    }
    return choice(std::move(listed));
  }
  if (const std::string one = text_of(schema, "const"); schema.contains("const")) return literal(one);
  const auto number = [&](const char* key, std::int64_t otherwise) {
    const auto found = schema.find(key);
    return found == schema.end() || !found->is_number() ? otherwise : static_cast<std::int64_t>(found->get<double>());
  };
  Dfa all = intersect(build(repeat(any_character(Spelling::plain), number("minLength", 0), number("maxLength", -1)), 0, budget),
                      text_until("</parameter>", false), budget);
  const auto narrow = [&](const std::string& pattern) {
    if (!budget.ok()) return;
    const Expr e = parse_regex(pattern, Anchoring::search, Spelling::plain, limits.depth, "the pattern at " + path, budget);
    if (budget.ok()) all = intersect(all, build(e, 0, budget), budget);
  };
  if (const std::string pattern = text_of(schema, "pattern"); !pattern.empty()) narrow(pattern);
  if (const std::string format = text_of(schema, "format"); !format.empty() && format_pattern(format) != nullptr) narrow(*format_pattern(format));
  if (budget.ok() && accepts_nothing(all)) return nothing();
  return automaton(std::make_shared<const Dfa>(std::move(all)));
}

// The arguments in tags. The whole schema is compiled first, so that what is not supported is refused as always.
Expr tagged_arguments(const Json& schema, const Json& call_of, const Limits& limits, RuleBook& book, Budget& budget) {
  SchemaCompiler compiler(schema, limits, book, budget);
  compiler.run();
  for (const char* key : {"$ref", "allOf", "anyOf", "oneOf", "patternProperties", "minProperties", "maxProperties", "enum", "const"}) {
    if (schema.contains(key)) budget.fail("the schema keyword '" + std::string(key) + "' at # is not supported in this model's way of calling: declare 'properties' there", "#/" + std::string(key));
  }
  const Json none = Json::object();
  const auto found = schema.find("properties");
  const Json& properties = found == schema.end() ? none : *found;
  std::vector<std::string> required, texts;
  for (const auto& [key, to] : {std::pair("required", &required), std::pair("texts", &texts)}) {
    const Json& from = std::string_view(key) == "texts" ? call_of : schema;
    const auto list = from.find(key);
    for (std::size_t i = 0; list != from.end() && list->is_array() && i < list->size(); ++i) {
      if ((*list)[i].is_string()) to->push_back((*list)[i].get<std::string>());
    }
  }
  for (const std::string& name : required) {
    if (budget.ok() && !properties.contains(name)) budget.fail("'required' at # names '" + name + "', which is none of its 'properties'", "#/required");
  }
  std::vector<Expr> members;
  for (const auto& [name, one] : properties.items()) {
    if (!budget.ok()) break;
    const std::string path = step_into("#/properties", name);
    if (name.empty() || name.find_first_of("<>\n") != std::string::npos) budget.fail("the property '" + name + "' at # cannot be named in this model's way of calling", step_into("#/properties", name));
    const bool text = std::find(texts.begin(), texts.end(), name) != texts.end();
    const Expr value = text && one.is_object() ? text_value(one, path, limits, budget) : call(compiler.run(one, path));
    const Expr member = sequence({literal("<parameter=" + name + ">\n"), value, literal("\n</parameter>\n")});
    members.push_back(std::find(required.begin(), required.end(), name) != required.end() ? member : optional(member));
  }
  return sequence(std::move(members));
}

}  // namespace

RuleId parse_calls(const Json& json, const Limits& limits, RuleBook& book, Budget& budget) {
  const auto calls = json.is_object() ? json.find("calls") : json.end();
  if (!json.is_object() || calls == json.end() || !calls->is_array() || calls->empty()) {
    budget.fail("the calls are not described");
    return 0;
  }
  std::vector<std::string> controls;
  if (const auto list = json.find("controls"); list != json.end() && list->is_array()) {
    for (const Json& one : *list) {
      if (one.is_string() && !one.get_ref<const std::string&>().empty()) controls.push_back(one.get<std::string>());
    }
  }
  const auto framing = [&](const Json& from, const char* name) { return frame(text_of(from, name), controls); };
  std::deque<Json> schemas;                          // the compilers refer to them
  std::vector<Expr> all;
  for (const Json& call_of : *calls) {
    if (!call_of.is_object()) budget.fail("a call is not described by an object");
    budget.lead(text_of(call_of, "param"));
    const auto parameters = call_of.find("parameters");
    schemas.push_back(object_schema(parameters == call_of.end() ? nullptr : &*parameters, budget));
    if (!budget.ok()) return 0;
    if (truth_of(call_of, "in_tags")) {
      const Expr arguments = truth_of(call_of, "open") ? automaton(std::make_shared<Dfa>(text_until(text_of(call_of, "end"), true)))
                                                       : sequence({tagged_arguments(schemas.back(), call_of, limits, book, budget), framing(call_of, "end")});
      if (!budget.ok()) return 0;
      all.push_back(sequence({framing(call_of, "begin"), arguments}));
      continue;
    }
    const RuleId arguments = SchemaCompiler(schemas.back(), limits, book, budget).run();
    if (!budget.ok()) return 0;
    all.push_back(sequence({framing(call_of, "begin"), call(arguments), framing(call_of, "end")}));
  }
  budget.lead("tools");
  const RuleId one = book.declare("a call");
  book.define(one, choice(std::move(all)));
  std::vector<Expr> framed{framing(json, "begin"), call(one)};
  if (truth_of(json, "several")) framed.push_back(repeat(sequence({framing(json, "separator"), call(one)}), 0, -1));
  framed.push_back(framing(json, "end"));

  const RuleId start = book.declare("the answer");
  const std::string marker = text_of(json, "marker");
  const auto instead = json.find("instead");
  if (instead != json.end()) {
    budget.lead(text_of(json, "instead_param"));
    const RuleId value = SchemaCompiler(*instead, limits, book, budget).run();
    budget.lead("tools");
    framed.insert(framed.begin(), literal(marker));
    book.define(start, choice({call(value), sequence(std::move(framed))}));
  } else if (!truth_of(json, "free")) {
    book.define(start, sequence(std::move(framed)));
  } else if (marker.empty()) {
    book.define(start, choice({text_without_brace(), sequence(std::move(framed))}));
  } else if (marker.size() > kMarkerMax) {
    budget.fail("the marker of the calls is too long");
  } else {
    framed.insert(framed.begin(), automaton(std::make_shared<Dfa>(text_until(marker, true))));
    book.define(start, choice({automaton(std::make_shared<Dfa>(text_until(marker, false))), sequence(std::move(framed))}));
  }
  return start;
}

}  // namespace tokenworks::grammar
