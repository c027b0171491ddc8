#include "wall_time.hpp"

#include <sys/stat.h>

#include <algorithm>

namespace tokenworks::config {

void read_zone(Fields& f, std::string& zone) {
  f.text("timezone", zone);
  struct stat status {};
  if (zone.find("..") != std::string::npos || zone.empty() || zone.front() == '/' ||
      (zone != "UTC" && (stat(("/usr/share/zoneinfo/" + zone).c_str(), &status) != 0 || !S_ISREG(status.st_mode)))) {
    f.mistake("timezone", "is '" + zone + "', which is no time zone of this machine (such as Europe/Berlin)");
  }
}

std::int64_t minute_of_day(Fields& f, const std::string& key, std::int64_t otherwise) {
  std::string text;
  f.text(key, text);
  if (text.empty()) return otherwise;
  const bool shape = text.size() == 5 && text[2] == ':' && std::isdigit(static_cast<unsigned char>(text[0])) &&
                     std::isdigit(static_cast<unsigned char>(text[1])) && std::isdigit(static_cast<unsigned char>(text[3])) &&
                     std::isdigit(static_cast<unsigned char>(text[4]));
  const int minutes = shape ? ((text[0] - '0') * 10 + text[1] - '0') * 60 + (text[3] - '0') * 10 + text[4] - '0' : -1;
  if (minutes < 0 || minutes > 24 * 60 || text[3] > '5') {
    f.mistake(key, "is '" + text + "'; a time of day such as \"07:00\" is needed");
    return otherwise;
  }
  return minutes;
}

void read_span(Fields& f, std::vector<int>& days, std::int64_t& from_minute, std::int64_t& to_minute, std::string& zone,
               const char* never) {
  std::vector<std::string> names;
  f.texts("days", names);
  const std::vector<std::string> known{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
  for (const std::string& day : names) {
    const auto at = std::find(known.begin(), known.end(), day);
    if (at == known.end()) {
      f.mistake("days", "holds '" + day + "'; known are mon, tue, wed, thu, fri, sat, sun");
    } else {
      days.push_back(static_cast<int>(at - known.begin()));
    }
  }
  from_minute = minute_of_day(f, "from", 0);
  to_minute = minute_of_day(f, "to", 24 * 60);
  if (from_minute == to_minute) f.mistake("to", std::string("equals 'from': ") + never);
  read_zone(f, zone);
}

}  // namespace tokenworks::config
