#include <chrono>

#include "tokenworks/base/time_zone.hpp"

namespace tokenworks {
namespace {

// Reads digits from the front of a text.
class Digits {
 public:
  explicit Digits(std::string_view text) : text_(text) {}
  bool number(int digits, int& into) {
    if (text_.size() < static_cast<std::size_t>(digits)) return false;
    into = 0;
    for (int i = 0; i < digits; ++i) {
      if (text_[i] < '0' || text_[i] > '9') return false;
      into = into * 10 + (text_[i] - '0');
    }
    text_.remove_prefix(static_cast<std::size_t>(digits));
    return true;
  }
  bool one(char c) {
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  // The digits after a point as nanoseconds; at most nine.
  bool fraction(std::int64_t& into_ns) {
    std::int64_t scale = 1'000'000'000;
    into_ns = 0;
    while (!text_.empty() && text_.front() >= '0' && text_.front() <= '9') {
      if (scale == 1) return false;
      scale /= 10;
      into_ns += (text_.front() - '0') * scale;
      text_.remove_prefix(1);
    }
    return scale < 1'000'000'000;
  }
  bool empty() const { return text_.empty(); }

 private:
  std::string_view text_;
};

}  // namespace

std::optional<std::int64_t> parse_instant(std::string_view text) {
  Digits in(text);
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  std::int64_t fraction_ns = 0, offset_s = 0;
  if (!in.number(4, year) || !in.one('-') || !in.number(2, month) || !in.one('-') || !in.number(2, day)) return std::nullopt;
  if (!in.empty()) {
    if (!in.one('T') || !in.number(2, hour) || !in.one(':') || !in.number(2, minute) || !in.one(':') || !in.number(2, second)) {
      return std::nullopt;
    }
    if (in.one('.') && !in.fraction(fraction_ns)) return std::nullopt;
    if (!in.one('Z')) {
      const bool east = in.one('+');
      int hours = 0, minutes = 0;
      if ((!east && !in.one('-')) || !in.number(2, hours) || !in.one(':') || !in.number(2, minutes)) return std::nullopt;
      if (hours > 23 || minutes > 59) return std::nullopt;
      offset_s = (hours * 3600 + minutes * 60) * (east ? 1 : -1);
    }
  }
  const std::chrono::year_month_day date{std::chrono::year{year}, std::chrono::month{static_cast<unsigned>(month)},
                                         std::chrono::day{static_cast<unsigned>(day)}};
  if (!in.empty() || !date.ok() || hour > 23 || minute > 59 || second > 59) return std::nullopt;
  const std::int64_t days = std::chrono::sys_days{date}.time_since_epoch().count();
  const std::int64_t seconds = days * 86'400 + hour * 3600 + minute * 60 + second - offset_s;
  std::int64_t ns = 0;
  if (__builtin_mul_overflow(seconds, std::int64_t{1'000'000'000}, &ns) || __builtin_add_overflow(ns, fraction_ns, &ns)) {
    return std::nullopt;
  }
  return ns;
}

}  // namespace tokenworks
