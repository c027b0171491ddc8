#include "tokenworks/tenancy/rate_window.hpp"

#include <algorithm>
#include <cassert>

namespace tokenworks::tenancy {

RateWindow::RateWindow(Units limit, std::int64_t interval_ms) : limit_(limit), slot_ms_(interval_ms / kSlotsPerInterval) {
  assert(limit >= 0 && slot_ms_ > 0 && interval_ms % kSlotsPerInterval == 0);
}

void RateWindow::set_limit(Units limit) {
  assert(limit >= 0);
  limit_ = limit;
}

std::optional<RateWindow::Taken> RateWindow::take(Units units, std::int64_t now_ms) {
  assert(units >= 0);
  advance(now_ms);
  if (units > limit_ - used_) return std::nullopt;
  slot(newest_) += units;
  used_ += units;
  return Taken{newest_, units};
}

void RateWindow::give_back(const Taken& taken, Units units) {
  assert(units >= 0 && units <= taken.units);
  if (taken.slot + kSlotsPerInterval < newest_) return;
  slot(taken.slot) -= units;
  used_ -= units;
  assert(slot(taken.slot) >= 0 && used_ >= 0);
}

void RateWindow::recover(Units units, std::int64_t at_ms, std::int64_t now_ms) {
  advance(now_ms);
  const std::int64_t before = at_ms < 0 ? (at_ms - slot_ms_ + 1) / slot_ms_ : at_ms / slot_ms_;
  const std::int64_t at = std::min(before + static_cast<std::int64_t>(kSlots), newest_);
  if (at + kSlotsPerInterval < newest_) return;
  slot(at) += units;
  used_ += units;
}

Units RateWindow::used(std::int64_t now_ms) {
  advance(now_ms);
  return used_;
}

Units RateWindow::free(std::int64_t now_ms) {
  advance(now_ms);
  return std::max<Units>(0, limit_ - used_);
}

// A slot has left when the running one is 61 further on, which is what slot numbers count from: see advance().
std::int64_t RateWindow::gone_ms(std::int64_t at, std::int64_t now_ms) const { return at * slot_ms_ - now_ms; }

std::optional<std::int64_t> RateWindow::wait_ms(Units units, std::int64_t now_ms) {
  if (units > limit_) return std::nullopt;
  advance(now_ms);
  Units left = used_;
  // The oldest slots leave first; the wait ends with the one whose going makes enough room. The sum of all slots is used_,
  // so the loop ends at the running slot at the latest.
  for (std::int64_t at = newest_ - kSlotsPerInterval; left > limit_ - units; ++at) {
    left -= slot(at);
    if (left <= limit_ - units) return gone_ms(at, now_ms);
  }
  return 0;
}

std::int64_t RateWindow::reset_ms(std::int64_t now_ms) {
  advance(now_ms);
  if (used_ == 0) return 0;
  std::int64_t at = newest_;
  while (slot(at) == 0) --at;
  return gone_ms(at, now_ms);
}

// Empties the slots that `now` pushes out of the window. At most one turn of the ring, however long the silence was. Slot
// numbers start at 61, so that the slots before the first one have numbers as well.
void RateWindow::advance(std::int64_t now_ms) {
  const std::int64_t now = std::max<std::int64_t>(now_ms, 0) / slot_ms_ + static_cast<std::int64_t>(kSlots);
  const std::int64_t last = std::min(now, newest_ + static_cast<std::int64_t>(kSlots));
  for (std::int64_t at = newest_ + 1; at <= last; ++at) {
    used_ -= slot(at);
    slot(at) = 0;
  }
  newest_ = std::max(newest_, now);
}

}  // namespace tokenworks::tenancy
