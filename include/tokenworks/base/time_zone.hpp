#pragma once
// TimeZone: the rules of one zone of the system's tz database (compiled TZif files, RFC 8536), because budgets renew and
// access rules open at local times and libstdc++ 12 has no chrono tzdb. Files are read from TZDIR or /usr/share/zoneinfo
// (Debian package tzdata); "UTC" needs no file. A zone is read once and kept for ever; after that every call is pure.
// Any thread.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/result.hpp"

namespace tokenworks {

class TimeZone {
 public:
  // bad_config when there is no such zone or its file is damaged; the message names the zone and says what to do.
  static Result<const TimeZone*> find(std::string_view name);
  // The rules in the bytes of a TZif file (version 2 or later).
  static Result<TimeZone> parse(std::string name, std::string_view bytes);

  const std::string& name() const { return name_; }
  // Seconds to add to `unix_s` to get the local wall clock.
  std::int64_t offset_s(std::int64_t unix_s) const { return piece_at(unix_s).offset_s; }
  std::int64_t to_local(std::int64_t unix_s) const { return unix_s + offset_s(unix_s); }
  // The first instant at which the local wall clock shows `local_s` (seconds since 1970-01-01T00:00 local) or later: a time
  // that a spring change skips becomes the change itself, one that comes twice the first of the two.
  std::int64_t to_unix(std::int64_t local_s) const;
  // "2026-11-23T07:00:00+01:00"
  std::string format(std::int64_t unix_s) const;

 private:
  struct Piece {                                     // one offset, from `start` until before `end`
    std::int64_t start, end, offset_s;
  };
  struct RuleDate {                                  // POSIX TZ: Mm.w.d, Jn or n, and the local time of day
    enum class Kind : std::uint8_t { month_week_day, day_without_leap, day_of_year } kind = Kind::day_of_year;
    int month = 0, week = 0, day = 0;
    std::int64_t time_s = 2 * 3600;
    std::int64_t local_s(int year) const;
  };
  friend class TzifReader;

  Piece piece_at(std::int64_t unix_s) const;
  Piece rule_piece(std::int64_t unix_s) const;       // after the last transition of the table

  std::string name_;
  std::vector<std::int64_t> transitions_;            // ascending
  std::vector<std::int64_t> offsets_;                // offsets_[i] holds from transitions_[i] on
  std::int64_t first_offset_s_ = 0;                  // before the first transition
  // The footer: what holds after the table. Without daylight saving standard_s_ for ever.
  bool has_footer_ = false, has_saving_ = false;
  std::int64_t standard_s_ = 0, saving_s_ = 0;
  RuleDate saving_starts_, saving_ends_;
};

// An RFC 3339 instant ("2026-11-23T07:00:00+01:00", "...T06:00:00.5Z") or a date, its midnight UTC, as Unix nanoseconds.
std::optional<std::int64_t> parse_instant(std::string_view text);

}  // namespace tokenworks
