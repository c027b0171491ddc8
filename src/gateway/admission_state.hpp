#pragma once
// The inside of admission: the organizations with their limits and budgets, and the way of records to the ledger.
//
// Organizations are found without a lock and never die before the state does; all that changes in one stands under its own
// mutex, which is never held over I/O or a call into the ledger. Entrances and holds keep the state alive.
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tokenworks/billing/budgets.hpp"
#include "tokenworks/gateway/admission.hpp"
#include "tokenworks/ledger/rows.hpp"
#include "tokenworks/tenancy/limits.hpp"

namespace tokenworks::gateway {

struct Organization {
  Organization(std::string of, const std::string& in) : name(std::move(of)), currency(in), limits(name), budgets(name, currency) {}

  const std::string name, currency;
  mutable std::mutex mutex;                          // guards everything below
  bool configured = false;                           // false: gone from the configuration, while holds may still be open
  std::string plan;
  Tier tier = Tier::standard;
  std::uint32_t weight = 1;
  std::int64_t reserved_tokens_per_second = 0;
  std::int64_t reserve_output_tokens = 512;
  std::shared_ptr<const billing::PriceBook> prices;
  tenancy::Limits limits;
  mutable billing::Budgets budgets;                  // looking at it may start a new period
  std::int64_t holds_open = 0;
  Hold::Inside* first_open = nullptr;                // of a list through the open holds
};

class AdmissionState {
 public:
  AdmissionState(const Clock& clock, ledger::Ledger& ledger, PlantLabels labels) : clock(clock), ledger_(ledger), labels(std::move(labels)) {}
  ~AdmissionState();

  // Everything checked first, then every organization swapped: an error changes nothing.
  Result<> apply(const config::Tenants& tenants, const std::shared_ptr<const billing::PriceBook>& prices,
                 const std::function<Result<>()>& last_step);

  Result<> refresh();                                // apply() again with the same configuration

  Organization* find(std::string_view name) const;
  template <class F>
  void each(const F& visit) const {
    if (const Table* table = table_.load(std::memory_order_acquire)) {
      for (const auto& [name, organization] : *table) visit(*organization);
    }
  }

  // 503 when the books lag behind: better no service than free service.
  Result<> accepting();
  // Appends, and when the ledger's queue is full keeps the record and tries again on later calls: the end of a hold is
  // never dropped.
  void send(ledger::Record record, ledger::OnDurable durable);
  void send_waiting();
  ledger::Ledger& ledger() { return ledger_; }

  // Lets what is due expire. See Admission::tick.
  void tick(std::int64_t hold_expiry_ns);
  // Books what lapsed of credits; without the organization's mutex.
  void book(const Organization& organization, const std::vector<billing::Balance::Lapse>& lapses);
  // Thresholds that were reached, to the log; what the sink makes of them goes with the entry. Under no lock.
  EventSink::Events tell(const std::vector<billing::BudgetEvent>& reached, std::int64_t unix_ns) const;

  const Clock& clock;
  std::atomic<EventSink*> events{nullptr};           // outlives the state, or is taken away before

 private:
  using Table = std::unordered_map<std::string_view, Organization*>;

  void tell_again(std::int64_t unix_ns);
  Result<> apply_locked(const config::Tenants& tenants, const std::shared_ptr<const billing::PriceBook>& prices,
                        const std::function<Result<>()>& last_step);
  Result<> recover(const std::vector<Organization*>& fresh);
  Result<> recover_balances(const std::vector<Organization*>& fresh);
  Result<> correct_uneven(const std::vector<Organization*>& fresh);
  // What key and tag budgets, and windows longer than a minute, need to know of the time before they came.
  Result<> learn(const std::vector<Organization*>& organizations);
  Result<> learn_spending(const std::vector<Organization*>& organizations);
  Result<> learn_windows(const std::vector<Organization*>& organizations);

  ledger::Ledger& ledger_;

 public:
  const PlantLabels labels;

 private:
  std::mutex reload_;                                // one reload at a time; guards the next five
  std::string currency_;
  config::Tenants tenants_;                          // as applied last
  std::shared_ptr<const billing::PriceBook> prices_;
  std::deque<Organization> organizations_;
  std::vector<std::unique_ptr<const Table>> tables_;   // one per reload that brought an organization: readers never wait
  std::atomic<const Table*> table_{nullptr};

  std::atomic<std::int64_t> look_again_ns_{INT64_MIN};
  std::atomic<bool> behind_{false}, learn_again_{false}, tell_again_{false};
  std::mutex waiting_mutex_;
  std::deque<std::pair<ledger::Record, ledger::OnDurable>> waiting_;
  std::atomic<std::size_t> waiting_count_{0};
};

// What an Entrance owns: a place among the running requests of an organization.
struct Place {
  Place(std::shared_ptr<AdmissionState> s, Organization& o, const tenancy::Limits::Path& p) : state(std::move(s)), organization(o), path(p) {}
  ~Place();
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  void leave();                                      // once; under the organization's mutex

  const std::shared_ptr<AdmissionState> state;
  Organization& organization;
  const tenancy::Limits::Path path;
  bool left = false;                                 // under the organization's mutex
};

RateState rate_state(const tenancy::Limits::State& state);
// The words of a refusal.
Error refused(const tenancy::Limits::Refusal& refusal);
// The budgets of an organization: its plan's, its own, its projects', and those set through the API.
std::vector<billing::Budgets::ScopedSpec> budgets_of(const config::PlanSpec& plan, const config::OrganizationSpec& organization,
                                                     const std::vector<ledger::SettingRow>& settings, const std::string& currency);
// "search" of "acme/search".
std::string_view short_project(std::string_view project);

}  // namespace tokenworks::gateway
