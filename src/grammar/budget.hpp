#pragma once
// Budget: what one compilation may still spend, and its first mistake. The parts of the compiler check `ok()` in their
// loops and return anything at all once it is false; compile() then answers with the mistake. One thread.
#include <cstddef>
#include <optional>
#include <string>

#include "tokenworks/base/error.hpp"

namespace tokenworks::grammar {

class Budget {
 public:
  Budget(std::size_t states, std::size_t steps) : states_(states), steps_(steps) {}

  bool ok() const { return !mistake_; }
  const std::optional<Error>& mistake() const { return mistake_; }
  void fail(std::string message) {
    if (!mistake_) mistake_ = error(Errc::invalid_request, std::move(message));
  }
  bool step(std::size_t n = 1) {  // false once the work is too much
    if (n > steps_) {
      steps_ = 0;
      fail("the grammar is too large or too intricate to compile within the limit of work");
    } else {
      steps_ -= n;
    }
    return ok();
  }
  bool state(std::size_t n = 1) {
    if (n > states_) {
      states_ = 0;
      fail("the grammar needs more states than are allowed; shorten its strings, lists or repetitions");
    } else {
      states_ -= n;
    }
    return ok();
  }
  void give_back_states(std::size_t n) { states_ += n; }

 private:
  std::size_t states_, steps_;
  std::optional<Error> mistake_;
};

}  // namespace tokenworks::grammar
