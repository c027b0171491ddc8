#include "tokenworks/billing/period.hpp"

#include <chrono>

namespace tokenworks::billing {
namespace {

using Per = config::BudgetSpec::Per;
using std::chrono::days;
using std::chrono::months;
using std::chrono::sys_days;
using std::chrono::year_month_day;

// The first day of the period `steps` periods after the one that holds `date`.
sys_days first_day(Per per, sys_days date, int steps) {
  switch (per) {
    case Per::week: {
      const std::chrono::weekday monday{std::chrono::Monday};
      return date - (std::chrono::weekday{date} - monday) + days{7 * steps};
    }
    case Per::month: {
      const year_month_day ymd{date};
      return sys_days{(ymd.year() / ymd.month() + months{steps}) / std::chrono::day{1}};
    }
    default: return date + days{steps};
  }
}

}  // namespace

Period period_of(Per per, const TimeZone& zone, std::int64_t unix_s) {
  if (per == Per::total) return {};
  const auto today = std::chrono::floor<days>(std::chrono::sys_seconds{std::chrono::seconds{zone.to_local(unix_s)}});
  const auto boundary = [&](int steps) {
    return zone.to_unix(std::int64_t{first_day(per, today, steps).time_since_epoch().count()} * 86'400);
  };
  // Where clocks go back over midnight, the date of the wall clock can be one ahead of or behind the period.
  int steps = 0;
  while (boundary(steps) > unix_s) --steps;
  while (boundary(steps + 1) <= unix_s) ++steps;
  return {boundary(steps), boundary(steps + 1)};
}

}  // namespace tokenworks::billing
