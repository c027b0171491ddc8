#include "engine/work_book.hpp"

namespace tokenworks::engine {

void WorkBook::clear() {
  for (const TenantWork& w : work_) place_[w.tenant] = 0;
  work_.clear();
}

void WorkBook::add(std::uint32_t tenant, std::int32_t first, std::int32_t rows, bool decode) {
  if (tenant >= place_.size()) place_.resize(tenant + std::size_t{1});
  std::uint32_t& place = place_[tenant];
  if (place == 0) {
    work_.push_back({.tenant = tenant});
    place = static_cast<std::uint32_t>(work_.size());
  }
  PhaseWork& w = decode ? work_[place - 1].decode : work_[place - 1].prefill;
  const std::int64_t n = rows, before = first;
  w.rows += n;
  w.context += before + n;
  w.pairs += n * before + n * (n + 1) / 2;
}

}  // namespace tokenworks::engine
