#pragma once
// Charges: money charged per organization and currency. The sums are exact integers (nano-units); only the exposition
// turns them into the decimal number Prometheus knows. Any thread.
#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "tokenworks/base/money.hpp"

namespace tokenworks::telemetry {

class Charges final : public prometheus::Collectable {
 public:
  void add(const std::string& organization, const std::string& currency, Money amount);
  void ensure(const std::string& organization, const std::string& currency) { add(organization, currency, Money{0}); }
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, Money> sums_;
};

}  // namespace tokenworks::telemetry
