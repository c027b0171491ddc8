#include "model_house.hpp"

#include <malloc.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>

#include "tokenworks/base/log.hpp"
#include "tokenworks/config/model.hpp"

namespace tokenworks::app {

using gateway::ModelOrder;
using gateway::ModelSet;

namespace {

constexpr auto kReapEvery = std::chrono::milliseconds(50);

template <class Entries>
auto entry_of(Entries& entries, const std::string& id) {
  return std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return e.model->card.id == id; });
}

// What a hash in the audit log stands for.
std::string text_of(const std::vector<ModelSet::Entry>& entries) {
  std::string text;
  for (const ModelSet::Entry& e : entries) {
    const config::ModelSpec& s = e.model->spec;
    text += s.id + '\n' + e.model->model_digest + '\n' + s.path + '\n' + s.backend + '\n' + s.compute + '\n' + s.speculation + '\n' + s.embeddings + '\n';
    for (const std::int64_t n : {s.context_tokens, s.kv_cache_bytes, s.swap_bytes, s.max_sequences, s.step_target_ns, s.threads}) text += std::to_string(n) + '\n';
    for (const std::int64_t n : s.cost_units_micro) text += std::to_string(n) + '\n';
    for (const std::string& alias : e.aliases) text += "alias " + alias + '\n';
    for (const std::string& c : e.data_classes) text += "class " + c + '\n';
  }
  return text;
}

// In the place of the one with its id, or at the end.
void place(ModelSet::Entry entry, std::vector<ModelSet::Entry>& entries) {
  const auto at = entry_of(entries, entry.model->card.id);
  if (at == entries.end()) {
    entries.push_back(std::move(entry));
  } else {
    *at = std::move(entry);
  }
}

// A name points to one model: what a change names, others lose.
void take_name(std::vector<ModelSet::Entry>& entries, const std::string& name) {
  for (ModelSet::Entry& e : entries) std::erase(e.aliases, name);
}

}  // namespace

class ModelHouse::Change final : public gateway::ModelChange {
 public:
  Change(ModelHouse& house, Entries next, std::vector<config::ModelSpec> specs)
      : house_(house), before_(text_of(house.set_.get()->entries)), after_(text_of(next)), next_(std::move(next)), specs_(std::move(specs)) {}
  std::string before() const override { return before_; }
  std::string after() const override { return after_; }
  void commit() override { house_.put(std::move(next_), std::move(specs_)); }

 private:
  ModelHouse& house_;
  const std::string before_, after_;
  Entries next_;
  std::vector<config::ModelSpec> specs_;
};

ModelHouse::ModelHouse(HouseParts parts) : parts_(std::move(parts)), set_(std::make_shared<const ModelSet>()) {
  reaper_ = std::thread([this] { reap(); });
  pthread_setname_np(reaper_.native_handle(), "tw-models");
}

ModelHouse::~ModelHouse() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_one();
  reaper_.join();
}

void ModelHouse::open(std::vector<config::ModelSpec> specs, std::vector<Served> loaded) {
  Entries entries;
  for (Served& model : loaded) entries.push_back({model, model->spec.aliases, model->spec.data_classes});
  put(std::move(entries), std::move(specs));
}

std::vector<std::string> ModelHouse::configured() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> ids;
  for (const config::ModelSpec& s : specs_) ids.push_back(s.id);
  return ids;
}

std::vector<gateway::ModelState> ModelHouse::models() const {
  std::vector<gateway::ModelState> states;
  std::lock_guard lock(mutex_);
  const auto add = [&](const gateway::ServedModel& m, const char* state, std::vector<std::string> aliases, std::vector<std::string> classes) {
    const engine::EngineStatus now = m.engine->status();
    states.push_back({m.card.id, m.spec.path, state, m.card.digest, m.card.fingerprint, m.card.format, std::move(aliases),
                      std::move(classes), m.card.context_tokens, now.running, now.waiting});
  };
  const auto set = set_.get();
  for (const ModelSet::Entry& e : set->entries) add(*e.model, "serving", e.aliases, e.data_classes);
  for (const Served& m : retired_) add(*m, "draining", {}, {});
  for (const config::ModelSpec& s : specs_) {
    if (entry_of(set->entries, s.id) == set->entries.end()) {
      states.push_back({s.id, s.path, "not_loaded", "", "", "", s.aliases, s.data_classes, s.context_tokens, 0, 0});
    }
  }
  return states;
}

const config::ModelSpec* ModelHouse::spec_of(const std::string& id) const {
  const auto found = std::ranges::find(specs_, id, &config::ModelSpec::id);
  return found == specs_.end() ? nullptr : &*found;
}

Result<Served> ModelHouse::load(const config::ModelSpec& spec) const {
  try {
    return parts_.load(spec);
  } catch (const std::exception& e) {
    return error(Errc::bad_config, "model '" + spec.id + "' cannot be loaded: " + e.what());
  }
}

