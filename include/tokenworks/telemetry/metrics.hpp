#pragma once
// Metrics: the Prometheus series of INTERFACE "Metrics" (prefix tokenworks_), as calls with meaning instead of names and
// labels at every call site. Organization labels only for configured organizations, capped; the rest counts as "other".
// Any thread; cheap enough for once per request and once per step, not for once per token.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/money.hpp"
#include "tokenworks/base/usage.hpp"
#include "tokenworks/telemetry/energy.hpp"

namespace tokenworks::telemetry {

struct RequestDone {
  std::string_view organization, model, currency;
  int status = 200;
  Usage usage;
  bool embedding = false;                            // the input tokens were embedded
  Money charge;
  double seconds = 0, queue_seconds = -1, first_token_seconds = -1;   // negative: did not happen
};

// Gauges and counters read at scrape time.
struct Scrape {
  struct Model {
    std::string id;
    std::int64_t running = 0, waiting = 0, kv_used = 0, kv_cached = 0, kv_free = 0;
    std::int64_t swap_used = 0, swap_free = 0, swapped_out = 0, swapped_in = 0;
    std::int64_t prefix_hit_tokens = 0, preemptions = 0, tokens_discarded = 0;
    double fairness_gap = 0, fairness_bound = 0, predicted_wait_seconds = 0;
  };
  std::vector<Model> models;
  struct Webhook {
    std::string name;
    std::int64_t pending = 0, delivered = 0, failed = 0, given_up = 0;
  };
  std::vector<Webhook> webhooks;
  struct Card {                                      // a GPU; what it does not tell is empty
    std::string device;
    std::optional<double> temperature_celsius, power_watts, memory_used_bytes, ecc_errors, throttle_reasons;
    std::optional<std::uint64_t> energy_millijoules; // its counter
  };
  std::vector<Card> cards;
  std::vector<EnergySpent> energy;
  std::int64_t holds_open = 0, ledger_entries = 0, ledger_failures = 0;
  std::int64_t ledger_queued = 0, ledger_oldest_settle_ns = 0, ledger_refused = 0;
  Money hold_amount;
  std::string currency;
  bool reload_ok = true;
  std::int64_t reload_unix_s = 0;
};

class Metrics {
 public:
  // `build`: labels of build_info (version, build_id, backend).
  static std::unique_ptr<Metrics> make(const std::vector<std::pair<std::string, std::string>>& build);
  virtual ~Metrics() = default;
  virtual void set_organizations(const std::vector<std::string>& names) = 0;   // start-up and reload; series exist at 0
  virtual void set_models(const std::vector<std::string>& ids) = 0;
  virtual void on_scrape(std::function<Scrape()> collect) = 0;                 // start-up only

  virtual void request_done(const RequestDone& done) = 0;
  virtual void inter_token(std::string_view model, double seconds, int tokens) = 0;
  virtual void step(std::string_view model, double seconds, int prefill_tokens, int decode_tokens, int sequences) = 0;
  virtual void ledger_commit(double seconds, std::int64_t entries) = 0;

  // The exposition; `openmetrics` by the Accept header.
  virtual std::string expose(bool openmetrics) = 0;
};

}  // namespace tokenworks::telemetry
