#pragma once
// The rules of JSON text itself (RFC 8259), as far as we let a model write it: white space is at most one blank or a
// line break with its indentation, numbers have at most 24 digits before and after the point and two in the exponent
// (so that every reader can hold them), \u escapes of surrogates come in pairs. One per compilation.
#include <optional>

#include "grammar/rule_book.hpp"

namespace tokenworks::grammar {

class JsonRules {
 public:
  explicit JsonRules(RuleBook& book) : book_(book) {}

  Expr space() {
    return rule(space_, "white space", [] { return space_body(); });
  }
  Expr string() {
    return rule(string_, "string", [] { return string_body(); });
  }
  Expr character() {
    return rule(character_, "character", [] { return character_body(); });
  }  // of a string
  Expr number() {
    return rule(number_, "number", [] { return number_body(); });
  }
  Expr integer() {
    return rule(integer_, "integer", [] { return integer_body(); });
  }
  Expr value();
  Expr object();
  Expr array();
  Expr comma() { return sequence({literal(","), space()}); }
  Expr colon() { return sequence({literal(":"), space()}); }

 private:
  template <class Body>
  Expr rule(std::optional<RuleId>& id, const char* name, Body body) {
    if (!id) {
      id = book_.declare(name);
      book_.define(*id, body());
    }
    return call(*id);
  }
  static Expr space_body();
  static Expr string_body();
  static Expr character_body();
  static Expr number_body();
  static Expr integer_body();

  RuleBook& book_;
  std::optional<RuleId> space_, string_, character_, number_, integer_, value_, object_, array_;
};

}  // namespace tokenworks::grammar
