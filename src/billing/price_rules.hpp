#pragma once
// The inside of a price book: what a model costs under every band, time and tier, worked out at load so that finding a price
// at admission is a few comparisons. Private to src/billing.
#include <array>
#include <string>
#include <vector>

#include "tokenworks/base/time_zone.hpp"
#include "tokenworks/billing/price_book.hpp"

namespace tokenworks::billing {

struct BandRates {                                   // for requests with more than `over` prompt tokens
  std::int64_t over = -1;
  Rates list;                                        // every class, before multipliers
  std::array<Rates, 3> tiers;                        // by Tier, after them
  config::Where where;
};
using Bands = std::vector<BandRates>;                // ascending; the first is over -1

struct TimeRule {
  std::uint8_t days = 0x7f;                          // bit 0 is Monday: the day on which the span begins
  std::int64_t from_minute = 0, to_minute = 24 * 60;
  const TimeZone* zone = nullptr;
  std::int64_t micro = 1'000'000;
  Bands bands;

  // Whether the wall clock of the zone is in the span. A time that a clock change skips never is; one that comes twice is
  // both times.
  bool holds_at(std::int64_t unix_s) const;
  std::string text() const;                          // "mon-fri 08:00-20:00 Europe/Berlin"
};

struct ModelRules {
  Bands bands;
  std::vector<TimeRule> times;

  const TimeRule* time_at(std::int64_t unix_s) const;   // nullptr: none
};
const BandRates& band_of(const Bands& bands, std::int64_t prompt_tokens);

// Collects what is wrong, each thing once.
class Mistakes {
 public:
  void add(const config::Where& where, const std::string& what);
  bool none() const { return lines_.empty(); }
  std::string text() const;

 private:
  std::vector<std::string> lines_;
};

// `label`: what messages call the model. Multipliers are millionths, by Tier.
ModelRules make_rules(const config::ModelPrices& prices, const std::string& label, const std::int64_t (&tier_micro)[3],
                      std::int64_t unit_pico, Mistakes& mistakes);

// The canonical form of a version: one JSON object, keys sorted, no white space, numbers as decimal text. An auditor prices
// an entry again from this text alone (docs/billing.md says how).
std::string canonical(const config::PriceVersion& version, const std::string& currency,
                      const std::map<std::string, ModelRules>& models,
                      const std::map<std::string, std::map<std::string, ModelRules>>& plans,
                      const std::map<std::string, std::map<std::string, ModelRules>>& organizations);

inline constexpr std::array<const char*, 3> kTierNames{"priority", "standard", "batch"};
inline constexpr std::int64_t kMicro = 1'000'000;

// The price of each class as a number, in the order of config::PriceClass.
std::array<std::int64_t, config::kPriceClasses> by_class(const Rates& rates);

}  // namespace tokenworks::billing
