#include "grammar/calls.hpp"

#include <deque>

#include "grammar/automaton.hpp"
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
    budget.lead("response_format");
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
