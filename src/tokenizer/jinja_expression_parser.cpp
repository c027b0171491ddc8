#include "tokenizer/jinja_expression_parser.hpp"

#include <algorithm>

namespace tokenworks::tokenizer::jinja {

using Kind = Node::Kind;

bool ExpressionParser::tuple_ends(const TupleRules& rules) const {
  if (is(Token::Kind::variable_end) || is(Token::Kind::block_end) || is_op(")") || is(Token::Kind::end)) return true;
  return std::ranges::any_of(rules.end_names, [&](std::string_view name) { return is_name(name); });
}

const Node* ExpressionParser::tuple(const TupleRules& rules) {
  const Nest nest(*this);
  const int line = current().line;
  std::vector<const Node*> items;
  bool is_tuple = false;
  while (!failure_) {
    if (!items.empty()) expect_op(",");
    if (tuple_ends(rules)) break;
    items.push_back(rules.simplified ? primary(rules.namespaces) : expression(rules.conditional));
    if (!is_op(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return items.front();
  if (!is_tuple && !rules.parentheses) fail("an expression expected, " + described(current()) + " found");
  Node* node = make(Kind::tuple, line);
  node->items = std::move(items);
  return node;
}

const Node* ExpressionParser::expression(bool with_conditional) {
  const Nest nest(*this);
  return with_conditional ? conditional() : either();
}

const Node* ExpressionParser::conditional() {
  const Nest nest(*this);
  const Node* value = either();
  while (is_name("if") && !failure_) {
    Node* node = make(Kind::conditional, next().line);
    node->x = either();
    node->y = value;
    if (skip_name("else")) node->z = conditional();
    value = node;
  }
  return value;
}

const Node* ExpressionParser::either() {
  const Node* left = both();
  while (is_name("or") && !failure_) {
    Node* node = make(Kind::or_, next().line);
    node->x = left;
    node->y = both();
    left = node;
  }
  return left;
}

const Node* ExpressionParser::both() {
  const Node* left = negation();
  while (is_name("and") && !failure_) {
    Node* node = make(Kind::and_, next().line);
    node->x = left;
    node->y = negation();
    left = node;
  }
  return left;
}

const Node* ExpressionParser::negation() {
  const Nest nest(*this);
  if (!is_name("not")) return comparison();
  Node* node = make(Kind::not_, next().line);
  node->x = negation();
  return node;
}

const Node* ExpressionParser::comparison() {
  static constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
  const int line = current().line;
  const Node* first = sum();
  Node* node = nullptr;
  while (!failure_) {
    std::string op;
    if (is(Token::Kind::op) && std::ranges::find(kOperators, current().text) != std::end(kOperators)) {
      op = next().text;
    } else if (skip_name("in")) {
      op = "in";
    } else if (is_name("not") && look().kind == Token::Kind::name && look().text == "in") {
      next(), next();
      op = "not in";
    } else {
      break;
    }
    if (node == nullptr) {
      node = make(Kind::compare, line);
      node->x = first;
    }
    node->names.push_back(op);
    node->items.push_back(sum());
  }
  return node != nullptr ? node : first;
}

const Node* ExpressionParser::sum() {
  const Node* left = concatenation();
  while ((is_op("+") || is_op("-")) && !failure_) {
    Node* node = make(Kind::binary, current().line);
    node->text = next().text;
    node->x = left;
    node->y = concatenation();
    left = node;
  }
  return left;
}

const Node* ExpressionParser::concatenation() {
  const Node* first = product();
  if (!is_op("~")) return first;
  Node* node = make(Kind::concat, current().line);
  node->items.push_back(first);
  while (skip_op("~")) node->items.push_back(product());
  return node;
}

const Node* ExpressionParser::product() {
  const Node* left = power();
  while ((is_op("*") || is_op("/") || is_op("//") || is_op("%")) && !failure_) {
    Node* node = make(Kind::binary, current().line);
    node->text = next().text;
    node->x = left;
    node->y = power();
    left = node;
  }
  return left;
}

const Node* ExpressionParser::power() {
  const Node* left = unary();
  while (is_op("**") && !failure_) {
    Node* node = make(Kind::binary, current().line);
    node->text = next().text;
    node->x = left;
    node->y = unary();
    left = node;
  }
  return left;
}

const Node* ExpressionParser::unary(bool with_filter) {
  const Nest nest(*this);
  const Node* value = nullptr;
  if (is_op("-") || is_op("+")) {
    Node* node = make(is_op("-") ? Kind::negative : Kind::positive, current().line);
    next();
    node->x = unary(false);
    value = node;
  } else {
    value = primary();
  }
  value = postfix(value);
  return with_filter ? filter_expression(value) : value;
}

const Node* ExpressionParser::primary(bool namespaces) {
  const Nest nest(*this);
  const Token token = next();
  Node* node = make(Kind::constant, token.line);
  if (token.kind == Token::Kind::name) {
    const std::string& name = token.text;
    if (name == "true" || name == "True" || name == "false" || name == "False") {
      node->value = name == "true" || name == "True";
    } else if (name == "none" || name == "None") {
      node->value = None{};
    } else if (namespaces && skip_op(".")) {
      node->kind = Kind::namespace_target;
      node->text = name;
      node->names.push_back(identifier());
    } else {
      node->kind = Kind::name;
      node->text = name;
      for (Node* macro : macros_) {
        macro->wants_varargs |= name == "varargs";
        macro->wants_kwargs |= name == "kwargs";
        macro->wants_caller |= name == "caller";
      }
    }
  } else if (token.kind == Token::Kind::string) {
    std::string text = token.text;
    while (is(Token::Kind::string)) text += next().text;
    node->value = std::make_shared<const Text>(std::move(text), true);
  } else if (token.kind == Token::Kind::integer) {
    node->value = token.integer;
  } else if (token.kind == Token::Kind::number) {
    node->value = token.number;
  } else if (token.kind == Token::Kind::op && token.text == "(") {
    const Node* inner = tuple({.parentheses = true});
    expect_op(")");
    return inner;
  } else if (token.kind == Token::Kind::op && token.text == "[") {
    node->kind = Kind::list;
    while (!is_op("]") && !failure_) {
      if (!node->items.empty()) expect_op(",");
      if (is_op("]")) break;
      node->items.push_back(expression());
    }
    expect_op("]");
  } else if (token.kind == Token::Kind::op && token.text == "{") {
    node->kind = Kind::dict;
    while (!is_op("}") && !failure_) {
      if (!node->items.empty()) expect_op(",");
      if (is_op("}")) break;
      node->items.push_back(expression());
      expect_op(":");
      node->others.push_back(expression());
    }
    expect_op("}");
  } else {
    fail("unexpected " + described(token), token.line);
  }
  return node;
}

const Node* ExpressionParser::postfix(const Node* node) {
  while (!failure_) {
    if (is_op(".") || is_op("[")) {
      node = subscript(node);
    } else if (is_op("(")) {
      node = call(node);
    } else {
      break;
    }
  }
  return node;
}

const Node* ExpressionParser::filter_expression(const Node* node) {
  while (!failure_) {
    if (is_op("|")) {
      node = filters(node);
    } else if (is_name("is")) {
      node = test(node);
    } else if (is_op("(")) {
      node = call(node);
    } else {
      break;
    }
  }
  return node;
}

const Node* ExpressionParser::subscript(const Node* object) {
  const Token token = next();
  Node* node = make(Kind::attribute, token.line);
  node->x = object;
  if (token.text == ".") {
    const Token name = next();
    if (name.kind == Token::Kind::name) {
      node->text = name.text;
    } else if (name.kind == Token::Kind::integer) {
      Node* index = make(Kind::constant, name.line);
      index->value = name.integer;
      node->kind = Kind::item;
      node->y = index;
    } else {
      fail("a name or a number expected behind the dot", name.line);
    }
    return node;
  }
  const Node* parts[3] = {};
  bool is_slice = false;
  if (!is_op(":")) parts[0] = expression();
  for (int i = 1; i < 3 && is_op(":"); ++i) {
    next();
    is_slice = true;
    if (!is_op(":") && !is_op("]")) parts[i] = expression();
  }
  if (is_op(",")) fail("several indexes in one bracket are not supported");
  expect_op("]");
  if (is_slice) {
    node->kind = Kind::slice;
    node->items = {parts[0], parts[1], parts[2]};
  } else {
    node->kind = Kind::item;
    node->y = parts[0];
  }
  return node;
}

void ExpressionParser::arguments(Node* into) {
  const int line = current().line;
  const auto ensure = [&](bool right) {
    if (!right) fail("invalid syntax of a call's arguments", line);
  };
  expect_op("(");
  bool comma = false;
  while (!is_op(")") && !failure_) {
    if (comma) {
      expect_op(",");
      if (is_op(")")) break;
    }
    if (skip_op("*")) {
      ensure(into->star == nullptr && into->star_star == nullptr);
      into->star = expression();
    } else if (skip_op("**")) {
      ensure(into->star_star == nullptr);
      into->star_star = expression();
    } else if (is(Token::Kind::name) && look().kind == Token::Kind::op && look().text == "=") {
      ensure(into->star_star == nullptr);
      into->names.push_back(next().text);
      next();
      into->others.push_back(expression());
    } else {
      ensure(into->star == nullptr && into->star_star == nullptr && into->names.empty());
      into->items.push_back(expression());
    }
    comma = true;
  }
  expect_op(")");
}

const Node* ExpressionParser::call(const Node* callee) {
  Node* node = make(Kind::call, current().line);
  node->x = callee;
  arguments(node);
  return node;
}

const Node* ExpressionParser::filters(const Node* value, bool inline_first) {
  while ((is_op("|") || inline_first) && !failure_) {
    if (!inline_first) next();
    inline_first = false;
    Node* node = make(Kind::filter, current().line);
    node->text = identifier();
    while (skip_op(".")) node->text += "." + identifier();
    node->x = value;
    if (is_op("(")) arguments(node);
    value = node;
  }
  return value;
}

const Node* ExpressionParser::test(const Node* value) {
  Node* node = make(Kind::test, next().line);
  const bool negated = skip_name("not");
  node->text = identifier();
  while (skip_op(".")) node->text += "." + identifier();
  node->x = value;
  const auto begins_argument = [&] {
    if (is(Token::Kind::name)) return !is_name("else") && !is_name("or") && !is_name("and");
    return is(Token::Kind::string) || is(Token::Kind::integer) || is(Token::Kind::number) || is_op("[") || is_op("{");
  };
  if (is_op("(")) {
    arguments(node);
  } else if (begins_argument()) {
    if (is_name("is")) fail("tests cannot be chained with is");
    node->items.push_back(postfix(primary()));
  }
  if (!negated) return node;
  Node* inverse = make(Kind::not_, node->line);
  inverse->x = node;
  return inverse;
}

}  // namespace tokenworks::tokenizer::jinja
