#include "tokenworks/billing/budgets.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <sstream>

#include "support/paths.hpp"

namespace tokenworks::billing {
namespace {

using Per = config::BudgetSpec::Per;

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kNoon = 1'795'521'600;        // 2026-11-24T12:00:00Z, a Tuesday
constexpr std::int64_t kNow = kNoon * kSecond;

config::BudgetSpec budget(std::int64_t nano, Per per = Per::day, const std::string& zone = "UTC") {
  config::BudgetSpec spec;
  spec.amount = Money{nano};
  spec.per = per;
  spec.timezone = zone;
  spec.where = {"tenants.yaml", 4};
  return spec;
}

Budgets with(const std::vector<Budgets::ScopedSpec>& specs) {
  Budgets budgets("acme", "USD");
  EXPECT_TRUE(budgets.configure(specs, kNow));
  return budgets;
}

std::vector<BudgetEvent> settle(Budgets& budgets, Budgets::Purpose use, Money held, Money charge, std::int64_t unix_ns,
                                std::optional<std::int64_t> taken_ns = {}) {
  return budgets.settle(use, held, charge, unix_ns, taken_ns.value_or(unix_ns));
}

TEST(Period, DaysWeeksAndMonthsAreThoseOfPythonsCalendarInEveryZone) {
  std::ifstream in(test::golden_path("zones") + "/periods.csv");
  ASSERT_TRUE(in.good()) << "run tests/run, or tests/golden/zones.py";
  int lines = 0;
  for (std::string line; std::getline(in, line); ++lines) {
    std::stringstream cells(line);
    std::string zone, per, at, start, end;
    std::getline(cells, zone, ',') && std::getline(cells, per, ',') && std::getline(cells, at, ',') &&
        std::getline(cells, start, ',') && std::getline(cells, end, ',');
    const Period period = period_of(per == "day" ? Per::day : per == "week" ? Per::week : Per::month, **TimeZone::find(zone),
                                    std::stoll(at));
    EXPECT_EQ(period, (Period{std::stoll(start), std::stoll(end)})) << line;
  }
  EXPECT_GT(lines, 500);
}

TEST(Period, PeriodsMeetWithoutGapOrOverlap) {
  for (const char* name : {"Europe/Berlin", "America/Havana", "Pacific/Apia", "Asia/Kathmandu", "America/Sao_Paulo"}) {
    const TimeZone& zone = **TimeZone::find(name);
    for (const Per per : {Per::day, Per::week, Per::month}) {
      std::int64_t at = 1'262'304'000;               // 2010 to 2030
      while (at < 1'893'456'000) {
        const Period period = period_of(per, zone, at);
        ASSERT_EQ(period.start_s == at || at == 1'262'304'000, true) << name;
        ASSERT_EQ(period_of(per, zone, period.end_s - 1), period);
        at = period.end_s;
      }
    }
  }
}

TEST(Budgets, AHoldFitsEveryBudgetOrTakesNothing) {
  Budgets budgets = with({{"", budget(100)}, {"search", budget(30)}});
  const auto search = budgets.purpose("search", "m"), other = budgets.purpose("other", "m");
  EXPECT_FALSE(budgets.hold(search, Money{30}, kNow));
  const auto refused = budgets.hold(search, Money{1}, kNow);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->available.nano, 0);
  EXPECT_FALSE(refused->alone);
  EXPECT_FALSE(budgets.hold(other, Money{70}, kNow));
  EXPECT_TRUE(budgets.hold(other, Money{1}, kNow));
  EXPECT_EQ(budgets.held().nano, 100);
  settle(budgets, search, Money{30}, Money{10}, kNow);
  EXPECT_FALSE(budgets.hold(search, Money{20}, kNow));
  EXPECT_TRUE(budgets.hold(search, Money{1}, kNow));
}

TEST(Budgets, AShortageNamesWhatFitsAndWhetherNothingElseIsOpen) {
  Budgets budgets = with({{"", budget(1'000)}, {"search", budget(50)}});
  const auto search = budgets.purpose("search", "m"), other = budgets.purpose("other", "m");
  EXPECT_FALSE(budgets.hold(other, Money{200}, kNow));
  const auto alone = budgets.hold(search, Money{60}, kNow);   // the organization's budget is busy, but not short
  ASSERT_TRUE(alone);
  EXPECT_EQ(alone->available.nano, 50);
  EXPECT_TRUE(alone->alone);
  EXPECT_NE(alone->message.find("project acme/search"), std::string::npos) << alone->message;
  EXPECT_NE(alone->message.find("2026-11-25T00:00:00+00:00"), std::string::npos) << alone->message;
}

TEST(Budgets, AModelBudgetCountsOnlyThatModelAndASoftOneNeverRefuses) {
  auto only = budget(10);
  only.model = "large";
  auto soft = budget(5);
  soft.hard = false;
  soft.warn_at = {100};
  Budgets budgets = with({{"", only}, {"", soft}});
  const auto small = budgets.purpose("default", "small"), large = budgets.purpose("default", "large");
  EXPECT_FALSE(budgets.hold(small, Money{1'000}, kNow));
  EXPECT_TRUE(budgets.hold(large, Money{11}, kNow));
  EXPECT_FALSE(budgets.hold(large, Money{10}, kNow));
  EXPECT_EQ(settle(budgets, small, Money{1'000}, Money{900}, kNow).size(), 1u);
  EXPECT_FALSE(budgets.hold(small, Money{1'000}, kNow));
}

TEST(Budgets, ThresholdsAreToldOncePerPeriodAndInOrder) {
  auto spec = budget(100);
  spec.warn_at = {80, 50};
  Budgets budgets = with({{"", spec}});
  const auto use = budgets.purpose("default", "m");
  const auto spend = [&](std::int64_t nano, std::int64_t at_s) {
    EXPECT_FALSE(budgets.hold(use, Money{nano}, at_s * kSecond));
    std::vector<std::int64_t> percents;
    for (const BudgetEvent& event : settle(budgets, use, Money{nano}, Money{nano}, at_s * kSecond)) percents.push_back(event.percent);
    std::ranges::sort(percents);
    return percents;
  };
  using List = std::vector<std::int64_t>;
  EXPECT_EQ(spend(49, kNoon), List{});
  EXPECT_EQ(spend(1, kNoon), List{50});
  EXPECT_EQ(spend(20, kNoon), List{});
  EXPECT_EQ(spend(30, kNoon), List{80});
  EXPECT_EQ(spend(90, kNoon + 86'400), (List{50, 80}));
}

TEST(Budgets, AChargeCountsWhereItIsSettledAndHoldsReachOverMidnight) {
  Budgets budgets = with({{"", budget(100)}});
  const auto use = budgets.purpose("default", "m");
  const std::int64_t midnight = (kNoon + 43'200) * kSecond;
  EXPECT_FALSE(budgets.hold(use, Money{60}, midnight - 1));
  const auto refused = budgets.hold(use, Money{60}, midnight);   // yesterday's open hold still stands against today
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->available.nano, 40);
  settle(budgets, use, Money{60}, Money{50}, midnight, midnight - 1);
  EXPECT_EQ(budgets.states(midnight)[0].spent.nano, 50);
  EXPECT_FALSE(budgets.hold(use, Money{50}, midnight));
  EXPECT_TRUE(budgets.hold(use, Money{1}, midnight));
}

TEST(Budgets, AClockSetForwardAndBackFindsTheSpendingOfItsDayAgain) {
  Budgets budgets = with({{"", budget(100)}});
  const auto use = budgets.purpose("default", "m");
  EXPECT_FALSE(budgets.hold(use, Money{100}, kNow));
  settle(budgets, use, Money{100}, Money{100}, kNow);
  const std::int64_t year = std::int64_t{365} * 86'400 * kSecond;
  EXPECT_FALSE(budgets.hold(use, Money{100}, kNow + year));
  settle(budgets, use, Money{100}, Money{0}, kNow + year);
  EXPECT_TRUE(budgets.hold(use, Money{1}, kNow));
}

TEST(Budgets, AClockSetBackOverMidnightOpensNoSecondBudget) {
  Budgets budgets = with({{"", budget(100)}});
  const auto use = budgets.purpose("default", "m");
  const std::int64_t tomorrow = kNow + std::int64_t{86'400} * kSecond;
  EXPECT_FALSE(budgets.hold(use, Money{70}, tomorrow));
  EXPECT_TRUE(budgets.hold(use, Money{31}, kNow)) << "today has 100, but this may end tomorrow, where 30 are left";
  EXPECT_FALSE(budgets.hold(use, Money{30}, kNow));
  settle(budgets, use, Money{30}, Money{30}, kNow);
  settle(budgets, use, Money{70}, Money{70}, tomorrow);
  EXPECT_EQ(budgets.states(kNow)[0].spent.nano, 30);
  EXPECT_FALSE(budgets.hold(use, Money{30}, kNow)) << "tomorrow's 70 are no longer set aside, and 30 of it are left";
}

TEST(Budgets, ReloadKeepsWhatIsSpentAndHeldAndANewBudgetCountsTheDaySoFar) {
  Budgets budgets = with({{"", budget(100)}});
  const auto use = budgets.purpose("search", "m");
  EXPECT_FALSE(budgets.hold(use, Money{70}, kNow));
  settle(budgets, use, Money{40}, Money{30}, kNow);
  ASSERT_TRUE(budgets.configure({{"", budget(50)}, {"search", budget(80, Per::month)}}, kNow));
  const auto states = budgets.states(kNow);
  EXPECT_EQ(states[0].spent.nano, 30);
  EXPECT_EQ(states[0].held.nano, 30);
  EXPECT_EQ(states[1].spent.nano, 30);
  EXPECT_EQ(states[1].held.nano, 30);
  EXPECT_TRUE(budgets.hold(use, Money{1}, kNow));    // 30 spent and 30 held against 50
  settle(budgets, use, Money{30}, Money{0}, kNow);
  EXPECT_FALSE(budgets.hold(use, Money{20}, kNow));
}

TEST(Budgets, AReloadWithAMistakeChangesNothing) {
  Budgets budgets = with({{"", budget(100)}});
  auto tagged = budget(5);
  tagged.tag = "team=search";
  tagged.model = "m";                                // spend by tag is not kept by model
  for (const auto& bad : {budget(-1), budget(5, Per::day, "Mars/Olympus"), tagged}) {
    const auto configured = budgets.configure({{"", bad}}, kNow);
    ASSERT_FALSE(configured);
    EXPECT_EQ(configured.error().code, Errc::bad_config);
    EXPECT_EQ(configured.error().message.find("tenants.yaml:4: "), 0u) << configured.error().message;
  }
  EXPECT_EQ(budgets.states(kNow).at(0).spec.amount.nano, 100);
}

TEST(Budgets, RecoveredHoursCountInThePeriodsTheyFallIn) {
  Budgets budgets("acme", "USD");
  budgets.recover("search", "m", INT64_MIN, Money{1'000});
  budgets.recover("search", "m", kNoon - 86'400, Money{10});
  budgets.recover("search", "m", kNoon - 3'600, Money{7});
  ASSERT_TRUE(budgets.configure({{"", budget(100)}, {"", budget(100, Per::week)}, {"", budget(100, Per::total)}}, kNow));
  const auto states = budgets.states(kNow);
  EXPECT_EQ(states[0].spent.nano, 7);
  EXPECT_EQ(states[1].spent.nano, 17);
  EXPECT_EQ(states[2].spent.nano, 1'017);
}

TEST(Budgets, APeriodThatStartsWithinAnHourIsCorrected) {
  Budgets budgets("acme", "USD");
  const std::int64_t start = 1'795'545'000;          // 2026-11-24T18:30:00Z is midnight in Kolkata
  budgets.recover("search", "m", start - 1'800, Money{9});
  ASSERT_TRUE(budgets.configure({{"", budget(100, Per::day, "Asia/Kolkata")}}, (start + 60) * kSecond));
  EXPECT_EQ(budgets.states((start + 60) * kSecond)[0].spent.nano, 9) << "first refused early, not overspent";
  ASSERT_EQ(budgets.uneven_starts(), std::vector<std::int64_t>{start});
  budgets.correct(start, "search", "m", "", Money{4});
  EXPECT_EQ(budgets.states((start + 60) * kSecond)[0].spent.nano, 5);
  // Nothing of this evening's hour is carried over the next midnight, nor by a reload.
  const auto use = budgets.purpose("search", "m");
  const std::int64_t evening = (start + 86'400 - 60) * kSecond;
  EXPECT_FALSE(budgets.hold(use, Money{50}, evening));
  settle(budgets, use, Money{50}, Money{50}, evening);
  EXPECT_EQ(budgets.states(evening + 120 * kSecond)[0].spent.nano, 0);
  ASSERT_TRUE(budgets.configure({{"", budget(200, Per::day, "Asia/Kolkata")}}, evening + 120 * kSecond));
  EXPECT_EQ(budgets.states(evening + 120 * kSecond)[0].spent.nano, 0);
}

TEST(Budgets, APrepaidBalanceIsNeverOverdrawn) {
  Budgets budgets = with({});
  const auto use = budgets.purpose("default", "m");
  budgets.balance().top_up({{}, Money{10}, {}, 0, 0});
  EXPECT_FALSE(budgets.hold(use, Money{6}, kNow));
  const auto refused = budgets.hold(use, Money{5}, kNow);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->available.nano, 4);
  EXPECT_NE(refused->message.find("prepaid balance"), std::string::npos);
  settle(budgets, use, Money{6}, Money{2}, kNow);
  EXPECT_EQ(budgets.balance().balance().nano, 8);
  budgets.balance().adjust({}, Money{1});
  EXPECT_FALSE(budgets.hold(use, Money{9}, kNow));
}

TEST(Budgets, WithoutBudgetsAndPrepaidNothingIsRefusedAndSumsDoNotOverflow) {
  Budgets budgets = with({});
  const auto use = budgets.purpose("default", "m");
  EXPECT_FALSE(budgets.hold(use, Money{INT64_MAX}, kNow));
  EXPECT_TRUE(budgets.hold(use, Money{1}, kNow));
  settle(budgets, use, Money{INT64_MAX}, Money{INT64_MAX}, kNow);
  EXPECT_FALSE(budgets.hold(use, Money{INT64_MAX}, kNow));
  settle(budgets, use, Money{INT64_MAX}, Money{INT64_MAX}, kNow);
}

// A plain list of charges against the object: days and months of random traffic in zones with uneven days.
TEST(Budgets, NoPeriodEverHoldsMoreThanItsHardBudget) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    const char* zones[] = {"Europe/Berlin", "Asia/Kolkata", "America/Santiago", "UTC"};
    const std::string zone_name = zones[seed % 4];
    const TimeZone& zone = **TimeZone::find(zone_name);
    const Per per = seed % 3 == 0 ? Per::week : Per::day;
    const std::int64_t limit = 50 + static_cast<std::int64_t>(random() % 100);
    Budgets budgets = with({{"", budget(limit, per, zone_name)}});
    const auto use = budgets.purpose("default", "m");
    struct Open {
      std::int64_t amount, taken_s;
    };
    std::vector<Open> open;
    std::map<std::int64_t, std::int64_t> spent;      // by start of the period
    std::int64_t now_s = kNoon, held = 0;
    int admitted = 0;
    for (int i = 0; i < 3000; ++i) {
      now_s += static_cast<std::int64_t>(random() % 4000);
      if (random() % 50 == 0) now_s -= static_cast<std::int64_t>(random() % 200'000);   // the clock is set back
      if (random() % 2 == 0) {
        const auto amount = static_cast<std::int64_t>(random() % 40);
        if (!budgets.hold(use, Money{amount}, now_s * kSecond)) open.push_back({amount, now_s}), held += amount, ++admitted;
      } else if (!open.empty()) {
        const std::size_t which = random() % open.size();
        const Open one = open[which];
        const std::int64_t charge = random() % 4 == 0 ? 0 : static_cast<std::int64_t>(random() % (one.amount + 1));
        const std::int64_t ends_s = std::max(now_s, one.taken_s);
        settle(budgets, use, Money{one.amount}, Money{charge}, ends_s * kSecond, one.taken_s * kSecond);
        open.erase(open.begin() + static_cast<std::ptrdiff_t>(which));
        held -= one.amount;
        ASSERT_LE(spent[period_of(per, zone, ends_s).start_s] += charge, limit);
      }
      if (random() % 200 == 0) {                     // reloads change nothing
        ASSERT_TRUE(budgets.configure({{"", budget(limit, per, zone_name)}}, now_s * kSecond));
      }
      ASSERT_EQ(budgets.held().nano, held);
    }
    EXPECT_GT(admitted, 50);
  }
}

}  // namespace
}  // namespace tokenworks::billing
