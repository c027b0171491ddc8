#include "tokenworks/gateway/administration.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <sstream>

#include "money_desk.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/billing/price_archive.hpp"
#include "tokenworks/config/difference.hpp"
#include "tokenworks/tenancy/limits.hpp"

namespace tokenworks::gateway {
namespace {

// What an audit row says about a key's state: everything but the secret, hashed.
std::string state_hash(const ledger::KeyRow& row) {
  std::string text = row.id.value + '\n' + row.organization.value + '\n' + row.project.value + '\n' + row.role + '\n' +
                     row.principal + '\n' + std::to_string(row.created_unix_ns) + '\n' + std::to_string(row.expires_unix_ns) +
                     '\n' + std::to_string(row.revoked_unix_ns) + '\n' + row.rotated_from + (row.limits.empty() ? "" : '\n' + row.limits);
  for (const std::string& model : row.models) text += '\n' + model;
  return hex(sha256(text));
}

// What an audit row says about the configuration: its three files, byte for byte.
std::string state_hash(const config::Config& c) {
  Sha256 hash;
  for (const std::string& path : {c.path, c.plant.prices_path, c.plant.tenants_path}) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    if (file) text << file.rdbuf();
    hash.update(hex(sha256(text.str())) + "\n");
  }
  return hex(hash.finish());
}

// One change of models at a time. Waits a moment for the one before, but not while weights load: the threads that answer
// operators are few.
class Turn {
 public:
  struct State {
    std::mutex mutex;
    std::condition_variable free;
    bool taken = false;
  };
  explicit Turn(State& state) : state_(state) {
    std::unique_lock lock(state.mutex);
    ours_ = state.free.wait_for(lock, std::chrono::seconds(2), [&] { return !state.taken; });
    if (ours_) state.taken = true;
  }
  ~Turn() {
    if (!ours_) return;
    {
      std::lock_guard lock(state_.mutex);
      state_.taken = false;
    }
    state_.free.notify_one();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  bool ours() const { return ours_; }
  static Error busy() {
    Error e = error(Errc::server_is_overloaded, "another change of models or of the configuration is going on; try again");
    e.retry_after_ms = 1000;
    return e;
  }

 private:
  State& state_;
  bool ours_ = false;
};

class AdministrationImpl final : public Administration {
 public:
  explicit AdministrationImpl(AdministrationParts parts)
      : parts_(std::move(parts)), money_(parts_.clock, parts_.ledger, parts_.admission), tenants_(parts_.config.tenants),
        state_(state_hash(parts_.config)) {}

  Result<KeyIssued> create_key(const tenancy::KeyOrder& order, const std::string& actor) override {
    std::lock_guard lock(mutex_);
    auto made = tenancy::make_key(order, tenants_, model_ids(), parts_.clock.unix_ns());
    if (!made) return made.error();
    return store(std::move(*made), "key.create", actor);
  }

  Result<std::vector<ledger::KeyRow>> list_keys(const std::string& organization) override {
    auto rows = parts_.ledger.keys();
    if (!rows || organization.empty()) return rows;
    std::erase_if(*rows, [&](const ledger::KeyRow& row) { return row.organization.value != organization; });
    std::lock_guard lock(mutex_);
    if (rows->empty() && !configured(organization)) return unknown_organization(organization);
    return rows;
  }

  Result<KeyIssued> rotate_key(const std::string& id, std::int64_t grace_ns, const std::string& actor) override {
    std::lock_guard lock(mutex_);
    auto old = find(id);
    if (!old) return old.error();
    const std::int64_t now = parts_.clock.unix_ns();
    if (old->revoked_unix_ns != 0 && old->revoked_unix_ns <= now) {
      return error(Errc::invalid_request, "key " + id + " is revoked; create a new one", "id");
    }
    tenancy::KeyOrder order;
    order.organization = old->organization.value;
    const std::size_t slash = old->project.value.find('/');
    order.project = slash == std::string::npos ? old->project.value : old->project.value.substr(slash + 1);
    order.role = old->role;
    order.principal = old->principal;
    order.models = old->models;
    if (auto limits = tenancy::parse_limits(old->limits)) order.limits = *limits;
    order.expires_unix_ns = old->expires_unix_ns;
    auto made = tenancy::make_key(order, tenants_, model_ids(), now);
    if (!made) return made.error();
    made->row.rotated_from = id;
    ledger::KeyRow ended = *old;
    const std::int64_t until = now + grace_ns;
    ended.revoked_unix_ns = ended.revoked_unix_ns == 0 ? until : std::min(ended.revoked_unix_ns, until);
    const ledger::AuditEvent fresh{now, actor, "key.rotate", made->row.id.value, state_hash(*old), state_hash(made->row)};
    const ledger::AuditEvent grace{now, actor, "key.grace", id, state_hash(*old), state_hash(ended)};
    if (auto put = parts_.ledger.put_keys(made->row, fresh, ended, grace); !put) return put.error();
    if (auto rebuilt = rebuild(); !rebuilt) return rebuilt.error();
    return KeyIssued{std::move(made->text), std::move(made->row)};
  }

