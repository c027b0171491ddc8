#pragma once
// Limits: the requests, tokens and places of one organization, narrowed per model, per project and per key, in windows of a
// minute, an hour and a day. Checking and taking are one act over everything that applies: all of it or nothing. What was
// taken before a reload stays taken.
//
// Pure: time is an argument. Not thread-safe: lives in an organization's admission state, under its mutex.
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tokenworks/base/result.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/tenancy/rate_window.hpp"

namespace tokenworks::tenancy {

using config::LimitSpec;

// What a limit counts. Tokens are input and output together.
enum class Counted : std::uint8_t { requests, tokens, input_tokens, output_tokens, concurrency };
inline constexpr std::size_t kCounted = 4;           // those that have windows
const char* name(Counted counted);                   // "input tokens"

inline constexpr std::array<std::int64_t, 3> kIntervalSeconds = {60, 3'600, 86'400};
const char* interval_name(std::int64_t seconds);     // "minute"

class Limits {
 public:
  static constexpr std::size_t kDepth = 4;           // organization, its model, project, key
  static constexpr std::size_t kIntervals = kIntervalSeconds.size();

  // The nodes that apply to a request, as indexes that stay valid; made by path().
  struct Path {
    std::array<std::uint32_t, kDepth> nodes{};
    std::uint32_t size = 0;
  };
  struct Tokens {
    Units input = 0, output = 0;
  };
  struct TokensTaken : Tokens {                      // one taking, in the windows of every node of a path
    std::array<std::array<std::int64_t, kIntervals>, kDepth> slots{};
    std::array<std::uint16_t, kDepth> windows{};     // which it was taken from: a reload may bring more
  };
  struct Refusal {
    Counted what = Counted::requests;
    std::int64_t interval_s = 0;                     // of the window; 0 for concurrency
    std::string scope;                               // "organization acme", "project acme/search", "key 1a2b3c4d"
    Units limit = 0, used = 0, wanted = 0;
    std::int64_t retry_after_ms = -1;                // exact for windows; -1: never, or not known
  };
  // The tightest window of each kind: one that counts the same over the same time in several nodes is told once.
  struct Policy {
    Counted what = Counted::requests;
    std::int64_t interval_s = 0;
    Units limit = 0, remaining = 0;
    std::int64_t reset_ms = 0;
  };
  struct State {
    std::array<Policy, kCounted * kIntervals + 1> policies{};
    std::uint32_t size = 0;
  };

  explicit Limits(std::string organization);

  // The limits of the organization, of its models and of its projects, by name; what is not named has none of its own.
  void configure(const LimitSpec& organization, const std::map<std::string, LimitSpec>& projects,
                 const std::map<std::string, LimitSpec>& models = {});
  void narrow_key(const std::string& key, const LimitSpec& spec);
  bool knows_key(std::string_view key) const { return keys_.contains(key); }

  // Windows of an hour or a day that came with the last configure() know nothing of what went before: whether there are any,
  // and what the books say was used, once each. `at_ms` is when, on the steady clock; it may lie before its zero.
  bool lacks_history(std::size_t interval) const;
  void recover(std::size_t interval, const Path& path, Units requests, Tokens tokens, std::int64_t at_ms, std::int64_t now_ms);
  void history_known();

  Path path(std::string_view project, std::string_view key, std::string_view model = {}) const;

  // One request: a place and a unit of every request window.
  std::optional<Refusal> enter(const Path& path, std::int64_t now_ms);
  void leave(const Path& path);                      // gives the place back; the request stays counted

  std::optional<Refusal> take_tokens(const Path& path, Tokens tokens, std::int64_t now_ms, TokensTaken& taken);
  // Returns a part of a taking and makes it that much smaller.
  void give_back(const Path& path, TokensTaken& taken, Tokens part);
  Units free_output(const Path& path, std::int64_t now_ms);    // output tokens that could be taken now
  Units most_output(const Path& path, Units input) const;      // that could ever be taken at once with this input

  State state(const Path& path, std::int64_t now_ms);
  std::int64_t running() const { return nodes_.front().running; }

 private:
  struct Window {
    std::unique_ptr<RateWindow> window;              // null: no limit, and nothing is counted
    bool fresh = false;
  };
  struct Node {
    explicit Node(std::string of);
    void set(const LimitSpec& spec);
    RateWindow* window(std::size_t counted, std::size_t interval) { return windows[counted][interval].window.get(); }
    const RateWindow* window(std::size_t counted, std::size_t interval) const { return windows[counted][interval].window.get(); }
    std::string scope;
    std::array<std::array<Window, kIntervals>, kCounted> windows;
    Units places = kNoLimit;
    std::int64_t running = 0;
  };
  using Names = std::map<std::string, std::uint32_t, std::less<>>;
  Node& node(Names& names, const std::string& name, const std::string& scope);
  void set_all(Names& names, const std::map<std::string, LimitSpec>& specs, const std::string& scope);
  // Whether `units` fit the window now, or what to say.
  static void check(Node& node, std::size_t counted, std::size_t interval, Units units, std::int64_t now_ms,
                    std::optional<Refusal>& refusal);

  std::string organization_;
  std::deque<Node> nodes_;                           // [0] is the organization
  Names projects_, models_, keys_;
};

// Limits as the API and the key rows write them: {"requests_per_minute":60}. "" when there are none. parse_limits names the
// field at fault and refuses what is unknown, negative, no whole number, or too large.
std::string limits_json(const LimitSpec& spec);
Result<LimitSpec> parse_limits(std::string_view json);
// One limit by its name: invalid_request with the name as param.
Result<> set_limit(LimitSpec& spec, std::string_view limit, std::string_view digits);

}  // namespace tokenworks::tenancy
