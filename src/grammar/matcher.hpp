#pragma once
// The two classes behind the public Grammar and Matcher.
#include <memory>

#include "grammar/masks.hpp"

namespace tokenworks::grammar {

class CompiledGrammar final : public Grammar, public std::enable_shared_from_this<CompiledGrammar> {
 public:
  CompiledGrammar(std::shared_ptr<const Program> program, std::shared_ptr<const Trie> trie)
      : masks_(std::move(program), std::move(trie)) {}
  std::unique_ptr<Matcher> matcher() const override;
  std::size_t states() const override { return masks_.program().states.size(); }
  std::size_t bytes() const override { return masks_.program().bytes() + masks_.bytes(); }
  const Masks& masks() const { return masks_; }

 private:
  Masks masks_;
};

class WalkingMatcher final : public Matcher {
 public:
  explicit WalkingMatcher(std::shared_ptr<const CompiledGrammar> grammar)
      : grammar_(std::move(grammar)), walker_(grammar_->masks().program()), position_(walker_.start()) {
    lost_ = walker_.exhausted();
  }
  const std::uint32_t* mask() override;
  bool accept(TokenId token) override;
  bool accept_bytes(std::string_view bytes) override;
  bool may_end() const override { return position_.complete; }
  bool finished() const override { return position_.complete && position_.at.empty(); }

 private:
  const std::uint32_t* nothing();

  std::shared_ptr<const CompiledGrammar> grammar_;
  Walker walker_;
  Position position_, next_;
  std::shared_ptr<const Masks::Mask> mask_;  // of position_; null: not asked for yet
  std::size_t compact_at_ = 4096;            // frames
  bool lost_ = false;                        // a walk needed more work than one token may cost: nothing is allowed any more
};

}  // namespace tokenworks::grammar
