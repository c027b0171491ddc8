#include "admission_storm.hpp"

#include <barrier>

#include "support/paths.hpp"

namespace tokenworks::gateway {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::int64_t kUsual = 300'000;         // fewer come near too few budgets to prove anything
#else
constexpr std::int64_t kUsual = 1'000'000;
#endif
constexpr std::int64_t kPlanted = 300'000;

// Slides a window over a plain list.
template <class Events>
std::int64_t most_within(Events events, std::int64_t span_ms) {
  std::ranges::sort(events, {}, [](const auto& e) { return e.at; });
  std::int64_t most = 0, sum = 0;
  for (std::size_t first = 0, i = 0; i < events.size(); ++i) {
    sum += events[i].units;
    while (events[first].at <= events[i].at - span_ms) sum -= events[first++].units;
    most = std::max(most, sum);
  }
  return most;
}

}  // namespace

void AdmissionStorm::check_windows() {
  int busy = 0;
  for (int i = 0; i < kOrganizations; ++i) {
    const Tenant& t = plain_[static_cast<std::size_t>(i)];
    const std::int64_t f = t.reloaded ? 2 : 1;
    const std::int64_t requests = most_within(t.entered, 60'000);
    promise(requests <= t.requests * f, name(i) + ": more requests in 60 s than the limit");
    if (requests > t.requests * f * 9 / 10) ++busy;
    if (t.kind != 2) continue;
    promise(most_within(t.tokens_taken, 60'000) <= t.tokens * f, name(i) + ": more tokens in 60 s than the limit");
    promise(most_within(t.tokens_taken, 3'600'000) <= t.hour_tokens * f, name(i) + ": more tokens in an hour than the limit");
    promise(most_within(t.output_taken, 60'000) <= t.output_tokens * f, name(i) + ": more output tokens in 60 s than the limit");
  }
  if (bug_ == Bug::none) promise(busy > 3, "the storm never came near the limits");
}

void AdmissionStorm::check_budgets() {
  const TimeZone& zone = **TimeZone::find("Europe/Berlin");
  for (int i = 0; i < kOrganizations; ++i) {
    const Tenant& t = plain_[static_cast<std::size_t>(i)];
    if (t.kind != 1) continue;
    const std::int64_t f = t.reloaded ? 2 : 1;
    std::map<std::int64_t, std::int64_t> day, week, project, key, tag;
    for (const Charge& charge : t.charges) {
      const std::int64_t start = billing::period_of(config::BudgetSpec::Per::day, zone, charge.at).start_s;
      day[start] += charge.units;
      week[billing::period_of(config::BudgetSpec::Per::week, zone, charge.at).start_s] += charge.units;
      if (charge.search) project[start] += charge.units;
      if (charge.second_key) key[start] += charge.units;
      if (charge.red) tag[start] += charge.units;
    }
    const auto within = [&](const std::map<std::int64_t, std::int64_t>& sums, std::int64_t most, const char* what) {
      for (const auto& [start, sum] : sums) {
        promise(sum <= most * f, name(i) + ": overspent the budget of its " + what);
        if (sum > most * f * 9 / 10) ++nearly_full;
      }
    };
    within(day, t.day_budget, "day");
    within(week, t.week(), "week");
    within(project, t.part(), "project");
    within(key, t.part(), "key");
    within(tag, t.part(), "tag");
  }
  if (bug_ == Bug::none) promise(nearly_full > 10, "the storm never came near the budgets");
}

void AdmissionStorm::storm(std::int64_t admissions) {
  const std::int64_t rounds = admissions / kThreads / kPerRound;
  std::mt19937_64 between(99);
  std::barrier barrier(kThreads + 1, [&]() noexcept { between_rounds(between); });
  std::vector<std::thread> threads;
  for (int n = 0; n < kThreads; ++n) {
    threads.emplace_back([&, n] {
      std::mt19937_64 random(static_cast<std::uint64_t>(n) + 1);
      std::deque<Flight>& flights = flights_[static_cast<std::size_t>(n)];
      for (std::int64_t round = 0; round < rounds; ++round) {
        for (int i = 0; i < kPerRound && !failed_; ++i) {
          start(random, flights);
          if (flights.empty()) continue;
          Flight& f = flights[random() % flights.size()];
          if (f.admitted.hold.chunked() && random() % 2 == 0) extend(f);
          if (!f.expired && random() % 3 == 0) {
            const std::int64_t most = f.admitted.hold.granted_output() * f.ask.choices;
            f.told += static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - f.told + 1));
            f.heard_ns = clock.steady_ns();
            f.admitted.hold.progress(used(f.ask.prompt_tokens, f.told));
          }
          if (flights.size() > 2 || random() % 3 == 0) {
            const std::size_t which = random() % flights.size();
            finish(random, flights[which]);
            flights.erase(flights.begin() + static_cast<std::ptrdiff_t>(which));
          }
        }
        barrier.arrive_and_wait();
      }
      while (!flights.empty()) finish(random, flights.front()), flights.pop_front();
    });
  }
  std::thread others([&] {                           // reloads, top-ups that expire, credits that lapse
    std::mt19937_64 random(7);
    std::uint8_t operation = 0;
    for (std::int64_t round = 0; round < rounds; ++round) {
      if (random() % 4 == 0) {
        configure(1 + static_cast<std::int64_t>(random() % 2));
        promise(admission->reload(tenants, book()).has_value(), "a reload failed");
      }
      const auto i = static_cast<std::size_t>(random() % kOrganizations);
      if (plain_[i].kind == 0) {
        const auto more = 1 + static_cast<std::int64_t>(random() % (kOutput * 20'000));
        RequestId id = next_id();
        id.bytes[0] = ++operation;
        const std::int64_t expires = random() % 3 == 0 ? 0 : clock.unix_ns() + (1 + static_cast<std::int64_t>(random() % 600)) * kSecond;
        plain_[i].topped_up += more;
        promise(admission->adjust_balance(name(static_cast<int>(i)), Money{more}, true, id, expires).has_value(), "a top-up failed");
      }
      admission->tick();
      barrier.arrive_and_wait();
    }
  });
  for (auto& thread : threads) thread.join();
  others.join();
  promise(ledger.open_holds() == 0, "holds are still open after the end");
  promise(admission->totals().holds_open == 0 && admission->totals().hold_amount.nano == 0, "something is still set aside after the end");
  promise(ledger.ended() == admitted_count.load(), "not every hold ended once");
  check_windows();
  check_budgets();
}

namespace {

TEST_F(AdmissionStorm, NoPromiseBreaksUnderSixtyFourThreads) {
  plant(Bug::none);
  EXPECT_GE(budgets_held.load(), 200);
  open();
  const std::int64_t total = test::long_run() ? 2'000'000 : kUsual;
  storm(total);
  for (const std::string& what : broken) ADD_FAILURE() << what;
  EXPECT_GT(admitted_count.load(), total / 20);
  EXPECT_GT(refused_count.load(), admitted_count.load() / 10);
  EXPECT_GT(extended_count.load(), 100);
  EXPECT_GT(expired_count.load(), 10);
  RecordProperty("admitted", std::to_string(admitted_count.load()));
  std::printf("[   storm  ] %lld admissions tried over %lld budgets: %lld admitted (%lld in chunks), %lld refused, %lld extensions, %lld expired, "
              "%lld days, weeks, projects, keys and tags spent to nine tenths or more\n",
              static_cast<long long>(total), static_cast<long long>(budgets_held.load()), static_cast<long long>(admitted_count.load()),
              static_cast<long long>(chunked_count.load()), static_cast<long long>(refused_count.load()), static_cast<long long>(extended_count.load()),
              static_cast<long long>(expired_count.load()), static_cast<long long>(nearly_full.load()));
}

TEST_F(AdmissionStorm, FindsACheckThatIsFollowedByAnAct) {
  plant(Bug::check_then_act);
  open();
  storm(kPlanted);
  EXPECT_FALSE(broken.empty());
}

TEST_F(AdmissionStorm, FindsAHoldThatIsForgottenWhenItsRequestIsCutOff) {
  plant(Bug::forgotten_hold);
  open();
  storm(kPlanted);
  EXPECT_FALSE(broken.empty());
}

}  // namespace
}  // namespace tokenworks::gateway
