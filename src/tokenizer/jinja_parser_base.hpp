#pragma once
// What the two halves of the parser share: the token cursor, the first failure (after which every look sees the end, so
// that all loops stop), and node making. Private to jinja_parser*.cpp.
#include <initializer_list>
#include <optional>

#include "tokenizer/jinja_ast.hpp"
#include "tokenizer/jinja_lexer.hpp"
#include "tokenworks/base/error.hpp"

namespace tokenworks::tokenizer::jinja {

class ParserBase {
 protected:
  explicit ParserBase(std::vector<Token> tokens) : tokens_(std::move(tokens)), program_(std::make_shared<Program>()) {}

  const Token& current() const { return failure_ ? tokens_.back() : tokens_[at_]; }
  const Token& look() const { return failure_ ? tokens_.back() : tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token next() {
    Token token = current();
    if (!failure_ && at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is_op(std::string_view text) const { return current().kind == Token::Kind::op && current().text == text; }
  bool is_name(std::string_view text) const { return current().kind == Token::Kind::name && current().text == text; }
  bool skip_op(std::string_view text) { return is_op(text) && (next(), true); }
  bool skip_name(std::string_view text) { return is_name(text) && (next(), true); }
  bool is(Token::Kind kind) const { return current().kind == kind; }

  void fail(const std::string& what, int line = 0) {
    if (!failure_)
      failure_ = error(Errc::bad_file, "line " + std::to_string(line > 0 ? line : current().line) + ": " + what);
  }
  static std::string described(const Token& token) {
    switch (token.kind) {
      case Token::Kind::data: return "text";
      case Token::Kind::block_begin: return "'{%'";
      case Token::Kind::block_end: return "'%}'";
      case Token::Kind::variable_begin: return "'{{'";
      case Token::Kind::variable_end: return "'}}'";
      case Token::Kind::string: return "a string";
      case Token::Kind::integer: case Token::Kind::number: return "a number";
      case Token::Kind::end: return "the end of the template";
      case Token::Kind::name: case Token::Kind::op: return "'" + token.text.substr(0, 60) + "'";
    }
    return "";
  }
  void expect_op(std::string_view text) {
    if (!skip_op(text)) fail("'" + std::string(text) + "' expected, " + described(current()) + " found");
  }
  void expect_name(std::string_view text) {
    if (!skip_name(text)) fail("'" + std::string(text) + "' expected, " + described(current()) + " found");
  }
  void expect(Token::Kind kind, const char* what) {
    if (is(kind)) {
      next();
    } else {
      fail(std::string(what) + " expected, " + described(current()) + " found");
    }
  }
  std::string identifier() {
    if (!is(Token::Kind::name)) fail("a name expected, " + described(current()) + " found");
    return next().text;
  }

  Node* make(Node::Kind kind, int line) {
    auto node = std::make_unique<Node>();
    node->kind = kind;
    node->line = line;
    program_->nodes.push_back(std::move(node));
    return program_->nodes.back().get();
  }

  // Bounds the recursion of the parser, and with it of most of what walks the tree.
  class Nest {
   public:
    explicit Nest(ParserBase& parser) : parser_(parser) {
      if (++parser_.depth_ > kNestingMax) parser_.fail("nested deeper than " + std::to_string(kNestingMax) + " levels");
    }
    ~Nest() { --parser_.depth_; }

   private:
    ParserBase& parser_;
  };
  static constexpr int kNestingMax = 150;

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::optional<Error> failure_;
  std::shared_ptr<Program> program_;
  std::vector<Node*> macros_;                        // open ones, to note which special names they mention
};

}  // namespace tokenworks::tokenizer::jinja
