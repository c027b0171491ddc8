#include "grammar/decimal.hpp"

#include <algorithm>
#include <map>

namespace tokenworks::grammar {
namespace {

constexpr std::size_t kWholeDigitsMax = 24;  // of an unbounded side
constexpr std::size_t kFractionDigitsMax = 24;

int compare_magnitude(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size() ? -1 : 1;
  if (const int order = a.whole.compare(b.whole); order != 0) return order < 0 ? -1 : 1;
  const int order = a.fraction.compare(b.fraction);  // no trailing zeros: text order is number order
  return order < 0 ? -1 : order > 0 ? 1 : 0;
}

// The numbers >= 0 with exactly `length` digits before the point (no leading zero unless it is the only one) between
// two bounds. A state is where the number is and whether what was written so far equals the bound's beginning.
class Magnitudes {
 public:
  Magnitudes(const Bound& low, const std::optional<Bound>& high, std::size_t length, bool integers, Budget& budget)
      : low_(low), high_(high), length_(length), fraction_max_(integers ? 0 : kFractionDigitsMax), budget_(budget) {
    low_tight_ = std::max<std::size_t>(1, low.value.whole.size()) == length;
    high_tight_ = high && std::max<std::size_t>(1, high->value.whole.size()) == length;
  }

  std::shared_ptr<const Dfa> run() {
    number({0, low_tight_, high_tight_});
    for (std::size_t i = 0; i < places_.size() && budget_.ok(); ++i) expand(i);
    if (dfa_.states.empty()) dfa_.states.emplace_back();
    return std::make_shared<const Dfa>(std::move(dfa_));
  }

 private:
  struct Place {
    std::size_t at;  // digits written; past length_: 1 for the point, then the fraction
    bool low, high;  // still equal to the bound
    auto operator<=>(const Place&) const = default;
  };

  std::uint32_t number(const Place& p) {
    const auto [at, fresh] = numbers_.try_emplace(p, static_cast<std::uint32_t>(places_.size()));
    if (fresh && budget_.state()) {
      places_.push_back(p);
      Dfa::State s;
      s.twin = at->second;
      s.final = may_end(p);
      dfa_.states.push_back(std::move(s));
    }
    return at->second;
  }

  std::size_t fraction_digits(const Place& p) const { return p.at <= length_ ? 0 : p.at - length_ - 1; }

  bool may_end(const Place& p) const {
    if (p.at < length_ || p.at == length_ + 1) return false;
    const std::size_t done = fraction_digits(p);
    if (p.low && (low_.value.fraction.size() > done || low_.exclusive)) return false;  // below the bound, or on it
    if (p.high && high_->value.fraction.size() <= done && high_->exclusive) return false;
    return true;
  }

  // The bound's digit at a place; beyond its end there are zeros.
  static int digit_of(const Decimal& bound, std::size_t length, const Place& p) {
    if (p.at < length) return bound.whole.empty() ? 0 : bound.whole[p.at] - '0';
    const std::size_t i = p.at - length - 1;
    return i < bound.fraction.size() ? bound.fraction[i] - '0' : 0;
  }

  void expand(std::size_t i) {
    const Place p = places_[i];
    if (p.at == length_) {  // the point
      if (fraction_max_ == 0) return;
      const std::uint32_t target = number({p.at + 1, p.low, p.high});
      if (budget_.ok()) dfa_.states[i].bytes.push_back({'.', '.', target});
      return;
    }
    if (fraction_digits(p) >= fraction_max_ && p.at > length_) return;
    const int low = p.low ? digit_of(low_.value, length_, p) : 0;
    const int high = p.high ? digit_of(high_->value, length_, p) : 9;
    for (int d = low; d <= high && budget_.step(); ++d) {
      if (d == 0 && p.at == 0 && length_ > 1) continue;
      const std::uint32_t target = number({p.at + 1, p.low && d == low, p.high && d == high});
      if (!budget_.ok()) return;
      const auto byte = static_cast<std::uint8_t>('0' + d);
      auto& out = dfa_.states[i].bytes;
      if (!out.empty() && out.back().target == target && out.back().high + 1 == byte) {
        out.back().high = byte;
      } else {
        out.push_back({byte, byte, target});
      }
    }
  }

