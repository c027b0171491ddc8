// Sixty-four threads of random requests against the promises of admission, checked against plain lists of what happened.
// Threads run in rounds: within one, time stands still (so the lists know when everything happened) while reloads and
// top-ups go on; between rounds the clock moves, jumps and is set back, and every sum is compared.
#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <deque>
#include <map>
#include <random>
#include <thread>

#include "admission_fixture.hpp"
#include "support/paths.hpp"

namespace tokenworks::gateway {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::int64_t kUsual = 60'000;
#else
constexpr std::int64_t kUsual = 200'000;
#endif
constexpr int kThreads = 64, kOrganizations = 40, kPerRound = 10;

struct Event {                                       // something taken from a window, or a charge of a budget
  std::int64_t at = 0, units = 0;
};

// What one organization may do. By kind: 0 small prepaid balance, 1 small budgets, 2 token windows (and money enough).
struct Tenant {
  int kind = 0;
  bool reloaded = false;                             // its limits and budgets double and halve
  std::int64_t requests = 0, tokens = 0, places = 0, day_budget = 0, project_budget = 0, week_budget = 0;
  std::atomic<std::int64_t> inside{0}, topped_up{0};
  std::mutex mutex;
  std::vector<Event> entered, tokens_taken;          // steady ms
  std::vector<std::pair<bool, Event>> charges;       // of project "search"?; wall seconds
};

class AdmissionStorm : public AdmissionTest {
 protected:
  AdmissionStorm() {
    const std::int64_t total = test::long_run() ? 1'000'000 : kUsual;
    rounds = total / kThreads / kPerRound;
    tenants = {};
    std::mt19937_64 random(4711);
    for (int i = 0; i < kOrganizations; ++i) {
      Tenant& t = plain[static_cast<std::size_t>(i)];
      t.kind = i % 3;
      t.reloaded = i % 2 == 1;
      t.requests = 50 + static_cast<std::int64_t>(random() % 400);
      t.tokens = 2'000 + static_cast<std::int64_t>(random() % 20'000);
      t.places = 3 + static_cast<std::int64_t>(random() % 12);
      t.day_budget = kOutput * (2'000 + static_cast<std::int64_t>(random() % 60'000));
      t.project_budget = t.day_budget / 2;
      t.week_budget = t.day_budget * 3;
      if (t.kind == 0) ledger.balance_rows.push_back({OrganizationId{name(i)}, "USD", Money{kOutput * 500}, true});
    }
    ledger.keep_records(false);
    configure(1);
  }

  static std::string name(int i) { return "org" + std::to_string(i); }

  void configure(std::int64_t factor) {
    tenants = {};
    for (int i = 0; i < kOrganizations; ++i) {
      const Tenant& t = plain[static_cast<std::size_t>(i)];
      const std::int64_t f = t.reloaded ? factor : 1;
      config::PlanSpec plan;
      plan.name = "plan" + std::to_string(i);
      plan.requests_per_minute = t.requests * f;
      plan.concurrent_requests = t.places * f;
      plan.reserve_output_tokens = 16;
      if (t.kind == 2) plan.tokens_per_minute = t.tokens * f;
      config::OrganizationSpec o;
      o.name = name(i);
      o.plan = plan.name;
      o.projects.resize(2);
      o.projects[0].name = "default";
      o.projects[1].name = "search";
      const auto budget = [f](std::int64_t nano, config::BudgetSpec::Per per, bool hard = true) {
        config::BudgetSpec spec;
        spec.amount = Money{nano * f};
        spec.per = per;
        spec.hard = hard;
        spec.timezone = "Europe/Berlin";
        spec.warn_at = {};
        return spec;
      };
      using Per = config::BudgetSpec::Per;
      if (t.kind == 1) {
        o.budgets = {budget(t.day_budget, Per::day), budget(t.week_budget, Per::week), budget(t.day_budget, Per::month, false)};
        o.projects[1].budgets = {budget(t.project_budget, Per::day)};
      } else {
        o.budgets = {budget(t.day_budget, Per::total, false), budget(t.week_budget, Per::day, false)};
      }
      tenants.plans.push_back(plan);
      tenants.organizations.push_back(o);
    }
  }

  struct Flight {
    Flight(Tenant& t, Admitted&& a, const Ask& k, bool project, std::vector<Event> taken)
        : tenant(&t), admitted(std::move(a)), ask(k), search(project), windows(std::move(taken)) {}
    Tenant* tenant;
    Admitted admitted;
    Ask ask;
    bool search;
    std::vector<Event> windows;                      // token windows: what was granted, when
    std::int64_t told = 0;                           // output of the last progress
    std::int64_t taken_ns = 0;                       // wall clock
  };

  std::int64_t steady_ms() const { return clock.steady_ms(); }

  void start(std::mt19937_64& random, std::deque<Flight>& flights);
  void extend(Flight& f);
  void finish(std::mt19937_64& random, Flight& f);
  void between_rounds(std::mt19937_64& random);
  void check_windows() const;
  void check_budgets() const;

  std::int64_t rounds = 0, latest_wall_ns = 0;
  std::array<Tenant, kOrganizations> plain;
  std::atomic<std::int64_t> admitted_count{0}, refused_count{0}, extended_count{0}, chunked_count{0};
  std::atomic<bool> failed{false};
};

