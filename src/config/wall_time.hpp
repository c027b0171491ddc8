#pragma once
// Spans of the local week, as access rules and prices write them: days, from, to, timezone. Private to src/config.
#include <string>
#include <vector>

#include "fields.hpp"

namespace tokenworks::config {

// `timezone`: a zone of this machine's database.
void read_zone(Fields& fields, std::string& zone);
// "HH:MM" as a minute of the day, 24:00 included; `otherwise` when absent or wrong.
std::int64_t minute_of_day(Fields& fields, const std::string& key, std::int64_t otherwise);
// `never`: what follows when from equals to.
void read_span(Fields& fields, std::vector<int>& days, std::int64_t& from_minute, std::int64_t& to_minute, std::string& zone,
               const char* never);

}  // namespace tokenworks::config
