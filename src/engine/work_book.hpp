#pragma once
// WorkBook: what a step does for each tenant, counted while the step is built: a few additions a sequence, no allocation once
// the tenants of a busy step have been seen. The engine thread.
#include <span>
#include <vector>

#include "tokenworks/base/work.hpp"

namespace tokenworks::engine {

class WorkBook {
 public:
  void clear();
  // `rows` rows of a sequence of the tenant, the first at position `first`.
  void add(std::uint32_t tenant, std::int32_t first, std::int32_t rows, bool decode);
  std::span<const TenantWork> work() const { return work_; }   // in the order the tenants came

 private:
  std::vector<TenantWork> work_;
  std::vector<std::uint32_t> place_;                 // [tenant]: 1 + index into work_; 0: none. Tenants are dense
};

}  // namespace tokenworks::engine
