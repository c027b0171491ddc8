#pragma once
// The price books of the past: what the ledger keeps for ever, as price books again, and the rule that the past is not
// changed. A charge is explained by the version whose hash its entry carries, whatever the files say today. Pure.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/billing/price_book.hpp"
#include "tokenworks/ledger/rows.hpp"

namespace tokenworks::billing {

struct ArchivedBook {
  std::shared_ptr<const PriceBook> book;             // of one version; null: the ledger knows none
  std::int64_t from_unix_ns = INT64_MIN, until_unix_ns = INT64_MAX;   // when it was in force, as far as is known
};

// A kept text as the book of one version. bad_file: it is none, or not what its hash says.
Result<std::shared_ptr<const PriceBook>> read_price_text(std::string_view text, std::string_view hash);
// `history`: oldest first, as the ledger gives it.
Result<ArchivedBook> book_in_force(const std::vector<ledger::PriceHistoryRow>& history, std::int64_t unix_ns);
// By the first characters of its hash (8 or more). not_found, or invalid_request when several begin so.
Result<ArchivedBook> book_by_hash(const std::vector<ledger::PriceHistoryRow>& history, std::string_view hash);

// Whether the book may follow what was in force: bad_config with file:line for other prices in a version that has been in
// force, and for a version that would begin in the past. What is still to come may be changed and taken back.
Result<> check_prices_change(const PriceBook& fresh, const std::vector<ledger::PriceHistoryRow>& history, std::int64_t unix_ns);

// Whether the books are kept in the book's currency: bad_config with file:line when they are `kept` in another one, or an entry
// stands in another one.
Result<> check_currency(const PriceBook& fresh, const std::string& kept);
Result<> check_currency(const PriceBook& fresh, const std::vector<ledger::BalanceRow>& balances);

}  // namespace tokenworks::billing
