#pragma once
// Series that are read when somebody looks, from one consistent Scrape, and the process's own (from /proc/self).
#include <prometheus/metric_family.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tokenworks/telemetry/metrics.hpp"

namespace tokenworks::telemetry {

// `entries_committed`: what ledger_commit() has counted.
void append_scraped(const Scrape& scrape, std::int64_t entries_committed, std::vector<prometheus::MetricFamily>& families);
void append_cards(const Scrape& scrape, std::vector<prometheus::MetricFamily>& families);   // nothing where there is no card
// `label_of`: the label of an organization; what has the same one is added up.
void append_energy(const std::vector<EnergySpent>& energy, const std::function<std::string(const std::string&)>& label_of,
                   std::vector<prometheus::MetricFamily>& families);
void append_process(std::vector<prometheus::MetricFamily>& families);

}  // namespace tokenworks::telemetry
