#pragma once
// RetryPacer: when those who were refused should come again, one per queue of a tenant and tier: a line outside the door. Told
// the same time they would come back together and be refused again, so each gets a time of his own, as far from the last one's
// as the queue takes to begin a request. And his place is kept: who comes again is known by the fingerprint of his request and
// stands before newcomers, of whom as many are sent to the end of the line as places are promised. How many of those who were
// told do come is learnt, so that nothing is kept for clients that never come again. Under the book's mutex.
#include <cstdint>
#include <deque>

namespace tokenworks::engine {

class RetryPacer {
 public:
  static constexpr std::int64_t kHorizonNs = 60'000'000'000;   // later than this the SDKs do not listen

  // Nanoseconds to wait: at least `first_ns`, when a place is expected, or the horizon; `pace_ns` from one place to the next.
  // `who` is the request's fingerprint; 0: cannot be told from others, and nothing is kept for it.
  std::int64_t refuse(std::uint64_t who, std::int64_t first_ns, std::int64_t pace_ns, std::int64_t now_ns);
  // It was told to come now, or a little before.
  bool expected(std::uint64_t who, std::int64_t now_ns) const;
  void accept(std::uint64_t who, std::int64_t now_ns);
  // Places that are promised for about now: of those told, as many as usually come.
  std::int64_t kept(std::int64_t pace_ns, std::int64_t now_ns);
  bool empty(std::int64_t now_ns) { return forget_absent(now_ns), line_.empty(); }   // nobody is expected

 private:
  struct Told {
    std::int64_t at;
    std::uint64_t who;
  };
  std::deque<Told>::const_iterator find(std::uint64_t who) const;
  void keep(std::uint64_t who, std::int64_t at);
  void forget_absent(std::int64_t now_ns);
  void note(bool got_in, std::int64_t pace_ns, std::int64_t now_ns);

  std::deque<Told> line_;                            // by time
  double come_ = 0.5;                                // of those who were told, smoothed
  std::int64_t told_ns_ = 0;                         // the time the last one was given
  double ahead_ = 2;                                 // a place is kept from so many paces before its time
  double stretch_ = 1;                               // of the pace
  std::int64_t in_ = 0, out_ = 0, adapted_ns_ = 0;   // of those who came as told, since adapted_ns_
  std::uint32_t beyond_ = 0;                         // how many had no place before the horizon
};

}  // namespace tokenworks::engine