Result<> ModelHouse::prepare_model(const ModelOrder& order, Entries& next) const {
  const auto at = entry_of(next, order.id);
  const bool loaded = at != next.end();
  if (order.kind == ModelOrder::Kind::unload) {
    if (!loaded) return error(Errc::not_found, "the model '" + order.id + "' is not loaded", "id");
    next.erase(at);
    return {};
  }
  if (order.kind == ModelOrder::Kind::load && loaded) {
    return error(Errc::invalid_request, "the model '" + order.id + "' is loaded already; replace it", "id");
  }
  if (order.kind == ModelOrder::Kind::replace && !loaded) return error(Errc::not_found, "the model '" + order.id + "' is not loaded; load it", "id");
  config::ModelSpec base;
  {
    std::lock_guard lock(mutex_);
    const config::ModelSpec* known = spec_of(order.id);
    if (known == nullptr) {
      return error(Errc::invalid_request, "the model '" + order.id + "' is not among the models of " + parts_.config_path +
                                              "; add it there with its price, with load: false to keep it for later, and reload", "id");
    }
    base = *known;
  }
  if (loaded) base.aliases = at->aliases, base.data_classes = at->data_classes;   // what an order gave stays
  auto spec = config::model_from_text(order.spec.empty() ? "{}" : order.spec, base, parts_.config_path);
  if (!spec) return spec.error();
  if (spec->id != order.id) return error(Errc::invalid_request, "a model keeps its id; give another name as an alias", "id");
  for (const ModelSet::Entry& e : next) {
    if (std::ranges::find(spec->aliases, e.model->card.id) != spec->aliases.end()) {
      return error(Errc::invalid_request, "the alias '" + e.model->card.id + "' is a model's id", "aliases");
    }
  }
  auto model = load(*spec);
  if (!model) return model.error();
  for (const std::string& alias : spec->aliases) take_name(next, alias);
  take_name(next, spec->id);                         // an order's alias yields to a model's id
  place({std::move(*model), spec->aliases, spec->data_classes}, next);
  return {};
}

Result<> ModelHouse::prepare_alias(const ModelOrder& order, Entries& next) const {
  if (entry_of(next, order.alias) != next.end()) return error(Errc::invalid_request, "'" + order.alias + "' is a model's id, not an alias", "alias");
  {
    std::lock_guard lock(mutex_);
    if (spec_of(order.alias) != nullptr) return error(Errc::invalid_request, "'" + order.alias + "' is a model's id, not an alias", "alias");
  }
  if (order.id.empty()) {
    const ModelSet set{next};
    if (set.find(order.alias) == nullptr) return error(Errc::not_found, "there is no alias '" + order.alias + "'", "alias");
    take_name(next, order.alias);
    return {};
  }
  const auto at = entry_of(next, order.id);
  if (at == next.end()) return error(Errc::not_found, "the model '" + order.id + "' is not loaded", "model");
  if (order.alias.empty() || order.alias.size() > 200) return error(Errc::invalid_request, "an alias has 1 to 200 characters", "alias");
  take_name(next, order.alias);
  at->aliases.push_back(order.alias);
  return {};
}

Result<std::unique_ptr<gateway::ModelChange>> ModelHouse::prepare(const ModelOrder& order) {
  Entries next = set_.get()->entries;
  const auto done = order.kind == ModelOrder::Kind::alias ? prepare_alias(order, next) : prepare_model(order, next);
  if (!done) return done.error();
  std::lock_guard lock(mutex_);
  return std::unique_ptr<gateway::ModelChange>(std::make_unique<Change>(*this, std::move(next), specs_));
}

// One model of the files: what it was there and what it is now. One whose description changed is as the file says, whatever
// orders made of it; only a model that is kept for orders (load: false, before and now) stays loaded or not.
Result<> ModelHouse::take_over(const config::ModelSpec* was, const config::ModelSpec& now, Entries& next) const {
  if (was != nullptr && config::same_model(*was, now)) return {};
  const auto at = entry_of(next, now.id);
  const bool loaded = at != next.end(), kept = was != nullptr && !was->load && !now.load;
  if (!now.load && loaded && !kept) {
    next.erase(at);
    return {};
  }
  if (!now.load && !loaded) return {};
  for (const std::string& alias : now.aliases) take_name(next, alias);
  if (loaded && (kept || !config::needs_new_engine(at->model->spec, now))) {
    at->aliases = now.aliases;
    at->data_classes = now.data_classes;
    return {};
  }
  auto model = load(now);
  if (!model) return model.error();
  place({std::move(*model), now.aliases, now.data_classes}, next);
  return {};
}

Result<std::unique_ptr<gateway::ModelChange>> ModelHouse::prepare(const config::Config& fresh) {
  Entries next = set_.get()->entries;
  std::vector<config::ModelSpec> old;
  {
    std::lock_guard lock(mutex_);
    old = specs_;
  }
  const std::vector<config::ModelSpec>& specs = fresh.plant.models;
  std::erase_if(next, [&](const ModelSet::Entry& e) { return std::ranges::find(specs, e.model->card.id, &config::ModelSpec::id) == specs.end(); });
  for (const config::ModelSpec& now : specs) {
    const auto was = std::ranges::find(old, now.id, &config::ModelSpec::id);
    if (auto done = take_over(was == old.end() ? nullptr : &*was, now, next); !done) return done.error();
  }
  for (const config::ModelSpec& now : specs) take_name(next, now.id);   // ids cannot be aliases
  return std::unique_ptr<gateway::ModelChange>(std::make_unique<Change>(*this, std::move(next), specs));
}

