#pragma once
// Periods: the calendar day, week (from Monday), month or whole life a budget counts in, in the time zone of its owner.
// They meet without gap or overlap also where clocks change: a day of 23 or 25 hours is one day. Pure.
#include <cstdint>

#include "tokenworks/base/time_zone.hpp"
#include "tokenworks/config/config.hpp"

namespace tokenworks::billing {

struct Period {                                      // start <= t < end, Unix seconds
  std::int64_t start_s = INT64_MIN, end_s = INT64_MAX;
  bool operator==(const Period&) const = default;
};

// The period that holds `unix_s`.
Period period_of(config::BudgetSpec::Per per, const TimeZone& zone, std::int64_t unix_s);

}  // namespace tokenworks::billing
