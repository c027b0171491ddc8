#include "tokenizer/jinja_parser.hpp"

#include <algorithm>

#include "tokenizer/jinja_expression_parser.hpp"

namespace tokenworks::tokenizer::jinja {
namespace {

using Kind = Node::Kind;
using Body = std::vector<const Node*>;

class Parser : ExpressionParser {
 public:
  explicit Parser(std::vector<Token> tokens) : ExpressionParser(std::move(tokens)) {}

  Result<std::shared_ptr<const Program>> run() {
    program_->body = statements_until({});
    if (failure_) return *failure_;
    return std::shared_ptr<const Program>(std::move(program_));
  }

 private:
  // Everything up to a tag of one of `ends`, which stays the current token; with none, up to the end of the template.
  Body statements_until(std::initializer_list<std::string_view> ends) {
    const Nest nest(*this);
    Body body;
    Node* output = nullptr;                          // neighbours in the text go into one node
    while (!failure_ && !is(Token::Kind::end)) {
      const Token token = next();
      if (token.kind == Token::Kind::data || token.kind == Token::Kind::variable_begin) {
        if (output == nullptr) body.push_back(output = make(Kind::output, token.line));
        if (token.kind == Token::Kind::data) {
          Node* text = make(Kind::constant, token.line);
          text->value = std::make_shared<const Text>(token.text, true);
          output->items.push_back(text);
        } else {
          output->items.push_back(tuple({}));
          expect(Token::Kind::variable_end, "'}}'");
        }
        continue;
      }
      output = nullptr;                              // a block_begin: the lexer leaves nothing else here
      if (std::ranges::any_of(ends, [&](std::string_view end) { return is_name(end); })) return body;
      if (const Node* node = statement()) body.push_back(node);
      expect(Token::Kind::block_end, "'%}'");
    }
    if (ends.size() > 0) fail("the template ends before '" + std::string(*(ends.end() - 1)) + "'");
    return body;
  }

  // The body of a tag: from its %} to one of `ends`.
  Body body_until(std::initializer_list<std::string_view> ends) {
    skip_op(":");
    expect(Token::Kind::block_end, "'%}'");
    return statements_until(ends);
  }
  Body body_to(std::string_view end) {
    Body body = body_until({end});
    next();
    return body;
  }

  const Node* statement() {
    const Nest nest(*this);
    if (!is(Token::Kind::name)) {
      fail("the name of a tag expected, " + described(current()) + " found");
      return nullptr;
    }
    const Token tag = next();
    if (tag.text == "if") return if_statement(tag.line);
    if (tag.text == "for") return for_statement(tag.line);
    if (tag.text == "set") return set_statement(tag.line);
    if (tag.text == "macro") return macro_statement(tag.line);
    if (tag.text == "call") return call_statement(tag.line);
    if (tag.text == "filter") return filter_statement(tag.line);
    if (tag.text == "with") return with_statement(tag.line);
    if (tag.text == "print") return print_statement(tag.line);
    if (tag.text == "generation") {
      Node* node = make(Kind::generation, tag.line);
      const int loops = std::exchange(loops_, 0);    // its body is a block of its own: no break out of it
      node->body = body_to("endgeneration");
      loops_ = loops;
      return node;
    }
    if (tag.text == "break" || tag.text == "continue") {
      if (loops_ == 0) fail("'" + tag.text + "' outside a loop", tag.line);
      return make(tag.text == "break" ? Kind::break_ : Kind::continue_, tag.line);
    }
    fail("the tag '" + tag.text.substr(0, 60) + "' is unknown or not supported", tag.line);
    return nullptr;
  }

  const Node* if_statement(int line) {
    Node* result = make(Kind::if_, line);
    for (Node* node = result; !failure_;) {
      node->x = tuple({.conditional = false});
      node->body = body_until({"elif", "else", "endif"});
      const Token end = next();
      if (end.text == "elif") {
        Node* inner = make(Kind::if_, end.line);
        node->others.push_back(inner);
        node = inner;
        continue;
      }
      if (end.text == "else") node->others = body_to("endif");
      break;
    }
    return result;
  }

