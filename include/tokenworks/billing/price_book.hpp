#pragma once
// PriceBook: dated versions of prices, immutable once loaded, and rating: usage -> charge in exact integers.
//
// A price is pico-units per token; a time of day and a tier multiply it and must leave a whole number (refused at load
// otherwise). The classes of a request add up in pico-units, are rounded once to the unit of the currency (half up), and the
// class lines get their share by largest remainder, so the lines always add up to the charge (docs/decisions: rounding).
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/money.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/base/ticket.hpp"
#include "tokenworks/base/usage.hpp"
#include "tokenworks/config/config.hpp"

namespace tokenworks::billing {

struct Rates {                                       // of one request: pico-units per token; per_request: per request
  std::int64_t input = 0, cached_input = 0, cache_write = 0, output = 0, reasoning = 0, embedding = 0, per_request = 0;
  std::int64_t unit_pico = 1000;                     // pico-units in one unit of Money: nano, or micro for the yen and its like
  bool embeds = false;                               // a request for vectors: its prompt tokens are of class embedding

  // A price list that names these three: what it does not name costs what its kind costs.
  static Rates of(std::int64_t input, std::int64_t cached_input, std::int64_t output) {
    return {input, cached_input, input, output, output, input, 0};
  }
  // Those a request of this kind can meet; the others are 0, so that its worst case does not hold what it can never owe.
  Rates of_kind(bool embedding) const;
  bool operator==(const Rates&) const = default;
};

// What a price depends on. The views are read during the call only.
struct PriceQuestion {
  std::string_view model;
  Tier tier = Tier::standard;
  std::string_view plan, organization;               // "": without overrides
  std::int64_t prompt_tokens = 0;                    // of the request, as admitted: chooses the context band
  std::int64_t unix_ns = 0;                          // of the admission: chooses the version and the time of day
};

// How a price came about, for a person.
struct PriceAnswer {
  std::string version, version_hash;
  std::int64_t from_unix_ns = INT64_MIN, until_unix_ns = INT64_MAX;   // the version is in force
  std::string override_of;                           // "", "plan starter", "organization acme"
  std::optional<std::int64_t> band_over;             // the band that was met
  std::string time;                                  // "mon-fri 08:00-20:00 Europe/Berlin"; "": no rule was met
  std::int64_t time_micro = 1'000'000, tier_micro = 1'000'000;
  Rates list, rates;                                 // before and after the two multipliers
  config::Where where;                               // of the price
};

struct ChargeLine {
  std::string token_class;                           // "input" (the uncached part), "cached_input", "output", ...
  std::int64_t tokens = 0;                           // of per_request: 1
  Money amount;
};
struct Charge {
  Money total;
  std::vector<ChargeLine> lines;
};

class PriceBook {
 public:
  struct Version {
    std::string version;
    std::string hash;                                // hex SHA-256 of `text`
    std::string text;                                // canonical form, stored for ever
    std::int64_t from_unix_ns = INT64_MIN;
    config::Where where;
  };

  virtual ~PriceBook() = default;
  // bad_config with file:line of everything that is wrong: prices that do not come out whole, bands and times that overlap.
  static Result<std::shared_ptr<const PriceBook>> make(const config::Prices& prices);
  virtual const std::string& currency() const = 0;
  virtual const std::vector<Version>& versions() const = 0;   // never empty, by date
  virtual const Version& in_force(std::int64_t unix_ns) const = 0;
  // The rates of a request; nullopt when the model has no price. Allocates nothing.
  virtual std::optional<Rates> find(const PriceQuestion& question) const = 0;
  virtual std::optional<PriceAnswer> explain(const PriceQuestion& question) const = 0;
};

// What a request used, class by class, no token in two of them.
struct ClassTokens {
  std::int64_t input = 0, cached_input = 0, cache_write = 0, output = 0, reasoning = 0, embedding = 0;
};

// Exact; an error on overflow or on a usage whose subsets exceed their whole. A usage of nothing costs nothing, any other
// the price per request as well. Lines: input, cached_input and output always, unless something was embedded; another class
// when it has tokens, per_request when it has a price.
Result<Charge> rate(const Rates& rates, const ClassTokens& tokens);
Result<Charge> rate(const Rates& rates, const Usage& usage);
// The most that `input` prompt tokens and up to `output` tokens can come to, whatever class they turn out to be in.
Result<Money> worst_case(const Rates& rates, std::int64_t input, std::int64_t output);
// The largest output <= wanted whose worst case fits `available`; -1 when not even the prompt does.
std::int64_t affordable_output(const Rates& rates, std::int64_t input, std::int64_t wanted, Money available);

}  // namespace tokenworks::billing
