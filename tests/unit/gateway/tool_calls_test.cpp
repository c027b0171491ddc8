// From tokens to calls: what a choice makes of an answer, and that an answer held by the grammar of the tools is a call of
// one of them with valid arguments, in every family.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "gateway/answer.hpp"
#include "gateway/tool_grammar.hpp"
#include "tokenworks/grammar/grammar.hpp"
#include "unit/gateway/answers_fixture.hpp"

namespace tokenworks::gateway {
namespace {

using Json = nlohmann::ordered_json;

AnswerStyle style_of(CallForm form) {
  AnswerStyle style;
  style.calls = form;
  style.marker = form == CallForm::llama ? "<|python_tag|>" : form == CallForm::mistral || form == CallForm::mistral_args ? "[TOOL_CALLS]" : "<tool_call>";
  return style;
}

struct Answer {
  std::string text, reasoning, finish;
  std::vector<CallDelta> calls;                      // put together, by index
};

// Feeds `text` byte by byte, `controls` spelled {n} are control token n.
Answer answer(const test::ByteTokenizer& tokenizer, ChoiceText& choice, const std::string& text, engine::Finish finish) {
  Answer out;
  const auto take = [&](TokenId token, engine::Finish end) {
    AnswerChunk chunk;
    engine::TokenEvent event;
    event.token = token;
    event.finish = end;
    choice.take(event, chunk);
    out.text += chunk.text;
    out.reasoning += chunk.reasoning;
    if (!chunk.finish.empty()) out.finish = chunk.finish;
    for (const CallDelta& delta : chunk.calls) {
      if (!delta.name.empty()) out.calls.push_back({delta.index, delta.id, delta.name, ""});
      ASSERT_LT(delta.index, out.calls.size());
      out.calls[delta.index].arguments += delta.arguments;
    }
  };
  for (const char c : text) take(tokenizer.byte(c), engine::Finish::running);
  take(finish == engine::Finish::stop ? 0 : -1, finish);
  return out;
}

TEST(ChoiceText, GivesCallsWithIdsAndSaysSoInTheFinish) {
  const auto tokenizer = std::make_shared<test::ByteTokenizer>(std::vector<std::string>{});
  const AnswerStyle style = style_of(CallForm::hermes);
  Reading reading;
  reading.chat = reading.calls = true;
  reading.request.bytes[3] = 9;
  ChoiceText choice(tokenizer, style, reading, 0);
  const Answer out = answer(*tokenizer, choice,
                            "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"ä\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>",
                            engine::Finish::stop);
  EXPECT_EQ(out.text, "Let me see.");
  EXPECT_EQ(out.finish, "tool_calls");
  ASSERT_EQ(out.calls.size(), 2u);
  EXPECT_EQ(out.calls[0].arguments, "{\"x\": \"ä\"}");
  EXPECT_EQ(out.calls[0].id.size(), 29u);
  EXPECT_TRUE(out.calls[0].id.starts_with("call_"));
  EXPECT_NE(out.calls[0].id, out.calls[1].id);

  ChoiceText second(tokenizer, style, reading, 1);
  const Answer cut = answer(*tokenizer, second, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": ", engine::Finish::length);
  EXPECT_EQ(cut.finish, "length");
  ASSERT_EQ(cut.calls.size(), 1u);
  EXPECT_EQ(cut.calls[0].arguments, "{\"x\": ");
  EXPECT_NE(cut.calls[0].id, out.calls[0].id);

  const AnswerStyle mistral = style_of(CallForm::mistral);
  ChoiceText third(tokenizer, mistral, reading, 0);
  EXPECT_EQ(answer(*tokenizer, third, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}]", engine::Finish::stop).calls.at(0).id.size(), 9u);
}

TEST(ChoiceText, WithoutToolsTagsAreText) {
  const auto tokenizer = std::make_shared<test::ByteTokenizer>(std::vector<std::string>{});
  const AnswerStyle style = style_of(CallForm::hermes);
  Reading reading;
  reading.chat = true;
  ChoiceText choice(tokenizer, style, reading, 0);
  const std::string text = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";
  const Answer out = answer(*tokenizer, choice, text, engine::Finish::stop);
  EXPECT_EQ(out.text, text);
  EXPECT_EQ(out.finish, "stop");
}

TEST(ChoiceText, CountsWhatIsThoughtAsPartOfTheOutput) {
  const auto tokenizer = std::make_shared<test::ByteTokenizer>(std::vector<std::string>{"<think>", "</think>"});
  AnswerStyle style = style_of(CallForm::hermes);
  style.think_open = "<think>";
  style.think_close = "</think>";
  style.shown_controls = {1, 2};
  Reading reading;
  reading.chat = true;
  ChoiceText choice(tokenizer, style, reading, 0);
  Answer out;
  AnswerChunk chunk;
  std::vector<TokenId> tokens = {1, tokenizer->byte('\n'), tokenizer->byte('H'), tokenizer->byte('m'), 2, tokenizer->byte('\n'), tokenizer->byte('4'), 0};
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    engine::TokenEvent event;
    event.token = tokens[i];
    event.finish = i + 1 == tokens.size() ? engine::Finish::stop : engine::Finish::running;
    choice.take(event, chunk);
  }
  EXPECT_EQ(chunk.reasoning, "Hm");
  EXPECT_EQ(chunk.text, "4");
  EXPECT_EQ(choice.output(), 8);
  EXPECT_EQ(choice.reasoning(), 5);                  // both tags, the line end, two letters

