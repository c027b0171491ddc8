#pragma once
// Exposition: metric families as text, in the two formats scrapers ask for. Families without a series are left out.
#include <prometheus/metric_family.h>

#include <string>
#include <vector>

namespace tokenworks::telemetry {

// "text/plain; version=0.0.4", or OpenMetrics 1.0.0: counters named without _total in HELP and TYPE, and an end mark.
std::string write_exposition(std::vector<prometheus::MetricFamily> families, bool openmetrics);

}  // namespace tokenworks::telemetry
