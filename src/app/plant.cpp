#include "tokenworks/app/plant.hpp"

#include <unistd.h>

#include <array>
#include <bit>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <mutex>

#include "energy.hpp"
#include "fetch.hpp"
#include "last_resort.hpp"
#include "model_house.hpp"
#include "models.hpp"
#include "notify.hpp"
#include "preflight.hpp"
#include "process.hpp"
#include "reloader.hpp"
#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/gateway/administration.hpp"
#include "tokenworks/gateway/plant.hpp"
#include "tokenworks/http/server.hpp"
#include "tokenworks/jobs/idempotency.hpp"
#include "tokenworks/jobs/webhooks.hpp"
#include "tokenworks/ledger/ledger.hpp"
#include "tokenworks/telemetry/metrics.hpp"
#include "tokenworks/tenancy/identity.hpp"
#include "tokenworks/trust/server_key.hpp"

namespace tokenworks::app {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kWatcherPatience = 60 * kSecond;    // the loop that watches the engines, and an end after a lost device

log::Level level_of(const std::string& name) {
  return name == "debug" ? log::Level::debug : name == "warn" ? log::Level::warn : name == "error" ? log::Level::error : log::Level::info;
}

// Everything a running daemon is made of, in the order it is built; destroyed in reverse.
class Plant {
 public:
  explicit Plant(Opened opened) : config_(std::move(opened.config)), opened_(std::move(opened.models)) {}

  Result<> build();
  int run();

 private:
  Result<> open_books();
  Result<> load_models();
  Result<Served> load(const config::ModelSpec& spec, OpenedModel opened);
  Result<Served> open_and_load(const config::ModelSpec& spec);
  void reload();
  Result<> start_serving();
  Result<> write_endpoints() const;
  http::Readiness readiness() const;
  telemetry::Scrape scrape() const;
  std::vector<std::string> organization_names(const config::Tenants& tenants) const;
  void shut_down();

