#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "unit/grammar/brute_force.hpp"

namespace tokenworks::grammar {
namespace {

using Json = nlohmann::ordered_json;

std::shared_ptr<const Grammar> must(Kind kind, const std::string& source,
                                    const std::shared_ptr<const VocabularyTrie>& trie = test::small_trie()) {
  auto grammar = compile(kind, source, trie);
  if (!grammar) throw std::runtime_error(source + ": " + grammar.error().message);
  return *grammar;
}

bool takes(const Grammar& grammar, std::string_view text) {
  const auto matcher = grammar.matcher();
  return matcher->accept_bytes(text) && matcher->may_end();
}

Json golden_schemas() {
  const std::string path = tokenworks::test::golden_path("grammars") + "/schemas.json";
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path + " is missing: run tests/golden/grammars.py (tests/run does)");
  return Json::parse(file);
}

TEST(Masks, EqualABruteForceOverTheVocabulary) {
  std::mt19937 random(3);
  std::size_t pairs = 0;
  for (const auto& c : golden_schemas()) {
    const auto grammar = must(Kind::json_schema, c.at("schema").dump());
    std::vector<std::string> texts;
    for (const auto& text : c.at("valid")) texts.push_back(text);
    for (int i = 0; i < 5 && !texts.empty(); ++i, ++pairs) {
      const std::string& text = texts[random() % texts.size()];
      test::expect_mask_is_brute_force(*grammar, *test::small_tokenizer(), text.substr(0, random() % (text.size() + 1)));
    }
  }
  EXPECT_GE(pairs, 300u);
}

TEST(Masks, EqualABruteForceOverTheDemoVocabulary) {
  std::mt19937 random(4);
  std::size_t pairs = 0;
  const Json cases = golden_schemas();
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto grammar = must(Kind::json_schema, cases[i].at("schema").dump(), test::demo_trie());
    for (int cut = 0; cut < 5; ++cut, ++pairs) {
      const std::string text = cases[i].at("valid")[random() % cases[i].at("valid").size()];
      test::expect_mask_is_walked(*grammar, *test::demo_tokenizer(), text.substr(0, random() % (text.size() + 1)));
    }
    if (i % 20 == 0) test::expect_mask_is_brute_force(*grammar, *test::demo_tokenizer(), "");
  }
  EXPECT_GE(pairs, 300u);
}

// Long counted strings share masks between places that no token can tell apart; near both ends they must not.
TEST(Masks, AreExactNearTheEndsOfALongCount) {
  const auto grammar = must(Kind::json_schema, R"({"type": "string", "minLength": 150, "maxLength": 300})");
  for (const int n : {0,   1,   50,  100, 115, 120, 125, 130, 133, 134, 140, 148, 149, 150, 151,
                      152, 165, 200, 250, 265, 270, 280, 283, 284, 285, 290, 298, 299, 300}) {
    test::expect_mask_is_brute_force(*grammar, *test::small_tokenizer(),
                               "\"" + std::string(static_cast<std::size_t>(n), 'x'));
  }
  EXPECT_FALSE(takes(*grammar, "\"" + std::string(149, 'x') + "\""));
  EXPECT_TRUE(takes(*grammar, "\"" + std::string(150, 'x') + "\""));
  EXPECT_TRUE(takes(*grammar, "\"" + std::string(300, 'x') + "\""));
  EXPECT_FALSE(takes(*grammar, "\"" + std::string(301, 'x') + "\""));
}

TEST(Matcher, ARefusedTokenChangesNothing) {
  const auto grammar = must(Kind::json_object, "");
  const auto matcher = grammar->matcher();
  ASSERT_TRUE(matcher->accept_bytes("{\"a\""));
  EXPECT_FALSE(matcher->accept_bytes("!"));
  EXPECT_FALSE(matcher->accept_bytes(": tru!"));
  EXPECT_FALSE(matcher->accept(0));  // a stop token too early
  EXPECT_FALSE(matcher->accept(-1));
  EXPECT_FALSE(matcher->accept(1'000'000));
  EXPECT_TRUE(matcher->accept_bytes(": true}"));
  EXPECT_TRUE(matcher->finished());
  EXPECT_TRUE(matcher->accept(0));
}

TEST(Matcher, AFinishedAnswerAllowsNothingButStopTokens) {
  const auto matcher = must(Kind::choice, R"(["yes", "no", "yes please"])")->matcher();
  ASSERT_TRUE(matcher->accept_bytes("yes"));
  EXPECT_TRUE(matcher->may_end());
  EXPECT_FALSE(matcher->finished());
  ASSERT_TRUE(matcher->accept_bytes(" please"));
  EXPECT_TRUE(matcher->finished());
  const std::uint32_t* mask = matcher->mask();
  EXPECT_EQ(mask[0], 1u);
  for (std::size_t i = 1; i < test::small_trie()->mask_words(); ++i) EXPECT_EQ(mask[i], 0u);
}

