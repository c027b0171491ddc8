#include "tokenworks/base/time_zone.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>

namespace tokenworks {
namespace {

constexpr std::int64_t kDay = 86'400;
constexpr std::int64_t kLargestOffset = 26 * 3600;   // RFC 8536: offsets stay within -25..+26 hours

std::int64_t days_from_civil(int year, unsigned month, unsigned day) {
  using namespace std::chrono;
  return sys_days{std::chrono::year{year} / std::chrono::month{month} / std::chrono::day{day}}.time_since_epoch().count();
}

bool leap(int year) { return std::chrono::year{year}.is_leap(); }

int year_of(std::int64_t unix_s) {
  using namespace std::chrono;
  const std::int64_t day = unix_s >= 0 ? unix_s / kDay : -((-unix_s + kDay - 1) / kDay);
  return static_cast<int>(year_month_day{sys_days{days{day}}}.year());
}

// Letters, digits, '_', '+', '-' in parts divided by '/': nothing that could leave the folder.
bool plausible(std::string_view name) {
  if (name.empty() || name.size() > 64 || name.front() == '/' || name.back() == '/') return false;
  return std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '+' || c == '-' || c == '/';
  });
}

Result<TimeZone> read(const std::string& name) {
  if (!plausible(name)) return error(Errc::bad_config, "'" + name.substr(0, 64) + "' is no time zone name; write one like Europe/Berlin or UTC");
  const char* set = std::getenv("TZDIR");
  const std::string folder = set != nullptr && *set != '\0' ? set : "/usr/share/zoneinfo";
  std::ifstream file(folder + "/" + name, std::ios::binary);
  std::stringstream bytes;
  if (!file || !(bytes << file.rdbuf())) {
    return error(Errc::bad_config, "there is no time zone '" + name + "' in " + folder +
                                       "; check the spelling (Europe/Berlin) or install the package tzdata");
  }
  return TimeZone::parse(name, bytes.view());
}

struct Zones {                                       // every zone that was ever asked for; entries are never removed
  std::mutex mutex;
  std::map<std::string, TimeZone, std::less<>> by_name;
};
Zones& zones() {
  static Zones& instance = *new Zones;               // outlives every static that may still ask
  return instance;
}

}  // namespace

Result<const TimeZone*> TimeZone::find(std::string_view name) {
  // Requests of organizations with access rules come here: what this thread has seen before takes no lock.
  thread_local std::map<std::string, const TimeZone*, std::less<>> seen;
  if (const auto it = seen.find(name); it != seen.end()) return it->second;
  std::string key(name);
  Zones& all = zones();
  std::lock_guard lock(all.mutex);
  auto it = all.by_name.find(name);
  if (it == all.by_name.end()) {
    TimeZone zone;
    if (name == "UTC") {
      zone.name_ = "UTC";
    } else {
      auto loaded = read(key);
      if (!loaded) return loaded.error();
      zone = std::move(*loaded);
    }
    it = all.by_name.emplace(key, std::move(zone)).first;
  }
  seen.emplace(std::move(key), &it->second);
  return &it->second;
}

std::int64_t TimeZone::RuleDate::local_s(int year) const {
  std::int64_t day_number = 0;
  switch (kind) {
    case Kind::day_of_year: day_number = days_from_civil(year, 1, 1) + day; break;
    case Kind::day_without_leap: day_number = days_from_civil(year, 1, 1) + day - 1 + (leap(year) && day >= 60 ? 1 : 0); break;
    case Kind::month_week_day: {
      using namespace std::chrono;
      const auto m = std::chrono::year{year} / std::chrono::month{static_cast<unsigned>(month)};
      const auto d = weekday{static_cast<unsigned>(day)};
      const sys_days date = week == 5 ? sys_days{m / d[last]} : sys_days{m / d[static_cast<unsigned>(week)]};
      day_number = date.time_since_epoch().count();
      break;
    }
  }
  return day_number * kDay + time_s;
}

TimeZone::Piece TimeZone::rule_piece(std::int64_t unix_s) const {
  const std::int64_t table_end = transitions_.empty() ? INT64_MIN : transitions_.back();
  if (!has_saving_) return {table_end, INT64_MAX, standard_s_};
  // The changes of the years around `unix_s`, as instants with the offset that starts there.
  const int year = year_of(unix_s);
  std::array<std::pair<std::int64_t, std::int64_t>, 6> changes;
  for (int i = 0; i < 3; ++i) {
    const int y = year - 1 + i;
    changes[static_cast<std::size_t>(2 * i)] = {saving_starts_.local_s(y) - standard_s_, saving_s_};
    changes[static_cast<std::size_t>(2 * i + 1)] = {saving_ends_.local_s(y) - saving_s_, standard_s_};
  }
  std::ranges::sort(changes);
  Piece piece{table_end, changes[0].first, changes[0].second == saving_s_ ? standard_s_ : saving_s_};
  for (std::size_t i = 0; i < changes.size() && changes[i].first <= unix_s; ++i) {
    piece = {changes[i].first, i + 1 < changes.size() ? changes[i + 1].first : INT64_MAX, changes[i].second};
  }
  piece.start = std::max(piece.start, table_end);
  return piece;
}

TimeZone::Piece TimeZone::piece_at(std::int64_t unix_s) const {
  // The civil calendar of chrono ends at the year 32767; nothing here lives beyond 9999.
  unix_s = std::clamp<std::int64_t>(unix_s, -62'135'596'800, 253'402'300'799);
  const auto next = std::upper_bound(transitions_.begin(), transitions_.end(), unix_s);
  if (next == transitions_.end() && (has_footer_ || transitions_.empty())) {
    return has_footer_ ? rule_piece(unix_s) : Piece{INT64_MIN, INT64_MAX, first_offset_s_};
  }
  const std::int64_t end = next == transitions_.end() ? INT64_MAX : *next;
  if (next == transitions_.begin()) return {INT64_MIN, end, first_offset_s_};
  const auto i = static_cast<std::size_t>(next - transitions_.begin()) - 1;
  return {transitions_[i], end, offsets_[i]};
}

std::int64_t TimeZone::to_unix(std::int64_t local_s) const {
  local_s = std::clamp<std::int64_t>(local_s, -62'135'596'800, 253'402'300'799);
  std::int64_t at = local_s - kLargestOffset;
  for (;;) {
    const Piece piece = piece_at(at);
    const std::int64_t candidate = std::max(piece.start, local_s - piece.offset_s);
    if (candidate < piece.end) return candidate;
    at = piece.end;
  }
}

std::string TimeZone::format(std::int64_t unix_s) const {
  using namespace std::chrono;
  const std::int64_t offset = offset_s(unix_s);
  const sys_seconds local{seconds{unix_s + offset}};
  const auto date = floor<days>(local);
  const year_month_day ymd{date};
  const std::int64_t second = (local - date).count();
  const std::int64_t away = offset < 0 ? -offset : offset;
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d%c%02d:%02d", static_cast<int>(ymd.year()),
                static_cast<unsigned>(ymd.month()), static_cast<unsigned>(ymd.day()), static_cast<int>(second / 3600),
                static_cast<int>(second / 60 % 60), static_cast<int>(second % 60), offset < 0 ? '-' : '+',
                static_cast<int>(away / 3600), static_cast<int>(away / 60 % 60));
  return text;
}

}  // namespace tokenworks