  // In /v1/completions the same text is only text, and its tags, being control tokens, none at all.
  reading.chat = false;
  ChoiceText plain(tokenizer, style, reading, 0);
  AnswerChunk raw;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    engine::TokenEvent event;
    event.token = tokens[i];
    event.finish = i + 1 == tokens.size() ? engine::Finish::stop : engine::Finish::running;
    plain.take(event, raw);
  }
  EXPECT_EQ(raw.text, "\nHm\n4");
  EXPECT_EQ(plain.reasoning(), 0);
}

// With stop strings the parser runs behind the tokens; the count does not.
TEST(ChoiceText, CountsThoughtsWhileAStopStringIsHeldBack) {
  const auto tokenizer = std::make_shared<test::ByteTokenizer>(std::vector<std::string>{});
  AnswerStyle style = style_of(CallForm::hermes);
  style.think_open = "<think>";
  style.think_close = "</think>";
  Reading reading;
  reading.chat = reading.thinking = true;
  reading.stops = {"zzzzzzzz"};
  ChoiceText choice(tokenizer, style, reading, 0);
  const Answer out = answer(*tokenizer, choice, "abc</think>zzzz!", engine::Finish::stop);
  EXPECT_EQ(out.reasoning, "abc");
  EXPECT_EQ(out.text, "zzzz!");
  EXPECT_EQ(choice.reasoning(), 11);
}

std::vector<std::string> parameter_schemas() {
  return {R"({"type":"object","properties":{"city":{"type":"string","maxLength":12},"days":{"type":"integer","minimum":1,"maximum":14}},"required":["city","days"],"additionalProperties":false})",
          R"({"type":"object","properties":{"mode":{"enum":["a","b","ü\"x"]},"flags":{"type":"array","items":{"type":"boolean"},"maxItems":3}},"required":["mode"],"additionalProperties":false})",
          R"({"type":"object","properties":{"p":{"$ref":"#/$defs/point"}},"required":["p"],"additionalProperties":false,"$defs":{"point":{"type":"object","properties":{"x":{"type":"number"},"y":{"type":["number","null"]}},"required":["x","y"],"additionalProperties":false}}})",
          R"({"properties":{"when":{"type":"string","format":"date"}},"required":["when"],"additionalProperties":false})",
          R"({"type":"object","properties":{},"additionalProperties":false})", ""};
}

// A model without any sense: one of the allowed tokens, whichever. The marker of the family is in the prompt.
std::string random_answer(const grammar::Grammar& grammar, const test::ByteTokenizer& tokenizer, std::mt19937& random, bool& ended) {
  const auto matcher = grammar.matcher();
  std::string text;
  ended = false;
  for (int step = 0; step < 4000; ++step) {
    const std::uint32_t* mask = matcher->mask();
    std::vector<TokenId> allowed;
    for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
      if ((mask[id / 32] >> (id % 32) & 1) != 0) allowed.push_back(id);
    }
    EXPECT_FALSE(allowed.empty()) << text;
    if (allowed.empty()) return text;
    const TokenId token = allowed[random() % allowed.size()];
    if (token == 0) {
      ended = true;
      return text;
    }
    EXPECT_TRUE(matcher->accept(token));
    text += tokenizer.token_bytes(token);
    if (matcher->finished()) {
      ended = true;
      return text;
    }
  }
  return text;
}

