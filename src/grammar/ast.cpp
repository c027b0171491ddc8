#include "grammar/ast.hpp"

namespace tokenworks::grammar {
namespace {

Expr make(Node node) { return std::make_shared<const Node>(std::move(node)); }

}  // namespace

Expr nothing() {
  static const Expr kNothing = make({.kind = Node::Kind::nothing});
  return kNothing;
}

Expr empty() {
  static const Expr kEmpty = make({.kind = Node::Kind::empty});
  return kEmpty;
}

Expr literal(std::string_view bytes) {
  return bytes.empty() ? empty() : make({.kind = Node::Kind::bytes, .bytes = std::string(bytes)});
}

Expr any_of(const ByteSet& set) { return set.empty() ? nothing() : make({.kind = Node::Kind::set, .set = set}); }

bool is_nothing(const Expr& e) { return e->kind == Node::Kind::nothing; }

Expr sequence(std::vector<Expr> parts) {
  std::vector<Expr> kept;
  for (Expr& part : parts) {
    if (is_nothing(part)) return nothing();
    if (part->kind != Node::Kind::empty) kept.push_back(std::move(part));
  }
  if (kept.empty()) return empty();
  if (kept.size() == 1) return kept[0];
  return make({.kind = Node::Kind::sequence, .parts = std::move(kept)});
}

Expr choice(std::vector<Expr> parts) {
  std::vector<Expr> kept;
  for (Expr& part : parts) {
    if (!is_nothing(part)) kept.push_back(std::move(part));
  }
  if (kept.empty()) return nothing();
  if (kept.size() == 1) return kept[0];
  return make({.kind = Node::Kind::choice, .parts = std::move(kept)});
}

Expr repeat(Expr what, std::int64_t min, std::int64_t max) {
  if (max == 0 || what->kind == Node::Kind::empty) return empty();
  if (is_nothing(what)) return min == 0 ? empty() : nothing();
  if (max > 0 && min > max) return nothing();
  if (min == 1 && max == 1) return what;
  return make({.kind = Node::Kind::repeat, .parts = {std::move(what)}, .min = min, .max = max});
}

Expr optional(Expr what) { return repeat(std::move(what), 0, 1); }

Expr call(RuleId rule) { return make({.kind = Node::Kind::call, .rule = rule}); }

Expr automaton(std::shared_ptr<const Dfa> dfa) { return make({.kind = Node::Kind::automaton, .dfa = std::move(dfa)}); }

}  // namespace tokenworks::grammar