  Result<> revoke_key(const std::string& id, const std::string& actor) override {
    std::lock_guard lock(mutex_);
    auto row = find(id);
    if (!row) return row.error();
    const std::int64_t now = parts_.clock.unix_ns();
    if (row->revoked_unix_ns != 0 && row->revoked_unix_ns <= now) return {};
    const std::string before = state_hash(*row);
    row->revoked_unix_ns = now;
    if (auto put = parts_.ledger.put_key(*row, {now, actor, "key.revoke", id, before, state_hash(*row)}); !put) return put.error();
    return rebuild();
  }

  // What was committed after its caller had been told that it was not: keys and budgets are in force from here on.
  void catch_up() override {
    if (!parts_.ledger.late_changes()) return;
    std::lock_guard lock(mutex_);
    Result<> done = rebuild();
    if (done) done = parts_.admission.refresh();
    if (done) return log::info("late_changes_applied", {});
    log::error("late_changes_not_applied", {{"error", done.error().message}, {"action", "reload, or restart"}});
  }

  Result<Reloaded> reload(const std::string& actor) override {
    const Turn turn(turn_);
    if (!turn.ours()) return turn.busy();
    auto done = reload_in_turn(actor);
    if (parts_.reloaded) parts_.reloaded(done.has_value());
    if (done) return done;
    log::error("reload_failed", {{"actor", actor}, {"error", done.error().message}});
    std::lock_guard lock(mutex_);
    const ledger::AuditEvent refused{parts_.clock.unix_ns(), actor, "config.reload.refused", parts_.config.path, state_, state_};
    if (auto noted = parts_.ledger.audit(refused); !noted) {
      log::error("reload_not_audited", {{"actor", actor}, {"error", noted.error().message}});
    }
    return done;
  }

  std::vector<ModelState> models() override { return parts_.models != nullptr ? parts_.models->models() : std::vector<ModelState>{}; }

  Result<std::vector<ModelState>> change_models(const ModelOrder& order, const std::string& actor) override {
    if (parts_.models == nullptr) return error(Errc::internal, "this administration serves no models");
    const Turn turn(turn_);
    if (!turn.ours()) return turn.busy();
    auto change = parts_.models->prepare(order);
    if (!change) return change.error();
    const ledger::AuditEvent event{parts_.clock.unix_ns(), actor, action_name(order.kind), order.alias.empty() ? order.id : order.alias,
                                   hex(sha256((*change)->before())), hex(sha256((*change)->after()))};
    if (auto noted = parts_.ledger.audit(event); !noted) return noted.error();
    (*change)->commit();
    return parts_.models->models();
  }

  Result<std::vector<ledger::AuditEvent>> audit_events(std::int64_t limit) override { return parts_.ledger.audit_events(limit); }
  Result<std::vector<ledger::UsageRow>> usage(const ledger::UsageQuery& query) override { return parts_.ledger.usage(query); }
  Result<ledger::VerifyReport> verify() override { return parts_.ledger.verify(); }
  Result<> backup(const std::string& path, const std::string& actor) override {
    if (path.empty() || path.front() != '/') return error(Errc::invalid_request, "the backup needs an absolute path", "path");
    if (auto done = parts_.ledger.backup(path); !done) return done.error();
    return parts_.ledger.audit({parts_.clock.unix_ns(), actor, "ledger.backup", path, "", ""});
  }
  Result<> erase_annotations(const std::string& organization, const std::string& actor) override {
    if (organization.empty()) return error(Errc::invalid_request, "whose names are to be erased?", "organization");
    if (auto known = known_to_the_books(organization); !known) return known;
    return parts_.ledger.erase_annotations({organization},
                                           {parts_.clock.unix_ns(), actor, "ledger.erase", organization, "", ""});
  }
  Result<std::vector<ledger::Entry>> entries_of(const RequestId& request) override { return parts_.ledger.entries_of(request); }

