// The formats of JSON Schema as patterns, each within what its RFC allows: dates exist, times have no leap seconds.
#include <map>

#include "grammar/schema.hpp"

namespace tokenworks::grammar {
namespace {

#define TW_YEAR R"((?:000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d\d\d))"
#define TW_LEAP R"((?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00))"
#define TW_DATE                                                                                                        \
  "(?:" TW_YEAR R"(-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))|)" TW_LEAP \
  "-02-29)"
#define TW_TIME R"((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d))"
#define TW_BYTE R"((?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))"
#define TW_IPV4 TW_BYTE R"(\.)" TW_BYTE R"(\.)" TW_BYTE R"(\.)" TW_BYTE
#define TW_GROUP "[0-9a-fA-F]{1,4}"
#define TW_LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

// RFC 4291, section 2.2: "::" stands for the missing groups.
constexpr const char* kIpv6 = "^(?:(?:" TW_GROUP ":){7}" TW_GROUP "|(?:" TW_GROUP ":){1,7}:|(?:" TW_GROUP ":){1,6}:" TW_GROUP "|(?:" TW_GROUP
                              ":){1,5}(?::" TW_GROUP "){1,2}|(?:" TW_GROUP ":){1,4}(?::" TW_GROUP "){1,3}|(?:" TW_GROUP ":){1,3}(?::" TW_GROUP
                              "){1,4}|(?:" TW_GROUP ":){1,2}(?::" TW_GROUP "){1,5}|" TW_GROUP ":(?::" TW_GROUP "){1,6}|:(?::" TW_GROUP
                              "){1,7}|::)$";
// RFC 3986: with a host name or an IPv4 address and no user information, or without an authority ("mailto:...").
#define TW_PCHAR R"((?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}))"
#define TW_QUERY R"((?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)"
constexpr const char* kUri = "^[A-Za-z][A-Za-z0-9+.-]{0,20}:(?://" TW_LABEL R"((?:\.)" TW_LABEL ")*(?::[0-9]{1,5})?(?:/" TW_PCHAR "*)*|/?(?:" TW_PCHAR "+(?:/" TW_PCHAR
                             R"(*)*)?)(?:\?)" TW_QUERY ")?(?:#" TW_QUERY ")?$";
constexpr const char* kEmail = R"(^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@)" TW_LABEL R"((?:\.)" TW_LABEL ")+$";

}  // namespace

const char* format_pattern(const std::string& format) {
  static const std::map<std::string, const char*> kFormats = {
      {"date", "^" TW_DATE "$"},
      {"time", "^" TW_TIME "$"},
      {"date-time", "^" TW_DATE "T" TW_TIME "$"},
      {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
      {"email", kEmail},
      {"hostname", "^" TW_LABEL R"((?:\.)" TW_LABEL "){0,6}$"},
      {"ipv4", "^" TW_IPV4 "$"},
      {"ipv6", kIpv6},
      {"uri", kUri},
  };
  const auto found = kFormats.find(format);
  return found == kFormats.end() ? nullptr : found->second;
}

}  // namespace tokenworks::grammar