void expect_fits(const std::string& name, const Json& arguments) {
  ASSERT_TRUE(arguments.is_object()) << arguments.dump();
  const auto has = [&](const char* key) { return arguments.contains(key); };
  if (name == "t0") {
    EXPECT_TRUE(has("city") && has("days") && arguments["days"] >= 1 && arguments["days"] <= 14) << arguments.dump();
  }
  if (name == "t1") {
    EXPECT_TRUE(has("mode") && arguments["mode"].is_string()) << arguments.dump();
  }
  if (name == "t2") {
    EXPECT_TRUE(has("p") && arguments["p"].at("x").is_number() && arguments["p"].contains("y")) << arguments.dump();
  }
  if (name == "t3") {
    EXPECT_TRUE(has("when") && arguments["when"].get<std::string>().size() == 10) << arguments.dump();
  }
  if (name == "t4" || name == "t5") {
    EXPECT_TRUE(arguments.empty()) << arguments.dump();
  }
}

TEST(ForcedCalls, OfAModelWithoutSenseAreValidInEveryFamily) {
  const test::ByteTokenizer tokenizer({}, {"{\"", "\":", "\"}", "\", \"", "{}", "}}", "</tool_call>", "\n<tool_call>\n", "name", "true", "2024-", "]", ", "});
  const auto trie = grammar::VocabularyTrie::build(tokenizer);
  std::mt19937 random(5);
  for (const CallForm form : {CallForm::generic, CallForm::hermes, CallForm::llama, CallForm::mistral, CallForm::mistral_args, CallForm::parameters}) {
    const AnswerStyle style = style_of(form);
    for (int round = 0; round < 24; ++round) {
      ToolUse use;
      use.choice = ToolUse::Choice::required;
      use.parallel = round % 2 == 0;
      std::vector<std::string> names;
      const auto schemas = parameter_schemas();
      for (std::size_t i = 0; i < schemas.size(); ++i) use.tools.push_back({names.emplace_back("t" + std::to_string(i)), "", {schemas[i]}});
      if (round % 3 == 2) use.named = static_cast<std::size_t>(round / 3) % use.tools.size();
      const auto compiled = grammar::compile(grammar::Kind::calls, calls_source(use, style, Marker::in_prompt), trie);
      ASSERT_TRUE(compiled) << compiled.error().message;
      bool ended = false;
      const std::string text = random_answer(**compiled, tokenizer, random, ended);
      ASSERT_TRUE(ended) << text;
      TextParameters texts;
      for (const Tool& tool : use.tools) texts[tool.name] = text_parameters(tool);
      CallParser parser(form, style.marker, form != CallForm::llama, names, texts);
      AnswerPieces pieces;
      parser.push(text, pieces);
      parser.finish(pieces);
      EXPECT_EQ(pieces.text, "") << text;
      ASSERT_TRUE(parser.called()) << text;
      std::vector<CallDelta> calls;
      for (const CallDelta& delta : pieces.calls) {
        if (!delta.name.empty()) calls.push_back(delta);
        else calls.back().arguments += delta.arguments;
      }
      if (!use.parallel || use.named || form == CallForm::llama) {
        EXPECT_EQ(calls.size(), 1u) << text;
      }
      for (const CallDelta& call : calls) {
        const Json arguments = Json::parse(call.arguments, nullptr, false);
        ASSERT_FALSE(arguments.is_discarded()) << text;
        if (use.named) {
          EXPECT_EQ(call.name, use.tools[*use.named].name);
        }
        expect_fits(call.name, arguments);
      }
    }
  }
}

