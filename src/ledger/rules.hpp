#pragma once
// What a record must obey on its own, before it meets the state of the books: types, ranges, lines that add up. Pure.
#include <vector>

#include "ledger/canonical.hpp"
#include "tokenworks/base/result.hpp"

namespace tokenworks::ledger {

// No account of an organization may stand further from zero: four of them then still fit a 64-bit sum.
inline constexpr std::int64_t kAccountMax = (std::int64_t{1} << 61) - 1;
inline constexpr std::int64_t kTokensMax = std::int64_t{1} << 36;   // of one class in one entry

Result<> check_usage(const Usage& usage);
// Lines: distinct classes of [a-z0-9_], amounts >= 0, together exactly `amount`.
Result<> check_lines(const std::vector<std::pair<std::string, Money>>& lines, Money amount);
Result<> check_record(const Record& record);

}  // namespace tokenworks::ledger
