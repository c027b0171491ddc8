#pragma once
// PriceBook: versioned prices, immutable once loaded, and rating: usage -> charge in exact integers.
//
// A price is pico-units per token; a tier multiplies it and must leave a whole number (refused at load otherwise). The
// classes of a request add up in pico-units, are rounded once to nano-units (half up), and the class lines get their share
// by largest remainder, so the lines always add up to the charge (docs/decisions: rounding).
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/money.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/base/ticket.hpp"
#include "tokenworks/base/usage.hpp"
#include "tokenworks/config/config.hpp"

namespace tokenworks::billing {

struct Rates {                                       // pico-units per token, of one model at one tier
  std::int64_t input = 0, cached_input = 0, output = 0;
};

struct ChargeLine {
  std::string token_class;                           // "input" (the uncached part), "cached_input", "output"
  std::int64_t tokens = 0;
  Money amount;
};
struct Charge {
  Money total;
  std::vector<ChargeLine> lines;
};

class PriceBook {
 public:
  virtual ~PriceBook() = default;
  // bad_config with file:line of the price that does not come out whole.
  static Result<std::shared_ptr<const PriceBook>> make(const config::Prices& prices);
  virtual const std::string& version() const = 0;
  virtual const std::string& hash() const = 0;       // hex SHA-256 of text()
  virtual const std::string& text() const = 0;       // canonical form, stored for ever
  virtual const std::string& currency() const = 0;
  virtual const Rates* find(std::string_view model, Tier tier) const = 0;
};

// Exact; an error on overflow or on a usage whose subsets exceed their whole.
Result<Charge> rate(const Rates& rates, const Usage& usage);
// The most that `input` prompt tokens and up to `output` tokens can come to: no cache hit assumed unless it costs more.
Result<Money> worst_case(const Rates& rates, std::int64_t input, std::int64_t output);
// The largest output <= wanted whose worst case fits `available`; -1 when not even the prompt does.
std::int64_t affordable_output(const Rates& rates, std::int64_t input, std::int64_t wanted, Money available);

}  // namespace tokenworks::billing
