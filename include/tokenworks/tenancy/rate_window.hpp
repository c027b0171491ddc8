#pragma once
// RateWindow: what was taken from a limit during the last minute (or hour, or day).
//
// The promise is the one tenants read: no interval of 60 seconds, wherever it begins, holds more than `limit` units. Time
// is cut into 60 slots per interval; a decision counts the running slot and the 60 before it, so an interval that straddles
// slot edges is covered as well. The price is that a unit may be refused up to one slot early, never late
// (docs/decisions/0003-rate-window.md).
//
// One lives in an organization's admission state and is used under that organization's mutex. There is no clock inside:
// `now` is an argument, so a test can cross midnight, a leap day or a suspended machine in a microsecond.
#include <array>
#include <cstdint>
#include <optional>

namespace tokenworks::tenancy {

using Units = std::int64_t;                          // requests, tokens: whatever the limit counts
inline constexpr Units kNoLimit = INT64_MAX;

class RateWindow {
 public:
  static constexpr std::int64_t kSlotsPerInterval = 60;

  explicit RateWindow(Units limit, std::int64_t interval_ms = 60'000);

  // Where a taking was booked, so that its unused part can go back to the same place.
  struct Taken {
    std::int64_t slot = 0;
    Units units = 0;
  };

  // Takes `units` (>= 0) at `now`, or nothing at all. A clock that stepped back is treated as standing still.
  std::optional<Taken> take(Units units, std::int64_t now_ms);
  // Returns a part of a taking that was not used (0 <= units <= taken.units). Slots that have left the window are
  // forgotten already: giving back to one changes nothing.
  void give_back(const Taken& taken, Units units);

  // What was taken at `at_ms` (<= now, also before the clock's zero) according to the books, whatever the limit is.
  void recover(Units units, std::int64_t at_ms, std::int64_t now_ms);

  Units limit() const { return limit_; }
  // A reload: what was taken stays taken, also when it is more than the new limit.
  void set_limit(Units limit);
  // What the window still holds against the limit at `now`.
  Units used(std::int64_t now_ms);
  // How much could be taken at `now`.
  Units free(std::int64_t now_ms);
  // Milliseconds until `units` could be taken if nobody else takes any, not one too many; nullopt when they never fit.
  std::optional<std::int64_t> wait_ms(Units units, std::int64_t now_ms);
  // Milliseconds until nothing of what was taken counts any more.
  std::int64_t reset_ms(std::int64_t now_ms);

 private:
  static constexpr std::size_t kSlots = kSlotsPerInterval + 1;

  void advance(std::int64_t now_ms);
  Units& slot(std::int64_t at) { return slots_[static_cast<std::size_t>(at) % kSlots]; }
  std::int64_t gone_ms(std::int64_t at, std::int64_t now_ms) const;   // until slot `at` has left the window

  Units limit_;
  std::int64_t slot_ms_;
  Units used_ = 0;                                   // always the sum of slots_
  std::int64_t newest_ = kSlots;                     // the running slot
  std::array<Units, kSlots> slots_{};
};

}  // namespace tokenworks::tenancy