void AdmissionStorm::start(std::mt19937_64& random, std::deque<Flight>& flights) {
  const int i = static_cast<int>(random() % kOrganizations);
  Tenant& t = plain[static_cast<std::size_t>(i)];
  const bool search = random() % 2 == 0;
  const auto who = member(name(i), search ? "search" : "default");
  const std::int64_t now = steady_ms();
  auto entrance = admission->enter(who);
  if (!entrance) {
    ++refused_count;
    return;
  }
  if (++t.inside > t.places * (t.reloaded ? 2 : 1)) ADD_FAILURE() << "more running than there are places";
  {
    std::lock_guard lock(t.mutex);
    t.entered.push_back({now, 1});
  }
  const Ask wanted = ask(static_cast<std::int64_t>(random() % 60), 1 + static_cast<std::int64_t>(random() % 150), 1 + static_cast<std::int64_t>(random() % 3));
  auto hold = admission->admit(who, *entrance, wanted, {});
  if (!hold) {
    ++refused_count;
    --t.inside;
    return;
  }
  ++admitted_count;
  if (hold->chunked()) ++chunked_count;
  std::vector<Event> windows{{now, wanted.prompt_tokens + hold->granted_output() * wanted.choices}};
  flights.emplace_back(t, Admitted{std::move(*entrance), std::move(*hold)}, wanted, search, std::move(windows));
  flights.back().taken_ns = clock.unix_ns();
}

void AdmissionStorm::extend(Flight& f) {
  const std::int64_t before = f.admitted.hold.granted_output();
  const auto granted = f.admitted.hold.extend();
  if (!granted) return;
  ++extended_count;
  if (*granted > before) f.windows.push_back({steady_ms(), (*granted - before) * f.ask.choices});
}

// Every way a request can end: settled with all, some or nothing, or its owner simply gone.
void AdmissionStorm::finish(std::mt19937_64& random, Flight& f) {
  const std::int64_t most = f.admitted.hold.granted_output() * f.ask.choices;
  const auto output = f.told + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - f.told + 1));
  const auto cached = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(f.ask.prompt_tokens + 1));
  Usage usage = used(f.ask.prompt_tokens, output, cached);
  Money charge;
  if (random() % 4 == 0) {                           // the coroutine is lost
    usage = f.told > 0 ? used(f.ask.prompt_tokens, f.told) : Usage{};
    charge.nano = usage.input * kInput + usage.output * kOutput;
    Hold gone = std::move(f.admitted.hold);
  } else {
    const auto settled = f.admitted.hold.settle(usage, "stop", {});
    if (!settled) {
      ADD_FAILURE() << settled.error().message;
      return;
    }
    charge = settled->total;
  }
  std::lock_guard lock(f.tenant->mutex);
  f.tenant->charges.push_back({f.search, {std::max(clock.unix_ns(), f.taken_ns) / kSecond, charge.nano}});
  std::int64_t left = usage.input + usage.output;    // what was used stays where it was taken first
  for (const Event& taken : f.windows) {
    const std::int64_t part = std::min(left, taken.units);
    if (part > 0) f.tenant->tokens_taken.push_back({taken.at, part});
    left -= part;
  }
  --f.tenant->inside;
}