// Mistral's newer form stands on control tokens in the middle of a call: the grammar offers them there and nowhere else.
TEST(ForcedCalls, WriteControlTokensWhereTheFormHasThem) {
  const test::ByteTokenizer tokenizer({"[TOOL_CALLS]", "[ARGS]", "[INST]"}, {"{\"", "\":", "\"}", "[ARGS]", "[INST]"});
  const auto trie = grammar::VocabularyTrie::build(tokenizer);
  AnswerStyle style = style_of(CallForm::mistral_args);
  style.frame_controls = {"[TOOL_CALLS]", "[ARGS]"};
  style.marker_control = 1;
  ToolUse use;
  use.choice = ToolUse::Choice::required;
  use.tools.push_back({"say", "", {R"({"type":"object","properties":{"text":{"type":"string"}},"required":["text"],"additionalProperties":false})"}});
  const auto compiled = grammar::compile(grammar::Kind::calls, calls_source(use, style, Marker::in_prompt), trie);
  ASSERT_TRUE(compiled) << compiled.error().message;
  const auto matcher = (*compiled)->matcher();
  const auto allowed = [&](TokenId id) { return (matcher->mask()[id / 32] >> (id % 32) & 1) != 0; };
  EXPECT_FALSE(allowed(2));
  for (const char c : std::string("say")) ASSERT_TRUE(matcher->accept(tokenizer.byte(c)));
  EXPECT_TRUE(allowed(2)) << "[ARGS] the control token";
  for (unsigned b = 0; b < 256; ++b) EXPECT_FALSE(allowed(tokenizer.byte(static_cast<char>(b)))) << b;
  EXPECT_FALSE(allowed(tokenizer.byte('['))) << "and not its letters";
  ASSERT_TRUE(matcher->accept(2));
  for (const char c : std::string("{\"text\": \"[A")) ASSERT_TRUE(matcher->accept(tokenizer.byte(c)));
  for (const TokenId control : {1, 2, 3}) EXPECT_FALSE(allowed(control)) << "no control token within a string: " << control;
  EXPECT_TRUE(allowed(tokenizer.encode_trusted("[INST]").at(0))) << "its letters are text like any other";
  for (const char c : std::string("\"}")) ASSERT_TRUE(matcher->accept(tokenizer.byte(c)));
  EXPECT_TRUE(matcher->may_end());
  EXPECT_TRUE(allowed(1)) << "another call begins with its marker";
  EXPECT_FALSE(allowed(3));
  ASSERT_TRUE(matcher->accept(1));
  EXPECT_FALSE(matcher->may_end());

  // Read back with the control tokens spelled, as ChoiceText gives them.
  CallParser parser(CallForm::mistral_args, style.marker, true, {"say"});
  AnswerPieces pieces;
  parser.push("say[ARGS]{\"text\": \"[A\"}[TOOL_CALLS]say[ARGS]{\"text\": \"b\"}", pieces);
  parser.finish(pieces);
  ASSERT_EQ(pieces.calls.size(), 2u);
  EXPECT_EQ(pieces.calls[0].arguments, "{\"text\": \"[A\"}");
  EXPECT_EQ(pieces.calls[1].arguments, "{\"text\": \"b\"}");
  EXPECT_EQ(pieces.text, "");
}

TEST(ForcedCalls, InTagsKeepToTheirSchemaAndSayWhatTheyCannotHold) {
  const test::ByteTokenizer tokenizer({});
  const auto trie = grammar::VocabularyTrie::build(tokenizer);
  const auto compiled_of = [&](const std::string& parameters) {
    ToolUse use;
    use.choice = ToolUse::Choice::required;
    use.parallel = false;
    use.tools.push_back({"f", "", {parameters}});
    return grammar::compile(grammar::Kind::calls, calls_source(use, style_of(CallForm::parameters), Marker::in_prompt), trie);
  };
  const auto compiled = compiled_of(R"({"type":"object","properties":{"code":{"type":"string","maxLength":30},"n":{"type":"integer","maximum":9},"day":{"type":"string","format":"date"},
    "who":{"type":"object","properties":{"x":{"$ref":"#/$defs/b"}},"additionalProperties":false}},"required":["code"],"$defs":{"b":{"type":"boolean"}}})");
  ASSERT_TRUE(compiled) << compiled.error().message;
  const auto takes = [&](const std::string& text) {
    const auto matcher = (*compiled)->matcher();
    return matcher->accept_bytes(text) && matcher->may_end();
  };
  const auto call = [](const std::string& inside) { return "<function=f>\n" + inside + "</function>\n</tool_call>"; };
  const auto one = [](const std::string& key, const std::string& value) { return "<parameter=" + key + ">\n" + value + "\n</parameter>\n"; };
  EXPECT_TRUE(takes(call(one("code", "if (a < \"b\")\n  </par"))));
  EXPECT_TRUE(takes(call(one("code", "") + one("n", "-12") + one("day", "2024-02-29") + one("who", "{\"x\": true}"))));
  EXPECT_FALSE(takes(call(one("n", "3")))) << "code is required";
  EXPECT_FALSE(takes(call(one("code", "") + one("n", "12"))));
  EXPECT_FALSE(takes(call(one("code", "") + one("day", "2023-02-29"))));
  EXPECT_FALSE(takes(call(one("code", "") + one("who", "{\"x\": 1}"))));
  EXPECT_FALSE(takes(call(one("code", "") + one("other", "1"))));
  EXPECT_FALSE(takes(call(one("code", "a</parameter>b"))));
  for (const auto& [parameters, says] : std::vector<std::pair<std::string, std::string>>{
           {R"({"anyOf":[{"required":["a"]}],"properties":{"a":{}}})", "'anyOf' at #"}, {R"({"properties":{"a":{"not":{}}}})", "'not' at #/properties/a"},
           {R"({"required":["z"]})", "names 'z'"}, {R"({"properties":{"a>b":{}}})", "'a>b'"}}) {
    const auto refused = compiled_of(parameters);
    ASSERT_FALSE(refused) << parameters;
    EXPECT_NE(refused.error().message.find(says), std::string::npos) << refused.error().message;
    EXPECT_TRUE(refused.error().param.starts_with("tools[0].function.parameters")) << refused.error().param;
  }
}

