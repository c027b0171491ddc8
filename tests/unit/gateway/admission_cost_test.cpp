// What one admission costs: key, windows and hold at 1,000 organizations, in CPU time of the calling thread.
#include <ctime>
#include <random>

#include "admission_fixture.hpp"

namespace tokenworks::gateway {
namespace {

class AdmissionCost : public AdmissionTest {
 protected:
  static std::int64_t cpu_ns() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return std::int64_t{t.tv_sec} * kSecond + t.tv_nsec;
  }
};

TEST_F(AdmissionCost, KeyWindowsAndHoldStayBelowTwentyMicroseconds) {
  constexpr int kOrganizations = 1000, kRequests = 20'000;
  plan().requests_per_minute = 1'000'000;
  plan().tokens_per_minute = 1'000'000'000;
  plan().concurrent_requests = 1'000;
  budget(std::int64_t{1} << 60, config::BudgetSpec::Per::day);
  budget(std::int64_t{1} << 60, config::BudgetSpec::Per::month);
  const config::OrganizationSpec model = acme();
  tenants.organizations.clear();
  std::vector<ledger::KeyRow> rows;
  std::vector<std::string> keys;
  for (int i = 0; i < kOrganizations; ++i) {
    tenants.organizations.push_back(model);
    tenants.organizations.back().name = "organization-" + std::to_string(i);
  }
  for (int i = 0; i < kOrganizations; ++i) {
    tenancy::KeyOrder order;
    order.organization = tenants.organizations[static_cast<std::size_t>(i)].name;
    auto key = tenancy::make_key(order, tenants, {"m"}, clock.unix_ns());
    ASSERT_TRUE(key);
    rows.push_back(key->row);
    keys.push_back(key->text);
  }
  std::map<std::string, std::uint32_t> numbers;
  const auto directory = *tenancy::Directory::build(tenants, rows, numbers);
  ledger.keep_records(false);
  open();

  Ask request = ask(100, 200);
  request.model_digest = request.tokenizer_digest = std::string(64, 'a');
  request.data_class = "internal";
  std::mt19937_64 random(1);
  std::int64_t admit_ns = 0, settle_ns = 0;
  for (int i = 0; i < kRequests; ++i) {
    const std::string& key = keys[random() % keys.size()];
    request.request = next_id();
    clock.advance_ns(1'000'000);
    const std::int64_t start = cpu_ns();
    const auto who = directory->find(key, clock.unix_ns());
    auto entrance = admission->enter(**who);
    auto hold = admission->admit(**who, *entrance, request, {});
    const std::int64_t admitted = cpu_ns();
    ASSERT_TRUE(hold);
    ASSERT_TRUE(hold->settle(used(100, 150), "stop", {}));
    const std::int64_t settled = cpu_ns();
    admit_ns += admitted - start;
    settle_ns += settled - admitted;
  }
  std::printf("[   cost   ] key, windows and hold: %lld ns; settle: %lld ns (CPU, with a ledger that only keeps a map)\n",
              static_cast<long long>(admit_ns / kRequests), static_cast<long long>(settle_ns / kRequests));
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
  EXPECT_LT(admit_ns / kRequests, 20'000);
#endif
}

}  // namespace
}  // namespace tokenworks::gateway
