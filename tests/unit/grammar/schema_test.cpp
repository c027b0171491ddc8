// Schemas and patterns against jsonschema and Python's re: see tests/golden/grammars.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "grammar/schema_index.hpp"
#include "unit/grammar/vocabulary.hpp"

namespace tokenworks::grammar {
namespace {

using Json = nlohmann::ordered_json;

Json golden(const std::string& name) {
  const std::string path = tokenworks::test::golden_path("grammars") + "/" + name;
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path + " is missing: run tests/golden/grammars.py (tests/run does)");
  return Json::parse(file);
}

bool takes(const Grammar& grammar, const std::string& text) {
  const auto matcher = grammar.matcher();
  return matcher->accept_bytes(text) && matcher->may_end();
}

TEST(JsonSchema, ValidInstancesAreTakenAndInvalidOnesRefused) {
  std::size_t valid = 0, invalid = 0;
  for (const auto& c : golden("schemas.json")) {
    const std::string schema = c.at("schema").dump();
    const auto grammar = compile(Kind::json_schema, schema, test::small_trie());
    ASSERT_TRUE(grammar) << schema << ": " << grammar.error().message;
    for (const auto& text : c.at("valid")) {
      ++valid;
      EXPECT_TRUE(takes(**grammar, text.get<std::string>())) << schema << " should take " << text;
    }
    for (const auto& text : c.at("invalid")) {
      ++invalid;
      EXPECT_FALSE(takes(**grammar, text.get<std::string>())) << schema << " should refuse " << text;
    }
  }
  std::printf("%zu valid and %zu invalid texts\n", valid, invalid);
  EXPECT_GT(valid, 1500u);
  EXPECT_GT(invalid, 10'000u);
}

TEST(Regex, MatchesWhatPythonMatches) {
  for (const auto& c : golden("patterns.json")) {
    const std::string pattern = c.at("pattern");
    const auto grammar = compile(Kind::regex, pattern, test::small_trie());
    ASSERT_TRUE(grammar) << pattern << ": " << grammar.error().message;
    for (const auto& text : c.at("yes"))
      EXPECT_TRUE(takes(**grammar, text.get<std::string>())) << pattern << " " << text;
    for (const auto& text : c.at("no"))
      EXPECT_FALSE(takes(**grammar, text.get<std::string>())) << pattern << " " << text;
  }
}

// Random walks under the mask; those that end are valid instances by jsonschema's judgement.
TEST(JsonSchema, WhatIsWrittenUnderTheMaskIsAlwaysValid) {
  const std::size_t wanted = tokenworks::test::long_run() ? 200'000 : 2'000;
  const tokenworks::test::ScratchDir scratch;
  const std::string path = scratch.path() + "/walks.jsonl";
  const Json cases = golden("schemas.json");
  std::mt19937_64 random(1);
  std::size_t written = 0, ended = 0, walks = 0;
  {
    std::ofstream out(path);
    std::vector<std::shared_ptr<const Grammar>> grammars;
    for (const auto& c : cases)
      grammars.push_back(compile(Kind::json_schema, c.at("schema").dump(), test::small_trie()).value());
    for (std::size_t i = 0; written < wanted; i = (i + 1) % grammars.size()) {
      ++walks;
      ASSERT_LT(walks, wanted * 4) << "walks hardly ever end";
      const auto matcher = grammars[i]->matcher();
      std::string text;
      // Short of its end a walk prefers what closes: otherwise strings and lists go on for ever.
      for (int step = 0; step < 400 && !(matcher->may_end() && (matcher->finished() || random() % 4 == 0)); ++step) {
        const std::uint32_t* mask = matcher->mask();
        std::vector<TokenId> allowed;
        for (TokenId id = 1; id < test::small_trie()->vocab_size(); ++id) {
          if (test::bit(mask, id)) allowed.push_back(id);
        }
        ASSERT_FALSE(allowed.empty()) << cases[i].at("schema") << " after " << text;
        TokenId id = allowed[random() % allowed.size()];
        if (step > 15) {
          for (const char close : {'}', ']', '"'}) {
            for (const TokenId a : allowed) {
              if (test::small_tokenizer()->token_bytes(a) == std::string(1, close) && random() % 2 == 0) id = a;
            }
          }
        }
        ASSERT_TRUE(matcher->accept(id)) << cases[i].at("schema") << " after " << text;
        text += test::small_tokenizer()->token_bytes(id);
      }
      if (!matcher->may_end()) continue;
      ++ended;
      EXPECT_TRUE(test::bit(matcher->mask(), 0));  // the stop token
      ++written;
      out << Json{{"schema", cases[i].at("schema")}, {"text", text}}.dump() << '\n';
    }
  }
  std::printf("%zu of %zu walks ended\n", ended, walks);
  const std::string python =
      tokenworks::test::environment("TOKENWORKS_PYTHON", tokenworks::test::cache_dir() + "/venv/bin/python");
  const std::string script =
      std::string(__FILE__).substr(0, std::string(__FILE__).rfind("/tests/")) + "/tests/support/check_instances.py";
  const std::string command = "'" + python + "' '" + script + "' '" + path + "'";
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
}

// Every list of up to four values against the definition: no two equal, each allowed, as many as may be.
TEST(JsonSchema, ListsOfNamedValuesAreKeptFreeOfRepetitions) {
  struct Case {
    const char *schema, *tried, *allowed;
    std::size_t min, max;
  };
  const Case cases[] = {
      {R"({"type":"array","items":{"enum":["a","b",1]},"uniqueItems":true})", R"(["a","b",1,"c"])", R"(["a","b",1])", 0, 3},
      {R"({"type":"array","items":{"enum":["a","b",1,1.0]},"uniqueItems":true,"minItems":2})", R"(["a","b",1,"c"])", R"(["a","b",1])", 2, 3},
      {R"({"type":"array","items":{"$ref":"#/$defs/c"},"uniqueItems":true,"maxItems":2,"$defs":{"c":{"anyOf":[{"const":"a"},{"type":["boolean","null"]}]}}})",
       R"(["a",true,false,null])", R"(["a",true,false,null])", 0, 2},
      {R"({"type":"array","items":{"enum":["a","b",3],"type":"string"},"uniqueItems":true,"minItems":1})", R"(["a","b",3])", R"(["a","b"])", 1, 2},
      {R"({"allOf":[{"type":"array","items":{"enum":["a","b","c"]}},{"uniqueItems":true,"maxItems":3}]})", R"(["a","b","c"])", R"(["a","b","c"])", 0, 3},
  };
  const auto has = [](const Json& list, std::size_t end, const Json& value) {
    return std::any_of(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(end), [&](const Json& v) { return v == value; });
  };
  for (const Case& c : cases) {
    const auto grammar = compile(Kind::json_schema, c.schema, test::small_trie());
    ASSERT_TRUE(grammar) << c.schema << grammar.error().message;
    const Json tried = Json::parse(c.tried), allowed = Json::parse(c.allowed);
    for (std::size_t length = 0, all = 1; length <= 4; ++length, all *= tried.size()) {
      for (std::size_t number = 0; number < all; ++number) {
        Json list = Json::array();
        for (std::size_t i = 0, rest = number; i < length; ++i, rest /= tried.size()) list.push_back(tried[rest % tried.size()]);
        bool valid = length >= c.min && length <= c.max;
        for (std::size_t i = 0; i < length; ++i) valid = valid && has(allowed, allowed.size(), list[i]) && !has(list, i, list[i]);
        EXPECT_EQ(takes(**grammar, list.dump()), valid) << c.schema << " " << list;
      }
    }
    EXPECT_EQ(takes(**grammar, "[ ]"), c.min == 0);
  }
  const auto takes_all = [](const char* schema, std::initializer_list<const char*> good, std::initializer_list<const char*> bad) {
    const auto grammar = compile(Kind::json_schema, schema, test::small_trie());
    ASSERT_TRUE(grammar) << schema << grammar.error().message;
    for (const char* text : good) EXPECT_TRUE(takes(**grammar, text)) << schema << text;
    for (const char* text : bad) EXPECT_FALSE(takes(**grammar, text)) << schema << text;
  };
  takes_all(R"({"type":"array","items":{"type":"string"},"uniqueItems":true,"maxItems":1})", {"[]", R"(["x"])"}, {R"(["x","x"])"});
  takes_all(R"({"enum":[[1,1],[1,2],[{"a":1,"b":2},{"b":2,"a":1}],3],"uniqueItems":true})", {"[1,2]", "3"}, {"[1,1]", R"([{"a":1,"b":2},{"b":2,"a":1}])"});
  takes_all(R"({"type":"array","prefixItems":[{"type":"boolean"},{"type":"boolean"}],"items":false,"uniqueItems":true})",
            {"[]", "[true]", "[true,false]", "[ false, true ]"}, {"[true,true]", "[true,false,true]"});
}

// Every list of up to three of eleven tried values, and the longest ones: what is written is what is valid and in the schema's order.
TEST(JsonSchema, ListsOfManyNamedValuesAreWrittenInTheirOrder) {
  struct Case {
    const char* bounds;
    std::size_t min, max;
  };
  for (const Case& c : {Case{"", 0, 10}, Case{R"(,"minItems":2)", 2, 10}, Case{R"(,"maxItems":2)", 0, 2}, Case{R"(,"minItems":1,"maxItems":2)", 1, 2},
                        Case{R"(,"minItems":3,"maxItems":99)", 3, 10}}) {
    const auto grammar = compile(Kind::json_schema, R"({"type":"array","items":{"enum":[0,1,2,3,4,5,6,7,8,9]},"uniqueItems":true)" + std::string(c.bounds) + "}",
                                 test::small_trie());
    ASSERT_TRUE(grammar) << c.bounds << grammar.error().message;
    for (std::size_t length = 0, all = 1; length <= 3; ++length, all *= 11) {
      for (std::size_t number = 0; number < all; ++number) {
        std::vector<std::size_t> list;
        for (std::size_t i = 0, rest = number; i < length; ++i, rest /= 11) list.push_back(rest % 11);
        const bool ordered = std::adjacent_find(list.begin(), list.end(), std::greater_equal<>()) == list.end();
        const bool valid = ordered && length >= c.min && length <= c.max && (list.empty() || list.back() < 10);
        EXPECT_EQ(takes(**grammar, Json(list).dump()), valid) << c.bounds << Json(list);
      }
    }
    EXPECT_EQ(takes(**grammar, "[0,1,2,3,4,5,6,7,8,9]"), c.max >= 10);
    EXPECT_FALSE(takes(**grammar, "[0,1,2,3,4,5,6,7,8,9,9]"));
  }
  EXPECT_FALSE(compile(Kind::json_schema, R"({"type":"array","items":{"enum":[0,1,2,3,4,5,6,7,8,9]},"uniqueItems":true,"minItems":11})", test::small_trie()));
}

void takes_only(const std::string& schema, std::initializer_list<const char*> good, std::initializer_list<const char*> bad) {
  const auto grammar = compile(Kind::json_schema, schema, test::small_trie());
  ASSERT_TRUE(grammar) << schema << grammar.error().message;
  for (const char* text : good) EXPECT_TRUE(takes(**grammar, text)) << schema << text;
  for (const char* text : bad) EXPECT_FALSE(takes(**grammar, text)) << schema << text;
}

// As pydantic and OpenAPI write them: the property is there, also where a default lets a schema go without.
TEST(JsonSchema, ADiscriminatorTellsTheOptionsApart) {
  const std::string cat = R"({"type":"object","properties":{"kind":{"const":"cat","default":"cat"},"n":{"type":"integer"}},"additionalProperties":false})",
                    dog = R"({"type":"object","properties":{"kind":{"const":"dog","default":"dog"}},"additionalProperties":false})";
  const std::string schema = R"({"discriminator":{"mapping":{"cat":"#/$defs/c"},"propertyName":"kind"},"oneOf":[)" + cat + "," + dog + "]}";
  takes_only(schema, {R"({"kind":"cat","n":1})", R"({"kind":"cat"})", R"({"kind":"dog"})"}, {"{}", R"({"n":1})", R"({"kind":"dog","n":1})", R"({"kind":"cow"})"});
  EXPECT_FALSE(compile(Kind::json_schema, R"({"oneOf":[)" + cat + "," + dog + "]}", test::small_trie())) << "an empty object fits both";
  takes_only(R"({"discriminator":{"propertyName":"kind"},"anyOf":[)" + cat + "," + dog + "]}", {"{}", R"({"kind":"dog"})"}, {R"({"kind":"cow"})"});
}

TEST(JsonSchema, PropertyNamesThatAreNamedOrHaveOnePattern) {
  takes_only(R"({"type":"object","propertyNames":{"enum":["a","b",3]},"additionalProperties":{"type":"integer"}})",
             {"{}", R"({"a":1})", R"({"b":2})", R"({"a":1,"b":2})"}, {R"({"c":1})", R"({"a":"x"})", R"({"3":1})", R"({"a":1,"c":2})"});
  takes_only(R"({"type":"object","properties":{"z":{"const":1},"a":{"const":2}},"patternProperties":{"^a":{"type":"integer"},"^b":{"const":7}},
               "propertyNames":{"anyOf":[{"const":"a"},{"enum":["b","c"]}]},"additionalProperties":{"type":"null"}})",
             {R"({"a":2})", R"({"a":2,"b":7,"c":null})"}, {R"({"z":1})", R"({"a":1})", R"({"b":8})", R"({"c":7})", R"({"d":null})"});
  takes_only(R"({"type":"object","propertyNames":{"pattern":"^x-"},"additionalProperties":{"type":"integer"}})", {"{}", R"({"x-a":1})", R"({"x-":1,"x-b":2})"},
             {R"({"y":1})", R"({"x-a":"s"})"});
  takes_only(R"({"type":"object","properties":{"x-a":{"const":1},"b":{"const":1}},"propertyNames":{"pattern":"^x-"},"additionalProperties":false})",
             {"{}", R"({"x-a":1})"}, {R"({"b":1})", R"({"x-b":1})"});
  takes_only(R"({"allOf":[{"type":"object","propertyNames":{"enum":["a"]}},{"properties":{"a":{"type":"integer"},"b":{}}}]})", {R"({"a":1})", "{}"},
             {R"({"b":1})", R"({"a":"x"})", R"({"c":1})"});
  takes_only(R"({"type":"object","propertyNames":false})", {"{}"}, {R"({"a":1})"});
  for (const char* schema : {R"({"type":"object","required":["b"],"propertyNames":{"const":"a"}})", R"({"propertyNames":{"maxLength":3}})", R"({"propertyNames":{"$ref":"#"}})",
                             R"({"propertyNames":{"pattern":"a"},"patternProperties":{"b":{}}})"}) {
    const auto grammar = compile(Kind::json_schema, schema, test::small_trie());
    ASSERT_FALSE(grammar) << schema;
    EXPECT_EQ(grammar.error().code, Errc::invalid_request);
  }
}

