#pragma once
// The storm: threads of random requests against the promises of admission, checked against plain lists of what happened.
// Threads run in rounds: within one, time stands still (so the lists know when everything happened) while reloads, top-ups
// and expiries go on; between rounds the clock moves, jumps and is set back, and every sum is compared. What breaks a promise
// is written down, not asserted: a storm over a planted bug must break one.
#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "admission_fixture.hpp"

namespace tokenworks::gateway {

class AdmissionStorm : public AdmissionTest {
 protected:
  // Bugs that gateways have: a check and an act with time between, and a hold nobody ends when its request is cut off.
  enum class Bug { none, check_then_act, forgotten_hold };

  static constexpr int kThreads = 64, kOrganizations = 60, kPerRound = 10;
  static constexpr std::int64_t kHoldExpiry = 600 * kSecond;

  struct Event {                                     // something taken from a window, or a charge of a budget
    std::int64_t at = 0, units = 0;
  };
  struct Charge : Event {                            // wall seconds
    bool search = false, red = false, second_key = false;
  };

  // What one organization may do. By kind: 0 prepaid by credits that expire, 1 small budgets of every sort, 2 token windows.
  struct Tenant {
    int kind = 0;
    bool reloaded = false;                           // its limits and budgets double and halve
    std::int64_t requests = 0, tokens = 0, output_tokens = 0, hour_tokens = 0, places = 0, day_budget = 0;
    std::int64_t part() const { return day_budget / 2; }       // of a project, a key, a tag
    std::int64_t week() const { return day_budget * 3; }
    std::atomic<std::int64_t> inside{0}, topped_up{0};
    std::mutex mutex;
    std::vector<Event> entered, tokens_taken, output_taken;    // steady ms
    std::vector<Charge> charges;
  };

  struct Flight {
    Tenant* tenant;
    Admitted admitted;
    Ask ask;
    Charge as;                                       // what it will be charged as
    std::vector<Event> windows;                      // output granted, when; the prompt with the first
    std::int64_t told = 0;                           // output of the last progress
    std::int64_t taken_ns = 0, heard_ns = 0;         // wall, steady
    bool expired = false;                            // ended by the tick
  };

  void plant(Bug which);                             // the tenants and their ledger; before open()
  void storm(std::int64_t admissions);

  std::vector<std::string> broken;                   // promises, at most a few
  std::atomic<std::int64_t> admitted_count{0}, refused_count{0}, extended_count{0}, chunked_count{0}, expired_count{0};
  std::atomic<std::int64_t> nearly_full{0}, budgets_held{0};

 private:
  static std::string name(int i) { return "org" + std::to_string(i); }
  void configure(std::int64_t factor);
  void start(std::mt19937_64& random, std::deque<Flight>& flights);
  bool looks_free(int organization, const Ask& wanted) const;
  void extend(Flight& f);
  void finish(std::mt19937_64& random, Flight& f);
  void booked(Flight& f, const Usage& usage, std::int64_t charge);
  void between_rounds(std::mt19937_64& random);
  void expire_flights();
  void check_windows();
  void check_budgets();
  void promise(bool kept, const std::string& what);

  Bug bug_ = Bug::none;
  std::int64_t latest_wall_ns_ = 0;
  std::array<Tenant, kOrganizations> plain_;
  std::array<std::deque<Flight>, kThreads> flights_;
  std::array<std::vector<billing::BudgetState>, kOrganizations> seen_;
  std::atomic<bool> failed_{false};
  std::mutex broken_mutex_;
  std::vector<Hold> forgotten_;
};

inline void AdmissionStorm::promise(bool kept, const std::string& what) {
  if (kept) return;
  std::lock_guard lock(broken_mutex_);
  if (broken.size() < 10) broken.push_back(what);
  failed_ = true;
}

inline void AdmissionStorm::plant(Bug which) {
  bug_ = which;
  std::mt19937_64 random(4711);
  for (int i = 0; i < kOrganizations; ++i) {
    Tenant& t = plain_[static_cast<std::size_t>(i)];
    t.kind = i % 3;
    t.reloaded = i % 2 == 1;
    t.requests = 50 + static_cast<std::int64_t>(random() % 400);
    t.tokens = 2'000 + static_cast<std::int64_t>(random() % 20'000);
    t.output_tokens = t.tokens * 2 / 3;
    t.hour_tokens = t.tokens * 20;
    t.places = 3 + static_cast<std::int64_t>(random() % 12);
    t.day_budget = kOutput * (2'000 + static_cast<std::int64_t>(random() % 60'000));
    if (t.kind == 0) ledger.balance_rows.push_back({OrganizationId{name(i)}, "USD", Money{kOutput * 500}, true});
  }
  ledger.keep_records(false);
  configure(1);
  for (const auto& o : tenants.organizations) {
    budgets_held += static_cast<std::int64_t>(o.budgets.size() + o.projects[1].budgets.size());
  }
}

