#pragma once
// The expression half of the parser. Private to jinja_parser*.cpp.
#include "tokenizer/jinja_parser_base.hpp"

namespace tokenworks::tokenizer::jinja {

class ExpressionParser : protected ParserBase {
 protected:
  using ParserBase::ParserBase;

  struct TupleRules {
    bool simplified = false;                         // only names and literals: targets of for and set
    bool conditional = true;                         // "a if b else c" allowed
    bool parentheses = false;                        // inside ( ): may be empty
    bool namespaces = false;                         // ns.name allowed: targets of set
    std::initializer_list<std::string_view> end_names = {};
  };
  const Node* tuple(const TupleRules& rules);
  const Node* expression(bool conditional = true);
  const Node* primary(bool namespaces = false);
  const Node* postfix(const Node* node);
  // `| filter | filter` behind `node`; with `inline_first` the first name stands without a bar (filter blocks).
  const Node* filters(const Node* node, bool inline_first = false);

 private:
  const Node* conditional();
  const Node* either();
  const Node* both();
  const Node* negation();
  const Node* comparison();
  const Node* sum();
  const Node* concatenation();
  const Node* product();
  const Node* power();
  const Node* unary(bool with_filter = true);
  const Node* filter_expression(const Node* node);
  const Node* subscript(const Node* node);
  const Node* call(const Node* node);
  const Node* test(const Node* node);
  void arguments(Node* into);
  bool tuple_ends(const TupleRules& rules) const;
};

}  // namespace tokenworks::tokenizer::jinja
