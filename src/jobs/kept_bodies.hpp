#pragma once
// KeptBodies: how many bytes of answers each organization has stored for repeats, and whose oldest goes when they are too
// many: an organization's own above its bound; above the bound of all, that of whoever keeps the most, so that nobody can
// push out what others keep. Only numbers and keys; the answers are with their owner. Not synchronized.
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "tokenworks/jobs/idempotency.hpp"

namespace tokenworks::jobs {

class KeptBodies {
 public:
  using Place = std::pair<std::string, std::string>;   // organization, key

  explicit KeptBodies(IdempotencyBounds bounds) : bounds_(bounds) {}

  // The answer of `place` has `bytes` now. It counts as the youngest of its organization, once.
  void keep(const Place& place, std::int64_t bytes);
  void drop(const Place& place);                     // nothing happens when none is kept
  // Whose answer must go next; the caller drops it and asks again. nullopt: all are within their bounds.
  std::optional<Place> too_many() const;
  std::int64_t bytes() const { return bytes_; }
  const IdempotencyBounds& bounds() const { return bounds_; }

 private:
  struct Body {
    std::uint64_t number = 0;
    std::int64_t bytes = 0;
  };
  struct Keeper {
    std::int64_t bytes = 0;
    std::map<std::uint64_t, std::string> by_age;     // number -> key
    std::map<std::string, Body> bodies;              // by key
  };
  void change(const std::string& organization, Keeper& keeper, std::int64_t bytes);

  const IdempotencyBounds bounds_;
  std::int64_t bytes_ = 0;
  std::uint64_t next_ = 1;
  std::map<std::string, Keeper> keepers_;            // only those that keep something
  std::set<std::pair<std::int64_t, std::string>> by_bytes_;   // (bytes, organization) of each of them
};

}  // namespace tokenworks::jobs
