#include "exposition.hpp"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <string_view>

namespace tokenworks::telemetry {
namespace {

constexpr std::string_view kTotal = "_total";

// The serializer of the library writes the older format. The newer one differs, for our types, in the family name of
// counters and in the end mark.
std::string to_openmetrics(std::string_view text, const std::vector<prometheus::MetricFamily>& families) {
  std::string out;
  out.reserve(text.size() + 8);
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1);
    std::string_view line = text.substr(0, end + 1);
    text.remove_prefix(end + 1);
    if (line.starts_with("# HELP ") || line.starts_with("# TYPE ")) {
      const std::string_view name = line.substr(7, line.find(' ', 7) - 7);
      const auto family = std::find_if(families.begin(), families.end(), [&](const auto& f) { return f.name == name; });
      if (family != families.end() && family->type == prometheus::MetricType::Counter && name.ends_with(kTotal)) {
        out.append(line.substr(0, 7 + name.size() - kTotal.size()));
        out.append(line.substr(7 + name.size()));
        continue;
      }
    }
    out.append(line);
  }
  return out += "# EOF\n";
}

}  // namespace

std::string write_exposition(std::vector<prometheus::MetricFamily> families, bool openmetrics) {
  std::erase_if(families, [](const auto& family) { return family.metric.empty(); });
  std::sort(families.begin(), families.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  std::string text = prometheus::TextSerializer().Serialize(families);
  return openmetrics ? to_openmetrics(text, families) : text;
}

}  // namespace tokenworks::telemetry
