#include "tokenworks/billing/balance.hpp"

#include <algorithm>
#include <cassert>

namespace tokenworks::billing {
namespace {

__extension__ typedef __int128 Wide;

Money saturated(Wide nano) { return Money{static_cast<std::int64_t>(std::clamp<Wide>(nano, INT64_MIN, INT64_MAX))}; }

}  // namespace

void Balance::recover(std::vector<ledger::Credit> credits, Money debt, bool prepaid) {
  assert(held_.nano == 0 && standing_.empty());
  std::erase_if(credits, [](const ledger::Credit& c) { return c.remaining.nano == 0; });
  stack_ = ledger::CreditStack(std::move(credits), debt);
  prepaid_ = prepaid;
}

void Balance::top_up(const ledger::Credit& credit) {
  prepaid_ = true;
  stack_.add(credit);
}

void Balance::adjust(const RequestId& operation, Money delta) {
  if (delta.nano < 0) {
    stack_.draw(Money{-delta.nano});
  } else if (delta.nano > 0) {
    stack_.add({operation, delta, delta, 0, 0});
  }
}

Money Balance::balance() const { return saturated(Wide{stack_.remaining().nano} - stack_.debt().nano); }

Money Balance::free() const {
  return saturated(Wide{balance().nano} + (line_ ? line_->nano : 0) - held_.nano - lapsed_.nano);
}

void Balance::hold(Money amount, Epoch epoch) {
  held_.nano += amount.nano;
  for (Standing& s : standing_) {
    if (epoch < s.epoch) s.held.nano += amount.nano;
  }
}

void Balance::end(Money amount, Money charge, Epoch epoch) {
  assert(charge.nano >= 0 && charge <= amount && amount <= held_);
  held_.nano -= amount.nano;
  stack_.draw(charge);
  for (Standing& s : standing_) {
    if (epoch >= s.epoch) continue;
    s.held.nano -= amount.nano;
    const std::int64_t part = std::min(charge.nano, s.usable.nano);
    s.usable.nano -= part;
    charge.nano -= part;
  }
  settle_standing();
}

// What the holds that may use an expired credit can no longer need has lapsed: all credits up to one are covered by the
// holds that may use that one.
void Balance::settle_standing() {
  Wide usable = 0;
  for (Standing& s : standing_) {
    usable += s.usable.nano;
    const Wide excess = std::clamp<Wide>(usable - s.held.nano, 0, s.usable.nano);
    s.usable.nano -= static_cast<std::int64_t>(excess);
    s.lapsed.nano += static_cast<std::int64_t>(excess);
    lapsed_.nano += static_cast<std::int64_t>(excess);
    usable -= excess;
  }
}

bool Balance::due(std::int64_t unix_ns) const {
  const auto& credits = stack_.credits();            // soonest first
  if (!standing_.empty()) {
    if (std::ranges::any_of(standing_, [](const Standing& s) { return s.usable.nano == 0; })) return true;
    return std::ranges::any_of(credits, [&](const ledger::Credit& c) {
      return expired(c, unix_ns) &&
             std::ranges::none_of(standing_, [&](const Standing& s) { return s.credit.operation == c.operation; });
    });
  }
  return !credits.empty() && expired(credits.front(), unix_ns);
}

std::vector<Balance::Lapse> Balance::expire(std::int64_t unix_ns) {
  std::vector<Lapse> lapses;
  if (!due(unix_ns)) return lapses;
  std::vector<ledger::Credit> over;
  for (const ledger::Credit& credit : stack_.credits()) {
    const auto known = [&](const Standing& s) { return s.credit.operation == credit.operation; };
    if (expired(credit, unix_ns) && std::ranges::none_of(standing_, known)) over.push_back(credit);
  }
  // Newer holds draw from the soonest credit as well, so a part of what stands for older ones may be in later credits by now.
  Wide displaced = 0;
  for (const Standing& s : standing_) displaced += Wide{s.usable.nano} + s.lapsed.nano;
  for (const ledger::Credit& credit : stack_.credits()) {
    const auto known = [&](const Standing& s) { return s.credit.operation == credit.operation; };
    if (std::ranges::any_of(standing_, known)) displaced -= credit.remaining.nano;
  }
  displaced = std::max<Wide>(displaced, 0);
  for (const ledger::Credit& credit : over) {
    const auto others = static_cast<std::int64_t>(std::min<Wide>(displaced, credit.remaining.nano));
    displaced -= others;
    const Money own{credit.remaining.nano - others};
    if (own.nano == 0) continue;
    // Every open hold began before this moment: together they may keep what they hold, less what other expired credits
    // already give them.
    std::int64_t room = held_.nano;
    for (const Standing& s : standing_) room -= s.usable.nano;
    const Money kept{std::clamp<std::int64_t>(room, 0, own.nano)};
    const Money gone{own.nano - kept.nano};
    if (kept.nano > 0) standing_.push_back({credit, ++epoch_, kept, held_, {}});
    if (gone.nano == 0) continue;
    stack_.draw(gone);
    lapses.push_back({credit.operation, credit.expires_unix_ns, unix_ns * 2, gone});
  }
  std::erase_if(standing_, [&](const Standing& s) {
    if (s.usable.nano > 0) return false;
    if (s.lapsed.nano > 0) {
      stack_.draw(s.lapsed);
      lapsed_.nano -= s.lapsed.nano;
      lapses.push_back({s.credit.operation, s.credit.expires_unix_ns, unix_ns * 2 + 1, s.lapsed});
    }
    return true;
  });
  return lapses;
}

}  // namespace tokenworks::billing
