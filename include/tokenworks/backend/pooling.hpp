#pragma once
// PoolOps: rows added up where they are, so that one row a text comes to the host however many it has. A backend whose memory
// is the host's has none: adding there is as good. As encoder_ops(): enqueued in order, one thread, arguments asserted.
#include <cstdint>
#include <span>

#include "tokenworks/backend/backend.hpp"

namespace tokenworks::backend {

class PoolOps {
 public:
  virtual ~PoolOps() = default;
  // sums[into[i]] += rows[i], or its RMS norm times `norm` where there is one; negative: the row counts for nothing. Both
  // [., columns] of fp32, added in the order of rows; sums has `count` rows, which begin at zero unless `further`.
  virtual void pool(const Buffer& rows, const Weight* norm, float epsilon, std::span<const std::int32_t> into, std::int32_t columns,
                    bool further, std::int32_t count, Buffer& sums) = 0;
};

}  // namespace tokenworks::backend
