#include <algorithm>
#include <array>
#include <numeric>

#include "tokenworks/billing/price_book.hpp"

namespace tokenworks::billing {
namespace {

__extension__ typedef __int128 Wide;                 // pico-units: a price times a count needs up to 126 bits

constexpr std::int64_t kPicoPerNano = 1000;

// Half up; the sum is never negative.
Wide nano_of(Wide pico) { return (pico + kPicoPerNano / 2) / kPicoPerNano; }

Error too_large() { return error(Errc::invalid_request, "the charge is larger than money can be counted (9.2 thousand million)"); }

bool negative(const Rates& r) { return r.input < 0 || r.cached_input < 0 || r.output < 0; }

}  // namespace

Result<Charge> rate(const Rates& rates, const Usage& usage) {
  if (negative(rates)) return error(Errc::internal, "a price is negative");
  if (usage.input < 0 || usage.cached_input < 0 || usage.output < 0 || usage.reasoning < 0 || usage.cached_input > usage.input ||
      usage.reasoning > usage.output) {
    return error(Errc::internal, "a usage is negative or counts more cached or reasoning tokens than there are");
  }
  struct Class {
    const char* name;
    std::int64_t tokens, price;
  };
  const std::array<Class, 3> classes{{{"input", usage.input - usage.cached_input, rates.input},
                                      {"cached_input", usage.cached_input, rates.cached_input},
                                      {"output", usage.output, rates.output}}};
  Wide total_pico = 0;
  std::array<Wide, 3> nano{}, rest{};
  for (std::size_t i = 0; i < classes.size(); ++i) {
    const Wide pico = Wide{classes[i].tokens} * classes[i].price;
    total_pico += pico;
    nano[i] = pico / kPicoPerNano;
    rest[i] = pico % kPicoPerNano;
  }
  const Wide total = nano_of(total_pico);
  if (total > INT64_MAX) return too_large();

  // What rounding the sum once gives more than the lines rounded down goes to the largest remainders, one nano-unit each;
  // of equal remainders to the class named first.
  std::array<std::size_t, 3> by_rest{0, 1, 2};
  std::ranges::stable_sort(by_rest, [&](std::size_t a, std::size_t b) { return rest[a] > rest[b]; });
  Wide left = total - std::accumulate(nano.begin(), nano.end(), Wide{0});
  for (std::size_t i = 0; left > 0; ++i, --left) ++nano[by_rest[i]];

  Charge charge{Money{static_cast<std::int64_t>(total)}, {}};
  charge.lines.reserve(classes.size());
  for (std::size_t i = 0; i < classes.size(); ++i) {
    charge.lines.push_back({classes[i].name, classes[i].tokens, Money{static_cast<std::int64_t>(nano[i])}});
  }
  return charge;
}

Result<Money> worst_case(const Rates& rates, std::int64_t input, std::int64_t output) {
  if (negative(rates) || input < 0 || output < 0) return error(Errc::internal, "a price or a count is negative");
  const Wide nano = nano_of(Wide{input} * std::max(rates.input, rates.cached_input) + Wide{output} * rates.output);
  if (nano > INT64_MAX) return too_large();
  return Money{static_cast<std::int64_t>(nano)};
}

std::int64_t affordable_output(const Rates& rates, std::int64_t input, std::int64_t wanted, Money available) {
  if (negative(rates) || input < 0 || wanted < 0 || available.nano < 0) return -1;
  // Rounded half up, `available` still covers everything below available + 1/2.
  const Wide room = Wide{available.nano} * kPicoPerNano + (kPicoPerNano / 2 - 1) -
                    Wide{input} * std::max(rates.input, rates.cached_input);
  if (room < 0) return -1;
  if (rates.output == 0) return wanted;
  return static_cast<std::int64_t>(std::min<Wide>(wanted, room / rates.output));
}

}  // namespace tokenworks::billing
