#pragma once
// Burst: what several events in a row would each do at their end is done once, after the last of them. The engine opens one
// around the wakes of a step and the ledger one around the answers of a commit: whoever is woken by the first of sixty would
// otherwise run at once, on another core, into the locks that the other fifty-nine still need. Of the thread that opens it.
#include <memory>

namespace tokenworks {

class Burst {
 public:
  class End {
   public:
    virtual ~End() = default;
    virtual void burst_over() = 0;                   // once per postpone(), on the thread of the burst
  };

  Burst();
  ~Burst();                                          // of the outermost one: calls all that was postponed, in its order
  Burst(const Burst&) = delete;
  Burst& operator=(const Burst&) = delete;

  // False: no burst is open on this thread, the caller does at once what it has to do.
  static bool postpone(std::shared_ptr<End> end);
};

}  // namespace tokenworks