TEST(Matcher, HoldsDeepNestingAndLongAnswers) {
  const auto grammar = must(Kind::json_schema, "{}");
  const std::size_t depth = 20'000;
  EXPECT_TRUE(takes(*grammar, std::string(depth, '[') + std::string(depth, ']')));
  EXPECT_FALSE(takes(*grammar, std::string(depth, '[') + std::string(depth - 1, ']')));
  std::string list = "[";
  for (int i = 0; i < 50'000; ++i) list += "{\"a\": [1, \"x\", {}]}, ";
  EXPECT_TRUE(takes(*grammar, list + "0]"));
}

TEST(Ebnf, DerivesWhatItsRulesSay) {
  const auto grammar = must(Kind::ebnf, R"g(# arithmetic
root   ::= expr "\n"?
expr   ::= term ( ("+" | "-") term )*
term   ::= factor (("*" | "/") factor){0,2}
factor ::= [0-9]+ | "(" expr ")" | name
name   ::= [a-zé] [^\x00-\x60{-\U0010ffff]*
)g");
  for (const char* yes : {"1", "1+2", "(1+2)*3", "a*b/c", "1*2*3+4*5", "((((7))))\n", "éabc-x"})
    EXPECT_TRUE(takes(*grammar, yes)) << yes;
  for (const char* no : {"", "+", "1+", "(1", "1)", "1*2*3*4", "A", "a1", "1\n\n", "aé"})
    EXPECT_FALSE(takes(*grammar, no)) << no;
  const auto ambiguous = must(Kind::ebnf, "root ::= a | b\na ::= \"x\" a \"y\" | \"z\"\nb ::= \"x\" b | \"z\"");
  for (const char* yes : {"z", "xzy", "xxxzyyy", "xxxz"}) EXPECT_TRUE(takes(*ambiguous, yes)) << yes;
  for (const char* no : {"xxzy", "xzyy", "y"}) EXPECT_FALSE(takes(*ambiguous, no)) << no;
  const auto nullable = must(Kind::ebnf, "root ::= (opt opt)* \"!\" opt\nopt ::= \"a\"? more?\nmore ::= \"b\" opt");
  for (const char* yes : {"!", "a!", "abab!ab", "bba!b"}) EXPECT_TRUE(takes(*nullable, yes)) << yes;
  for (const char* no : {"", "a", "!!", "c!"}) EXPECT_FALSE(takes(*nullable, no)) << no;
  for (const char* prefix : {"", "(", "1*", "a", "1*2*3"})
    test::expect_mask_is_brute_force(*grammar, *test::small_tokenizer(), prefix);
}

// Grammars whose number of readings doubles with every rule or letter: refused, or the answer ends; never a stall, and
// what is offered until then is right.
TEST(Ambiguity, CostsABoundedAmountOfWork) {
  std::string doubling = "root ::= a0\n", forks = "root ::= a0\n", repeated = "root ::= (";
  for (int i = 0; i < 60; ++i) {
    const std::string at = std::to_string(i), next = std::to_string(i + 1);
    doubling += "a" + at + " ::= a" + next + " a" + next + "\n";
    forks += "a" + at + " ::= b" + at + " | c" + at + "\nb" + at + " ::= a" + next + " \"x\"?\nc" + at + " ::= a" + next + " \"y\"?\n";
  }
  doubling += "a60 ::= \"x\"? [a-z]?";
  forks += "a60 ::= [a-z]+";
  for (int i = 0; i < 60; ++i) repeated += (i > 0 ? " | r" : "r") + std::to_string(i);
  repeated += ")*\n";
  for (int i = 0; i < 60; ++i) repeated += "r" + std::to_string(i) + " ::= [a-z]+ root? [a-z]*\n";
  for (const std::string& source : {doubling, forks, repeated, std::string("root ::= s\ns ::= \"x\" s s | \"x\" | \"xx\" s")}) {
    const auto grammar = compile(Kind::ebnf, source, test::small_trie());
    if (!grammar) {
      EXPECT_EQ(grammar.error().code, Errc::invalid_request);
      EXPECT_NE(grammar.error().message.find("too ambiguous"), std::string::npos) << grammar.error().message;
      continue;
    }
    EXPECT_TRUE(source != doubling && source != forks);
    const auto matcher = (*grammar)->matcher();
    for (int step = 0; step < 30; ++step) {
      const std::uint32_t* mask = matcher->mask();
      const bool nothing = std::all_of(mask, mask + test::small_trie()->mask_words(), [](std::uint32_t word) { return word == 0; });
      if (nothing || matcher->finished()) break;
      matcher->accept_bytes("x");
    }
  }
}

TEST(Ebnf, MistakesHaveALineAndColumn) {
  const std::pair<const char*, const char*> mistakes[] = {
      {"root ::= \"a", "line 1"},
      {"root ::= a", "rule 'a'"},
      {"x ::= \"a\"", "no rule 'root'"},
      {"root ::= \"a\"\n\nroot ::= \"b\"", "line 3"},
      {"root ::= [b-a]", "column"},
      {"root = \"a\"", "::="},
      {"root ::= (\"a\"", "a ) is missing"},
      {"root ::= \"\\q\"", "escape"},
      {"root ::= root | \"a\"", "left recursion"},
      {"root ::= x? root \"a\" | \"b\"\nx ::= \"c\"", "left recursion"},
      {"root ::= \"a\" root", "nothing can satisfy"},
      {"", "no rule 'root'"}};
  for (const auto& [source, part] : mistakes) {
    const auto grammar = compile(Kind::ebnf, source, test::small_trie());
    ASSERT_FALSE(grammar) << source;
    EXPECT_NE(grammar.error().message.find(part), std::string::npos) << source << ": " << grammar.error().message;
  }
}

TEST(Cache, GivesTheSameGrammarAndForgetsTheOldest) {
  Cache cache(2);
  const auto a = cache.get(Kind::regex, "a", test::small_trie());
  ASSERT_TRUE(a);
  EXPECT_EQ(*cache.get(Kind::regex, "a", test::small_trie()), *a);
  EXPECT_NE(*cache.get(Kind::choice, "[\"a\"]", test::small_trie()), *a);
  EXPECT_EQ(*cache.get(Kind::regex, "a", test::small_trie()), *a);
  ASSERT_TRUE(cache.get(Kind::regex, "b", test::small_trie()));  // the choice is out
  EXPECT_EQ(cache.size(), 2u);
  EXPECT_EQ(*cache.get(Kind::regex, "a", test::small_trie()), *a);
  EXPECT_NE(*cache.get(Kind::regex, "a", test::demo_trie()), *a);
  EXPECT_FALSE(cache.get(Kind::regex, "(", test::small_trie()));
}

TEST(Cache, IsBoundedInMemoryToo) {
  const auto one = must(Kind::regex, "[a-z]{1,500}00");
  Cache cache(100, 3 * one->bytes());
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(cache.get(Kind::regex, "[a-z]{1,500}" + std::to_string(10 + i), test::small_trie()));
    EXPECT_LE(cache.size(), 3u);
  }
  ASSERT_TRUE(cache.get(Kind::regex, "[a-z]{1,5000}", test::small_trie())) << "larger than all that is allowed: kept alone";
  EXPECT_EQ(cache.size(), 1u);
}

TEST(Threads, ShareAGrammarAndTheCache) {
  Cache cache;
  const Json cases = golden_schemas();
  std::vector<std::thread> threads;
  std::atomic<int> bad{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t k = 0; k < cases.size(); ++k) {
        const auto& c = cases[(k + static_cast<std::size_t>(t) * 7) % cases.size()];
        const auto grammar = cache.get(Kind::json_schema, c.at("schema").dump(), test::small_trie());
        const auto matcher = (*grammar)->matcher();
        for (const char byte : c.at("valid")[0].get<std::string>()) {
          matcher->mask();
          if (!matcher->accept_bytes(std::string(1, byte))) ++bad;
        }
        if (!test::bit(matcher->mask(), 0)) ++bad;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(bad, 0);
}

// Numbers to look at: time to compile and per mask, on the demo model's vocabulary, along real answers.
TEST(Speed, OfMasksOnTheDemoVocabulary) {
  std::vector<double> first, again;
  double compile_ms = 0, worst_compile = 0;
  test::demo_trie();
  for (const auto& c : golden_schemas()) {
    auto begin = std::chrono::steady_clock::now();
    const auto grammar = must(Kind::json_schema, c.at("schema").dump(), test::demo_trie());
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    compile_ms += ms;
    worst_compile = std::max(worst_compile, ms);
    for (std::size_t i = 0; i < c.at("valid").size(); i += 7) {
      for (auto* times : {&first, &again}) {
        const auto matcher = grammar->matcher();
        for (const TokenId id : test::demo_tokenizer()->encode(c.at("valid")[i].get<std::string>())) {
          begin = std::chrono::steady_clock::now();
          matcher->mask();
          times->push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
          ASSERT_TRUE(matcher->accept(id));
        }
      }
    }
  }
  const auto show = [](const char* what, std::vector<double>& t) {
    std::sort(t.begin(), t.end());
    std::printf("%s: %zu masks, median %.1f us, p90 %.1f, p99 %.1f, worst %.0f\n", what, t.size(), t[t.size() / 2],
                t[t.size() * 9 / 10], t[t.size() * 99 / 100], t.back());
  };
  std::printf("compile: mean %.1f ms, worst %.1f\n", compile_ms / static_cast<double>(golden_schemas().size()),
              worst_compile);
  show("first pass", first);
  show("second pass", again);
  EXPECT_FALSE(first.empty());
}

}  // namespace
}  // namespace tokenworks::grammar