  std::string currency() const override { return parts_.config.prices.currency; }   // a reload cannot change it
  Result<CreditBooked> add_credit(const std::string& organization, const CreditOrder& order, const std::string& actor) override {
    std::lock_guard lock(mutex_);
    return money_.add_credit(tenants_, organization, order, actor);
  }
  Result<CreditsView> credits(const std::string& organization) override {
    std::lock_guard lock(mutex_);
    return money_.credits(tenants_, organization);
  }
  Result<CreditsView> expire_credits(const std::string& organization, const std::string& actor) override {
    std::lock_guard lock(mutex_);
    return money_.expire(tenants_, organization, actor);
  }
  Result<std::vector<BudgetView>> budgets(const std::string& organization) override {
    std::lock_guard lock(mutex_);
    return money_.budgets(tenants_, organization);
  }
  Result<BudgetView> set_budget(const std::string& organization, const BudgetOrder& order, const std::string& actor) override {
    std::lock_guard lock(mutex_);
    return money_.set_budget(tenants_, model_ids(), organization, order, actor);
  }
  Result<> remove_budget(const std::string& organization, const std::string& id, const std::string& actor) override {
    std::lock_guard lock(mutex_);
    return money_.remove_budget(tenants_, organization, id, actor);
  }

 private:
  std::vector<std::string> model_ids() const {
    if (parts_.models != nullptr) return parts_.models->configured();
    std::vector<std::string> ids;
    for (const auto& m : parts_.config.plant.models) ids.push_back(m.id);
    return ids;
  }

  Result<ledger::KeyRow> find(const std::string& id) {
    auto rows = parts_.ledger.keys();
    if (!rows) return rows.error();
    for (ledger::KeyRow& row : *rows) {
      if (row.id.value == id) return std::move(row);
    }
    // Never repeat what may be a whole key, typed in the place of its id.
    const std::string shown = id.size() <= 16 ? "'" + id + "'" : "that was given (an id has 8 characters: those after sk-tw-)";
    return error(Errc::not_found, "there is no key with the id " + shown + "; `tokenworks keys list` shows those there are", "id");
  }

  bool configured(const std::string& organization) const {
    return std::ranges::find(tenants_.organizations, organization, &config::OrganizationSpec::name) != tenants_.organizations.end();
  }
  Error unknown_organization(const std::string& organization) const {
    std::vector<std::string> names;
    for (const auto& o : tenants_.organizations) names.push_back(o.name);
    const auto near = config::nearest(organization, names);
    return error(Errc::not_found, "there is no organization '" + organization.substr(0, 64) + "'" + (near ? "; did you mean '" + *near + "'?" : ""),
                 "organization");
  }
  // Also one that has left: its name is in no file any more, but in keys or in the books.
  Result<> known_to_the_books(const std::string& organization) {
    std::lock_guard lock(mutex_);
    if (configured(organization)) return {};
    const auto keys = parts_.ledger.keys();
    if (!keys) return keys.error();
    if (std::ranges::any_of(*keys, [&](const ledger::KeyRow& row) { return row.organization.value == organization; })) return {};
    ledger::UsageQuery query;
    query.organization = organization;
    query.by_project = query.by_model = query.by_tier = false;
    const auto used = parts_.ledger.usage(query);
    if (!used) return used.error();
    return used->empty() ? Result<>(unknown_organization(organization)) : Result<>{};
  }

  Result<KeyIssued> store(tenancy::NewKey made, const char* action, const std::string& actor) {
    const ledger::AuditEvent event{parts_.clock.unix_ns(), actor, action, made.row.id.value, "", state_hash(made.row)};
    if (auto put = parts_.ledger.put_key(made.row, event); !put) return put.error();
    if (auto rebuilt = rebuild(); !rebuilt) return rebuilt.error();
    return KeyIssued{std::move(made.text), std::move(made.row)};
  }

  // The directory readers see from now on: the tenants in force and every key of the ledger.
  Result<> rebuild() {
    auto keys = parts_.ledger.keys();
    if (!keys) return keys.error();
    auto built = tenancy::Directory::build(tenants_, *keys, parts_.tenant_numbers);
    if (!built) return built.error();
    parts_.directory.set(std::move(*built));
    return {};
  }

