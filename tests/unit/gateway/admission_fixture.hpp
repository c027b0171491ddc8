#pragma once
// A plant of one or more organizations on a clock the test moves and a ledger it can look into.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "support/fake_ledger.hpp"
#include "tokenworks/gateway/admission.hpp"
#include "tokenworks/gateway/orders.hpp"

namespace tokenworks::gateway {

inline constexpr std::int64_t kSecond = 1'000'000'000;
inline constexpr std::int64_t kNoon = 1'795'521'600;   // 2026-11-24T12:00:00Z, a Tuesday

// 100 and 400 nano-units per token: every amount in a test is easy to follow.
inline constexpr std::int64_t kInput = 100, kCached = 50, kOutput = 400;

class AdmissionTest : public ::testing::Test {
 protected:
  AdmissionTest() {
    config::PlanSpec plan;
    plan.name = "starter";
    plan.weight = 3;
    tenants.plans = {plan};
    config::OrganizationSpec acme;
    acme.name = "acme";
    acme.plan = "starter";
    acme.where = {"tenants.yaml", 7};
    acme.projects.resize(2);
    acme.projects[0].name = "default";
    acme.projects[1].name = "search";
    tenants.organizations = {acme};
    prices.version = "v1";
    prices.models["m"] = {kInput * 1000, kCached * 1000, kOutput * 1000, {"prices.yaml", 3}};
  }

  config::PlanSpec& plan() { return tenants.plans[0]; }
  config::OrganizationSpec& acme() { return tenants.organizations[0]; }
  void budget(std::int64_t nano, config::BudgetSpec::Per per = config::BudgetSpec::Per::day) {
    config::BudgetSpec spec;
    spec.amount = Money{nano};
    spec.per = per;
    acme().budgets.push_back(spec);
  }
  std::shared_ptr<const billing::PriceBook> book() { return *billing::PriceBook::make(prices); }

  Admission& open() {
    auto made = Admission::make(clock, ledger, {"build-1", "eu-central", "DE"}, tenants, book());
    EXPECT_TRUE(made) << made.error().message;
    admission = std::move(*made);
    return *admission;
  }

  static tenancy::Principal member(const std::string& organization = "acme", const std::string& project = "default") {
    tenancy::Principal who;
    who.key = KeyId{"k1234567"};
    who.organization = OrganizationId{organization};
    who.project = ProjectId{organization + "/" + project};
    who.principal = "service:default";
    who.tenant = 5;
    return who;
  }
  static RequestId next_id() {
    static std::atomic<std::uint64_t> counter{0};
    RequestId id;
    const std::uint64_t n = ++counter;
    for (std::size_t i = 0; i < 8; ++i) id.bytes[15 - i] = static_cast<std::uint8_t>(n >> (8 * i));
    return id;
  }
  static Ask ask(std::int64_t prompt, std::int64_t output, std::int64_t choices = 1) {
    Ask ask;
    ask.request = next_id();
    ask.model = ModelId{"m"};
    ask.prompt_tokens = prompt;
    ask.output_tokens = output;
    ask.choices = choices;
    return ask;
  }

  struct Admitted {
    Entrance entrance;
    Hold hold;
  };
  // Both steps; the code of the refusal lands in `last_error`.
  std::optional<Admitted> admit(const Ask& ask, const tenancy::Principal& who = member()) {
    auto entrance = admission->enter(who, ask.model.value);
    if (!entrance) {
      last_error = entrance.error();
      return std::nullopt;
    }
    auto hold = admission->admit(who, *entrance, ask, {});
    if (!hold) {
      last_error = hold.error();
      return std::nullopt;
    }
    return Admitted{std::move(*entrance), std::move(*hold)};
  }
  static Usage used(std::int64_t input, std::int64_t output, std::int64_t cached = 0) {
    return {.input = input, .cached_input = cached, .output = output};
  }
  Admission::Standing standing() { return *admission->standing("acme"); }

  ManualClock clock{kNoon * kSecond};
  test::FakeLedger ledger;
  config::Tenants tenants;
  config::Prices prices;
  std::unique_ptr<Admission> admission;
  Error last_error;
};

}  // namespace tokenworks::gateway