inline void AdmissionStorm::configure(std::int64_t factor) {
  using Per = config::BudgetSpec::Per;
  tenants = {};
  for (int i = 0; i < kOrganizations; ++i) {
    const Tenant& t = plain_[static_cast<std::size_t>(i)];
    const std::int64_t f = t.reloaded ? factor : 1;
    config::PlanSpec plan;
    plan.name = "plan" + std::to_string(i);
    plan.requests_per_minute = t.requests * f;
    plan.concurrent_requests = t.places * f;
    plan.reserve_output_tokens = 16;
    if (t.kind == 2) {
      plan.tokens_per_minute = t.tokens * f;
      plan.tokens_per_hour = t.hour_tokens * f;
      plan.model_limits["m"].output_tokens_per_minute = t.output_tokens * f;
    }
    config::OrganizationSpec o;
    o.name = name(i);
    o.plan = plan.name;
    o.projects.resize(2);
    o.projects[0].name = "default";
    o.projects[1].name = "search";
    const auto budget = [&](std::int64_t nano, Per per, bool hard = true) {
      config::BudgetSpec spec;
      spec.amount = Money{nano * f};
      spec.per = per;
      spec.hard = hard && bug_ != Bug::check_then_act;   // that bug checks by itself
      spec.timezone = "Europe/Berlin";
      return spec;
    };
    if (t.kind == 1) {
      o.budgets = {budget(t.day_budget, Per::day), budget(t.week(), Per::week), budget(t.day_budget, Per::month, false), budget(t.part(), Per::day),
                   budget(t.part(), Per::day)};
      o.budgets[3].tag = "team=red";
      o.budgets[4].key = "k7654321";
      o.projects[1].budgets = {budget(t.part(), Per::day)};
    } else {
      o.budgets = {budget(t.day_budget, Per::total, false), budget(t.week(), Per::day, false)};
    }
    tenants.plans.push_back(plan);
    tenants.organizations.push_back(o);
  }
}

// The planted bug: looks at every budget, and acts on what it saw a moment later (what the last round left).
inline bool AdmissionStorm::looks_free(int organization, const Ask& wanted) const {
  if (bug_ != Bug::check_then_act) return true;
  const Tenant& t = plain_[static_cast<std::size_t>(organization)];
  const std::int64_t most = wanted.prompt_tokens * kInput + wanted.output_tokens * wanted.choices * kOutput;
  bool fits = true;
  const auto& seen = seen_[static_cast<std::size_t>(organization)];
  for (std::size_t i = 0; t.kind == 1 && i < seen.size(); ++i) {
    const billing::BudgetState& b = seen[i];
    fits = fits && (i == 2 || b.spent.nano + b.held.nano + most <= b.spec.amount.nano);   // the third is soft
  }
  return fits;
}

inline void AdmissionStorm::start(std::mt19937_64& random, std::deque<Flight>& flights) {
  const int i = static_cast<int>(random() % kOrganizations);
  Tenant& t = plain_[static_cast<std::size_t>(i)];
  Charge as;
  as.search = random() % 2 == 0;
  as.red = random() % 2 == 0;
  as.second_key = random() % 2 == 0;
  auto who = member(name(i), as.search ? "search" : "default");
  if (as.second_key) who.key = KeyId{"k7654321"};
  const std::int64_t now = clock.steady_ms();
  auto entrance = admission->enter(who, "m");
  if (!entrance) {
    ++refused_count;
    return;
  }
  promise(++t.inside <= t.places * (t.reloaded ? 2 : 1), "more running than there are places at " + name(i));
  {
    std::lock_guard lock(t.mutex);
    t.entered.push_back({now, 1});
  }
  Ask wanted = ask(static_cast<std::int64_t>(random() % 60), 1 + static_cast<std::int64_t>(random() % 150), 1 + static_cast<std::int64_t>(random() % 3));
  if (as.red) wanted.tags = {{"team", "red"}};
  if (!looks_free(i, wanted)) {
    ++refused_count;
    --t.inside;
    return;
  }
  auto hold = admission->admit(who, *entrance, wanted, {});
  if (!hold) {
    ++refused_count;
    --t.inside;
    return;
  }
  ++admitted_count;
  if (hold->chunked()) ++chunked_count;
  std::vector<Event> windows{{now, hold->granted_output() * wanted.choices}};
  flights.push_back(Flight{&t, Admitted{std::move(*entrance), std::move(*hold)}, wanted, as, std::move(windows), 0, clock.unix_ns(), clock.steady_ns()});
}

inline void AdmissionStorm::extend(Flight& f) {
  if (f.expired) return;
  const std::int64_t before = f.admitted.hold.granted_output();
  const auto granted = f.admitted.hold.extend();
  f.heard_ns = clock.steady_ns();
  if (!granted) return;
  ++extended_count;
  if (*granted > before) f.windows.push_back({clock.steady_ms(), (*granted - before) * f.ask.choices});
}