  const config::Config config_;
  std::vector<OpenedModel> opened_;                  // until they are loaded
  SystemClock clock_;
  std::unique_ptr<DataDirLock> lock_;
  std::string cache_secret_, tag_secret_, event_secret_;
  std::unique_ptr<telemetry::Metrics> metrics_;
  std::unique_ptr<EnergyMeter> energy_ = std::make_unique<EnergyMeter>(backend::Cards::open(), clock_);   // outlives the engines, who tell it of steps
  std::unique_ptr<ledger::Ledger> ledger_;
  std::shared_ptr<const billing::PriceBook> prices_;
  std::unique_ptr<jobs::Webhooks> webhooks_;
  std::unique_ptr<gateway::Admission> admission_;
  std::map<std::string, std::uint32_t> tenant_numbers_;
  Snapshot<tenancy::Directory> directory_;
  std::unique_ptr<tenancy::Identity> identity_;
  std::unique_ptr<jobs::Idempotency> idempotency_;
  std::unique_ptr<ModelHouse> house_;
  static constexpr int kWorkers = 2;
  boost::asio::thread_pool workers_{kWorkers};
  std::unique_ptr<gateway::ServiceControl> service_;
  std::unique_ptr<gateway::Administration> administration_;
  std::unique_ptr<http::Server> server_;
  std::unique_ptr<Reloader> reloader_;
  std::atomic<bool> reload_ok_{true};
  std::atomic<std::int64_t> reload_unix_s_{0};
  std::atomic<std::int64_t> entries_{0};
  mutable std::mutex discarded_mutex_;
  std::map<std::string, std::int64_t> discarded_;    // by model: only the gateway knows where a stop string ended
};

Result<> Plant::build() {
  bool taken = false;
  auto lock = DataDirLock::take(config_.plant.data_dir, taken);
  if (!lock) return lock.error();
  lock_ = std::move(*lock);
  auto key = trust::ServerKey::open(config_.plant.data_dir + "/server.key");
  if (!key) return key.error();
  cache_secret_ = key->derive("prefix-cache");
  tag_secret_ = key->derive("tags");
  event_secret_ = key->derive("events");
  identity_ = tenancy::Identity::make(clock_, key->derive("identity"), fetch_text);
  if (auto applied = identity_->apply(config_.tenants.issuers); !applied) return applied.error();
  metrics_ = telemetry::Metrics::make({{"version", version()}, {"build_id", build_id()}});
  // The weights load while the books recover: start-up is as long as the longer of the two.
  auto books = std::async(std::launch::async, [this] { return open_books(); });
  auto models = load_models();
  auto opened = books.get();
  if (!opened) return opened.error();
  if (!models) return models.error();
  return start_serving();
}

Result<> Plant::open_books() {
  ledger::LedgerOptions options;
  options.path = config_.plant.data_dir + "/ledger.sqlite";
  options.progress = config_.plant.progress_step ? ledger::ProgressMode::step : ledger::ProgressMode::cadence;
  options.progress_every_ns = config_.plant.progress_ns;
  options.build_id = build_id();
  auto ledger = ledger::Ledger::open(options, clock_);
  if (!ledger) return ledger.error();
  ledger_ = std::move(*ledger);
  entries_ = ledger_->recovery().entries;
  ledger_->on_commit([this](std::int64_t ns, std::int64_t entries) {
    entries_ += entries;
    metrics_->ledger_commit(static_cast<double>(ns) * 1e-9, entries);
  });
  const ledger::Recovery& recovery = ledger_->recovery();
  log::info("ledger_open", {{"writer", recovery.writer_id}, {"entries", recovery.entries}, {"recovered_settled", recovery.settled},
                            {"recovered_released", recovery.released}});
  auto prices = billing::PriceBook::make(config_.prices);
  if (!prices) return prices.error();
  prices_ = *prices;
  if (auto allowed = gateway::prices_allowed(*ledger_, *prices_, clock_.unix_ns()); !allowed) return allowed.error();
  const gateway::PlantLabels labels{build_id(), config_.plant.region, config_.plant.jurisdiction, tag_secret_};
  auto admission = gateway::Admission::make(clock_, *ledger_, labels, config_.tenants, prices_);
  if (!admission) return admission.error();
  admission_ = std::move(*admission);
  webhooks_ = jobs::Webhooks::make({clock_, *ledger_, event_secret_, jobs::curl_send(std::string("tokenworks/") + version()), [] {
                                      std::array<std::uint8_t, 8> bytes{};
                                      random_bytes(bytes);
                                      return std::bit_cast<std::uint64_t>(bytes);
                                    }});
  webhooks_->configure(config_.plant.webhooks);
  admission_->set_events(webhooks_.get());
  auto keys = ledger_->keys();
  if (!keys) return keys.error();
  auto directory = tenancy::Directory::build(config_.tenants, *keys, tenant_numbers_);
  if (!directory) return directory.error();
  directory_.set(*directory);
  const auto& limits = config_.plant.limits;
  auto idempotency = jobs::Idempotency::open(*ledger_, clock_, {limits.idempotency_bytes, limits.idempotency_per_tenant_bytes});
  if (!idempotency) return idempotency.error();
  idempotency_ = std::move(*idempotency);
  return {};
}

Result<Served> Plant::load(const config::ModelSpec& spec, OpenedModel opened) {
  auto on_step = [this, id = spec.id](const engine::StepReport& step) {
    metrics_->step(id, static_cast<double>(step.duration_ns) * 1e-9, step.prefill_tokens, step.decode_tokens, step.sequences);
    energy_->book().step(id, step.duration_ns, step.work);
  };
  const std::shared_ptr<const formats::ModelFile> file = opened.file;
  std::vector<std::string> cards = backend::names_of_cards(opened.backends, energy_->read());
  auto model = load_model(spec, std::move(opened), config_.plant.limits, cache_secret_, clock_, std::move(on_step));
  if (!model) return model.error();
  energy_->book().set_model(spec.id, energy_model(*file, (*model)->engine->info(), std::move(cards)));
  return Served(std::move(*model));
}

// While the plant serves: what `check` would say of it becomes the answer to the order.
Result<Served> Plant::open_and_load(const config::ModelSpec& spec) {
  std::string mistakes, first;
  auto opened = open_model(spec, [&](const char* key, const std::string& what) {
    if (first.empty()) first = key;
    mistakes += (mistakes.empty() ? "" : "\n") + std::string(key) + ": " + what;
  });
  if (!opened) {
    if (mistakes.empty()) mistakes = "path: there is no file or folder " + spec.path;
    return error(Errc::bad_config, "model '" + spec.id + "': " + mistakes, first.empty() ? "path" : first);
  }
  auto model = load(spec, std::move(*opened));
  if (!model) return error(Errc::bad_config, model.error().message, "path");
  return model;
}

Result<> Plant::load_models() {
  HouseParts parts{config_.path, [this](const config::ModelSpec& spec) { return open_and_load(spec); },
                   [this](const std::vector<std::string>& ids) { metrics_->set_models(ids); }};
  house_ = std::make_unique<ModelHouse>(std::move(parts));
  std::vector<Served> models;
  auto opened = opened_.begin();
  for (const config::ModelSpec& spec : config_.plant.models) {
    if (!spec.load) continue;
    auto model = load(spec, std::move(*opened++));
    if (!model) return model.error();
    models.push_back(std::move(*model));
  }
  house_->open(config_.plant.models, std::move(models));
  opened_.clear();
  return {};
}

std::vector<std::string> Plant::organization_names(const config::Tenants& tenants) const {
  std::vector<std::string> names;
  for (const auto& o : tenants.organizations) names.push_back(o.name);
  return names;
}

Result<> Plant::start_serving() {
  metrics_->set_organizations(organization_names(config_.tenants));
  energy_->set_tenants(config_.tenants, tenant_numbers_);
  metrics_->on_scrape([this] { return scrape(); });

  auto on_done = [this](const gateway::Outcome& o) {
    if (o.discarded_tokens > 0) {
      std::lock_guard lock(discarded_mutex_);
      discarded_[o.model] += o.discarded_tokens;
    }
    log::info("request_done", {{"request_id", o.request.to_string()}, {"organization", o.organization}, {"project", o.project},
                               {"model", o.model}, {"ok", o.ok}, {"code", o.ok ? "" : name(o.error)}, {"finish", o.finish},
                               {"input_tokens", o.usage.input}, {"cached_tokens", o.usage.cached_input},
                               {"output_tokens", o.usage.output}, {"ms", o.seconds * 1e3}});
  };
  auto on_inter_token = [this](std::string_view model, double seconds, int tokens) { metrics_->inter_token(model, seconds, tokens); };
  service_ = gateway::ServiceControl::make({clock_, *admission_, directory_, house_->served(), config_.plant.jurisdiction,
                                            config_.plant.progress_step, workers_, kWorkers, config_.plant.limits.embedding_tokens, on_done,
                                            on_inter_token, identity_.get()});

  gateway::AdministrationParts parts{clock_, *ledger_, *admission_, directory_, config_, tenant_numbers_, {}, {}, {}, house_.get()};
  parts.before_apply = [this](const config::Config& fresh) -> Result<> {
    if (auto mistakes = key_set_mistakes(fresh); !mistakes.empty()) return error(Errc::bad_config, mistakes.front());
    if (auto swapped = server_ ? server_->reload_tls(fresh.plant.tls) : Result<>{}; !swapped) return swapped;
    return identity_->apply(fresh.tenants.issuers);
  };
  parts.applied = [this](const config::Config& fresh) {
    metrics_->set_organizations(organization_names(fresh.tenants));
    energy_->set_tenants(fresh.tenants, tenant_numbers_);
    webhooks_->configure(fresh.plant.webhooks);
  };
  parts.reloaded = [this](bool ok) {
    reload_ok_ = ok;
    if (ok) reload_unix_s_ = clock_.unix_ns() / kSecond;
  };
  reload_unix_s_ = clock_.unix_ns() / kSecond;
  administration_ = gateway::make_administration(std::move(parts));

  http::ServerOptions options;
  options.listen = config_.plant.listen;
  options.admin_listen = config_.plant.admin_listen;
  options.control_socket = config_.plant.data_dir + "/control.sock";
  options.tls = config_.plant.tls;
  options.limits = config_.plant.limits;
  options.limits.connections = connections_that_fit(options.limits.connections);
  options.io_threads = static_cast<int>(config_.plant.io_threads);
  options.server_version = std::string("tokenworks/") + version();
  options.idempotency = idempotency_.get();
  // Not before: a start that something else refuses, and be it a taken port, must not leave a version of prices behind as if it
  // had been in force.
  options.bound = [this]() -> Result<> {
    const std::int64_t now = clock_.unix_ns();
    const ledger::AuditEvent begun{now, "local", "plant.start", config_.path, "", prices_->in_force(now).hash};
    return gateway::keep_prices(*ledger_, *prices_, now, begun);
  };
  auto server = http::Server::start(options, *service_, *administration_, *metrics_, [this] { return readiness(); });
  if (!server) return server.error();
  server_ = std::move(*server);
  reloader_ = std::make_unique<Reloader>([this] { reload(); });
  return write_endpoints();
}

Result<> Plant::write_endpoints() const {
  const std::string path = config_.plant.data_dir + "/endpoints.json";
  std::string urls;
  for (const std::string& url : server_->api_urls()) urls += (urls.empty() ? "\"" : ", \"") + url + "\"";
  {
    std::ofstream file(path + ".new", std::ios::trunc);
    file << "{\"pid\": " << ::getpid() << ", \"api\": [" << urls << "], \"admin\": \"" << server_->admin_url() << "\"}\n";
    if (!file.flush()) return error(Errc::io, path + ": cannot be written");
  }
  std::error_code failed;
  std::filesystem::rename(path + ".new", path, failed);
  if (failed) return error(Errc::io, path + ": cannot be written: " + failed.message());
  return {};
}

http::Readiness Plant::readiness() const {
  http::Readiness r;
  const auto check = [&](const std::string& what, bool ok, const std::string& why) {
    r.checks.emplace_back(what, ok ? "ok" : why);
    r.ready = r.ready && ok;
  };
  check("draining", !service_->draining(), "shutting down");
  const ledger::Health health = ledger_->health();
  check("ledger", health.ok, health.last_error.empty() ? "cannot commit" : health.last_error);
  const auto served = house_->served().get();
  for (const gateway::ModelSet::Entry& e : served->entries) {
    const engine::EngineStatus status = e.model->engine->status();
    check("model " + e.model->card.id, status.healthy && !status.failed, status.failed ? "failed" : "no step finished in time");
  }
  if (served->entries.empty()) check("models", false, "none is loaded");
  if (house_->lost()) r.live = false;
  return r;
}

telemetry::Scrape Plant::scrape() const {
  telemetry::Scrape s;
  for (const auto& [id, e] : house_->statuses()) {
    telemetry::Scrape::Model row;
    row.id = id;
    row.running = e.running;
    row.waiting = e.waiting;
    row.kv_used = e.kv_blocks_used;
    row.kv_cached = e.kv_blocks_cached;
    row.kv_free = e.kv_blocks_free;
    row.swap_used = e.swap_blocks_used, row.swap_free = e.swap_blocks_free;
    row.swapped_out = e.swapped_out, row.swapped_in = e.swapped_in;
    row.prefix_hit_tokens = e.prefix_hit_tokens;
    row.preemptions = e.preemptions;
    {
      std::lock_guard lock(discarded_mutex_);
      const auto found = discarded_.find(row.id);
      row.tokens_discarded = found == discarded_.end() ? 0 : found->second;
    }
    row.fairness_gap = e.fairness_gap_units;
    row.fairness_bound = e.fairness_bound_units;
    row.predicted_wait_seconds = static_cast<double>(e.predicted_wait_ns) * 1e-9;
    s.models.push_back(std::move(row));
  }
  for (backend::CardReading& c : energy_->read())
    s.cards.push_back({std::move(c.device), c.temperature_celsius, c.power_watts, c.memory_used_bytes, c.ecc_errors, c.throttle_reasons,
                       c.energy_millijoules});
  s.energy = energy_->book().spent();
  const auto totals = admission_->totals();
  s.holds_open = totals.holds_open;
  s.hold_amount = totals.hold_amount;
  s.currency = prices_->currency();
  s.ledger_entries = entries_;
  const ledger::Health books = ledger_->health();
  s.ledger_failures = books.failures;
  s.ledger_queued = books.queued;
  s.ledger_oldest_settle_ns = books.oldest_unacknowledged_settle_ns;
  s.ledger_refused = books.refused;
  for (const jobs::Webhooks::Status& w : webhooks_->status()) s.webhooks.push_back({w.name, w.pending, w.delivered, w.failed, w.given_up});
  s.reload_ok = reload_ok_;
  s.reload_unix_s = reload_unix_s_;
  return s;
}

void Plant::reload() {
  notify_supervisor("RELOADING=1");
  // Logged and counted there; the old configuration stays on a mistake. An operator's change of models is waited for.
  while (!service_->draining()) {
    const auto done = administration_->reload("local");
    if (done || done.error().code != Errc::server_is_overloaded) break;
  }
  notify_supervisor("READY=1");
}

int Plant::run() {
  std::string line = "ready";
  for (const std::string& url : server_->api_urls()) line += " api=" + url;
  line += " admin=" + server_->admin_url() + "\n";
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
  notify_supervisor("READY=1\nSTATUS=serving");

  const sigset_t signals = handled_signals();
  int exit_code = kOk;
  LastResort resort(kWatcherPatience, [] { leave_at_once(kDeviceLost); });
  const LastResortThread resort_ticks(resort);
  for (;;) {
    resort.alive();
    const timespec patience{0, 250'000'000};
    const int signal = sigtimedwait(&signals, nullptr, &patience);
    if (signal == SIGHUP) reloader_->ask();
    if (signal == SIGTERM || signal == SIGINT) break;
    house_->watch();
    if (house_->lost()) {
      log::error("device_lost", {{"action", "exit for restart"}});
      exit_code = kDeviceLost;
      break;
    }
    admission_->tick(config_.plant.limits.hold_expiry_ns);
    administration_->catch_up();
    notify_supervisor("WATCHDOG=1");
  }
  if (exit_code == kDeviceLost) {
    resort.within(config_.plant.limits.drain_ns + kWatcherPatience);
  } else {
    resort.rest();                                   // the supervisor decides how long a stop may take
  }
  shut_down();
  return exit_code;
}

void Plant::shut_down() {
  notify_supervisor("STOPPING=1\nSTATUS=draining");
  log::info("draining", {{"requests", server_->requests_in_flight()}});
  service_->drain();
  server_->drain();
  const sigset_t signals = handled_signals();
  const std::int64_t deadline = clock_.steady_ns() + config_.plant.limits.drain_ns;
  bool fast = false;
  while (!fast && server_->requests_in_flight() > 0 && clock_.steady_ns() < deadline) {
    const timespec patience{0, 20'000'000};
    const int signal = sigtimedwait(&signals, nullptr, &patience);
    fast = signal == SIGTERM || signal == SIGINT;
  }
  // What still runs ends as cancelled, and its coroutine settles what was generated.
  const bool hung = house_->stop();
  const std::int64_t settled_by = clock_.steady_ns() + 5 * kSecond;
  while (server_->requests_in_flight() > 0 && clock_.steady_ns() < settled_by) {
    const timespec patience{0, 10'000'000};
    nanosleep(&patience, nullptr);
  }
  reloader_->stop();
  server_->stop();
  workers_.stop();                                   // nobody waits any more for what was not begun
  workers_.join();
  std::error_code ignored;
  std::filesystem::remove(config_.plant.data_dir + "/endpoints.json", ignored);
  server_.reset();
  service_.reset();
  administration_.reset();
  admission_.reset();
  webhooks_.reset();
  ledger_.reset();                                   // commits what is queued
  log::info("stopped");
  if (hung) std::_Exit(kDeviceLost);                 // its thread still uses what the destructors would take away
}

}  // namespace

Result<std::string> check(const std::string& config_path) {
  const auto opened = open_plant(config_path);
  if (!opened) return opened.error();
  const config::Config& c = opened->config;
  if (auto allowed = past_allows(c); !allowed) return allowed.error();
  const auto count = [](std::size_t n, const char* what) { return std::to_string(n) + what; };
  return c.path + ": ok (" + count(c.plant.models.size(), " models, ") + count(c.tenants.plans.size(), " plans, ") +
         count(c.tenants.organizations.size(), " organizations, prices ") + c.prices.version + " in " + c.prices.currency + ")";
}

int serve(const std::string& config_path) {
  const sigset_t signals = handled_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);     // before any thread: only sigtimedwait sees them
  harden_process();
  auto opened = open_plant(config_path);
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
    return kBadUsage;
  }
  log::configure(level_of(opened->config.plant.log_level), opened->config.plant.log_json);
  Plant plant(std::move(*opened));
  if (auto built = plant.build(); !built) {
    std::fprintf(stderr, "tokenworks: cannot start: %s\n", built.error().message.c_str());
    return kBadUsage;
  }
  return plant.run();
}

}  // namespace tokenworks::app
