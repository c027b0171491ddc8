#pragma once
// Series that are read when somebody looks, from one consistent Scrape, and the process's own (from /proc/self).
#include <prometheus/metric_family.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tokenworks/telemetry/metrics.hpp"

namespace tokenworks::telemetry {

// `entries_committed`: what ledger_commit() has counted.
void append_scraped(const Scrape& scrape, std::int64_t entries_committed, std::vector<prometheus::MetricFamily>& families);
// Cards and their energy by organization, in millijoules; nothing where there is no card.
void append_cards(const Scrape& scrape, const std::map<std::string, std::uint64_t>& energy, std::vector<prometheus::MetricFamily>& families);
void append_process(std::vector<prometheus::MetricFamily>& families);

}  // namespace tokenworks::telemetry
