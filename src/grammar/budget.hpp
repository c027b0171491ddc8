#pragma once
// Budget: what one compilation may still spend, and its first mistake. The parts of the compiler check `ok()` in their
// loops and return anything at all once it is false; compile() then answers with the mistake. One thread.
#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "tokenworks/base/error.hpp"

namespace tokenworks::grammar {

class Budget {
 public:
  Budget(std::size_t states, std::size_t steps) : states_(states), steps_(steps) {}

  bool ok() const { return !mistake_; }
  const std::optional<Error>& mistake() const { return mistake_; }
  // `path`: the place in a schema, "#/properties/x"; without it the first one the message names.
  void fail(std::string message, std::string_view path = {}) {
    if (mistake_) return;
    std::string param = lead_ ? *lead_ + dotted(path.empty() ? place_in(message) : path) : std::string();
    if (lead_ && !lead_->empty()) message = "'" + param + "': " + message;
    mistake_ = error(Errc::invalid_request, std::move(message), std::move(param));
  }
  // What the following mistakes belong to: the beginning of their param. With an empty one the param is the place in the
  // schema alone (".properties.x"); without any, mistakes have none.
  void lead(std::string param) { lead_ = std::move(param); }
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
  static std::string_view place_in(std::string_view message) {
    const std::size_t at = message.find("at #");
    return at == std::string_view::npos ? std::string_view() : message.substr(at + 3, message.find(' ', at + 3) - at - 3);
  }
  // "#/properties/x/anyOf/0" as ".properties.x.anyOf[0]"; what step_into() has spelled otherwise is undone.
  static std::string dotted(std::string_view path) {
    std::string out;
    for (std::size_t at = path.find('/'); at < path.size();) {
      const std::size_t end = std::min(path.find('/', at + 1), path.size());
      const std::string_view name = path.substr(at + 1, end - at - 1);
      const bool number = !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
      out += number ? "[" + std::string(name) + "]" : "." + plain(name);
      at = end;
    }
    return out;
  }

  static std::string plain(std::string_view name) {
    std::string out;
    for (std::size_t i = 0; i < name.size(); ++i) {
      if (name[i] == '~' && i + 1 < name.size()) {
        out += name[++i] == '1' ? '/' : '~';
      } else if (name[i] == '%' && i + 2 < name.size()) {
        out += name.substr(i, 3) == "%20" ? ' ' : '%';
        i += 2;
      } else {
        out += name[i];
      }
    }
    return out;
  }

  std::optional<std::string> lead_;
  std::size_t states_, steps_;
  std::optional<Error> mistake_;
};

}  // namespace tokenworks::grammar
