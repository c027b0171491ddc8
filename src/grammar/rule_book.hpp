#pragma once
// RuleBook: the rules of one grammar while it is being compiled. Rules are named for messages; a rule is declared
// before it is defined, so that rules can refer to each other. One thread.
#include <string>
#include <vector>

#include "grammar/ast.hpp"

namespace tokenworks::grammar {

class RuleBook {
 public:
  RuleId declare(std::string name) {
    names_.push_back(std::move(name));
    bodies_.push_back(nothing());
    return static_cast<RuleId>(bodies_.size() - 1);
  }
  void define(RuleId rule, Expr body) { bodies_[rule] = std::move(body); }
  const std::vector<Expr>& bodies() const { return bodies_; }
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::vector<Expr> bodies_;
  std::vector<std::string> names_;
};

}  // namespace tokenworks::grammar
