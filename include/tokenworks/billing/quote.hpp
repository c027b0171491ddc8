#pragma once
// Quote: what a request of a certain size at a certain moment costs and why, line by line, for `tokenworks price` and for
// whoever checks a bill by hand. It asks the same book and the same rating as a request. Pure.
#include <string>
#include <vector>

#include "tokenworks/billing/price_book.hpp"

namespace tokenworks::billing {

struct QuoteLine {
  std::string token_class;
  std::int64_t tokens = 0;
  std::string list_price, price;                     // per million tokens (per_request: per request): listed; after multipliers
  std::string exact;                                 // tokens times price, unrounded
  Money amount;                                      // its share of the rounded total
};
struct Quote {
  PriceAnswer answer;
  std::string currency;
  std::vector<QuoteLine> lines;
  std::string exact;                                 // the sum of the lines, unrounded
  Money total;
};

// model_not_found when the book has no price for the model; the errors of rate().
Result<Quote> quote(const PriceBook& book, const PriceQuestion& question, const ClassTokens& tokens);
// As a table for a terminal, without the head that says what was asked.
std::string to_text(const Quote& quote, const PriceQuestion& question);

}  // namespace tokenworks::billing
