// Reads a compiled zone file: RFC 8536, version 2 and later. Every count is checked against the bytes that are there.
#include <array>
#include <charconv>

#include "tokenworks/base/time_zone.hpp"

namespace tokenworks {

class TzifReader {
 public:
  TzifReader(TimeZone& zone, std::string_view bytes) : zone_(zone), bytes_(bytes) {}

  Result<> read() {
    Header first, second;
    if (!header(first) || first.version < '2') return damaged("is not a TZif file of version 2 or later");
    if (!skip(body_size(first, 4)) || !header(second)) return damaged("ends before its 64-bit data");
    if (!table(second)) return damaged("has a transition table that does not fit it");
    if (!footer()) return damaged("has a footer that is no POSIX TZ rule");
    return {};
  }

 private:
  struct Header {
    char version = 0;
    std::uint32_t utc_flags = 0, standard_flags = 0, leaps = 0, times = 0, types = 0, letters = 0;
  };
  static constexpr std::size_t kMost = 100'000;      // no zone has a hundredth of it

  Error damaged(const char* what) const {
    return error(Errc::bad_config, "the time zone file of '" + zone_.name_ + "' " + what + "; reinstall the package tzdata");
  }

  bool skip(std::size_t n) {
    if (n > bytes_.size() - at_) return false;
    at_ += n;
    return true;
  }
  bool integer(std::size_t width, std::int64_t& value) {
    if (width > bytes_.size() - at_) return false;
    std::uint64_t raw = 0;
    for (std::size_t i = 0; i < width; ++i) raw = raw << 8 | static_cast<std::uint8_t>(bytes_[at_ + i]);
    if (width == 4) raw = static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(raw)));
    value = static_cast<std::int64_t>(raw);
    at_ += width;
    return true;
  }
  bool header(Header& h) {
    if (bytes_.size() - at_ < 44 || bytes_.substr(at_, 4) != "TZif") return false;
    h.version = bytes_[at_ + 4];
    at_ += 20;
    for (std::uint32_t* count : {&h.utc_flags, &h.standard_flags, &h.leaps, &h.times, &h.types, &h.letters}) {
      std::int64_t value = 0;
      integer(4, value);
      *count = static_cast<std::uint32_t>(value);
      if (*count > kMost) return false;
    }
    return true;
  }
  static std::size_t body_size(const Header& h, std::size_t time_width) {
    return std::size_t{h.times} * (time_width + 1) + std::size_t{h.types} * 6 + h.letters +
           std::size_t{h.leaps} * (time_width + 4) + h.standard_flags + h.utc_flags;
  }

  bool table(const Header& h) {
    if (h.types == 0 || body_size(h, 8) > bytes_.size() - at_) return false;
    zone_.transitions_.resize(h.times);
    for (std::int64_t& t : zone_.transitions_) integer(8, t);
    for (std::size_t i = 1; i < zone_.transitions_.size(); ++i) {
      if (zone_.transitions_[i] <= zone_.transitions_[i - 1]) return false;
    }
    const std::string_view kinds = bytes_.substr(at_, h.times);
    at_ += h.times;
    std::vector<std::int64_t> offsets(h.types);
    for (std::int64_t& offset : offsets) {
      integer(4, offset);
      at_ += 2;                                      // daylight saving flag and abbreviation
      if (offset < -25 * 3600 || offset > 26 * 3600) return false;
    }
    zone_.first_offset_s_ = offsets[0];
    for (const char kind : kinds) {
      const auto type = static_cast<std::uint8_t>(kind);
      if (type >= h.types) return false;
      zone_.offsets_.push_back(offsets[type]);
    }
    return skip(h.letters + std::size_t{h.leaps} * 12 + h.standard_flags + h.utc_flags);
  }

  // "\nCET-1CEST,M3.5.0,M10.5.0/3\n": standard name and offset, then perhaps saving name, offset, first and last day.
  bool footer() {
    if (at_ >= bytes_.size() || bytes_[at_] != '\n') return false;
    const std::size_t end = bytes_.find('\n', at_ + 1);
    if (end == std::string_view::npos) return false;
    rest_ = bytes_.substr(at_ + 1, end - at_ - 1);
    if (rest_.empty()) return true;                  // no rule: the last offset stays
    std::int64_t west = 0;
    if (!abbreviation() || !time_of_day(west)) return false;
    zone_.has_footer_ = true;
    zone_.standard_s_ = -west;
    if (rest_.empty()) return true;
    if (!abbreviation()) return false;
    zone_.has_saving_ = true;
    zone_.saving_s_ = zone_.standard_s_ + 3600;
    if (!rest_.empty() && rest_[0] != ',') {
      if (!time_of_day(west)) return false;
      zone_.saving_s_ = -west;
    }
    return take(',') && date(zone_.saving_starts_) && take(',') && date(zone_.saving_ends_) && rest_.empty();
  }

  bool take(char c) {
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool abbreviation() {
    std::size_t n = 0;
    if (take('<')) {
      n = rest_.find('>');
      if (n == std::string_view::npos || n == 0) return false;
      rest_.remove_prefix(n + 1);
      return true;
    }
    while (n < rest_.size() && ((rest_[n] >= 'a' && rest_[n] <= 'z') || (rest_[n] >= 'A' && rest_[n] <= 'Z'))) ++n;
    rest_.remove_prefix(n);
    return n > 0;
  }
  bool number(int most, int& value) {
    const auto [end, failure] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (failure != std::errc{} || value < 0 || value > most) return false;
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return true;
  }
  // [+-]hh[:mm[:ss]], up to a week as RFC 8536 allows.
  bool time_of_day(std::int64_t& seconds) {
    const bool negative = take('-');
    if (!negative) take('+');
    int hours = 0, minutes = 0, s = 0;
    if (!number(167, hours)) return false;
    if (take(':') && (!number(59, minutes) || (take(':') && !number(59, s)))) return false;
    seconds = hours * 3600 + minutes * 60 + s;
    if (negative) seconds = -seconds;
    return true;
  }
  bool date(TimeZone::RuleDate& d) {
    using Kind = TimeZone::RuleDate::Kind;
    if (take('M')) {
      d.kind = Kind::month_week_day;
      if (!number(12, d.month) || !take('.') || !number(5, d.week) || !take('.') || !number(6, d.day)) return false;
      if (d.month == 0 || d.week == 0) return false;
    } else if (take('J')) {
      d.kind = Kind::day_without_leap;
      if (!number(365, d.day) || d.day == 0) return false;
    } else if (!number(365, d.day)) {
      return false;
    }
    return !take('/') || time_of_day(d.time_s);
  }

  TimeZone& zone_;
  std::string_view bytes_, rest_;
  std::size_t at_ = 0;
};

Result<TimeZone> TimeZone::parse(std::string name, std::string_view bytes) {
  TimeZone zone;
  zone.name_ = std::move(name);
  if (auto read = TzifReader(zone, bytes).read(); !read) return read.error();
  return zone;
}

}  // namespace tokenworks
