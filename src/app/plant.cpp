#include "tokenworks/app/plant.hpp"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <mutex>

#include "models.hpp"
#include "notify.hpp"
#include "tokenworks/backend/cards.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/gateway/administration.hpp"
#include "tokenworks/gateway/plant.hpp"
#include "tokenworks/http/server.hpp"
#include "tokenworks/jobs/idempotency.hpp"
#include "tokenworks/ledger/ledger.hpp"
#include "tokenworks/telemetry/metrics.hpp"
#include "tokenworks/trust/server_key.hpp"

namespace tokenworks::app {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

sigset_t handled_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, s);
  return set;
}

// Prompts never reach disk: no core dumps, no other process may read our memory. The descriptor limit goes to its hard value.
void harden_process() {
  prctl(PR_SET_DUMPABLE, 0);
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  std::signal(SIGPIPE, SIG_IGN);
}

log::Level level_of(const std::string& name) {
  return name == "debug" ? log::Level::debug : name == "warn" ? log::Level::warn : name == "error" ? log::Level::error : log::Level::info;
}

// Everything a running daemon is made of, in the order it is built; destroyed in reverse.
class Plant {
 public:
  explicit Plant(const config::Config& config) : config_(config) {}

  Result<> build();
  int run();

 private:
  Result<> open_books();
  Result<> load_models();
  Result<> start_serving();
  Result<> write_endpoints() const;
  http::Readiness readiness() const;
  telemetry::Scrape scrape() const;
  std::vector<std::string> organization_names(const config::Tenants& tenants) const;
  bool device_lost() const;
  void shut_down();

  const config::Config& config_;
  SystemClock clock_;
  std::unique_ptr<DataDirLock> lock_;
  std::string cache_secret_, server_secret_, tag_secret_;
  std::unique_ptr<telemetry::Metrics> metrics_;
  std::unique_ptr<ledger::Ledger> ledger_;
  std::shared_ptr<const billing::PriceBook> prices_;
  std::unique_ptr<gateway::Admission> admission_;
  std::map<std::string, std::uint32_t> tenant_numbers_;
  Snapshot<tenancy::Directory> directory_;
  std::unique_ptr<jobs::Idempotency> idempotency_;
  std::vector<std::shared_ptr<const gateway::ServedModel>> models_;
  boost::asio::thread_pool workers_{2};
  std::unique_ptr<gateway::ServiceControl> service_;
  std::unique_ptr<gateway::Administration> administration_;
  std::unique_ptr<http::Server> server_;
  const std::unique_ptr<backend::Cards> cards_ = backend::Cards::open();
  mutable std::mutex cards_mutex_;                   // two scrapes may meet
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
  server_secret_ = key->derive("side-table");
  tag_secret_ = key->derive("tags");
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
  const std::int64_t now = clock_.unix_ns();
  const ledger::AuditEvent start{now, "local", "plant.start", config_.path, "", prices_->hash()};
  if (auto put = ledger_->put_price_book({prices_->version(), prices_->hash(), prices_->text(), now}, start); !put) return put.error();
  const gateway::PlantLabels labels{build_id(), config_.plant.region, config_.plant.jurisdiction, tag_secret_};
  auto admission = gateway::Admission::make(clock_, *ledger_, labels, config_.tenants, prices_);
  if (!admission) return admission.error();
  admission_ = std::move(*admission);
  auto keys = ledger_->keys();
  if (!keys) return keys.error();
  auto directory = tenancy::Directory::build(config_.tenants, *keys, tenant_numbers_);
  if (!directory) return directory.error();
  directory_.set(*directory);
  auto idempotency = jobs::Idempotency::open(*ledger_, clock_);
  if (!idempotency) return idempotency.error();
  idempotency_ = std::move(*idempotency);
  return {};
}

Result<> Plant::load_models() {
  for (const config::ModelSpec& spec : config_.plant.models) {
    auto on_step = [this, id = spec.id](const engine::StepReport& step) {
      metrics_->step(id, static_cast<double>(step.duration_ns) * 1e-9, step.prefill_tokens, step.decode_tokens, step.sequences);
    };
    auto model = load_model(spec, config_.plant.limits, cache_secret_, clock_, std::move(on_step));
    if (!model) return model.error();
    models_.push_back(std::move(*model));
  }
  return {};
}

std::vector<std::string> Plant::organization_names(const config::Tenants& tenants) const {
  std::vector<std::string> names;
  for (const auto& o : tenants.organizations) names.push_back(o.name);
  return names;
}