TEST(JsonSchema, FormatsOfOpenApiAndPydantic) {
  const auto format = [](const char* name, const char* type = "string") { return std::string(R"({"type":")") + type + R"(","format":")" + name + "\"}"; };
  takes_only(format("duration"), {"\"P3Y6M4DT12H30M5S\"", "\"PT36H\"", "\"P4W\"", "\"P1D\"", "\"P1Y2M\""},
             {"\"P\"", "\"PT\"", "\"P1YT\"", "\"P1D2M\"", "\"P1Y4D\"", "\"P1W2D\"", "\"PT1H3S\"", "\"1D\"", "\"P1.5D\""});
  takes_only(format("uuid4"), {"\"9b7d3c66-5f1e-4a0a-8f5e-0123456789ab\""}, {"\"9b7d3c66-5f1e-1a0a-8f5e-0123456789ab\"", "\"9b7d3c66-5f1e-4a0a-cf5e-0123456789ab\""});
  takes_only(format("byte"), {"\"\"", "\"QQ==\"", "\"QUI=\"", "\"QUJD\""}, {"\"Q\"", "\"QQ=\"", "\"QR==\"", "\"Q===\""});
  takes_only(format("int32", "integer"), {"2147483647", "-2147483648"}, {"2147483648", "-2147483649"});
  takes_only(format("int64", "integer"), {"9223372036854775807", "-9223372036854775808"}, {"9223372036854775808"});
  takes_only(format("int64"), {"\"7\"", "\"-12\""}, {"\"x\"", "\"007\"", "\"-0\""});
  takes_only(format("ipvanyaddress"), {"\"1.2.3.4\"", "\"::1\""}, {"\"x\""});
  for (const char* any : {"binary", "password", "path", "file-path", "directory-path"}) takes_only(format(any), {"\"a\"", "\"\""}, {"1"});
}

