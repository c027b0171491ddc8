#include "price_rules.hpp"

#include <algorithm>
#include <chrono>

namespace tokenworks::billing {
namespace {

__extension__ typedef __int128 Wide;

using config::PriceClass;
constexpr std::size_t kClasses = config::kPriceClasses;
constexpr std::int64_t kDay = 86'400;
constexpr std::int64_t kMostMicro = 1000 * kMicro;   // of a multiplier: keeps a price times two of them below 2^127

// A price and where it was said.
struct Said {
  std::optional<std::int64_t> pico;
  std::string label;
  const config::Where* where = nullptr;
};
using SaidList = std::array<Said, kClasses>;

void lay_over(SaidList& under, const config::PriceList& prices, const std::string& label) {
  for (std::size_t i = 0; i < kClasses; ++i) {
    if (prices.pico[i]) under[i] = {prices.pico[i], label + "." + config::name(static_cast<PriceClass>(i)), &prices.where};
  }
}

// What is not said costs what its kind costs; the parser makes sure that input and output are said.
std::array<std::int64_t, kClasses> complete(const SaidList& said) {
  const auto of = [&](PriceClass c, std::int64_t otherwise) { return said[static_cast<std::size_t>(c)].pico.value_or(otherwise); };
  const std::int64_t input = of(PriceClass::input, 0), output = of(PriceClass::output, 0);
  return {input,  of(PriceClass::cached_input, input), of(PriceClass::cache_write, input),
          output, of(PriceClass::reasoning, output),   of(PriceClass::embedding, input),
          of(PriceClass::per_request, 0)};
}

Rates rates_of(const std::array<std::int64_t, kClasses>& p, std::int64_t unit_pico) {
  return {p[0], p[1], p[2], p[3], p[4], p[5], p[6], unit_pico};
}

std::string shown(const Said& price, PriceClass c) {
  // Amounts in prices.yaml are per million tokens: pico-units per token are micro-units per million.
  if (c == PriceClass::per_request) return price.label + " (" + format_decimal(*price.pico, 12) + " per request)";
  return price.label + " (" + format_decimal(*price.pico, 6) + " per million tokens)";
}

struct Multipliers {
  std::int64_t time_micro = kMicro;
  const std::int64_t (&tier_micro)[3];
  std::string time_label;                            // "" without a time's multiplier
};

// A price times its multipliers, which must come out whole; 0 and a mistake otherwise.
std::int64_t multiplied(const Said& price, PriceClass c, const Multipliers& by, std::size_t tier, Mistakes& mistakes) {
  const Wide product = Wide{*price.pico} * by.time_micro * by.tier_micro[tier];
  constexpr Wide kWhole = Wide{kMicro} * kMicro;
  const auto times = [&] {
    std::string text = shown(price, c);
    if (!by.time_label.empty()) text += " times " + by.time_label + " (" + format_decimal(by.time_micro, 6) + ")";
    return text + " times the tier " + kTierNames[tier] + " (" + format_decimal(by.tier_micro[tier], 6) + ")";
  };
  if (product % kWhole != 0) {
    mistakes.add(*price.where, times() + " is not a whole number of pico-units" + (c == PriceClass::per_request ? "" : " per token") +
                                   "; change the price or the multiplier");
  } else if (product / kWhole > INT64_MAX) {
    mistakes.add(*price.where, times() + " is too large");
  } else {
    return static_cast<std::int64_t>(product / kWhole);
  }
  return 0;
}

BandRates make_band(std::int64_t over, const SaidList& said, const Multipliers& by, std::int64_t unit_pico,
                    const config::Where& where, Mistakes& mistakes) {
  BandRates band;
  band.over = over;
  band.where = where;
  band.list = rates_of(complete(said), unit_pico);
  for (std::size_t tier = 0; tier < kTierNames.size(); ++tier) {
    if (by.tier_micro[tier] < 0 || by.tier_micro[tier] > kMostMicro) continue;   // told once, of the version
    SaidList result = said;
    for (std::size_t i = 0; i < kClasses; ++i) {
      if (!said[i].pico) continue;
      const auto c = static_cast<PriceClass>(i);
      if (*said[i].pico < 0) {
        mistakes.add(*said[i].where, shown(said[i], c) + " is negative");
      } else {
        result[i].pico = multiplied(said[i], c, by, tier, mistakes);
      }
    }
    band.tiers[tier] = rates_of(complete(result), unit_pico);
  }
  return band;
}

Bands make_bands(const SaidList& base, const std::vector<config::PriceBand>& bands, const std::string& label, const Multipliers& by,
                 std::int64_t unit_pico, const config::Where& where, Mistakes& mistakes) {
  Bands made{make_band(-1, base, by, unit_pico, where, mistakes)};
  for (std::size_t i = 0; i < bands.size(); ++i) {
    SaidList said = base;
    const std::string name = label + ".bands[" + std::to_string(i) + "]";
    lay_over(said, bands[i], name);
    if (bands[i].over <= made.back().over) {
      mistakes.add(bands[i].where, name + ".over must be larger than that of the band before it: a request has one price");
    }
    made.push_back(make_band(bands[i].over, said, by, unit_pico, bands[i].where, mistakes));
  }
  return made;
}

TimeRule make_time(const config::PriceTime& time, const SaidList& base, const config::ModelPrices& model, const std::string& label,
                   const Multipliers& tiers, std::int64_t unit_pico, Mistakes& mistakes) {
  TimeRule rule;
  if (!time.days.empty()) {
    rule.days = 0;
    for (const int day : time.days) rule.days = static_cast<std::uint8_t>(rule.days | (1 << day));
  }
  rule.from_minute = time.from_minute;
  rule.to_minute = time.to_minute;
  const auto zone = TimeZone::find(time.timezone);
  if (!zone) {
    mistakes.add(time.where, label + ".timezone: " + zone.error().message);
  } else {
    rule.zone = *zone;
  }
  Multipliers by{kMicro, tiers.tier_micro, {}};
  SaidList said = base;
  if (time.multiplier_micro) {
    by.time_micro = rule.micro = *time.multiplier_micro;
    by.time_label = label + ".multiplier";
    if (by.time_micro < 0 || by.time_micro > kMostMicro) {
      mistakes.add(time.where, by.time_label + " must be from 0 to 1000");
      by.time_micro = kMicro;
    }
    rule.bands = make_bands(said, model.bands, label.substr(0, label.rfind('.')), by, unit_pico, time.where, mistakes);
  } else {
    lay_over(said, time, label);
    rule.bands = make_bands(said, time.bands, label, by, unit_pico, time.where, mistakes);
  }
  return rule;
}

}  // namespace

std::array<std::int64_t, kClasses> by_class(const Rates& r) {
  return {r.input, r.cached_input, r.cache_write, r.output, r.reasoning, r.embedding, r.per_request};
}

void Mistakes::add(const config::Where& where, const std::string& what) {
  std::string line = where.file + ":" + std::to_string(where.line) + ": " + what;
  if (std::ranges::find(lines_, line) == lines_.end()) lines_.push_back(std::move(line));
}

std::string Mistakes::text() const {
  std::string all;
  for (const std::string& line : lines_) all += (all.empty() ? "" : "\n") + line;
  return all;
}

ModelRules make_rules(const config::ModelPrices& prices, const std::string& label, const std::int64_t (&tier_micro)[3],
                      std::int64_t unit_pico, Mistakes& mistakes) {
  SaidList base;
  lay_over(base, prices, label);
  const Multipliers tiers{kMicro, tier_micro, {}};
  ModelRules rules;
  rules.bands = make_bands(base, prices.bands, label, tiers, unit_pico, prices.where, mistakes);
  for (std::size_t i = 0; i < prices.times.size(); ++i) {
    const std::string name = label + ".times[" + std::to_string(i) + "]";
    rules.times.push_back(make_time(prices.times[i], base, prices, name, tiers, unit_pico, mistakes));
  }
  return rules;
}

bool TimeRule::holds_at(std::int64_t unix_s) const {
  const std::int64_t local = zone->to_local(unix_s);
  const std::int64_t day = std::chrono::floor<std::chrono::days>(std::chrono::seconds{local}).count();
  const std::int64_t minute = (local - day * kDay) / 60;
  const std::int64_t weekday = ((day + 3) % 7 + 7) % 7;   // 1970-01-01 was a Thursday; 0 is Monday
  const bool today = (days >> weekday & 1) != 0, yesterday = (days >> (weekday + 6) % 7 & 1) != 0;
  if (from_minute < to_minute) return today && minute >= from_minute && minute < to_minute;
  return (today && minute >= from_minute) || (yesterday && minute < to_minute);
}

std::string TimeRule::text() const {
  static constexpr std::array<const char*, 7> kDays{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
  std::string text;
  for (int day = 0; day < 7 && days != 0x7f; ++day) {
    if ((days >> day & 1) == 0) continue;
    int last = day;
    while (last < 6 && (days >> (last + 1) & 1) != 0) ++last;
    text += (text.empty() ? "" : ",") + std::string(kDays[static_cast<std::size_t>(day)]);
    if (last > day) text += std::string(last > day + 1 ? "-" : ",") + kDays[static_cast<std::size_t>(last)];
    day = last;
  }
  const auto clock = [](std::int64_t minute) {
    const std::string h = std::to_string(minute / 60), m = std::to_string(minute % 60);
    return (h.size() < 2 ? "0" : "") + h + ":" + (m.size() < 2 ? "0" : "") + m;
  };
  return (text.empty() ? "" : text + " ") + clock(from_minute) + "-" + clock(to_minute) + " " + zone->name();
}

const TimeRule* ModelRules::time_at(std::int64_t unix_s) const {
  const auto it = std::ranges::find_if(times, [&](const TimeRule& rule) { return rule.holds_at(unix_s); });
  return it == times.end() ? nullptr : &*it;
}

const BandRates& band_of(const Bands& bands, std::int64_t prompt_tokens) {
  std::size_t i = bands.size() - 1;
  while (i > 0 && bands[i].over >= prompt_tokens) --i;
  return bands[i];
}

}  // namespace tokenworks::billing
