#pragma once
// Limits: the requests, tokens and places of one organization, narrowed per project and per key. Checking and taking are
// one act over everything that applies: all of it or nothing. What was taken before a reload stays taken.
//
// Pure: time is an argument. Not thread-safe: lives in an organization's admission state, under its mutex.
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "tokenworks/config/config.hpp"
#include "tokenworks/tenancy/rate_window.hpp"

namespace tokenworks::tenancy {

struct LimitSpec {                                   // config::kUnlimited where there is none
  std::int64_t requests_per_minute = config::kUnlimited;
  std::int64_t tokens_per_minute = config::kUnlimited;
  std::int64_t concurrent_requests = config::kUnlimited;
};

class Limits {
 public:
  static constexpr std::size_t kDepth = 3;           // organization, project, key

  // The nodes that apply to a request, as indexes that stay valid; made by path().
  struct Path {
    std::array<std::uint32_t, kDepth> nodes{};
    std::uint32_t size = 0;
  };
  struct TokensTaken {                               // one taking, in the window of every node of a path
    std::array<RateWindow::Taken, kDepth> at{};
    Units units = 0;
  };
  struct Refusal {
    enum class What : std::uint8_t { requests, tokens, concurrency } what = What::requests;
    std::string scope;                               // "organization acme", "project acme/search", "key 1a2b3c4d"
    Units limit = 0, used = 0;
    std::int64_t retry_after_ms = -1;                // exact for windows; -1: never, or not known
  };
  struct State {                                     // of the tightest window of each kind; limit -1: none
    Units limit_requests = -1, remaining_requests = 0, limit_tokens = -1, remaining_tokens = 0;
    std::int64_t reset_requests_ms = 0, reset_tokens_ms = 0;
  };

  explicit Limits(std::string organization);

  // The limits of the organization and of its projects, by name; a project that is not named has none of its own.
  void configure(const LimitSpec& organization, const std::map<std::string, LimitSpec>& projects);
  void narrow_key(const std::string& key, const LimitSpec& spec);

  Path path(std::string_view project, std::string_view key);

  // One request: a place and a unit of requests per minute.
  std::optional<Refusal> enter(const Path& path, std::int64_t now_ms);
  void leave(const Path& path);                      // gives the place back; the request stays counted

  std::optional<Refusal> take_tokens(const Path& path, Units units, std::int64_t now_ms, TokensTaken& taken);
  // Returns `units` of a taking and makes it that much smaller.
  void give_back(const Path& path, TokensTaken& taken, Units units);
  Units free_tokens(const Path& path, std::int64_t now_ms);
  Units most_tokens(const Path& path) const;         // what could ever be taken at once

  State state(const Path& path, std::int64_t now_ms);
  std::int64_t running() const { return nodes_.front().running; }

 private:
  struct Node {
    explicit Node(std::string of);
    void set(const LimitSpec& spec);
    std::string scope;
    RateWindow requests, tokens;
    Units places = kNoLimit;
    std::int64_t running = 0;
  };
  Node& node(std::map<std::string, std::uint32_t, std::less<>>& names, const std::string& name, const std::string& scope);

  std::string organization_;
  std::deque<Node> nodes_;                           // [0] is the organization
  std::map<std::string, std::uint32_t, std::less<>> projects_, keys_;
};

}  // namespace tokenworks::tenancy