  const Bound& low_;
  const std::optional<Bound>& high_;
  const std::size_t length_, fraction_max_;
  Budget& budget_;
  bool low_tight_ = false, high_tight_ = false;
  std::map<Place, std::uint32_t> numbers_;
  std::vector<Place> places_;
  Dfa dfa_;
};

// Magnitudes between low >= 0 and high.
Expr magnitudes(const Bound& low, const std::optional<Bound>& high, bool integers, Budget& budget) {
  if (high) {
    const int order = compare_magnitude(low.value, high->value);
    if (order > 0 || (order == 0 && (low.exclusive || high->exclusive))) return nothing();
  }
  const std::size_t from = std::max<std::size_t>(1, low.value.whole.size());
  const std::size_t to =
      high ? std::max<std::size_t>(1, high->value.whole.size()) : std::max(from + 1, kWholeDigitsMax);
  std::vector<Expr> lengths;
  for (std::size_t n = from; n <= to && budget.ok(); ++n)
    lengths.push_back(automaton(Magnitudes(low, high, n, integers, budget).run()));
  return choice(std::move(lengths));
}

}  // namespace

std::optional<Decimal> parse_decimal_text(std::string_view text) {
  Decimal d;
  std::size_t i = 0;
  if (i < text.size() && text[i] == '-') d.negative = true, ++i;
  std::string digits;
  std::int64_t point = 0;
  bool after = false;
  for (; i < text.size() && (text[i] == '.' || (text[i] >= '0' && text[i] <= '9')); ++i) {
    if (text[i] == '.') {
      after = true;
    } else {
      digits += text[i];
      if (!after) ++point;
    }
  }
  if (i < text.size()) {  // e[+-]digits
    ++i;
    const bool minus = i < text.size() && text[i] == '-';
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    std::int64_t exponent = 0;
    for (; i < text.size(); ++i) {
      exponent = exponent * 10 + (text[i] - '0');
      if (exponent > 1000) return std::nullopt;
    }
    point += minus ? -exponent : exponent;
  }
  while (point < 0) digits.insert(digits.begin(), '0'), ++point;
  while (point > static_cast<std::int64_t>(digits.size()) && digits.size() < 100) digits += '0';
  if (point > static_cast<std::int64_t>(digits.size())) return std::nullopt;
  d.whole = digits.substr(0, static_cast<std::size_t>(point));
  d.fraction = digits.substr(static_cast<std::size_t>(point));
  d.whole.erase(0, std::min(d.whole.find_first_not_of('0'), d.whole.size()));
  while (!d.fraction.empty() && d.fraction.back() == '0') d.fraction.pop_back();
  if (d.whole.size() + d.fraction.size() > 40) return std::nullopt;
  if (d.zero()) d.negative = false;
  return d;
}

int compare(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) return a.negative ? -1 : 1;
  return a.negative ? compare_magnitude(b, a) : compare_magnitude(a, b);
}

Expr numbers_between(const std::optional<Bound>& low, const std::optional<Bound>& high, bool integers, Budget& budget) {
  const Bound zero{};
  std::vector<Expr> parts;
  if (!high || !high->value.negative) {  // 0 and above
    parts.push_back(magnitudes(low && !low->value.negative ? *low : zero, high, integers, budget));
  }
  if (!low || low->value.negative) {  // below 0: the magnitudes, with the bounds swapped
    const auto flipped = [](Bound b) {
      b.value.negative = false;
      return b;
    };
    const std::optional<Bound> far = low ? std::optional(flipped(*low)) : std::nullopt;
    const Bound near = high && high->value.negative ? flipped(*high) : Bound{{}, true};  // not "-0"
    parts.push_back(sequence({literal("-"), magnitudes(near, far, integers, budget)}));
  }
  return choice(std::move(parts));
}

std::shared_ptr<const Dfa> multiples(std::int64_t divisor, Budget& budget) {
  Dfa dfa;  // 0: start, 1: after "-", 2: "0" alone, 3 + r: digits with remainder r
  budget.state(static_cast<std::size_t>(divisor) + 3);
  if (!budget.ok()) divisor = 1;
  dfa.states.resize(static_cast<std::size_t>(divisor) + 3);
  for (std::uint32_t i = 0; i < dfa.states.size(); ++i) dfa.states[i].twin = i;
  const auto digits = [&](std::uint32_t from, std::int64_t remainder, int first) {
    for (int d = first; d <= 9; ++d) {
      const auto byte = static_cast<std::uint8_t>('0' + d);
      dfa.states[from].bytes.push_back({byte, byte, static_cast<std::uint32_t>(3 + (remainder * 10 + d) % divisor)});
    }
  };
  dfa.states[0].bytes = {{'-', '-', 1}, {'0', '0', 2}};
  dfa.states[2].final = true;
  digits(0, 0, 1);
  digits(1, 0, 1);
  for (std::int64_t r = 0; r < divisor; ++r) digits(static_cast<std::uint32_t>(3 + r), r, 0);
  dfa.states[3].final = true;
  budget.step(static_cast<std::size_t>(divisor) * 10);
  return std::make_shared<const Dfa>(std::move(dfa));
}

}  // namespace tokenworks::grammar
