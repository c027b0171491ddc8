#include <bitset>
#include <optional>

#include "parts.hpp"
#include "tokenworks/base/time_zone.hpp"
#include "wall_time.hpp"

namespace tokenworks::config {
namespace {

constexpr std::size_t kWeek = 7 * 24 * 60;           // minutes

// "128k" is 128,000; 131072 is written out.
void read_over(Fields& f, std::int64_t& into) {
  std::string text;
  f.text("over", text, true);
  if (text.empty()) return;
  const std::int64_t unit = text.back() == 'k' ? 1000 : text.back() == 'M' ? 1'000'000 : 1;
  const std::string digits = unit == 1 ? text : text.substr(0, text.size() - 1);
  const auto parsed = parse_decimal(digits, 0);
  if (!parsed || *parsed < 1 || *parsed > (std::int64_t{1} << 40) / unit || digits.find('.') != std::string::npos) {
    return f.mistake("over", "is '" + text + "'; a number of tokens such as 128k or 131072 is needed");
  }
  into = *parsed * unit;
}

// The seven classes. A price per million tokens with six decimals is a whole number of pico-units per token.
void read_list(Fields& f, PriceList& prices, bool whole) {
  prices.where = f.where();
  for (std::size_t i = 0; i < kPriceClasses; ++i) {
    const auto c = static_cast<PriceClass>(i);
    const bool required = whole && (c == PriceClass::input || c == PriceClass::output);
    std::int64_t pico = -1;
    f.decimal(name(c), pico, c == PriceClass::per_request ? 12 : 6, required);
    if (pico >= 0) prices.pico[i] = pico;
  }
}

bool names_a_price(const PriceList& prices) {
  for (const auto& pico : prices.pico) {
    if (pico) return true;
  }
  return false;
}

// `documented`: the generic path of a band in the reference.
void read_bands(Fields& f, std::vector<PriceBand>& bands, const std::string& documented) {
  f.list(
      "bands",
      [&](Fields& g) {
        PriceBand band;
        read_over(g, band.over);
        read_list(g, band, false);
        if (!names_a_price(band)) g.document().mistake(g.line(), g.path() + " names no price: it would change nothing");
        if (!bands.empty() && band.over <= bands.back().over) {
          g.mistake("over", "is not above the band before it (" + std::to_string(bands.back().over) +
                                "): bands must not overlap, put them in ascending order");
        }
        bands.push_back(std::move(band));
      },
      documented);
}

// The minutes of a local week the span holds.
std::bitset<kWeek> minutes_of(const PriceTime& time) {
  std::bitset<kWeek> minutes;
  constexpr std::int64_t kDay = 24 * 60;
  const std::int64_t length = time.to_minute > time.from_minute ? time.to_minute - time.from_minute : time.to_minute + kDay - time.from_minute;
  for (int day = 0; day < 7; ++day) {
    bool named = time.days.empty();
    for (const int d : time.days) named = named || d == day;
    for (std::int64_t i = 0; named && i < length; ++i) minutes.set(static_cast<std::size_t>(day * kDay + time.from_minute + i) % kWeek);
  }
  return minutes;
}

void read_time(Fields& f, ModelPrices& model) {
  PriceTime time;
  read_span(f, time.days, time.from_minute, time.to_minute, time.timezone, "the time would never come");
  if (f.has("multiplier") || f.document().asked != nullptr) {
    std::int64_t micro = -1;
    f.decimal("multiplier", micro, 6);
    if (micro > 1'000'000'000) f.mistake("multiplier", "is above 1000");
    time.multiplier_micro = micro;
  }
  read_list(f, time, false);
  read_bands(f, time.bands, "models.<name>.times[].bands[]");
  const bool prices = names_a_price(time);
  const auto mistake = [&](const std::string& what) { f.document().mistake(f.line(), f.path() + " " + what); };
  if (!time.multiplier_micro && !prices && time.bands.empty()) {
    mistake("has neither a multiplier nor a price: it would change nothing");
  } else if (time.multiplier_micro && (prices || !time.bands.empty())) {
    mistake("has a multiplier and prices; give it one of the two");
  } else if (prices && time.bands.empty() && !model.bands.empty()) {
    mistake("has prices while the model has bands: give it bands too, or a multiplier, which holds in every band");
  }
  for (std::size_t i = 0; i < model.times.size(); ++i) {
    const PriceTime& other = model.times[i];
    if (other.timezone != time.timezone) {
      mistake("is in " + time.timezone + ", times[" + std::to_string(i) + "] is in " + other.timezone +
              ": the times of a model must be in one zone, else they would overlap when clocks change");
      break;
    }
    if ((minutes_of(time) & minutes_of(other)).any()) {
      mistake("overlaps times[" + std::to_string(i) + "] of line " + std::to_string(other.where.line) +
              ": a request at that time would have two prices");
    }
  }
  model.times.push_back(std::move(time));
}

void read_models(Fields& f, PricesByModel& into) {
  f.named(
      "models",
      [&](const std::string& model, Fields& g) {
        ModelPrices prices;
        read_list(g, prices, true);
        read_bands(g, prices.bands, "models.<name>.bands[]");
        g.list("times", [&](Fields& h) { read_time(h, prices); }, "models.<name>.times[]");
        into[model] = std::move(prices);
      },
      "models.<name>");
}

// What a version is made of, whether it is the file's first or a dated one.
void read_version(Fields& f, PriceVersion& v) {
  v.where = f.where();
  read_models(f, v.models);
  if (v.models.empty()) f.mistake("models", "must price at least one model");
  for (auto* whose : {&v.plans, &v.organizations}) {
    f.named(
        whose == &v.plans ? "plans" : "organizations",
        [&](const std::string& of, Fields& g) {
          read_models(g, (*whose)[of]);
          if ((*whose)[of].empty()) g.document().mistake(g.line(), g.path() + " overrides no price: name at least one model");
        },
        whose == &v.plans ? "plans.<name>" : "organizations.<name>");
  }
  f.mapping("tiers", [&](Fields& g) {
    for (const auto& [tier, word] : {std::pair{Tier::priority, "priority"}, {Tier::standard, "standard"}, {Tier::batch, "batch"}}) {
      std::int64_t& micro = v.tier_micro[static_cast<int>(tier)];
      g.decimal(word, micro, 6);
      if (micro > 1'000'000'000) g.mistake(word, "is above 1000");
    }
  });
}

void read_from(Fields& f, Prices& p, PriceVersion& v) {
  std::string from;
  f.text("from", from, true);
  if (from.empty()) return;
  const auto instant = parse_instant(from);
  if (!instant) {
    return f.mistake("from", "is '" + from + "'; an instant such as 2027-01-01T00:00:00+01:00 or a date (midnight UTC) is needed");
  }
  v.from_unix_ns = *instant;
  const PriceVersion& before = p.later.empty() ? static_cast<const PriceVersion&>(p) : p.later.back();
  if (v.from_unix_ns <= before.from_unix_ns) {
    f.mistake("from", "is '" + from + "', not after the version before it ('" + before.version +
                          "'): versions must not overlap, put them in order");
  }
}

}  // namespace

const char* name(PriceClass c) {
  switch (c) {
    case PriceClass::input: return "input";
    case PriceClass::cached_input: return "cached_input";
    case PriceClass::cache_write: return "cache_write";
    case PriceClass::output: return "output";
    case PriceClass::reasoning: return "reasoning";
    case PriceClass::embedding: return "embedding";
    case PriceClass::per_request: return "per_request";
  }
  return "?";
}

void read_prices(Fields& f, Prices& p) {
  f.text("version", p.version, true);
  f.text("currency", p.currency);
  if (!minor_digits(p.currency)) {
    f.mistake("currency", "is '" + p.currency + "'; a code of ISO 4217 is needed, such as USD");
  }
  read_version(f, p);
  f.list("versions", [&](Fields& g) {
    PriceVersion v;
    g.text("version", v.version, true);
    read_from(g, p, v);
    g.document_as("");                               // the rest is documented once, for the first version
    read_version(g, v);
    bool twice = v.version == p.version;
    for (const PriceVersion& other : p.later) twice = twice || v.version == other.version;
    if (twice && !v.version.empty()) g.mistake("version", "'" + v.version + "' stands twice");
    p.later.push_back(std::move(v));
  });
}

}  // namespace tokenworks::config
