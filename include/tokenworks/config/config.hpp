#pragma once
// Config: the three YAML files as plain structs with defaults, already validated. Parsing collects *every* mistake, each
// with file:line and the nearest known key, before it gives up. Money and prices stay exact decimal text turned into
// integers; nothing passes through a double. Values of type ..._ns are nanoseconds. Immutable after load.
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tokenworks/base/money.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/base/ticket.hpp"
#include "tokenworks/config/identity.hpp"

namespace tokenworks::config {

struct Where {                                       // of the line that set a value, for messages that come later
  std::string file;
  int line = 0;
};

struct ModelSpec {
  std::string id, path;                              // path absolute after load
  std::vector<std::string> aliases;
  std::string backend = "auto", compute = "default", speculation = "off";
  std::string embeddings = "auto";                   // auto, last, mean, first: how /v1/embeddings pools; off: it is refused
  std::int64_t context_tokens = 8192;
  std::int64_t kv_cache_bytes = std::int64_t{512} << 20;
  std::int64_t swap_bytes = std::int64_t{512} << 20;
  std::int64_t max_sequences = 64;
  std::int64_t step_target_ns = 25'000'000;
  std::array<std::int64_t, 3> cost_units_micro{1'000'000, 100'000, 2'000'000};   // input, cached_input, output: fairness, never money
  std::vector<std::string> data_classes{"public", "internal"};   // the first is what a request gets when it names none
  std::int64_t threads = 0;
  bool load = true;                                  // false: known and priced, but loaded only when an operator says so
  Where where;
};

struct Plant {                                       // tokenworks.yaml
  std::string name = "tokenworks", region, jurisdiction;
  std::vector<std::string> listen{"127.0.0.1:8080"};
  struct Tls {
    std::string certificate, private_key, client_ca;
    bool client_required = true;                     // false: who shows no certificate is let in as well
    std::vector<std::pair<std::string, std::string>> more;   // (certificate, private_key), for the names they are made out to
    bool on() const { return !certificate.empty(); }
  } tls;
  std::string admin_listen = "127.0.0.1:9090";
  std::string data_dir;                              // absolute after load
  std::vector<ModelSpec> models;
  std::string prices_path, tenants_path;
  std::string ledger_store = "sqlite", ledger_dsn_file;
  bool progress_step = false;
  std::int64_t progress_ns = 100'000'000;
  struct Limits {
    std::int64_t body_bytes = 10 << 20, header_bytes = 64 << 10, queue_requests = 1024, queue_per_tenant = 256;
    std::int64_t write_timeout_ns = 30'000'000'000, read_timeout_ns = 60'000'000'000, idle_timeout_ns = 120'000'000'000;
    std::int64_t drain_ns = 30'000'000'000, connections = 16384;
    std::int64_t hold_expiry_ns = 3'600'000'000'000; // a hold without any progress for this long has lost its owner
    std::int64_t choices = 16, stop_strings = 16, logit_bias = 1024, messages = 4096, top_logprobs = 20;
    std::int64_t content_parts = 1024, tools = 128, schema_bytes = 256 << 10;
    std::int64_t embedding_inputs = 2048, embedding_tokens = 300'000;   // of one request
    std::int64_t idempotency_bytes = 256 << 20, idempotency_per_tenant_bytes = 32 << 20;   // of answers kept for repeats
  } limits;
  struct Webhook {                                   // a receiver that is told of events, signed
    std::string name, url, secret;                   // the secret's bytes, never shown
    std::vector<std::string> events{"*"};            // types, such as budget.threshold; "*" is all
    Where where;
    std::string old_secret = {};                     // signs beside it while receivers change over; "": none
  };
  std::vector<Webhook> webhooks;
  std::string log_level = "info";
  bool log_json = true;
  std::int64_t io_threads = 1;
};

inline constexpr std::int64_t kUnlimited = -1;

struct BudgetSpec {
  Money amount;
  enum class Per : std::uint8_t { day, week, month, total } per = Per::month;
  bool hard = true;
  std::vector<std::int64_t> warn_at;                 // percent
  std::string timezone = "UTC", model, tag, key;     // only spend of this model, "name=value" tag, key id; "" any
  Where where;
};

// Windows of a minute, an hour and a day, and places; kUnlimited where there is none. No interval of that length, wherever
// it begins, contains more (docs/decisions/0003).
struct LimitSpec {
  std::int64_t requests_per_minute = kUnlimited, tokens_per_minute = kUnlimited, concurrent_requests = kUnlimited;
  std::int64_t requests_per_hour = kUnlimited, requests_per_day = kUnlimited;
  std::int64_t tokens_per_hour = kUnlimited, tokens_per_day = kUnlimited;
  std::int64_t input_tokens_per_minute = kUnlimited, input_tokens_per_hour = kUnlimited, input_tokens_per_day = kUnlimited;
  std::int64_t output_tokens_per_minute = kUnlimited, output_tokens_per_hour = kUnlimited, output_tokens_per_day = kUnlimited;
  bool operator==(const LimitSpec&) const = default;
};
inline constexpr std::int64_t kLimitMax = std::int64_t{1} << 50;
// Every field by its name, in one order for files, keys, the command line and the API.
struct LimitName {
  const char* name;
  std::int64_t LimitSpec::*field;
};
inline constexpr LimitName kLimitNames[] = {
    {"requests_per_minute", &LimitSpec::requests_per_minute},
    {"requests_per_hour", &LimitSpec::requests_per_hour},
    {"requests_per_day", &LimitSpec::requests_per_day},
    {"tokens_per_minute", &LimitSpec::tokens_per_minute},
    {"tokens_per_hour", &LimitSpec::tokens_per_hour},
    {"tokens_per_day", &LimitSpec::tokens_per_day},
    {"input_tokens_per_minute", &LimitSpec::input_tokens_per_minute},
    {"input_tokens_per_hour", &LimitSpec::input_tokens_per_hour},
    {"input_tokens_per_day", &LimitSpec::input_tokens_per_day},
    {"output_tokens_per_minute", &LimitSpec::output_tokens_per_minute},
    {"output_tokens_per_hour", &LimitSpec::output_tokens_per_hour},
    {"output_tokens_per_day", &LimitSpec::output_tokens_per_day},
    {"concurrent_requests", &LimitSpec::concurrent_requests}};

struct PlanSpec : LimitSpec {
  std::string name;
  std::vector<std::string> models{"*"};              // ids or "*"
  Tier tier = Tier::standard;
  std::int64_t weight = 1;
  std::int64_t reserved_tokens_per_second = 0;       // bought throughput, per model: served before others
  std::map<std::string, LimitSpec> model_limits;     // by model id: of the whole organization for this model
  std::int64_t reserve_output_tokens = 512;
  std::vector<BudgetSpec> budgets;
  Where where;
};

struct AccessRule {                                  // when which models may be used; any one rule that allows suffices
  std::vector<std::string> models{"*"};
  std::vector<int> days;                             // 0 = Monday; empty: every day
  std::int64_t from_minute = 0, to_minute = 24 * 60; // local wall time; from > to spans midnight
  std::string timezone = "UTC";
};

struct ProjectSpec : LimitSpec {                     // may only narrow the plan
  std::string name;
  std::vector<std::string> models;                   // empty: as the organization
  std::vector<BudgetSpec> budgets;
  std::string cost_centre, data_class;
};

struct OrganizationSpec {
  std::string name, plan, currency;                  // currency: the price book's unless set
  std::vector<std::string> residency;                // jurisdictions; empty: anywhere
  std::string retention = "none";
  std::vector<AccessRule> access;                    // empty: always
  std::vector<BudgetSpec> budgets;                   // besides the plan's
  std::optional<Money> credit_line;                  // unpaid spending may not exceed it
  std::vector<ProjectSpec> projects;                 // always holds "default"
  Where where;
};

// The classes a request is priced in, in the order of its charge lines. A token is in one class only: input is what the
// prefix cache neither held nor was written, output what was not reasoning, embedding the prompt of an embedding.
enum class PriceClass : std::uint8_t { input, cached_input, cache_write, output, reasoning, embedding, per_request };
inline constexpr std::size_t kPriceClasses = 7;
const char* name(PriceClass c);                      // as prices.yaml says it

// Prices of classes in pico-units per token (per_request: pico-units per request) at multiplier 1; absent: not said.
struct PriceList {
  std::array<std::optional<std::int64_t>, kPriceClasses> pico;
  Where where;
  std::optional<std::int64_t>& operator[](PriceClass c) { return pico[static_cast<std::size_t>(c)]; }
  const std::optional<std::int64_t>& operator[](PriceClass c) const { return pico[static_cast<std::size_t>(c)]; }
};
struct PriceBand : PriceList {                       // for requests with more than `over` prompt tokens
  std::int64_t over = 0;
};
struct PriceTime : PriceList {                       // while the wall clock of the zone is in the span: either a multiplier or prices
  std::vector<int> days;                             // 0 = Monday, of the day on which the span begins; empty: every day
  std::int64_t from_minute = 0, to_minute = 24 * 60; // local wall time; from > to spans midnight
  std::string timezone = "UTC";
  std::optional<std::int64_t> multiplier_micro;      // millionths
  std::vector<PriceBand> bands;                      // besides prices
};
struct ModelPrices : PriceList {
  ModelPrices() = default;
  ModelPrices(std::int64_t input, std::int64_t cached_input, std::int64_t output, Where at) {
    (*this)[PriceClass::input] = input;
    (*this)[PriceClass::cached_input] = cached_input;
    (*this)[PriceClass::output] = output;
    where = std::move(at);
  }
  std::vector<PriceBand> bands;                      // ascending
  std::vector<PriceTime> times;                      // all in one zone, none overlapping
};
using PricesByModel = std::map<std::string, ModelPrices>;   // by model id

struct PriceVersion {
  std::string version;
  std::int64_t from_unix_ns = INT64_MIN;             // in force from then until the next version's
  PricesByModel models;
  std::map<std::string, PricesByModel> plans, organizations;   // instead of `models`; an organization's before its plan's
  std::int64_t tier_micro[3] = {1'750'000, 1'000'000, 500'000};   // multiplier in millionths, by Tier
  Where where;
};
struct Prices : PriceVersion {                       // prices.yaml: the version in force first, and the dated ones after it
  std::string currency = "USD";
  std::vector<PriceVersion> later;                   // from_unix_ns ascending
};
struct Tenants {                                     // tenants.yaml
  std::vector<PlanSpec> plans;
  std::vector<OrganizationSpec> organizations;
  std::vector<IssuerSpec> issuers;
};

struct Config {
  std::string path;
  Plant plant;
  Prices prices;
  Tenants tenants;
};

// Loads the plant's file and the two it names, applies TOKENWORKS_<PATH_IN_CAPITALS> overrides, checks everything and
// cross-checks them. On failure the one Error (bad_config) holds every mistake, a line each: "file:line: what; fix".
Result<Config> load(const std::string& path);

// One key of the reference: docs/configuration.md is tested against this table, and the parser is driven by it.
struct KeyDoc {
  std::string file, path, type, otherwise, meaning;  // "tokenworks.yaml", "models[].kv_cache", "size", "512MiB", "..."
};
const std::vector<KeyDoc>& reference();

// The known word with the smallest edit distance, when it is near enough to be meant.
std::optional<std::string> nearest(const std::string& word, const std::vector<std::string>& known);

}  // namespace tokenworks::config