  const Node* target(bool namespaces, std::initializer_list<std::string_view> ends = {}) {
    const Node* node = tuple({.simplified = true, .namespaces = namespaces, .end_names = ends});
    check_target(node);
    return node;
  }
  void check_target(const Node* node) {
    if (failure_) return;
    if (node->kind == Kind::tuple) {
      for (const Node* item : node->items) check_target(item);
    } else if (node->kind != Kind::name && node->kind != Kind::namespace_target) {
      fail("only names can be assigned to", node->line);
    }
  }

  const Node* for_statement(int line) {
    Node* node = make(Kind::for_, line);
    node->x = target(false, {"in"});
    if (names_loop(node->x)) fail("'loop' cannot be the target of a for loop", line);
    expect_name("in");
    node->y = tuple({.conditional = false, .end_names = {"recursive"}});
    if (skip_name("if")) node->z = expression();
    node->flag = skip_name("recursive");
    ++loops_;
    node->body = body_until({"endfor", "else"});
    --loops_;
    if (next().text == "else") node->others = body_to("endfor");
    return node;
  }
  static bool names_loop(const Node* node) {
    return node->kind == Kind::tuple ? std::ranges::any_of(node->items, names_loop) : node->text == "loop";
  }

  const Node* set_statement(int line) {
    Node* node = make(Kind::set, line);
    node->x = target(true);
    if (skip_op("=")) {
      node->y = tuple({});
      return node;
    }
    node->kind = Kind::set_block;
    node->y = is_op("|") ? filters(nullptr) : nullptr;
    node->body = body_to("endset");
    return node;
  }

  void signature(Node* node) {
    expect_op("(");
    while (!is_op(")") && !failure_) {
      if (!node->names.empty()) expect_op(",");
      node->names.push_back(identifier());
      if (skip_op("=")) {
        node->items.push_back(expression());
      } else if (!node->items.empty()) {
        fail("a parameter without a default behind one with a default");
      }
    }
    expect_op(")");
  }
  // A body that runs as a function: it cannot break out of a loop around it, and we note the special names it uses.
  void function_body(Node* node, std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    macros_.push_back(node);
    node->body = body_to(end);
    macros_.pop_back();
    loops_ = loops;
  }

  const Node* macro_statement(int line) {
    Node* node = make(Kind::macro, line);
    node->text = identifier();
    signature(node);
    function_body(node, "endmacro");
    return node;
  }

  const Node* call_statement(int line) {
    Node* node = make(Kind::call_block, line);
    node->text = "caller";
    if (is_op("(")) signature(node);
    node->x = expression();
    if (!failure_ && node->x->kind != Kind::call) fail("a call expected", line);
    function_body(node, "endcall");
    return node;
  }

  const Node* filter_statement(int line) {
    Node* node = make(Kind::filter_block, line);
    node->x = filters(nullptr, true);
    node->body = body_to("endfilter");
    return node;
  }

  const Node* with_statement(int line) {
    Node* node = make(Kind::with, line);
    while (!is(Token::Kind::block_end) && !failure_) {
      if (!node->items.empty()) expect_op(",");
      node->items.push_back(target(false));
      expect_op("=");
      node->others.push_back(expression());
    }
    node->body = body_to("endwith");
    return node;
  }

  const Node* print_statement(int line) {
    Node* node = make(Kind::output, line);
    while (!is(Token::Kind::block_end) && !failure_) {
      if (!node->items.empty()) expect_op(",");
      node->items.push_back(expression());
    }
    return node;
  }

  int loops_ = 0;                                    // open for loops of the current function
};

}  // namespace

Result<std::shared_ptr<const Program>> parse(std::string_view source) {
  auto tokens = tokenize(source);
  if (!tokens) return tokens.error();
  return Parser(std::move(*tokens)).run();
}

}  // namespace tokenworks::tokenizer::jinja