void AdmissionStorm::between_rounds(std::mt19937_64& random) {
  std::int64_t open = 0;
  for (int i = 0; i < kOrganizations; ++i) {
    const Tenant& t = plain[static_cast<std::size_t>(i)];
    const auto s = *admission->standing(name(i));
    EXPECT_EQ(s.held.nano, ledger.open_nano(name(i)));
    EXPECT_EQ(s.running, t.inside.load());
    if (s.balance) {
      EXPECT_GE(s.balance->nano, s.held.nano) << "a balance can be overdrawn";
      EXPECT_EQ(s.balance->nano, kOutput * 500 + t.topped_up.load() - ledger.settled_nano(name(i)));
    }
    for (const billing::BudgetState& b : s.budgets) {
      if (b.spec.hard && !t.reloaded && latest_wall_ns <= clock.unix_ns()) {   // set back, later holds are none of this day's
        EXPECT_LE(b.spent.nano + b.held.nano, b.spec.amount.nano);
      }
      if (b.project.empty()) {
        EXPECT_EQ(b.held.nano, s.held.nano);
      }
    }
    open += s.holds_open;
  }
  latest_wall_ns = std::max(latest_wall_ns, clock.unix_ns());
  EXPECT_EQ(open, static_cast<std::int64_t>(ledger.open_holds()));
  EXPECT_EQ(open, admitted_count.load() - ledger.ended());
  if (HasFailure()) failed = true;
  clock.advance_ns(static_cast<std::int64_t>(random() % 6'000) * 1'000'000);
  if (random() % 40 == 0) clock.advance_ns(static_cast<std::int64_t>(random() % 10'800) * kSecond);
  if (random() % 60 == 0) clock.step_wall_ns((random() % 2 == 0 ? 1 : -1) * static_cast<std::int64_t>(random() % 86'400) * kSecond);
}

// Slides a window of 60 s over a plain list.
std::int64_t most_in_a_minute(std::vector<Event> events) {
  std::ranges::sort(events, {}, &Event::at);
  std::int64_t most = 0, sum = 0;
  for (std::size_t first = 0, i = 0; i < events.size(); ++i) {
    sum += events[i].units;
    while (events[first].at <= events[i].at - 60'000) sum -= events[first++].units;
    most = std::max(most, sum);
  }
  return most;
}

void AdmissionStorm::check_windows() const {
  int busy = 0;
  for (int i = 0; i < kOrganizations; ++i) {
    const Tenant& t = plain[static_cast<std::size_t>(i)];
    const std::int64_t f = t.reloaded ? 2 : 1;
    EXPECT_LE(most_in_a_minute(t.entered), t.requests * f) << name(i);
    if (most_in_a_minute(t.entered) > t.requests * f * 9 / 10) ++busy;
    if (t.kind == 2) {
      EXPECT_LE(most_in_a_minute(t.tokens_taken), t.tokens * f) << name(i);
    }
  }
  EXPECT_GT(busy, 3) << "the storm never came near the limits";
}

void AdmissionStorm::check_budgets() const {
  const TimeZone& zone = **TimeZone::find("Europe/Berlin");
  std::int64_t nearly_full = 0;
  for (int i = 0; i < kOrganizations; ++i) {
    const Tenant& t = plain[static_cast<std::size_t>(i)];
    if (t.kind != 1) continue;
    const std::int64_t f = t.reloaded ? 2 : 1;
    std::map<std::int64_t, std::int64_t> day, week, project_day;
    for (const auto& [search, charge] : t.charges) {
      const std::int64_t start = billing::period_of(config::BudgetSpec::Per::day, zone, charge.at).start_s;
      day[start] += charge.units;
      week[billing::period_of(config::BudgetSpec::Per::week, zone, charge.at).start_s] += charge.units;
      if (search) project_day[start] += charge.units;
    }
    for (const auto& [start, sum] : day) {
      EXPECT_LE(sum, t.day_budget * f) << name(i) << " on the day of " << start;
      if (sum > t.day_budget * f * 9 / 10) ++nearly_full;
    }
    for (const auto& [start, sum] : week) EXPECT_LE(sum, t.week_budget * f) << name(i);
    for (const auto& [start, sum] : project_day) EXPECT_LE(sum, t.project_budget * f) << name(i);
  }
  EXPECT_GT(nearly_full, 3) << "the storm never came near the budgets";
}

TEST_F(AdmissionStorm, NoPromiseBreaksUnderSixtyFourThreads) {
  open();
  std::mt19937_64 between(99);
  std::barrier barrier(kThreads + 1, [&]() noexcept { between_rounds(between); });

  std::vector<std::thread> threads;
  for (int n = 0; n < kThreads; ++n) {
    threads.emplace_back([&, n] {
      std::mt19937_64 random(static_cast<std::uint64_t>(n) + 1);
      std::deque<Flight> flights;
      for (std::int64_t round = 0; round < rounds; ++round) {
        for (int i = 0; i < kPerRound && !failed; ++i) {
          start(random, flights);
          if (flights.empty()) continue;
          Flight& f = flights[random() % flights.size()];
          if (f.admitted.hold.chunked() && random() % 2 == 0) extend(f);
          if (random() % 3 == 0) {
            const std::int64_t most = f.admitted.hold.granted_output() * f.ask.choices;
            f.told += static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - f.told + 1));
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
  std::thread reloads([&] {
    std::mt19937_64 random(7);
    for (std::int64_t round = 0; round < rounds; ++round) {
      if (random() % 4 == 0) {
        configure(1 + static_cast<std::int64_t>(random() % 2));
        EXPECT_TRUE(admission->reload(tenants, book()));
      }
      const int i = static_cast<int>(random() % kOrganizations);
      if (plain[static_cast<std::size_t>(i)].kind == 0) {
        const auto more = static_cast<std::int64_t>(random() % (kOutput * 20'000));
        EXPECT_TRUE(admission->adjust_balance(name(i), Money{more}, true));
        plain[static_cast<std::size_t>(i)].topped_up += more;
      }
      barrier.arrive_and_wait();
    }
  });
  for (auto& thread : threads) thread.join();
  reloads.join();

  EXPECT_EQ(ledger.open_holds(), 0u);
  EXPECT_EQ(admission->totals().holds_open, 0);
  EXPECT_EQ(admission->totals().hold_amount.nano, 0);
  EXPECT_EQ(ledger.ended(), admitted_count.load()) << "every hold ends once";
  EXPECT_GT(admitted_count.load(), rounds * kThreads * kPerRound / 20);
  EXPECT_GT(refused_count.load(), admitted_count.load() / 10);
  EXPECT_GT(extended_count.load(), 100);
  check_windows();
  check_budgets();
  RecordProperty("admitted", std::to_string(admitted_count.load()));
  std::printf("[   storm  ] %lld admissions tried: %lld admitted (%lld in chunks), %lld refused, %lld extensions\n",
              static_cast<long long>(rounds * kThreads * kPerRound), static_cast<long long>(admitted_count.load()),
              static_cast<long long>(chunked_count.load()), static_cast<long long>(refused_count.load()),
              static_cast<long long>(extended_count.load()));
}

}  // namespace
}  // namespace tokenworks::gateway
