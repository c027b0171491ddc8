#include "constraint.hpp"

#include "tool_grammar.hpp"

namespace tokenworks::gateway {
namespace {

class GrammarConstraint final : public engine::Constraint {
 public:
  // The matcher refers to the grammar: both are kept.
  explicit GrammarConstraint(std::shared_ptr<const grammar::Grammar> grammar)
      : grammar_(std::move(grammar)), matcher_(grammar_->matcher()) {}
  const std::uint32_t* mask() override { return matcher_->mask(); }
  void accept(TokenId token) override { matcher_->accept(token); }
  bool finished() const override { return matcher_->finished(); }

 private:
  std::shared_ptr<const grammar::Grammar> grammar_;
  std::unique_ptr<grammar::Matcher> matcher_;
};

// Lets everything through until one of its tokens comes; from then on what follows is held.
class TriggeredConstraint final : public engine::Constraint {
 public:
  TriggeredConstraint(TokenId trigger, std::shared_ptr<engine::Constraint> then) : trigger_(trigger), then_(std::move(then)) {}
  const std::uint32_t* mask() override { return triggered_ ? then_->mask() : nullptr; }
  void accept(TokenId token) override {
    if (triggered_) {
      then_->accept(token);
    } else {
      triggered_ = token == trigger_;
    }
  }
  bool finished() const override { return triggered_ && then_->finished(); }

 private:
  TokenId trigger_;
  std::shared_ptr<engine::Constraint> then_;
  bool triggered_ = false;
};

grammar::Kind kind_of(OutputFormat::Kind kind) {
  switch (kind) {
    case OutputFormat::Kind::json_schema: return grammar::Kind::json_schema;
    case OutputFormat::Kind::regex: return grammar::Kind::regex;
    case OutputFormat::Kind::choice: return grammar::Kind::choice;
    case OutputFormat::Kind::grammar: return grammar::Kind::ebnf;
    case OutputFormat::Kind::text:
    case OutputFormat::Kind::json_object: break;
  }
  return grammar::Kind::json_object;
}

using Compiled = Result<std::shared_ptr<const grammar::Grammar>>;

Compiled format_grammar(const OutputFormat& format, const ServedModel& model) {
  const bool pattern = format.kind == OutputFormat::Kind::regex || format.kind == OutputFormat::Kind::grammar;
  auto compiled = model.grammars->get(kind_of(format.kind), pattern ? format.pattern : format.schema.text, model.vocabulary());
  if (compiled) return compiled;
  Error e = compiled.error();
  e.param = format.param + e.param;                  // the place within a schema: ".properties.x.not"
  if (!e.param.empty()) e.message = "'" + e.param + "': " + e.message;
  return e;
}

// The schemas are bounded by the codec; their frames add a little.
Compiled calls_grammar(const std::string& source, const ServedModel& model) {
  grammar::Limits limits;
  limits.source_bytes = source.size();
  return model.grammars->get(grammar::Kind::calls, source, model.vocabulary(), limits);
}

// Tools that may be called beside an output format: the answer is one or the other.
Compiled call_or_format(const GenerateRequest& request, const ServedModel& model) {
  const bool json = request.format.kind == OutputFormat::Kind::json_object || request.format.kind == OutputFormat::Kind::json_schema;
  if (!json || (model.style.marker_control && model.style.calls != CallForm::llama)) {
    return error(Errc::unsupported_parameter, "this output format cannot be combined with tools that may be called; set tool_choice to none or required, "
                                              "or send one of the two", "tools");
  }
  return calls_grammar(calls_source(request.tools, model.style, Marker::written, &request.format), model);
}

}  // namespace

bool constrained(const GenerateRequest& request) {
  return request.format.kind != OutputFormat::Kind::text || calls_are_constrained(request.tools);
}

Result<std::vector<std::shared_ptr<engine::Constraint>>> make_constraints(const GenerateRequest& request, const ServedModel& model,
                                                                          const AnswerBegin& begin, std::size_t choices) {
  std::vector<std::shared_ptr<engine::Constraint>> constraints;
  if (!constrained(request)) return constraints;
  const bool callable = request.tools.choice != ToolUse::Choice::none, formatted = request.format.kind != OutputFormat::Kind::text;
  const AnswerStyle& style = model.style;
  std::optional<TokenId> marker;                     // a control token behind which the calls stand
  if (callable && !request.tools.forced() && !formatted && style.calls != CallForm::llama) marker = style.marker_control;
  const Marker given = request.tools.forced() ? Marker::in_prompt : marker ? Marker::as_token : Marker::written;
  const Compiled compiled = !callable                                  ? format_grammar(request.format, model)
                            : formatted && !request.tools.forced() ? call_or_format(request, model)
                                                                   : calls_grammar(calls_source(request.tools, style, given), model);
  if (!compiled) return compiled.error();
  for (std::size_t i = 0; i < choices; ++i) {
    std::shared_ptr<engine::Constraint> one = std::make_shared<GrammarConstraint>(*compiled);
    if (marker) one = std::make_shared<TriggeredConstraint>(*marker, std::move(one));
    if (begin.thinking && style.think_close_token && !marker) one = std::make_shared<TriggeredConstraint>(*style.think_close_token, std::move(one));
    constraints.push_back(std::move(one));
  }
  return constraints;
}

}  // namespace tokenworks::gateway
