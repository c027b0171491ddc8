#pragma once
// RetryPacer: when those who were refused should come again, one per queue of a tenant and tier. Told the same time they would
// come back together and be refused again, so each gets a time of his own, as far from the last one's as the queue takes to
// begin a request, and further apart while newcomers take the places: most of those who come as told shall get in. That holds
// while the newcomers alone do not ask for more than there is; beyond that nobody can promise it.
#include <cstdint>

namespace tokenworks::engine {

class RetryPacer {
 public:
  static constexpr std::int64_t kHorizonNs = 60'000'000'000;   // later than this the SDKs do not listen

  // Nanoseconds to wait: at least `first_ns`, when a place is expected, or the horizon; `pace_ns` from one place to the next.
  std::int64_t refuse(std::int64_t first_ns, std::int64_t pace_ns, std::int64_t now_ns);
  void accept() { ++accepted_; }

 private:
  void adapt(std::int64_t pace_ns, std::int64_t now_ns);

  std::int64_t told_ns_ = 0;                         // the time the last one was given
  double stretch_ = 1;                               // of the pace
  std::int64_t accepted_ = 0, refused_ = 0, adapted_ns_ = 0;   // since adapted_ns_
  std::uint32_t beyond_ = 0;                         // how many had no place before the horizon
};

}  // namespace tokenworks::engine
