#pragma once
// What running requests have used, asked for by the ledger once per cadence instead of told with every token. A Ledger that
// can do so (cadence mode of the embedded store) is a ProgressFollower as well; with any other one progress() it is.
#include <memory>
#include <optional>

#include "tokenworks/ledger/entry.hpp"

namespace tokenworks::ledger {

class ProgressFeed {
 public:
  virtual ~ProgressFeed() = default;
  virtual const RequestId& request() const = 0;
  // The newest state; nothing when it was taken before. Called on the ledger thread; must not block.
  virtual std::optional<Progress> newest() = 0;
};

class ProgressFollower {
 public:
  virtual ~ProgressFollower() = default;
  // Asks the feed from now until the request's end is committed. After the HOLD was appended. False: not in this mode, or
  // the ledger is closed. Any thread.
  virtual bool follow(std::shared_ptr<ProgressFeed> feed) = 0;
  // A followed feed has news. Costs a load; wakes the ledger once per cadence. Any thread.
  virtual void stir() = 0;
};

}  // namespace tokenworks::ledger