Result<> Plant::start_serving() {
  metrics_->set_organizations(organization_names(config_.tenants));
  std::vector<std::string> ids;
  for (const auto& m : models_) ids.push_back(m->card.id);
  metrics_->set_models(ids);
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
  service_ = gateway::ServiceControl::make({clock_, *admission_, directory_, models_, config_.plant.jurisdiction,
                                            config_.plant.progress_step, server_secret_, workers_, config_.plant.limits.embedding_tokens, on_done,
                                            on_inter_token});

  gateway::AdministrationParts parts{clock_, *ledger_, *admission_, directory_, config_, tenant_numbers_, {}, {}, {}};
  parts.before_apply = [this](const config::Config& fresh) -> Result<> {
    return server_ ? server_->reload_tls(fresh.plant.tls) : Result<>{};
  };
  parts.applied = [this](const config::Config& fresh) { metrics_->set_organizations(organization_names(fresh.tenants)); };
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
  options.io_threads = static_cast<int>(config_.plant.io_threads);
  options.server_version = std::string("tokenworks/") + version();
  options.idempotency = idempotency_.get();
  auto server = http::Server::start(options, *service_, *administration_, *metrics_, [this] { return readiness(); });
  if (!server) return server.error();
  server_ = std::move(*server);
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
  for (const auto& m : models_) {
    const engine::EngineStatus status = m->engine->status();
    check("model " + m->card.id, status.healthy && !status.failed, status.failed ? "failed" : "no step finished in time");
    if (status.failed) r.live = false;
  }
  return r;
}

telemetry::Scrape Plant::scrape() const {
  telemetry::Scrape s;
  for (const auto& m : models_) {
    const engine::EngineStatus e = m->engine->status();
    telemetry::Scrape::Model row;
    row.id = m->card.id;
    row.running = e.running;
    row.waiting = e.waiting;
    row.kv_used = e.kv_blocks_used;
    row.kv_cached = e.kv_blocks_cached;
    row.kv_free = e.kv_blocks_free;
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
  if (cards_) {
    std::lock_guard lock(cards_mutex_);
    for (backend::CardReading& c : cards_->read())
      s.cards.push_back({std::move(c.device), c.temperature_celsius, c.power_watts, c.memory_used_bytes, c.ecc_errors,
                         c.throttle_reasons, c.energy_millijoules});
  }
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
  s.reload_ok = reload_ok_;
  s.reload_unix_s = reload_unix_s_;
  return s;
}

bool Plant::device_lost() const {
  for (const auto& m : models_) {
    if (m->engine->status().failed) return true;
  }
  return false;
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
  for (;;) {
    const timespec patience{0, 250'000'000};
    const int signal = sigtimedwait(&signals, nullptr, &patience);
    if (signal == SIGHUP) {
      notify_supervisor("RELOADING=1");
      (void)administration_->reload("local");        // logged and counted there; the old configuration stays on a mistake
      notify_supervisor("READY=1");
    }
    if (signal == SIGTERM || signal == SIGINT) break;
    for (const auto& m : models_) m->engine->watch();
    if (device_lost()) {
      log::error("device_lost", {{"action", "exit for restart"}});
      exit_code = kDeviceLost;
      break;
    }
    admission_->tick(config_.plant.limits.hold_expiry_ns);
    notify_supervisor("WATCHDOG=1");
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
  bool hung = false;
  for (const auto& m : models_) {
    hung = hung || m->engine->status().hung;
    if (!m->engine->status().hung) m->engine->stop();   // a step that does not return cannot be waited for
  }
  const std::int64_t settled_by = clock_.steady_ns() + 5 * kSecond;
  while (server_->requests_in_flight() > 0 && clock_.steady_ns() < settled_by) {
    const timespec patience{0, 10'000'000};
    nanosleep(&patience, nullptr);
  }
  server_->stop();
  workers_.join();
  std::error_code ignored;
  std::filesystem::remove(config_.plant.data_dir + "/endpoints.json", ignored);
  server_.reset();
  service_.reset();
  administration_.reset();
  admission_.reset();
  ledger_.reset();                                   // commits what is queued
  log::info("stopped");
  if (hung) std::_Exit(kDeviceLost);                 // its thread still uses what the destructors would take away
}

}  // namespace

int serve(const config::Config& config) {
  const sigset_t signals = handled_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);     // before any thread: only sigtimedwait sees them
  harden_process();
  log::configure(level_of(config.plant.log_level), config.plant.log_json);
  Plant plant(config);
  if (auto built = plant.build(); !built) {
    std::fprintf(stderr, "tokenworks: cannot start: %s\n", built.error().message.c_str());
    return kBadUsage;
  }
  return plant.run();
}

}  // namespace tokenworks::app
