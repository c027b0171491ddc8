#include "tokenworks/grammar/grammar.hpp"

#include <algorithm>

#include "grammar/calls.hpp"
#include "grammar/ebnf.hpp"
#include "grammar/matcher.hpp"
#include "grammar/regex.hpp"
#include "grammar/schema.hpp"
#include "tokenworks/base/crypto.hpp"

namespace tokenworks::grammar {
namespace {

constexpr std::size_t kWarmStates = 24;
constexpr std::size_t kCallsDepth = 3;  // of what stands around a schema

// Depth of brackets in JSON text; strings are passed over. What is no JSON is found by the parser.
std::size_t json_depth(std::string_view text) {
  std::size_t depth = 0, deepest = 0;
  bool string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        string = false;
    } else if (c == '"') {
      string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return deepest;
}

bool valid_utf8(std::string_view s) {
  for (std::size_t i = 0; i < s.size();) {
    const auto b = [&](std::size_t k) { return static_cast<unsigned char>(i + k < s.size() ? s[i + k] : 0); };
    const unsigned lead = b(0);
    const std::size_t n = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (n == 0) return false;
    for (std::size_t k = 1; k < n; ++k) {
      if ((b(k) & 0xC0) != 0x80) return false;
    }
    if ((lead == 0xE0 && b(1) < 0xA0) || (lead == 0xED && b(1) > 0x9F) || (lead == 0xF0 && b(1) < 0x90) ||
        (lead == 0xF4 && b(1) > 0x8F))
      return false;
    i += n;
  }
  return true;
}

std::optional<Json> parse_json(std::string_view source, const char* what, const Limits& limits, Budget& budget) {
  if (json_depth(source) > limits.depth) {
    budget.fail(std::string(what) + " nests more than " + std::to_string(limits.depth) + " deep");
    return std::nullopt;
  }
  Json json = Json::parse(source, nullptr, false);
  if (json.is_discarded()) {
    budget.fail(std::string(what) + " is not JSON");
    return std::nullopt;
  }
  return json;
}

// All rules into the book; the start rule. Mistakes go to the budget.
RuleId read_source(Kind kind, std::string_view source, const Limits& limits, RuleBook& book, Budget& budget) {
  switch (kind) {
    case Kind::json_object: {
      JsonRules json(book);
      const RuleId start = book.declare("a JSON object");
      book.define(start, sequence({json.space(), json.object()}));
      return start;
    }
    case Kind::json_schema: {
      budget.lead("");
      const auto schema = parse_json(source, "the schema", limits, budget);
      return schema ? SchemaCompiler(*schema, limits, book, budget).run() : 0;
    }
    case Kind::regex: {
      const RuleId start = book.declare("the regular expression");
      book.define(start, parse_regex(source, Anchoring::whole, Spelling::plain, limits.depth, "the regular expression",
                                     budget));
      return start;
    }
    case Kind::choice: {
      const auto list = parse_json(source, "the list of choices", limits, budget);
      if (!list) return 0;
      std::vector<Expr> all;
      for (const Json& entry : *list) {
        if (!list->is_array() || !entry.is_string() || entry.get_ref<const std::string&>().empty()) {
          budget.fail("the choices must be a list of strings that are not empty");
          return 0;
        }
        all.push_back(literal(entry.get_ref<const std::string&>()));
      }
      if (all.empty()) budget.fail("the choices must be a list of strings that is not empty");
      const RuleId start = book.declare("the choices");
      book.define(start, choice(std::move(all)));
      return start;
    }
    case Kind::ebnf:
      return parse_ebnf(source, limits.depth, book, budget);
    case Kind::calls: {
      Limits around = limits;
      around.depth += kCallsDepth;
      const auto calls = parse_json(source, "the tools", around, budget);
      return calls ? parse_calls(*calls, limits, book, budget) : 0;
    }
  }
  return 0;
}

}  // namespace

Result<std::shared_ptr<const Grammar>> compile(Kind kind, std::string_view source,
                                               std::shared_ptr<const VocabularyTrie> vocabulary, const Limits& limits) {
  if (kind == Kind::json_object) source = {};
  if (source.size() > limits.source_bytes) {
    return error(Errc::invalid_request, "the grammar has " + std::to_string(source.size()) + " bytes; at most " +
                                            std::to_string(limits.source_bytes) + " are allowed");
  }
  if (!valid_utf8(source)) return error(Errc::invalid_request, "the grammar is not valid UTF-8");
  const auto trie = std::static_pointer_cast<const Trie>(vocabulary);
  Budget budget(limits.states, limits.steps);
  RuleBook book;
  const RuleId start = read_source(kind, source, limits, book, budget);
  std::vector<Dfa> rules;
  for (const Expr& body : book.bodies()) {
    if (budget.ok()) rules.push_back(build(body, trie->longest(), budget));
  }
  auto program = std::make_shared<Program>();
  if (budget.ok()) *program = link(rules, book.names(), start, budget);
  if (budget.mistake()) return *budget.mistake();
  auto compiled = std::make_shared<CompiledGrammar>(std::move(program), trie);
  if (!compiled->masks().warm(kWarmStates)) {
    return error(Errc::invalid_request, "the grammar is too ambiguous: finding the tokens that may come takes too long",
                 kind == Kind::calls ? "tools" : "");
  }
  return std::shared_ptr<const Grammar>(std::move(compiled));
}

}  // namespace tokenworks::grammar
