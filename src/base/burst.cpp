#include "tokenworks/base/burst.hpp"

#include <utility>
#include <vector>

namespace tokenworks {
namespace {

thread_local int open = 0;
thread_local std::vector<std::shared_ptr<Burst::End>> postponed;   // its memory is used again

}  // namespace

Burst::Burst() { ++open; }

Burst::~Burst() {
  if (--open > 0) return;
  for (std::size_t i = 0; i < postponed.size(); ++i) std::exchange(postponed[i], nullptr)->burst_over();
  postponed.clear();
}

bool Burst::postpone(std::shared_ptr<End> end) {
  if (open == 0) return false;
  postponed.push_back(std::move(end));
  return true;
}

}  // namespace tokenworks