// Every way a request can end: settled with all, some or nothing, or its owner simply gone.
inline void AdmissionStorm::finish(std::mt19937_64& random, Flight& f) {
  if (f.expired) {
    promise(!f.admitted.hold.settle(used(f.ask.prompt_tokens, f.told), "stop", {}), "a hold that had expired was settled");
    return;
  }
  const std::int64_t most = f.admitted.hold.granted_output() * f.ask.choices;
  const auto output = f.told + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - f.told + 1));
  const auto cached = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(f.ask.prompt_tokens + 1));
  Usage usage = used(f.ask.prompt_tokens, output, cached);
  if (random() % 4 == 0) {                           // the coroutine is lost
    usage = f.told > 0 ? used(f.ask.prompt_tokens, f.told) : Usage{};
    if (bug_ == Bug::forgotten_hold && random() % 50 == 0) {
      std::lock_guard lock(broken_mutex_);
      forgotten_.push_back(std::move(f.admitted.hold));
    } else {
      Hold gone = std::move(f.admitted.hold);
    }
    booked(f, usage, usage.input * kInput + usage.output * kOutput);
    return;
  }
  const auto settled = f.admitted.hold.settle(usage, "stop", {});
  promise(settled.has_value(), settled ? "" : settled.error().message);
  if (settled) booked(f, usage, settled->total.nano);
}

inline void AdmissionStorm::booked(Flight& f, const Usage& usage, std::int64_t charge) {
  std::lock_guard lock(f.tenant->mutex);
  f.as.at = std::max(clock.unix_ns(), f.taken_ns) / kSecond;
  f.as.units = charge;
  f.tenant->charges.push_back(f.as);
  // What was used stays where it was taken first.
  if (usage.input > 0) f.tenant->tokens_taken.push_back({f.windows.front().at, usage.input});
  std::int64_t left = usage.output;
  for (const Event& taken : f.windows) {
    const std::int64_t part = std::min(left, taken.units);
    if (part > 0) {
      f.tenant->tokens_taken.push_back({taken.at, part});
      f.tenant->output_taken.push_back({taken.at, part});
    }
    left -= part;
  }
  --f.tenant->inside;
}

// Nobody heard of these for long: the tick ended them, with what they last counted.
inline void AdmissionStorm::expire_flights() {
  admission->tick(kHoldExpiry);
  for (auto& flights : flights_) {
    for (Flight& f : flights) {
      if (f.expired || clock.steady_ns() - f.heard_ns < kHoldExpiry) continue;
      f.expired = true;
      ++expired_count;
      const Usage usage = f.told > 0 ? used(f.ask.prompt_tokens, f.told) : Usage{};
      booked(f, usage, usage.input * kInput + usage.output * kOutput);
    }
  }
}

inline void AdmissionStorm::between_rounds(std::mt19937_64& random) {
  // Now and then hours pass in which nobody is heard of: the tick then ends every hold there is.
  if (random() % 16 == 0) clock.advance_ns(kHoldExpiry + static_cast<std::int64_t>(random() % 10'800) * kSecond);
  expire_flights();
  std::int64_t open = 0, in_flight = 0;
  for (const auto& flights : flights_) in_flight += std::ranges::count(flights, false, &Flight::expired);
  for (int i = 0; i < kOrganizations; ++i) {
    const Tenant& t = plain_[static_cast<std::size_t>(i)];
    const auto s = *admission->standing(name(i));
    seen_[static_cast<std::size_t>(i)] = s.budgets;
    promise(s.held.nano == ledger.open_nano(name(i)), name(i) + ": what is set aside is not what the books hold open");
    promise(s.running == t.inside.load(), name(i) + ": who is inside is not who came in and did not leave");
    if (s.balance) {
      promise(s.balance->nano >= s.held.nano && s.balance->nano >= 0, name(i) + ": the balance can be overdrawn");
      promise(s.balance->nano == kOutput * 500 + t.topped_up.load() - ledger.settled_nano(name(i)) + ledger.adjusted_nano(name(i)),
              name(i) + ": the balance is not the sum of the books");
    }
    for (const billing::BudgetState& b : s.budgets) {
      if (b.spec.hard && !t.reloaded && latest_wall_ns_ <= clock.unix_ns()) {   // set back, later holds are none of this day's
        promise(b.spent.nano + b.held.nano <= b.spec.amount.nano, name(i) + ": a budget is below zero");
      }
      const bool all = b.project.empty() && b.spec.tag.empty() && b.spec.key.empty();
      promise(!all || b.held.nano == s.held.nano, name(i) + ": a budget holds something else than its organization");
    }
    open += s.holds_open;
  }
  latest_wall_ns_ = std::max(latest_wall_ns_, clock.unix_ns());
  promise(open == in_flight, "sum of holds is not sum of what is in flight");
  promise(open == static_cast<std::int64_t>(ledger.open_holds()), "open holds of admission and books differ");
  promise(open == admitted_count.load() - ledger.ended(), "a hold ended twice, or never");
  clock.advance_ns(static_cast<std::int64_t>(random() % 6'000) * 1'000'000);
  if (random() % 60 == 0) clock.step_wall_ns((random() % 2 == 0 ? 1 : -1) * static_cast<std::int64_t>(random() % 86'400) * kSecond);
}

}  // namespace tokenworks::gateway
