#include "scraped.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "series.hpp"

namespace tokenworks::telemetry {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

prometheus::ClientMetric sample(MetricType type, double value) {
  prometheus::ClientMetric metric;
  (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  return metric;
}

void append(std::vector<MetricFamily>& families, const char* name, const char* help, MetricType type, double value) {
  families.push_back({name, help, type, {sample(type, value)}});
}
void gauge(std::vector<MetricFamily>& families, const series::Series& s, double value) {
  append(families, s.name, s.help, MetricType::Gauge, value);
}
void counter(std::vector<MetricFamily>& families, const series::Series& s, double value) {
  append(families, s.name, s.help, MetricType::Counter, value);
}

void append_webhooks(const Scrape& scrape, std::vector<MetricFamily>& families) {
  using Webhook = Scrape::Webhook;
  const auto family = [&](const series::Series& s, MetricType type, std::int64_t Webhook::*field) {
    MetricFamily one{s.name, s.help, type, {}};
    for (const Webhook& w : scrape.webhooks) {
      one.metric.push_back(sample(type, static_cast<double>(w.*field)));
      one.metric.back().label = {{"webhook", w.name}};
    }
    families.push_back(std::move(one));
  };
  family(series::kWebhookPending, MetricType::Gauge, &Webhook::pending);
  family(series::kWebhookDelivered, MetricType::Counter, &Webhook::delivered);
  family(series::kWebhookFailed, MetricType::Counter, &Webhook::failed);
  family(series::kWebhookGivenUp, MetricType::Counter, &Webhook::given_up);
}

}  // namespace

void append_scraped(const Scrape& scrape, std::int64_t entries_committed, std::vector<MetricFamily>& families) {
  Scrape::Model sum;
  for (const Scrape::Model& m : scrape.models) {
    sum.running += m.running, sum.waiting += m.waiting;
    sum.kv_used += m.kv_used, sum.kv_cached += m.kv_cached, sum.kv_free += m.kv_free;
    sum.swap_used += m.swap_used, sum.swap_free += m.swap_free, sum.swapped_out += m.swapped_out, sum.swapped_in += m.swapped_in;
    sum.prefix_hit_tokens += m.prefix_hit_tokens, sum.preemptions += m.preemptions;
    sum.tokens_discarded += m.tokens_discarded;
    sum.predicted_wait_seconds = std::max(sum.predicted_wait_seconds, m.predicted_wait_seconds);
    // The pair that matters is the one nearest to its bound.
    if (m.fairness_gap * sum.fairness_bound >= sum.fairness_gap * m.fairness_bound) {
      sum.fairness_gap = m.fairness_gap, sum.fairness_bound = m.fairness_bound;
    }
  }
  gauge(families, series::kRunning, static_cast<double>(sum.running));
  gauge(families, series::kWaiting, static_cast<double>(sum.waiting));
  gauge(families, series::kHoldsOpen, static_cast<double>(scrape.holds_open));
  gauge(families, series::kHoldAmount, static_cast<double>(scrape.hold_amount.nano) / (money_places(scrape.currency) == 6 ? 1e6 : 1e9));
  gauge(families, series::kGap, sum.fairness_gap);
  gauge(families, series::kBound, sum.fairness_bound);
  gauge(families, series::kPredictedWait, sum.predicted_wait_seconds);
  gauge(families, series::kReloadOk, scrape.reload_ok ? 1 : 0);
  gauge(families, series::kReloadTime, static_cast<double>(scrape.reload_unix_s));
  counter(families, series::kDiscarded, static_cast<double>(sum.tokens_discarded));
  counter(families, series::kPrefixHits, static_cast<double>(sum.prefix_hit_tokens));
  counter(families, series::kPreemptions, static_cast<double>(sum.preemptions));
  counter(families, series::kEntries, static_cast<double>(std::max(scrape.ledger_entries, entries_committed)));
  counter(families, series::kLedgerFailures, static_cast<double>(scrape.ledger_failures));
  gauge(families, series::kLedgerQueued, static_cast<double>(scrape.ledger_queued));
  gauge(families, series::kLedgerOldest, static_cast<double>(scrape.ledger_oldest_settle_ns) * 1e-9);
  counter(families, series::kLedgerRefused, static_cast<double>(scrape.ledger_refused));

  append_webhooks(scrape, families);
  using Counts = std::initializer_list<std::pair<const char*, std::int64_t>>;
  const auto by = [&](const series::Series& s, MetricType type, const char* label, const Counts& counts) {
    MetricFamily family{s.name, s.help, type, {}};
    for (const auto& [name, count] : counts) {
      family.metric.push_back(sample(type, static_cast<double>(count)));
      family.metric.back().label = {{label, name}};
    }
    families.push_back(std::move(family));
  };
  by(series::kKvBlocks, MetricType::Gauge, "state", {{"used", sum.kv_used}, {"cached", sum.kv_cached}, {"free", sum.kv_free}});
  by(series::kSwapBlocks, MetricType::Gauge, "state", {{"used", sum.swap_used}, {"free", sum.swap_free}});
  by(series::kSwapped, MetricType::Counter, "direction", {{"out", sum.swapped_out}, {"in", sum.swapped_in}});
}

void append_cards(const Scrape& scrape, std::vector<MetricFamily>& families) {
  const auto labelled = [&](const series::Series& s, MetricType type, const char* label, const auto& values) {
    MetricFamily family{s.name, s.help, type, {}};
    for (const auto& [name, number] : values) {
      family.metric.push_back(sample(type, number));
      family.metric.back().label = {{label, name}};
    }
    if (!family.metric.empty()) families.push_back(std::move(family));
  };
  const auto told = [&](auto member, double unit) {
    std::map<std::string, double> values;
    for (const Scrape::Card& c : scrape.cards)
      if (c.*member) values[c.device] = static_cast<double>(*(c.*member)) * unit;
    return values;
  };
  labelled(series::kCardTemperature, MetricType::Gauge, "device", told(&Scrape::Card::temperature_celsius, 1));
  labelled(series::kCardPower, MetricType::Gauge, "device", told(&Scrape::Card::power_watts, 1));
  labelled(series::kCardMemory, MetricType::Gauge, "device", told(&Scrape::Card::memory_used_bytes, 1));
  labelled(series::kCardEcc, MetricType::Gauge, "device", told(&Scrape::Card::ecc_errors, 1));
  labelled(series::kCardThrottle, MetricType::Gauge, "device", told(&Scrape::Card::throttle_reasons, 1));
  labelled(series::kCardEnergy, MetricType::Counter, "device", told(&Scrape::Card::energy_millijoules, 1e-3));
}

void append_energy(const std::vector<EnergySpent>& energy, const std::function<std::string(const std::string&)>& label_of,
                   std::vector<MetricFamily>& families) {
  if (energy.empty()) return;
  std::map<std::array<std::string, 3>, std::uint64_t> millijoules;
  for (const EnergySpent& e : energy) millijoules[{label_of(e.organization), e.model, e.phase}] += e.millijoules;
  MetricFamily family{series::kEnergy.name, series::kEnergy.help, MetricType::Counter, {}};
  for (const auto& [labels, sum] : millijoules) {
    family.metric.push_back(sample(MetricType::Counter, static_cast<double>(sum) * 1e-3));
    family.metric.back().label = {{"organization", labels[0]}, {"model", labels[1]}, {"phase", labels[2]}};
  }
  families.push_back(std::move(family));
}

void append_process(std::vector<MetricFamily>& families) {
  // proc(5): after the command in parentheses, utime and stime are fields 14 and 15, rss is field 24.
  std::ifstream file("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const std::size_t close = text.rfind(')');
  if (close == std::string::npos) return;
  std::istringstream fields(text.substr(close + 1));
  std::vector<std::string> field{"", "", ""};        // so that the index is proc(5)'s number
  for (std::string word; fields >> word;) field.push_back(word);
  if (field.size() < 25) return;
  const auto number = [&](std::size_t i) { return std::strtod(field[i].c_str(), nullptr); };
  append(families, "process_cpu_seconds_total", "User and system CPU time of this process.", MetricType::Counter,
         (number(14) + number(15)) / static_cast<double>(sysconf(_SC_CLK_TCK)));
  append(families, "process_resident_memory_bytes", "Resident memory of this process.", MetricType::Gauge,
         number(24) * static_cast<double>(sysconf(_SC_PAGESIZE)));
  std::error_code error;
  double descriptors = 0;
  for (std::filesystem::directory_iterator at("/proc/self/fd", error), end; !error && at != end; at.increment(error)) ++descriptors;
  append(families, "process_open_fds", "Open file descriptors of this process.", MetricType::Gauge, descriptors);
}

}  // namespace tokenworks::telemetry
