#include "charges.hpp"

#include "series.hpp"

namespace tokenworks::telemetry {

void Charges::add(const std::string& organization, const std::string& currency, Money amount) {
  if (amount.nano < 0) return;                       // a counter: corrections are ledger entries, not charges
  std::lock_guard lock(mutex_);
  Money& sum = sums_[{organization, currency}];
  if (const auto total = tokenworks::add(sum, amount)) sum = *total;
}

std::vector<prometheus::MetricFamily> Charges::Collect() const {
  prometheus::MetricFamily family{series::kCharge.name, series::kCharge.help, prometheus::MetricType::Counter, {}};
  std::lock_guard lock(mutex_);
  for (const auto& [key, sum] : sums_) {
    prometheus::ClientMetric metric;
    metric.label = {{"organization", key.first}, {"currency", key.second}};
    metric.counter.value = static_cast<double>(sum.nano) / (money_places(key.second) == 6 ? 1e6 : 1e9);
    family.metric.push_back(std::move(metric));
  }
  return {std::move(family)};
}

}  // namespace tokenworks::telemetry
