#pragma once
// Series that are read when somebody looks, from one consistent Scrape, and the process's own (from /proc/self).
#include <prometheus/metric_family.h>

#include <vector>

#include "tokenworks/telemetry/metrics.hpp"

namespace tokenworks::telemetry {

// `entries_committed`: what ledger_commit() has counted.
void append_scraped(const Scrape& scrape, std::int64_t entries_committed, std::vector<prometheus::MetricFamily>& families);
void append_process(std::vector<prometheus::MetricFamily>& families);

}  // namespace tokenworks::telemetry