  // Everything that takes long comes before the lock: keys are made and budgets set while weights load.
  Result<Reloaded> reload_in_turn(const std::string& actor) {
    auto fresh = config::load(parts_.config.path);
    if (!fresh) return fresh.error();
    auto prices = billing::PriceBook::make(fresh->prices);
    if (!prices) return prices.error();
    std::unique_ptr<ModelChange> models;
    if (parts_.models != nullptr) {
      auto prepared = parts_.models->prepare(*fresh);
      if (!prepared) return prepared.error();
      models = std::move(*prepared);
    }
    std::lock_guard lock(mutex_);
    return apply(*fresh, std::move(*prices), models.get(), actor);
  }

  Result<Reloaded> apply(const config::Config& fresh, std::shared_ptr<const billing::PriceBook> prices, ModelChange* models,
                         const std::string& actor) {
    auto keys = parts_.ledger.keys();
    if (!keys) return keys.error();
    auto directory = tenancy::Directory::build(fresh.tenants, *keys, parts_.tenant_numbers);
    if (!directory) return directory.error();
    const std::int64_t now = parts_.clock.unix_ns();
    const billing::PriceBook& book = *prices;
    const std::string after = state_hash(fresh);
    const ledger::AuditEvent event{now, actor, "config.reload", parts_.config.path, state_, after};
    // What is told outside, and what the ledger keeps for ever, comes when nothing can refuse the change any more: of a
    // refused one neither certificates nor a version of prices stay behind.
    const auto last_step = [&]() -> Result<> {
      if (auto allowed = prices_allowed(parts_.ledger, book, now); !allowed) return allowed;
      if (parts_.before_apply) {
        if (auto ready = parts_.before_apply(fresh); !ready) return ready;
      }
      return keep_prices(parts_.ledger, book, now, event);
    };
    if (auto applied = parts_.admission.reload(fresh.tenants, prices, last_step); !applied) return applied.error();
    tenants_ = fresh.tenants;
    parts_.directory.set(std::move(*directory));
    state_ = after;
    if (models != nullptr) models->commit();
    if (parts_.applied) parts_.applied(fresh);
    Reloaded done{config::restart_needed(parts_.config.plant, fresh.plant)};
    std::string keys_left;
    for (const std::string& key : done.restart_needed) keys_left += (keys_left.empty() ? "" : ", ") + key;
    log::info("reloaded", {{"actor", actor}, {"price_version", book.in_force(now).version}});
    if (!keys_left.empty()) log::warn("reload_needs_restart", {{"keys", keys_left}, {"action", "these take effect when the daemon is started again"}});
    return done;
  }

  AdministrationParts parts_;
  MoneyDesk money_;
  Turn::State turn_;                                 // taken before mutex_
  std::mutex mutex_;                                 // one mutation at a time; readers of the snapshot never wait for it
  config::Tenants tenants_;                          // in force
  std::string state_;
};

}  // namespace

Result<> prices_allowed(ledger::Ledger& ledger, const billing::PriceBook& book, std::int64_t unix_ns) {
  const auto history = ledger.price_history();
  if (!history) return history.error();
  return billing::check_prices_change(book, *history, unix_ns);
}

Result<> keep_prices(ledger::Ledger& ledger, const billing::PriceBook& book, std::int64_t unix_ns, const ledger::AuditEvent& event) {
  if (auto allowed = prices_allowed(ledger, book, unix_ns); !allowed) return allowed;
  std::vector<ledger::PriceHistoryRow> rows;
  for (const billing::PriceBook::Version& v : book.versions()) {
    rows.push_back({unix_ns, v.from_unix_ns, {v.version, v.hash, v.text, std::max(v.from_unix_ns, unix_ns)}});
  }
  return ledger.put_prices(rows, event);
}

const char* action_name(ModelOrder::Kind kind) {
  switch (kind) {
    case ModelOrder::Kind::load: return "model.load";
    case ModelOrder::Kind::replace: return "model.replace";
    case ModelOrder::Kind::unload: return "model.unload";
    case ModelOrder::Kind::alias: return "model.alias";
  }
  return "model";
}

std::unique_ptr<Administration> make_administration(AdministrationParts parts) {
  return std::make_unique<AdministrationImpl>(std::move(parts));
}

}  // namespace tokenworks::gateway