TEST(AutomaticCalls, AreHeldOnlyWhenAToolIsStrictAndOnlyBehindTheMarker) {
  ToolUse use;
  use.choice = ToolUse::Choice::automatic;
  use.tools.push_back({"f", "", {parameter_schemas()[0]}});
  EXPECT_FALSE(calls_are_constrained(use));
  use.tools[0].strict = true;
  EXPECT_TRUE(calls_are_constrained(use));
  const test::ByteTokenizer tokenizer({});
  const auto trie = grammar::VocabularyTrie::build(tokenizer);
  const auto takes = [&](CallForm form, const std::string& text) {
    const auto compiled = grammar::compile(grammar::Kind::calls, calls_source(use, style_of(form), Marker::written), trie);
    EXPECT_TRUE(compiled) << compiled.error().message;
    const auto matcher = (*compiled)->matcher();
    return matcher->accept_bytes(text) && matcher->may_end();
  };
  const std::string call = R"({"name": "f", "arguments": {"city": "K", "days": 3}})", bad = R"({"name": "f", "arguments": {"city": "K"}})";
  EXPECT_TRUE(takes(CallForm::hermes, "Just text, 1 < 2, <tool_cal, {\"name\": 3}"));
  EXPECT_TRUE(takes(CallForm::hermes, ""));
  EXPECT_TRUE(takes(CallForm::hermes, "I look.\n<tool_call>\n" + call + "\n</tool_call>"));
  EXPECT_FALSE(takes(CallForm::hermes, "I look.\n<tool_call>\n" + bad + "\n</tool_call>"));
  EXPECT_FALSE(takes(CallForm::hermes, "<tool_call> no call"));
  EXPECT_FALSE(takes(CallForm::hermes, "<tool_call>\n" + call + "\n</tool_call> and text"));
  const std::string llama = R"({"name": "f", "parameters": {"city": "K", "days": 3}})";
  EXPECT_TRUE(takes(CallForm::llama, llama));
  EXPECT_TRUE(takes(CallForm::llama, "\n text {"));
  EXPECT_FALSE(takes(CallForm::llama, "{\"answer\": 1}"));
  use.parallel = false;
  EXPECT_FALSE(takes(CallForm::hermes, "<tool_call>\n" + call + "\n</tool_call>\n<tool_call>\n" + call + "\n</tool_call>"));
}

TEST(CallsAndFormat, TheAnswerIsOneOrTheOther) {
  ToolUse use;
  use.choice = ToolUse::Choice::automatic;
  use.tools.push_back({"f", "", {}});
  OutputFormat format{OutputFormat::Kind::json_schema, {R"({"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false})"}, {}};
  const test::ByteTokenizer tokenizer({});
  const auto compiled = grammar::compile(grammar::Kind::calls, calls_source(use, style_of(CallForm::hermes), Marker::written, &format),
                                         grammar::VocabularyTrie::build(tokenizer));
  ASSERT_TRUE(compiled) << compiled.error().message;
  const auto takes = [&](const std::string& text) {
    const auto matcher = (*compiled)->matcher();
    return matcher->accept_bytes(text) && matcher->may_end();
  };
  EXPECT_TRUE(takes(R"({"a": 4})"));
  EXPECT_TRUE(takes("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": [1]}}\n</tool_call>"));
  EXPECT_FALSE(takes("text"));
  EXPECT_FALSE(takes(R"({"b": 4})"));
}

}  // namespace
}  // namespace tokenworks::gateway
