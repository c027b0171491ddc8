#include "constraint.hpp"

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

}  // namespace

Result<std::vector<std::shared_ptr<engine::Constraint>>> make_constraints(const OutputFormat& format, const ServedModel& model,
                                                                          std::size_t choices) {
  std::vector<std::shared_ptr<engine::Constraint>> constraints;
  if (format.kind == OutputFormat::Kind::text) return constraints;
  const bool pattern = format.kind == OutputFormat::Kind::regex || format.kind == OutputFormat::Kind::grammar;
  auto compiled = model.grammars->get(kind_of(format.kind), pattern ? format.pattern : format.schema.text, model.vocabulary());
  if (!compiled) {
    Error e = compiled.error();
    if (e.param.empty()) e.param = "response_format";
    return e;
  }
  for (std::size_t i = 0; i < choices; ++i) constraints.push_back(std::make_shared<GrammarConstraint>(*compiled));
  return constraints;
}

}  // namespace tokenworks::gateway
