#include <algorithm>
#include <array>
#include <numeric>

#include "tokenworks/billing/price_book.hpp"

namespace tokenworks::billing {
namespace {

__extension__ typedef __int128 Wide;                 // pico-units: a price times a count needs up to 126 bits

constexpr std::size_t kClasses = config::kPriceClasses;

Error too_large() { return error(Errc::invalid_request, "the charge is larger than money can be counted (9.2 thousand million)"); }

// In the order of config::PriceClass.
std::array<std::int64_t, kClasses> prices(const Rates& r) {
  return {r.input, r.cached_input, r.cache_write, r.output, r.reasoning, r.embedding, r.per_request};
}

bool unsound(const Rates& r) {
  return r.unit_pico < 1 || std::ranges::any_of(prices(r), [](std::int64_t price) { return price < 0; });
}

// Whatever class a prompt token, an output token turns out to be in.
std::int64_t dearest_input(const Rates& r) { return std::max({r.input, r.cached_input, r.cache_write, r.embedding}); }
std::int64_t dearest_output(const Rates& r) { return std::max(r.output, r.reasoning); }

}  // namespace

Rates Rates::of_kind(bool embedding) const {
  Rates met = *this;
  met.embeds = embedding;
  if (embedding) {
    met.input = met.cached_input = met.cache_write = met.output = met.reasoning = 0;
  } else {
    met.embedding = 0;
  }
  return met;
}

Result<Charge> rate(const Rates& rates, const ClassTokens& t) {
  if (unsound(rates)) return error(Errc::internal, "a price is negative");
  std::array<std::int64_t, kClasses> tokens{t.input, t.cached_input, t.cache_write, t.output, t.reasoning, t.embedding, 0};
  if (std::ranges::any_of(tokens, [](std::int64_t count) { return count < 0; })) {
    return error(Errc::internal, "a usage counts less than no tokens");
  }
  const bool any = std::ranges::any_of(tokens, [](std::int64_t count) { return count > 0; });
  tokens.back() = any ? 1 : 0;
  const std::array<std::int64_t, kClasses> price = prices(rates);
  Wide total_pico = 0;
  std::array<Wide, kClasses> units{}, rest{};
  for (std::size_t i = 0; i < kClasses; ++i) {
    const Wide pico = Wide{tokens[i]} * price[i];
    if (__builtin_add_overflow(total_pico, pico, &total_pico)) return too_large();
    units[i] = pico / rates.unit_pico;
    rest[i] = pico % rates.unit_pico;
  }
  if (__builtin_add_overflow(total_pico, Wide{rates.unit_pico / 2}, &total_pico)) return too_large();
  const Wide total = total_pico / rates.unit_pico;   // half up; the sum is never negative
  if (total > INT64_MAX) return too_large();

  // What rounding the sum once gives more than the lines rounded down goes to the largest remainders, one unit each; of
  // equal remainders to the class named first.
  std::array<std::size_t, kClasses> by_rest;
  std::iota(by_rest.begin(), by_rest.end(), std::size_t{0});
  std::ranges::stable_sort(by_rest, [&](std::size_t a, std::size_t b) { return rest[a] > rest[b]; });
  Wide left = total - std::accumulate(units.begin(), units.end(), Wide{0});
  for (std::size_t i = 0; left > 0; ++i, --left) ++units[by_rest[i]];

  Charge charge{Money{static_cast<std::int64_t>(total)}, {}};
  charge.lines.reserve(kClasses);
  for (std::size_t i = 0; i < kClasses; ++i) {
    const auto c = static_cast<config::PriceClass>(i);
    using enum config::PriceClass;
    const bool always = t.embedding == 0 && (c == input || c == cached_input || c == output);
    const bool there = c == per_request ? price[i] > 0 && any : tokens[i] > 0;
    if (always || there) charge.lines.push_back({config::name(c), tokens[i], Money{static_cast<std::int64_t>(units[i])}});
  }
  return charge;
}

Result<Charge> rate(const Rates& rates, const Usage& usage) {
  if (usage.input < 0 || usage.cached_input < 0 || usage.output < 0 || usage.reasoning < 0 || usage.cached_input > usage.input ||
      usage.reasoning > usage.output) {
    return error(Errc::internal, "a usage is negative or counts more cached or reasoning tokens than there are");
  }
  if (rates.embeds) return rate(rates, ClassTokens{.output = usage.output, .embedding = usage.input});   // there is no output
  return rate(rates, ClassTokens{.input = usage.input - usage.cached_input,
                                 .cached_input = usage.cached_input,
                                 .output = usage.output - usage.reasoning,
                                 .reasoning = usage.reasoning});
}

Result<Money> worst_case(const Rates& rates, std::int64_t input, std::int64_t output) {
  if (unsound(rates) || input < 0 || output < 0) return error(Errc::internal, "a price or a count is negative");
  if (input == 0 && output == 0) return Money{};
  Wide pico = Wide{input} * dearest_input(rates);
  if (__builtin_add_overflow(pico, Wide{output} * dearest_output(rates), &pico) ||
      __builtin_add_overflow(pico, Wide{rates.per_request} + rates.unit_pico / 2, &pico)) {
    return too_large();
  }
  const Wide units = pico / rates.unit_pico;         // half up: the half is added already
  if (units > INT64_MAX) return too_large();
  return Money{static_cast<std::int64_t>(units)};
}

std::int64_t affordable_output(const Rates& rates, std::int64_t input, std::int64_t wanted, Money available) {
  if (unsound(rates) || input < 0 || wanted < 0 || available.nano < 0) return -1;
  // Rounded half up, `available` still covers everything below available + 1/2.
  const Wide unit = rates.unit_pico;
  const Wide room = Wide{available.nano} * unit + (unit - unit / 2 - 1) - Wide{input} * dearest_input(rates) -
                    (input > 0 || wanted > 0 ? rates.per_request : 0);
  if (room < 0) return -1;
  const std::int64_t dearest = dearest_output(rates);
  if (dearest == 0) return wanted;
  return static_cast<std::int64_t>(std::min<Wide>(wanted, room / dearest));
}

}  // namespace tokenworks::billing