void ModelHouse::put(Entries next, std::vector<config::ModelSpec> specs) {
  {
    std::lock_guard lock(mutex_);
    // Retired before the set forgets them: a request is never the last owner.
    const auto old = set_.get();
    for (const ModelSet::Entry& e : old->entries) {
      const bool stays = std::ranges::any_of(next, [&](const ModelSet::Entry& n) { return n.model == e.model; });
      if (!stays) retired_.push_back(e.model);
    }
    specs_ = std::move(specs);
    auto fresh = std::make_shared<ModelSet>();
    fresh->entries = std::move(next);
    set_.set(std::move(fresh));
  }
  tell_names();
  work_.notify_one();
}

std::vector<Served> ModelHouse::all() const {
  std::lock_guard lock(mutex_);
  std::vector<Served> models = retired_;
  for (const ModelSet::Entry& e : set_.get()->entries) models.push_back(e.model);
  return models;
}

void ModelHouse::tell_names() {
  if (!parts_.names) return;
  std::lock_guard lock(names_mutex_);
  std::vector<std::string> ids;
  for (const Served& m : all()) {
    if (std::ranges::find(ids, m->card.id) == ids.end()) ids.push_back(m->card.id);
  }
  parts_.names(ids);
}

std::vector<std::pair<std::string, engine::EngineStatus>> ModelHouse::statuses() const {
  std::lock_guard lock(mutex_);                      // an engine is counted as one that is there or as one that is gone
  std::vector<std::pair<std::string, engine::EngineStatus>> rows;
  const auto add = [&](const gateway::ServedModel& m) {
    const engine::EngineStatus now = m.engine->status();
    const auto row = std::ranges::find(rows, m.card.id, &std::pair<std::string, engine::EngineStatus>::first);
    if (row == rows.end()) {
      rows.emplace_back(m.card.id, now);
      if (const auto gone = gone_.find(m.card.id); gone != gone_.end()) {
        rows.back().second.preemptions += gone->second.preemptions;
        rows.back().second.prefix_hit_tokens += gone->second.prefix_hit_tokens;
        rows.back().second.swapped_out += gone->second.swapped_out, rows.back().second.swapped_in += gone->second.swapped_in;
      }
      return;
    }
    engine::EngineStatus& sum = row->second;         // gauges of fairness and waiting are those of the one that serves
    sum.running += now.running, sum.waiting += now.waiting;
    sum.kv_blocks_used += now.kv_blocks_used, sum.kv_blocks_cached += now.kv_blocks_cached, sum.kv_blocks_free += now.kv_blocks_free;
    sum.preemptions += now.preemptions, sum.prefix_hit_tokens += now.prefix_hit_tokens;
    sum.swap_blocks_used += now.swap_blocks_used, sum.swap_blocks_free += now.swap_blocks_free;
    sum.swapped_out += now.swapped_out, sum.swapped_in += now.swapped_in;
  };
  for (const ModelSet::Entry& e : set_.get()->entries) add(*e.model);
  for (const Served& m : retired_) add(*m);
  return rows;
}

void ModelHouse::watch() {
  for (const Served& m : all()) m->engine->watch();
}

bool ModelHouse::lost() const {
  return std::ranges::any_of(all(), [](const Served& m) { return m->engine->status().failed; });
}

bool ModelHouse::stop() {
  bool hung = false;
  for (const Served& m : all()) {
    const bool hangs = m->engine->status().hung;
    hung = hung || hangs;
    if (!hangs) m->engine->stop();
  }
  return hung;
}

void ModelHouse::reap() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    std::vector<Served> ended;
    for (std::size_t i = 0; i < retired_.size();) {
      // Nothing else can copy it any more, so one owner stays one owner. An engine that is lost is left to the exit.
      const engine::EngineStatus last = retired_[i]->engine->status();
      if (retired_[i].use_count() > 1 || last.failed) {
        ++i;
        continue;
      }
      Counts& counts = gone_[retired_[i]->card.id];
      counts.preemptions += last.preemptions, counts.prefix_hit_tokens += last.prefix_hit_tokens;
      counts.swapped_out += last.swapped_out, counts.swapped_in += last.swapped_in;
      ended.push_back(std::move(retired_[i]));
      retired_.erase(retired_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (!ended.empty()) {
      lock.unlock();
      for (Served& m : ended) {
        const std::string id = m->card.id, digest = m->card.digest;
        m.reset();                                   // joins the engine's thread, unmaps weights and cache
        log::info("model_gone", {{"model", id}, {"digest", digest.substr(0, 16)}});
      }
      ::malloc_trim(0);
      tell_names();
      lock.lock();
      continue;
    }
    if (retired_.empty()) {
      work_.wait(lock);
    } else {
      work_.wait_for(lock, kReapEvery);
    }
  }
}

}  // namespace tokenworks::app