// Counted characters of a large pattern: short texts as they are, and no 400 for a bound that no text comes near.
TEST(JsonSchema, LongBoundsOfLargePatternsAreNoHindrance) {
  std::string fields;
  for (int i = 0; i < 12; ++i) fields += (i > 0 ? ",\"u" : "\"u") + std::to_string(i) + R"(":{"type":"string","format":"uri","minLength":1,"maxLength":2083})";
  const auto grammar = compile(Kind::json_schema, R"({"type":"object","properties":{)" + fields + R"(},"additionalProperties":false})", test::small_trie());
  ASSERT_TRUE(grammar) << grammar.error().message;
  EXPECT_TRUE(takes(**grammar, R"({"u0":"https://example.org/a?b=c#d","u11":"mailto:x"})"));
  EXPECT_TRUE(takes(**grammar, R"({"u3":"https://example.org/)" + std::string(75, 'a') + "\"}"));
  EXPECT_FALSE(takes(**grammar, R"({"u3":"https://example.org/)" + std::string(2100, 'a') + "\"}"));
  EXPECT_FALSE(takes(**grammar, R"({"u3":"no uri"})"));
  // Exactly counted where that is no burden.
  const std::string word = R"({"type":"string","pattern":"^[a-z]+$","minLength":2,"maxLength":600})";
  const auto words = compile(Kind::json_schema, word, test::small_trie());
  ASSERT_TRUE(words);
  for (const std::size_t n : {1, 2, 599, 600, 601}) EXPECT_EQ(takes(**words, "\"" + std::string(n, 'q') + "\""), n >= 2 && n <= 600) << n;
  EXPECT_FALSE(compile(Kind::json_schema, R"({"type":"string","format":"uri","minLength":3,"maxLength":2})", test::small_trie()));
}

// Frameworks write the largest number of their language where there is no bound, and columns of text have 65,535 or more.
TEST(JsonSchema, UpperBoundsThatNoAnswerComesNearAreNoHindrance) {
  for (const char* bound : {"70000", "1000000", "16777215", "2147483647", "4294967295", "9007199254740991", "1e300"}) {
    const auto with = [&](const std::string& rest, const char* keyword) { return R"({)" + rest + ",\"" + keyword + "\":" + bound + "}"; };
    const auto text = compile(Kind::json_schema, with(R"("type":"string","minLength":2)", "maxLength"), test::small_trie());
    ASSERT_TRUE(text) << bound << ": " << text.error().message;
    for (const std::size_t n : {1, 2, 3000}) EXPECT_EQ(takes(**text, "\"" + std::string(n, 'q') + "\""), n >= 2) << bound;
    const auto uri = compile(Kind::json_schema, with(R"("type":"string","format":"uri")", "maxLength"), test::small_trie());
    ASSERT_TRUE(uri) << bound << ": " << uri.error().message;
    EXPECT_TRUE(takes(**uri, R"("https://example.org/a")"));
    const auto list = compile(Kind::json_schema, with(R"("type":"array","items":{"type":"integer"},"minItems":1)", "maxItems"), test::small_trie());
    ASSERT_TRUE(list) << bound << ": " << list.error().message;
    EXPECT_TRUE(takes(**list, "[1,2,3]"));
    EXPECT_FALSE(takes(**list, "[]"));
    const auto map = compile(Kind::json_schema, with(R"("type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"integer"})", "maxProperties"),
                             test::small_trie());
    ASSERT_TRUE(map) << bound << ": " << map.error().message;
    EXPECT_TRUE(takes(**map, R"({"a":1,"b":2,"c":3})"));
  }
  const auto exact = compile(Kind::json_schema, R"({"type":"string","maxLength":60000})", test::small_trie());
  ASSERT_TRUE(exact);
  EXPECT_FALSE(takes(**exact, "\"" + std::string(60'001, 'q') + "\""));
  EXPECT_FALSE(compile(Kind::json_schema, R"({"type":"array","minItems":5,"maxItems":4})", test::small_trie()));
  EXPECT_FALSE(compile(Kind::json_schema, R"({"type":"string","maxLength":2.5})", test::small_trie()));
}

TEST(JsonSchema, WhatIsNotSupportedIsNamedWithItsPlace) {
  const auto refused = [](const std::string& schema, const std::string& part) {
    const auto grammar = compile(Kind::json_schema, schema, test::small_trie());
    ASSERT_FALSE(grammar) << schema;
    EXPECT_EQ(grammar.error().code, Errc::invalid_request);
    EXPECT_NE(grammar.error().message.find(part), std::string::npos) << schema << ": " << grammar.error().message;
  };
  for (const char* keyword :
       {"not", "if", "then", "else", "dependentRequired", "dependentSchemas", "contains",
        "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$anchor", "$id", "nonsense"}) {
    refused(R"({"type": "object", "properties": {"a": {")" + std::string(keyword) + R"(": {}}}})",
            "'" + std::string(keyword) + "' at #/properties/a");
  }
  refused(R"({"items": {"uniqueItems": true}})", "'uniqueItems' at #/items");
  refused(R"({"type": "array", "items": {"type": "string"}, "uniqueItems": true})", "only where its values are named");
  Json many = Json::array();
  for (int i = 0; i < 65; ++i) many.push_back(i);
  refused(Json{{"type", "array"}, {"items", {{"enum", many}}}, {"uniqueItems", true}}.dump(), "at most 64");
  refused(R"({"prefixItems": [{"const": 9}], "items": {"enum": [1,2,3,4,5,6,7,8,9]}, "uniqueItems": true})", "with prefixItems 8");
  refused(R"({"type": "array", "items": {"enum": [[], {}]}, "uniqueItems": true})", "'uniqueItems' at #");
  refused(R"({"type": "string", "format": "idn-email"})", "'idn-email'");
  refused(R"({"type": "number", "multipleOf": 0.1})", "'multipleOf' at #");
  refused(R"({"type": "wrong"})", "'type' at #");
  refused(R"({"minLength": -1})", "'minLength'");
  refused(R"({"required": "a"})", "'required'");
  refused(R"({"$ref": "http://x/y"})", "'$ref' at #");
  refused(R"({"$ref": "#/$defs/none"})", "does not exist");
  refused(R"({"$ref": "#"})", "leads back to itself");
  refused(R"({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})",
          "leads back to itself");
  refused(R"({"anyOf": [{"$ref": "#"}, {"type": "null"}]})", "leads back to itself");
  refused(R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})", "'oneOf' at #");
  refused(R"({"oneOf": [{"type": "object", "properties": {"a": {}}}, {"type": "object", "properties": {"b": {}}}]})",
          "'oneOf' at #");
  refused(R"({"type": "string", "pattern": "(?=a)b"})", "look-around");
  refused(R"({"type": "string", "pattern": "(a)\\1"})", "escape \\1");
  refused(R"({"type": "string", "pattern": "a("})", "( without its )");
  refused("false", "nothing can satisfy it");
  refused(R"({"allOf": [{"type": "string"}, {"type": "integer"}]})", "nothing can satisfy it");
  refused(R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})", "nothing can satisfy it");
  refused("{", "is not JSON");
  refused("[]", "neither an object");
  refused("", "is not JSON");
  refused("\xFF", "UTF-8");
}

// Behind the param of the schema itself: response_format.json_schema.schema, tools[2].function.parameters.
TEST(JsonSchema, TheParamOfAMistakeIsThePathOfItsKeyword) {
  const auto param = [](const std::string& schema) {
    const auto grammar = compile(Kind::json_schema, schema, test::small_trie());
    return grammar ? "taken" : grammar.error().param;
  };
  EXPECT_EQ(param(R"({"properties": {"x": {"contains": {}}}})"), ".properties.x.contains");
  EXPECT_EQ(param(R"({"uniqueItems": true})"), ".uniqueItems");
  EXPECT_EQ(param(R"({"anyOf": [{"type": "null"}, {"items": {"if": {}}}]})"), ".anyOf[1].items.if");
  EXPECT_EQ(param(R"({"properties": {"two words/and ~ 5%": {"not": {}}}})"), ".properties.two words/and ~ 5%.not");
  EXPECT_EQ(param(R"({"properties": {"x": {"$ref": "#/$defs/d"}}, "$defs": {"d": {"prefixItems": [{}, {"not": {}}]}}})"), ".$defs.d.prefixItems[1].not");
  EXPECT_EQ(param(R"({"properties": {"x": {"$ref": "other#d"}}, "$defs": {"o": {"$id": "other", "$defs": {"d": {"$anchor": "d", "not": {}}}}}})"), ".$defs.o.$defs.d.not");
  EXPECT_EQ(param(R"({"properties": {"x": {"$ref": "#nobody"}}})"), ".properties.x.$ref");
  EXPECT_EQ(param(R"~({"properties": {"x": {"pattern": "(?=a)"}}})~"), ".properties.x.pattern");
  EXPECT_EQ(param(R"({"properties": {"x": {"format": "idn-email"}}})"), ".properties.x.format");
  EXPECT_EQ(param(R"({"properties": {"x": {"type": "number", "multipleOf": 0.01}}})"), ".properties.x.multipleOf");
  EXPECT_EQ(param(R"({"properties": {"x": {"type": "text"}}})"), ".properties.x.type");
  EXPECT_EQ(param("{"), "");
  const auto pattern = compile(Kind::regex, "(a", test::small_trie());
  ASSERT_FALSE(pattern);
  EXPECT_EQ(pattern.error().param, "");
}

TEST(JsonSchema, ReferencesGoByNameAndAddress) {
  const auto grammar = [](const std::string& schema) {
    auto compiled = compile(Kind::json_schema, schema, test::small_trie());
    EXPECT_TRUE(compiled) << schema << ": " << compiled.error().message;
    return compiled ? *compiled : compile(Kind::json_schema, "{}", test::small_trie()).value();
  };
  const auto why = [](const std::string& schema) {
    const auto compiled = compile(Kind::json_schema, schema, test::small_trie());
    return compiled ? "taken" : compiled.error().message;
  };
  // A tree by anchor, in a part of the document with an address of its own.
  const auto tree = grammar(R"({"$id": "https://x.org/a/root.json", "$ref": "../b/tree.json#node", "$defs": {"t": {"$id": "/b/tree.json", "$defs": {
      "n": {"$anchor": "node", "type": "object", "properties": {"v": {"$ref": "#/$defs/leaf"}, "next": {"$ref": "#node"}}, "additionalProperties": false},
      "leaf": {"type": "integer"}}}}})");
  EXPECT_TRUE(takes(*tree, R"({"v": 1, "next": {"v": 2, "next": {}}})"));
  EXPECT_FALSE(takes(*tree, R"({"v": 1, "next": {"v": "x"}})"));
  // What is no place for a schema names nothing.
  EXPECT_NE(why(R"({"properties": {"a": {"$ref": "#n"}, "b": {"const": {"$anchor": "n"}}}})").find("no '$anchor'"), std::string::npos);
  EXPECT_NE(why(R"({"$defs": {"a": {"$anchor": "n"}, "b": {"$anchor": "n"}}, "$ref": "#n"})").find("more than one place"), std::string::npos);
  EXPECT_NE(why(R"({"$defs": {"a": {"$id": "n"}, "b": {"$id": "n"}}, "$ref": "n"})").find("more than one place"), std::string::npos);
  EXPECT_NE(why(R"({"$ref": "https://json-schema.org/draft/2020-12/schema"})").find("not within the schema"), std::string::npos);
  // The same words, another place: draft-07 does not look at an $id beside a $ref.
  const std::string either = R"("$id": "http://x/base/", "definitions": {"s": {"$id": "http://x/s/n", "type": "string"}, "i": {"$id": "n", "type": "integer"}},
                               "allOf": [{"$id": "http://x/s/", "$ref": "n"}]})";
  EXPECT_NE(why("{" + either).find("name the draft"), std::string::npos);
  EXPECT_TRUE(takes(*grammar(R"({"$schema": "http://json-schema.org/draft-07/schema#",)" + either), "5"));
  EXPECT_FALSE(takes(*grammar(R"({"$schema": "http://json-schema.org/draft-07/schema#",)" + either), "\"a\""));
  EXPECT_TRUE(takes(*grammar(R"({"$schema": "https://json-schema.org/draft/2020-12/schema",)" + either), "\"a\""));
  EXPECT_FALSE(takes(*grammar(R"({"$schema": "https://json-schema.org/draft/2020-12/schema",)" + either), "5"));
}

// RFC 3986, 5.4: what is abnormal too. (References with fragments are split before.)
TEST(JsonSchema, AddressesAreResolvedAsTheRfcSays) {
  const std::pair<const char*, const char*> cases[] = {
      {"g:h", "g:h"}, {"g", "http://a/b/c/g"}, {"./g", "http://a/b/c/g"}, {"g/", "http://a/b/c/g/"}, {"/g", "http://a/g"}, {"//g", "http://g"},
      {"?y", "http://a/b/c/d;p?y"}, {"g?y", "http://a/b/c/g?y"}, {";x", "http://a/b/c/;x"}, {"g;x", "http://a/b/c/g;x"}, {"", "http://a/b/c/d;p?q"},
      {".", "http://a/b/c/"}, {"./", "http://a/b/c/"}, {"..", "http://a/b/"}, {"../", "http://a/b/"}, {"../g", "http://a/b/g"}, {"../..", "http://a/"},
      {"../../g", "http://a/g"}, {"../../../g", "http://a/g"}, {"/./g", "http://a/g"}, {"/../g", "http://a/g"}, {"g.", "http://a/b/c/g."}, {".g", "http://a/b/c/.g"},
      {"g..", "http://a/b/c/g.."}, {"./../g", "http://a/b/g"}, {"./g/.", "http://a/b/c/g/"}, {"g/./h", "http://a/b/c/g/h"}, {"g/../h", "http://a/b/c/h"},
      {"g;x=1/../y", "http://a/b/c/y"}};
  for (const auto& [reference, want] : cases) EXPECT_EQ(resolve_uri("http://a/b/c/d;p?q", reference), want) << reference;
  EXPECT_EQ(resolve_uri("", "a/b"), "a/b");
  EXPECT_EQ(resolve_uri("http://a", "b"), "http://a/b");
  EXPECT_EQ(resolve_uri("urn:example:1/406", ""), "urn:example:1/406");
}

TEST(JsonSchema, AHostileSchemaIsRefusedInBoundedTime) {
  std::string deep = "{}", wide = R"({"anyOf":[)", product = R"({"allOf":[)",
              names = R"({"type":"object","properties":{)", lists = "{\"type\":\"integer\"}", chain = "{\"$defs\":{";
  for (int i = 0; i < 5000; ++i) deep = R"({"items":)" + deep + "}";
  for (int i = 0; i < 3000; ++i)
    wide += (i > 0 ? "," : "") + std::string(R"({"const":"value )") + std::to_string(i) + "\"}";
  for (int i = 0; i < 12; ++i)
    product += (i > 0 ? "," : "") + std::string(R"({"anyOf":[{"minLength":1},{"maxLength":5},{"minimum":3}]})");
  for (int i = 0; i < 6000; ++i) names += (i > 0 ? "," : "") + std::string("\"p") + std::to_string(i) + "\":{}";
  for (int i = 0; i < 12; ++i) lists = R"({"type":"array","minItems":100,"maxItems":100,"items":)" + lists + "}";
  for (int i = 0; i < 3000; ++i)
    chain += "\"d" + std::to_string(i) + R"(":{"allOf":[{"$ref":"#/$defs/d)" + std::to_string(i + 1) + "\"}]},";
  chain += "\"d3000\":{}},\"$ref\":\"#/$defs/d0\"}";
  std::string doubling = "{\"$defs\":{", forking = doubling, enumeration = "{\"enum\":[";
  for (int i = 0; i < 40; ++i) {
    const std::string next = R"({"$ref":"#/$defs/d)" + std::to_string(i + 1) + "\"}";
    doubling += "\"d" + std::to_string(i) + R"(":{"allOf":[)" + next + "," + next + "]},";
    forking += "\"d" + std::to_string(i) + R"(":{"anyOf":[)" + next + "," + next + "]},";
  }
  for (std::string* s : {&doubling, &forking}) *s += R"("d40":{"type":"string"}},"$ref":"#/$defs/d0"})";
  for (int i = 0; i < 40'000; ++i) enumeration += (i > 0 ? "," : "") + std::to_string(i * 7919);
  // Names that every place below them repeats, addresses that every one below them continues.
  std::string named = R"({"properties":{")" + std::string(100'000, 'n') + R"(":{"properties":{)", addressed = R"({"$id":"http://)" + std::string(400, 'a') + R"(/","$defs":{)";
  for (int i = 0; i < 1'000; ++i) named += (i > 0 ? "," : "") + std::string("\"") + std::to_string(i) + "\":{}";
  for (int i = 0; i < 9'000; ++i) addressed += (i > 0 ? "," : "") + std::string("\"") + std::to_string(i) + R"(":{"$id":")" + std::to_string(i) + "\"}";
  const std::pair<Kind, std::string> hostile[] = {
      {Kind::json_schema, named + "}}}}"},
      {Kind::json_schema, addressed + R"(},"$ref":"8999"})"},
      {Kind::json_schema, doubling},
      {Kind::json_schema, forking},
      {Kind::json_schema, enumeration + "]}"},
      {Kind::json_schema, deep},
      {Kind::json_schema, std::string(200'000, '[')},
      {Kind::json_schema, wide + "]}"},
      {Kind::json_schema, product + "]}"},
      {Kind::json_schema, names + "}}"},
      {Kind::json_schema, lists},
      {Kind::json_schema, chain},
      {Kind::json_schema, R"({"type":"string","minLength":1000000000})"},
      {Kind::json_schema, R"({"type":"array","minItems":999999999})"},
      {Kind::json_schema, R"({"type":"string","pattern":"(a|aa)*.{30}b.{30}"})"},
      {Kind::json_schema, R"({"type":"string","pattern":"^(.*a.{14})$","minLength":500,"maxLength":900})"},
      {Kind::regex, "(x+x+)+y"},
      {Kind::regex, "((((a{100}){100}){100}){100}){100}"},
      {Kind::regex, ".*a.{25}"},
      {Kind::regex, std::string(100'000, '(')},
      {Kind::regex, std::string(100'000, 'a')},
      {Kind::ebnf, "root ::= root \"a\" | \"a\""},
      {Kind::ebnf, "root ::= (\"a\"?)*" + std::string(300, '*')},
      {Kind::ebnf, "root ::= " + std::string(50'000, '(')},
      {Kind::ebnf, "root ::= a a a a\na ::= b{1000}\nb ::= c{1000}\nc ::= [a-z]{1000}"}};
  for (const auto& [kind, source] : hostile) {
    const auto begin = std::chrono::steady_clock::now();
    const auto grammar = compile(kind, source, test::small_trie());
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(took.count(), 15.0) << source.substr(0, 100);  // a second or so; sanitizers are slow
    if (took.count() > 1.0)
      std::printf("%.1f s, %s: %s\n", took.count(), grammar ? "compiled" : grammar.error().message.c_str(),
                  source.substr(0, 80).c_str());
    if (grammar) (*grammar)->matcher()->mask();
  }
  for (const std::string& source : {deep, doubling, forking, enumeration + "]}"}) EXPECT_FALSE(compile(Kind::json_schema, source, test::small_trie())) << source.substr(0, 60);
  EXPECT_FALSE(compile(Kind::json_schema, product + "]}", test::small_trie()));
  EXPECT_FALSE(compile(Kind::json_schema, R"({"type":"string","minLength":1000000000})", test::small_trie()));
}

}  // namespace
}  // namespace tokenworks::grammar
