// The parsers of calls and of reasoning: what they make of the families' texts, and that it does not depend on how the text
// is cut.
#include <gtest/gtest.h>

#include <random>

#include "gateway/call_parser.hpp"
#include "gateway/reasoning.hpp"

namespace tokenworks::gateway {
namespace {

struct Case {
  CallForm form;
  bool inside;
  std::string text, content;
  std::vector<std::pair<std::string, std::string>> calls;   // name, arguments
};

const char* marker_of(CallForm form) {
  return form == CallForm::llama ? "<|python_tag|>" : form == CallForm::mistral || form == CallForm::mistral_args ? "[TOOL_CALLS]" : "<tool_call>";
}

struct Read {
  std::string content;
  std::vector<std::pair<std::string, std::string>> calls;
  bool operator==(const Read&) const = default;
};

// `cuts`: lengths of the pieces; the rest comes as one.
Read read(CallForm form, bool inside, const std::string& text, const std::vector<std::size_t>& cuts) {
  CallParser parser(form, marker_of(form), inside, {"f", "get_weather"}, {{"f", {"city", "text"}}});
  Read out;
  const auto gather = [&](const AnswerPieces& pieces) {
    out.content += pieces.text;
    for (const CallDelta& delta : pieces.calls) {
      if (!delta.name.empty()) {
        EXPECT_EQ(delta.index, out.calls.size()) << text;
        out.calls.emplace_back(delta.name, "");
      }
      ASSERT_LT(delta.index, out.calls.size()) << text;
      out.calls[delta.index].second += delta.arguments;
    }
  };
  std::size_t at = 0;
  for (const std::size_t cut : cuts) {
    AnswerPieces pieces;
    parser.push(std::string_view(text).substr(at, cut), pieces);
    gather(pieces);
    at = std::min(text.size(), at + cut);
  }
  AnswerPieces pieces;
  parser.push(std::string_view(text).substr(at), pieces);
  parser.finish(pieces);
  gather(pieces);
  EXPECT_EQ(parser.called(), !out.calls.empty());
  return out;
}

std::vector<Case> corpus() {
  using enum CallForm;
  const std::string args = R"({"city": "Köln \"am\" {Rhein}", "days": [1, {"x": "]"}]})";
  return {
      {hermes, false, "Hello, no call here. 1 < 2 <tool> <tool_cal", "Hello, no call here. 1 < 2 <tool> <tool_cal", {}},
      {hermes, false, "<tool_call>\n{\"name\": \"f\", \"arguments\": " + args + "}\n</tool_call>", "", {{"f", args}}},
      {hermes, false, "I look.\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {\"a\":1}}\n</tool_call>\n",
       "I look.", {{"f", "{}"}, {"g", "{\"a\":1}"}}},
      {hermes, true, "{\"name\": \"f\", \"arguments\": " + args + "}\n</tool_call>", "", {{"f", args}}},
      {hermes, true, "{\"name\": \"f\", \"arguments\": {\"a\": \"cut he", "", {{"f", "{\"a\": \"cut he"}}},
      {hermes, false, "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"f\"}</tool_call>", "", {{"f", "{\"a\": 1}"}}},
      {hermes, false, "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": \\\"\\u00e4\\\"}\"}</tool_call> done", " done", {{"f", "{\"a\": \"ä\"}"}}},
      {hermes, false, "<tool_call>\n{\"name\": \"f\"}\n</tool_call>", "", {{"f", "{}"}}},
      {hermes, false, "<tool_call>\n{\"name\": \"f\", \"arguments\": null, \"id\": [1, \"}\"]}\n</tool_call>", "", {{"f", "{}"}}},
      {hermes, false, "<tool_call>not json</tool_call> text", "<tool_call>not json</tool_call> text", {}},
      {hermes, false, "<tool_call><tool_call>{\"name\": \"f\", \"arguments\": {}}}\n</tool_call>x", "<tool_call>x", {{"f", "{}"}}},
      {hermes, false, "<tool_call>{\"name\": 5}</tool_call>", "<tool_call>{\"name\": 5}</tool_call>", {}},
      {hermes, false, "a <tool_call>{\"name\": \"f\", \"arg", "a <tool_call>{\"name\": \"f\", \"arg", {}},
      {hermes, true, "{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"f\", \"argu", "", {{"f", "{}"}}},
      {hermes, true, "{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool", "", {{"f", "{}"}}},
      {generic, false, "Text <tool_call>\n{\"name\": \"any\", \"arguments\": {}}\n</tool_call>", "Text", {{"any", "{}"}}},
      {llama, false, "{\"name\": \"f\", \"parameters\": " + args + "}", "", {{"f", args}}},
      {llama, false, " \n<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", "", {{"f", "{}"}}},
      {llama, false, "{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"name\": \"get_weather\", \"parameters\": {}}", "",
       {{"f", "{\"a\": 1}"}, {"get_weather", "{}"}}},
      {llama, false, "{\"name\": \"Alice\", \"parameters\": {}}", "{\"name\": \"Alice\", \"parameters\": {}}", {}},
      {llama, false, "{\"answer\": 42}", "{\"answer\": 42}", {}},
      {llama, false, "The answer is {\"name\": \"f\", \"parameters\": {}}", "The answer is {\"name\": \"f\", \"parameters\": {}}", {}},
      {llama, false, "<|python_tag|>search.call(query=\"x\")", "<|python_tag|>search.call(query=\"x\")", {}},
      {mistral, false, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": " + args + "}, {\"name\": \"g\", \"arguments\": {}, \"id\": \"123456789\"}]", "",
       {{"f", args}, {"g", "{}"}}},
      {mistral, false, "Sure. [TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}] ", "Sure.", {{"f", "{}"}}},
      {mistral, true, "[{\"name\": \"f\", \"arguments\": {}}]", "", {{"f", "{}"}}},
      {mistral, false, "[TOOL_CALLS] none today", "[TOOL_CALLS] none today", {}},
      {mistral, false, "array [1, 2] and [TOOL", "array [1, 2] and [TOOL", {}},
      {parameters, false, "I look.\n<tool_call>\n<function=f>\n<parameter=city>\nKöln \"am\"\tRhein\n\\n\n</parameter>\n<parameter=days>\n[1, {\"x\": \"]\"}]\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=g>\n</function>\n</tool_call>",
       "I look.", {{"f", R"({"city": "Köln \"am\"\u0009Rhein\n\\n", "days": [1, {"x": "]"}]})"}, {"g", "{}"}}},
      {parameters, true, "<function=f><parameter=text></parameter><parameter=n>True</parameter></function></tool_call>", "", {{"f", R"({"text": "", "n": "True"})"}}},
      {parameters, true, "<function=f>\n<parameter=text>\n</param> \n</parameter>\n<parameter=city>\ncut he", "", {{"f", R"({"text": "</param> ", "city": "cut he)"}}},
      {parameters, false, "<tool_call>\n<function=f\n", "<tool_call>\n<function=f\n", {}},
      {parameters, false, "<tool_call>\n{\"name\": \"f\"}</tool_call>", "<tool_call>\n{\"name\": \"f\"}</tool_call>", {}},
      {mistral_args, false, "[TOOL_CALLS]f[ARGS]" + args + "[TOOL_CALLS]g[ARGS]{}", "", {{"f", args}, {"g", "{}"}}},
      {mistral_args, false, "Sure. [TOOL_CALLS]get_weather[CALL_ID]123456789[ARGS] {\"a\": 1}\n [TOOL_CALLS]f[ARGS]{} bye", "Sure. bye",
       {{"get_weather", "{\"a\": 1}"}, {"f", "{}"}}},
      {mistral_args, true, "f[ARGS]{\"a\": \"cut he", "", {{"f", "{\"a\": \"cut he"}}},
      {mistral_args, false, "[TOOL_CALLS]two words[ARGS]{}", "[TOOL_CALLS]two words[ARGS]{}", {}},
      {mistral_args, false, "[TOOL_CALLS]f[ARG", "[TOOL_CALLS]f[ARG", {}},
      {mistral_args, false, "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]g[AR", "", {{"f", "{}"}}},
      {mistral_args, false, "f[ARGS]{} and [TOOL_CALLS]", "f[ARGS]{} and [TOOL_CALLS]", {}},
  };
}

std::string shown(const Read& r) {
  std::string out = "'" + r.content + "'";
  for (const auto& [name, arguments] : r.calls) out += " " + name + "(" + arguments + ")";
  return out;
}

TEST(CallParser, ReadsTheCallsOfEveryFamily) {
  for (const Case& c : corpus()) {
    const Read whole = read(c.form, c.inside, c.text, {});
    EXPECT_EQ(whole, (Read{c.content, c.calls})) << name(c.form) << ": " << c.text << "\n gives " << shown(whole);
  }
}

TEST(CallParser, GivesByteByByteAndHoweverCutWhatItGivesAtOnce) {
  std::mt19937 random(1);
  for (const Case& c : corpus()) {
    const Read whole = read(c.form, c.inside, c.text, {});
    EXPECT_EQ(read(c.form, c.inside, c.text, std::vector<std::size_t>(c.text.size(), 1)), whole) << c.text;
    for (std::size_t cut = 1; cut < c.text.size(); ++cut) ASSERT_EQ(read(c.form, c.inside, c.text, {cut}), whole) << c.text;
    for (int i = 0; i < 50; ++i) {
      std::vector<std::size_t> cuts;
      for (std::size_t at = 0; at < c.text.size(); at += cuts.back()) cuts.push_back(1 + random() % 9);
      ASSERT_EQ(read(c.form, c.inside, c.text, cuts), whole) << c.text;
    }
  }
}

// Damaged texts: nothing crashes, nothing depends on the cut, and without a call no byte but white space at the end is lost.
TEST(CallParser, MangledTextsLoseNothingAndDoNotDependOnTheCut) {
  std::mt19937 random(2);
  const std::vector<Case> cases = corpus();
  for (int i = 0; i < 20'000; ++i) {
    const Case& c = cases[random() % cases.size()];
    std::string text = c.text;
    for (int k = 0; k < 3 && !text.empty(); ++k) {
      const std::size_t at = random() % text.size();
      switch (random() % 3) {
        case 0: text.erase(at, 1 + random() % 4); break;
        case 1: text.insert(at, 1, "{}[]\"\\<>, :f"[random() % 12]); break;
        default: text += cases[random() % cases.size()].text.substr(0, random() % 40);
      }
    }
    const Read whole = read(c.form, c.inside, text, {});
    ASSERT_EQ(read(c.form, c.inside, text, std::vector<std::size_t>(text.size(), 1)), whole) << text;
    if (whole.calls.empty() && c.form != CallForm::mistral && c.form != CallForm::mistral_args) {
      ASSERT_EQ(whole.content, text) << name(c.form);
    }
  }
}

struct Parts {
  std::string reasoning, answer;
  bool operator==(const Parts&) const = default;
};

Parts part(const std::string& text, bool inside, const std::vector<std::size_t>& cuts) {
  ReasoningParser parser("<think>", "</think>", inside);
  Parts out;
  std::size_t at = 0;
  for (const std::size_t cut : cuts) {
    parser.push(std::string_view(text).substr(at, cut), out.reasoning, out.answer);
    at = std::min(text.size(), at + cut);
  }
  parser.push(std::string_view(text).substr(at), out.reasoning, out.answer);
  parser.finish(out.reasoning, out.answer);
  return out;
}

TEST(ReasoningParser, PartsThoughtFromAnswerHoweverTheTextIsCut) {
  struct Thought {
    std::string text;
    bool inside;
    Parts parts;
  };
  const std::vector<Thought> cases = {
      {"<think>\nFirst,  then.\n</think>\n\nFour.", false, {"First,  then.", "Four."}},
      {"Hm.\n\nSo.\n</think>\n\nFour. <think>not</think>", true, {"Hm.\n\nSo.", "Four. <think>not</think>"}},
      {"<think>\n\n</think>\n\nFour.", false, {"", "Four."}},
      {"No thought. <think>late</think>", false, {"", "No thought. <think>late</think>"}},
      {" \n<thin", false, {"", " \n<thin"}},
      {"<think>cut off </thi", false, {"cut off </thi", ""}},
      {"1 < 2 </thinking> no </think>x", true, {"1 < 2 </thinking> no", "x"}},
      {"", true, {"", ""}},
  };
  std::mt19937 random(3);
  for (const Thought& c : cases) {
    EXPECT_EQ(part(c.text, c.inside, {}), c.parts) << c.text;
    EXPECT_EQ(part(c.text, c.inside, std::vector<std::size_t>(c.text.size(), 1)), c.parts) << c.text;
    for (int i = 0; i < 100; ++i) {
      std::vector<std::size_t> cuts;
      for (std::size_t at = 0; at < c.text.size(); at += cuts.back()) cuts.push_back(1 + random() % 7);
      ASSERT_EQ(part(c.text, c.inside, cuts), c.parts) << c.text;
    }
  }
}

}  // namespace
}  // namespace tokenworks::gateway
