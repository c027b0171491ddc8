// Calls of functions: what the grammar takes and refuses, its masks against a brute force, and where it says a mistake is.
#include <gtest/gtest.h>

#include <random>

#include "unit/grammar/brute_force.hpp"

namespace tokenworks::grammar {
namespace {

const std::string kPoint =
    R"({"type":"object","properties":{"x":{"type":"integer","minimum":0,"maximum":99},"kind":{"enum":["a","value"]}},"required":["x"],"additionalProperties":false})";

std::string source(bool free, bool several, const std::string& marker = "<call>") {
  return R"({"free":)" + std::string(free ? "true" : "false") + R"(,"marker":")" + marker + R"(","several":)" + (several ? "true" : "false") +
         R"(,"begin":"\n","separator":"\n</call>\n<call>\n","end":"\n</call>","calls":[)" +
         R"({"begin":"{\"name\": \"point\", \"arguments\":","parameters":)" + kPoint + R"(,"end":"}","param":"tools[0].function.parameters"},)" +
         R"({"begin":"{\"name\": \"nothing\", \"arguments\":","end":"}","param":"tools[1].function.parameters"}]})";
}

std::shared_ptr<const Grammar> must(const std::string& text, const std::shared_ptr<const VocabularyTrie>& trie = test::small_trie()) {
  auto grammar = compile(Kind::calls, text, trie);
  if (!grammar) throw std::runtime_error(grammar.error().message);
  return *grammar;
}

bool takes(const Grammar& grammar, std::string_view text) {
  const auto matcher = grammar.matcher();
  return matcher->accept_bytes(text) && matcher->may_end();
}

const std::string kOne = "{\"name\": \"point\", \"arguments\": {\"x\": 12}}", kNone = "{\"name\": \"nothing\", \"arguments\": {}}";

TEST(Calls, AreFramedAndFitTheirOwnSchema) {
  const auto forced = must(source(false, false));
  EXPECT_TRUE(takes(*forced, "\n" + kOne + "\n</call>"));
  EXPECT_TRUE(takes(*forced, "\n" + kNone + "\n</call>"));
  for (const std::string bad : {"", "text", "\n{\"name\": \"point\", \"arguments\": {\"x\": 120}}\n</call>", "\n{\"name\": \"nothing\", \"arguments\": {\"x\": 1}}\n</call>",
                                "\n{\"name\": \"other\", \"arguments\": {}}\n</call>", "\n{\"name\": \"point\", \"arguments\": {}}\n</call>"}) {
    EXPECT_FALSE(takes(*forced, bad)) << bad;
  }
  const auto matcher = forced->matcher();
  ASSERT_TRUE(matcher->accept_bytes("\n" + kOne + "\n</call>"));
  EXPECT_TRUE(matcher->finished());
  EXPECT_FALSE(takes(*forced, "\n" + kOne + "\n</call>\n<call>\n" + kNone + "\n</call>"));
  EXPECT_TRUE(takes(*must(source(false, true)), "\n" + kOne + "\n</call>\n<call>\n" + kNone + "\n</call>"));
}

TEST(Calls, ComeAfterFreeTextOrNotAtAll) {
  const auto free = must(source(true, false));
  for (const std::string text : {"", "Hello", "a < b, <cal, <<call", "<cal<ca"}) {
    EXPECT_TRUE(takes(*free, text)) << text;
    EXPECT_TRUE(takes(*free, text + " <call>\n" + kOne + "\n</call>")) << text;
  }
  EXPECT_FALSE(takes(*free, "<call> text"));
  EXPECT_FALSE(takes(*free, "Hello <call>"));
  const auto bare = must(source(true, false, ""));
  EXPECT_TRUE(takes(*bare, "Hello {"));
  EXPECT_FALSE(takes(*bare, " {x"));
}

TEST(Calls, MasksEqualABruteForce) {
  std::mt19937 random(8);
  const std::vector<std::string> texts = {"So: <cal <call>\n" + kOne + "\n</call>\n<call>\n" + kNone + "\n</call>", "\n" + kOne + "\n</call>\n<call>\n" + kNone + "\n</call>", kOne};
  for (const bool free : {false, true}) {
    for (const bool several : {false, true}) {
      const auto grammar = must(source(free, several));
      for (const std::string& text : texts) {
        for (std::size_t cut = 0; cut <= text.size(); cut += 1 + random() % 3) {
          if (!grammar->matcher()->accept_bytes(text.substr(0, cut))) break;
          test::expect_mask_is_brute_force(*grammar, *test::small_tokenizer(), text.substr(0, cut));
        }
      }
    }
  }
  const auto demo = must(source(true, true), test::demo_trie());
  for (const std::size_t cut : {0u, 7u, 8u, 12u, 15u, 40u}) test::expect_mask_is_brute_force(*demo, *test::demo_tokenizer(), texts[0].substr(0, cut));
}

TEST(Calls, AMistakeNamesThePathOfTheParameter) {
  const auto with = [](const std::string& parameters) {
    return R"({"calls":[{"begin":"","parameters":{},"end":"","param":"tools[0].function.parameters"},{"begin":"x","parameters":)" + parameters +
           R"(,"end":"","param":"tools[1].function.parameters"}]})";
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"type":"object","properties":{"x":{"not":{}}}})", ".properties.x.not"},
      {R"({"type":"object","properties":{"a b":{"anyOf":[{"type":"string"},{"uniqueItems":true}]}}})", ".properties.a b.anyOf[1].uniqueItems"},
      {R"x({"type":"object","properties":{"s":{"pattern":"(?=x)"}}})x", ".properties.s.pattern"},
      {R"({"type":"string"})", ".type"}, {R"("text")", ""},
      {R"({"$ref":"#/$defs/missing"})", ".$ref"}};
  for (const auto& [parameters, path] : cases) {
    const auto compiled = compile(Kind::calls, with(parameters), test::small_trie());
    ASSERT_FALSE(compiled) << parameters;
    EXPECT_EQ(compiled.error().code, Errc::invalid_request);
    EXPECT_EQ(compiled.error().param, "tools[1].function.parameters" + path) << compiled.error().message;
    EXPECT_NE(compiled.error().message.find(compiled.error().param), std::string::npos) << compiled.error().message;
  }
  // Too large together: the tools are at fault, not one schema.
  const auto large = compile(Kind::calls, with(R"({"type":"object","properties":{"s":{"type":"string","minLength":900000}},"required":["s"]})"), test::small_trie());
  ASSERT_FALSE(large);
  EXPECT_TRUE(large.error().param.starts_with("tools")) << large.error().param;
  for (const std::string hostile : {"", "{}", "[]", "{\"calls\":[]}", "{\"calls\":[1]}", "{\"calls\":{}}", "{\"free\":3,\"calls\":[{}]}"}) {
    const auto compiled = compile(Kind::calls, hostile, test::small_trie());
    if (compiled) {
      EXPECT_NE(hostile.find("[{}]"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace tokenworks::grammar
