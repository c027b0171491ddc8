#include "simulation.hpp"

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>
#include <tuple>

#include "ledger/verify.hpp"

namespace tokenworks::ledger::test {
namespace {

constexpr std::int64_t kStart = 1'764'000'000'000'000'000;
const char* const kPath = "/ledger.sqlite";

bool same(const Record& a, const Record& b) {
  return a.type == b.type && a.request == b.request && a.organization == b.organization && a.project == b.project &&
         a.usage == b.usage && a.amount == b.amount && a.lines == b.lines && a.unix_ns == b.unix_ns &&
         a.finish_reason == b.finish_reason && a.tier == b.tier && a.expires_unix_ns == b.expires_unix_ns &&
         a.tag_hashes == b.tag_hashes;
}

std::string describe(const Record& r) {
  return std::string(name(r.type)) + " " + r.request.to_string() + " " + to_string(r.amount);
}

bool ends(EntryType type) {
  return type == EntryType::settle || type == EntryType::release || type == EntryType::expire;
}

}  // namespace

Simulation::Simulation(const SimulationPlan& plan)
    : plan_(plan), random_(plan.seed), disk_(plan.seed * 2654435761u + 17), clock_(kStart) {}

std::string Simulation::run() {
  for (int i = 0; i < plan_.epochs; ++i) {
    if (std::string wrong = epoch(i == 0); !wrong.empty()) return "epoch " + std::to_string(i) + ": " + wrong;
  }
  if (std::string wrong = open(); !wrong.empty()) return "last opening: " + wrong;
  ledger_.reset();
  return "";
}

std::string Simulation::epoch(bool first) {
  if (std::string wrong = open(); !wrong.empty()) return wrong;
  if (first) {
    disk_.cut_at_sync(plan_.cut_at_sync);
    disk_.cut_at_write(plan_.cut_at_write);
  }
  const std::int64_t end = plan_.random_ends ? chance(5) : 0;
  if (end == 1) disk_.cut_at_sync(1 + chance(60));
  if (end == 2) disk_.cut_at_write(1 + chance(300));
  work();
  if (end == 3) disk_.kill_now();
  if (end == 4) disk_.cut_now();
  failures_ += ledger_->health().failures;
  ledger_.reset();
  cut_ = cut_ || disk_.dead();
  if (!disk_.dead()) {
    for (const Operation& operation : operations_) {
      if (operation.ack->state != (operation.must_be_refused ? 2 : 1)) return "not told: " + describe(operation.record);
    }
  }
  disk_.power_on();
  return "";
}

// Opens, and checks all that happened since the last time.
std::string Simulation::open() {
  LedgerOptions options;
  options.path = kPath;
  options.vfs = disk_.name();
  options.progress = plan_.mode;
  options.build_id = "simulation";
  Tuning tuning;
  tuning.planted = plan_.planted;
  tuning.checkpoints.background = plan_.seed % 3 == 0;
  tuning.checkpoints.pages = 40;
  tuning.checkpoints.slice = 4;                      // so that cuts and failing syncs meet a copy that is half on the disk
  tuning.checkpoints.rest = 0;
  tuning.rollups.every_ns = 5'000'000;
  tuning.close_patience_ns = 0;
  tuning.gather_us = 0;
  auto opened = Service::open(options, tuning, clock_);
  if (!opened) return "cannot open: " + opened.error().message;
  ledger_ = std::move(*opened);
  if (std::string wrong = check_chain(); !wrong.empty()) return wrong;
  if (std::string wrong = check_recovery(ledger_->recovery().writer_id); !wrong.empty()) return wrong;
  const auto report = ledger_->verify();
  if (!report) return "verify: " + report.error().message;
  if (!report->ok) return "verify: " + report->first_bad.value_or("");
  if (report->open_holds != 0) return "open holds after recovery: " + std::to_string(report->open_holds);
  if (report->entries != static_cast<std::int64_t>(booked_.size())) return "verify counts other entries";
  if (ledger_->recovery().entries != report->entries) return "recovery counts other entries";
  operations_.clear();
  progress_acks_.clear();
  reported_.clear();
  open_.clear();
  return check_sums();
}

void Simulation::work() {
  for (int i = 0; i < plan_.operations && !disk_.dead(); ++i) {
    one_operation();
    clock_.advance_ns(1'000'000 + chance(3'000'000'000));
    if (plan_.transient_faults && chance(12) == 0) {
      switch (chance(4)) {
        case 0: disk_.fail_syncs(1 + chance(3)); break;
        case 1: disk_.set_full(true); break;
        case 2: disk_.fail_reads(1 + chance(2), false); break;
        default: disk_.fail_reads(1, true); break;
      }
    }
    if (plan_.transient_faults && plan_.seed % 7 == 3 && i % 5 == 0) disk_.fail_database_syncs(1);   // of a copy, beside any other
    if (plan_.transient_faults && chance(4) == 0) disk_.set_full(false);
    if (chance(3) == 0) {
      disk_.set_full(false);
      wait_for_acks();
    }
  }
  disk_.set_full(false);
  disk_.fail_reads(0, false);
  disk_.fail_database_syncs(0);
  wait_for_acks();
}

void Simulation::one_operation() {
  std::vector<RequestId> running;
  for (const auto& [request, hold] : open_) running.push_back(request);
  const std::int64_t what = chance(10);
  if (running.empty() || what < 3) {                 // a new request, or money
    Record r = base_record(new_id());
    const std::int64_t kind = chance(5);
    r.type = kind == 0 ? EntryType::topup : kind == 1 ? EntryType::adjust : EntryType::hold;
    r.amount.nano = r.type == EntryType::adjust ? chance(2'000) - 1'000 : 1 + chance(1'000'000);
    r.usage = r.type == EntryType::hold ? Usage{100, 0, 50, 0} : Usage{};
    if (r.type == EntryType::topup && chance(2) == 0) r.expires_unix_ns = r.unix_ns + 1 + chance(100'000'000'000);
    if (r.type == EntryType::hold && chance(2) == 0) r.tag_hashes = {TagHash{static_cast<std::uint8_t>(chance(3))}};
    if (chance(15) == 0) r.organization.value.clear();
    return submit(std::move(r), r.organization.value.empty());
  }
  const RequestId request = running[static_cast<std::size_t>(chance(static_cast<std::int64_t>(running.size())))];
  const Hold& hold = open_[request];
  if (what < 6) return report_progress(request);
  Record r = hold.opened;
  r.unix_ns = clock_.unix_ns();
  if (what == 6) {
    r.type = EntryType::extend;
    r.amount.nano = chance(100'000);
    return submit(std::move(r), false);
  }
  if (what == 7) {                                   // refused: gives back what was never held
    r.type = chance(2) == 0 ? EntryType::release : EntryType::settle;
    r.amount.nano = hold.held + 1;
    if (r.type == EntryType::settle) r.lines = {{"output", r.amount}};
    return submit(std::move(r), true);
  }
  r.type = what == 8 ? (chance(2) == 0 ? EntryType::release : EntryType::expire) : EntryType::settle;
  r.usage = {};
  r.amount.nano = hold.held;
  if (r.type == EntryType::settle) {
    r.amount.nano = chance(hold.held + 1);
    const std::int64_t part = chance(r.amount.nano + 1);
    r.lines = {{"input", {part}}, {"output", {r.amount.nano - part}}};
    r.usage = {100, chance(100), 1 + chance(50), 0};
    r.finish_reason = chance(2) == 0 ? "stop" : "cancelled";
  }
  submit(std::move(r), false);
}

void Simulation::submit(Record record, bool must_be_refused) {
  Operation operation{std::move(record), must_be_refused};
  if (!must_be_refused) apply(open_, operation.record);
  const auto ack = operation.ack;
  operations_.push_back(operation);
  const auto taken =
      ledger_->append(operations_.back().record, [ack](const Result<>& done) { ack->state = done ? 1 : 2; });
  if (!taken) ack->state = 2;                        // found as "not told": the simulation never fills the queue
}

void Simulation::report_progress(const RequestId& request) {
  Hold& hold = open_[request];
  Progress progress;
  progress.request = request;
  progress.charge.nano = chance(hold.held + 1);
  progress.lines = {{"output", progress.charge}};
  progress.usage = {100, 0, 1 + static_cast<std::int64_t>(reported_[request].size()), 0};
  auto ack = std::make_shared<Ack>();
  progress_acks_.push_back(ack);
  reported_[request].push_back({progress, ack});
  ledger_->progress(progress, [ack](const Result<>& done) { ack->state = done ? 1 : 2; });
}

// Until everybody was told or the disk is gone. Time goes on, or a backoff would never end.
void Simulation::wait_for_acks() {
  const auto told = [](const std::shared_ptr<Ack>& ack) { return ack->state != 0; };
  for (;;) {
    const bool done =
        std::all_of(operations_.begin(), operations_.end(), [&](const Operation& o) { return told(o.ack); }) &&
        std::all_of(progress_acks_.begin(), progress_acks_.end(), told);
    if (done || disk_.dead()) return;
    stir();
  }
}

void Simulation::stir() {
  clock_.advance_ns(20'000'000);
  std::this_thread::sleep_for(std::chrono::microseconds(100));
}

void Simulation::apply(std::map<RequestId, Hold>& open, const Record& r) const {
  if (r.type == EntryType::hold) open[r.request] = {r, r.amount.nano, {}};
  if (r.type == EntryType::extend) open[r.request].held += r.amount.nano;
  if (ends(r.type)) open.erase(r.request);
}

// The store holds what it held before, then a prefix of this epoch's records, then what the recovery added.
std::string Simulation::check_chain() {
  const auto reader = Reader::open(kPath, disk_.name());
  if (!reader) return reader.error().message;
  EntryReader entries((*reader)->store());
  auto statement = (*reader)->store().prepare("SELECT " TOKENWORKS_ENTRY_COLUMNS " FROM entries ORDER BY id");
  if (!statement) return statement.error().message;
  std::vector<Entry> all;
  for (;;) {
    const auto row = statement->step();
    if (!row) return row.error().message;
    if (!*row) break;
    auto entry = entries.entry(entry_row(*statement));
    if (!entry) return entry.error().message;
    all.push_back(std::move(*entry));
  }
  if (all.size() < booked_.size()) {
    return std::to_string(booked_.size() - all.size()) + " entries of earlier epochs are lost";
  }
  for (std::size_t i = 0; i < booked_.size(); ++i) {
    if (!same(booked_[i], all[i])) return "entry " + std::to_string(i) + " changed: " + describe(all[i]);
  }
  std::size_t at = booked_.size();
  const std::string& writer = ledger_->recovery().writer_id;
  for (const Operation& operation : operations_) {
    if (operation.must_be_refused) continue;
    const bool there = at < all.size() && all[at].writer_id != writer && same(operation.record, all[at]);
    if (!there) {
      if (operation.ack->state == 1) return "acknowledged and lost: " + describe(operation.record);
      continue;                                      // nothing after it may be there either: the next must not match
    }
    apply(stored_open_, operation.record);
    booked_.push_back(operation.record);
    ++at;
  }
  for (; at < all.size(); ++at) {
    if (all[at].writer_id != writer) return "booked but never appended, or out of order: " + describe(all[at]);
    booked_.push_back(all[at]);
  }
  return "";
}

std::string Simulation::check_recovery(const std::string& writer_id) {
  for (const auto& [request, hold] : stored_open_) {
    const auto entries = ledger_->entries_of(request);
    if (!entries) return entries.error().message;
    const auto is_end = [](const Entry& e) { return ends(e.type); };
    if (std::count_if(entries->begin(), entries->end(), is_end) != 1) return "not ended once: " + request.to_string();
    const Entry& end = entries->back();
    if (end.writer_id != writer_id || end.finish_reason != "crash")
      return "not ended by the recovery: " + request.to_string();
    if (end.held.nano != hold.held) return "another amount was held: " + request.to_string();
    const auto found = reported_.find(request);
    const std::vector<Reported> none;
    const std::vector<Reported>& reported = found == reported_.end() ? none : found->second;
    std::size_t least = 0;                           // the first report it may be settled with
    for (std::size_t i = 0; i < reported.size(); ++i) {
      if (reported[i].ack->state == 1) least = i + 1;
    }
    if (end.type == EntryType::release) {
      if (least != 0) return "released although progress was acknowledged: " + request.to_string();
      continue;
    }
    bool matches = false;
    for (std::size_t i = least == 0 ? 0 : least - 1; i < reported.size(); ++i) {
      const Progress& p = reported[i].progress;
      matches = matches || (end.amount == p.charge && end.usage == p.usage && end.lines == p.lines);
    }
    if (!matches) return "settled with what was never reported, or with less: " + request.to_string();
  }
  recovered_ += static_cast<std::int64_t>(stored_open_.size());
  stored_open_.clear();
  return "";
}

std::string Simulation::check_sums() {
  std::map<std::string, Sums> model, store;
  std::map<std::string, std::int64_t> by_hour, hours;
  for (const Record& r : booked_) {
    Sums& sums = model[r.organization.value];
    if (r.type == EntryType::topup || r.type == EntryType::adjust) sums.balance += r.amount.nano;
    if (r.type == EntryType::topup) sums.prepaid = true;
    if (r.type != EntryType::settle) continue;
    sums.balance -= r.amount.nano;
    sums.cost += r.amount.nano;
    sums.requests += 1;
    sums.input += r.usage.input;
    sums.output += r.usage.output;
    by_hour[r.organization.value + "@" + std::to_string(r.unix_ns / 3'600'000'000'000)] += r.amount.nano;
  }
  const auto balances = ledger_->balances();
  if (!balances) return balances.error().message;
  for (const BalanceRow& row : *balances) {
    store[row.organization.value].balance = row.balance.nano;
    store[row.organization.value].prepaid = row.prepaid;
  }
  UsageQuery query;
  query.by_key = query.by_model = query.by_project = query.by_tier = false;
  const auto usage = ledger_->usage(query);
  if (!usage) return usage.error().message;
  for (const UsageRow& row : *usage) {
    Sums& sums = store[row.organization];
    sums.cost = row.cost.nano;
    sums.requests = row.requests;
    sums.input = row.usage.input;
    sums.output = row.usage.output;
  }
  if (model != store) return "balances or usage differ from the model";
  const auto spend = ledger_->spend_since(0);
  if (!spend) return spend.error().message;
  for (const SpendRow& row : *spend) {
    hours[row.organization.value + "@" + std::to_string(row.hour_unix_s / 3600)] += row.amount.nano;
  }
  return hours == by_hour ? check_credits() : "spend by hour differs from the model";
}

// Credits and spend by tag follow from the entries alone, so a plain walk over them must give what is stored.
std::string Simulation::check_credits() {
  std::map<std::string, std::map<RequestId, Credit>> paid;
  std::map<std::string, CreditStack> stacks;
  std::map<std::tuple<std::string, TagHash, std::int64_t>, std::int64_t> spent, stored_spent;
  for (const Record& r : booked_) {
    const auto keep = [&](const Credit& credit) { paid[r.organization.value][credit.operation] = credit; };
    CreditStack& stack = stacks[r.organization.value];
    if (r.type == EntryType::settle) {
      stack.draw(r.amount, keep);
      for (const TagHash& tag : r.tag_hashes) {
        spent[{r.organization.value, tag, r.unix_ns / 900'000'000'000 * 900}] += r.amount.nano;
      }
    } else if (r.type == EntryType::topup || r.type == EntryType::adjust) {
      if (r.amount.nano > 0) stack.add({r.request, r.amount, {}, r.expires_unix_ns, r.unix_ns}, keep);
      if (r.amount.nano < 0) stack.draw({-r.amount.nano}, keep);
    }
  }
  for (const auto& [organization, stack] : stacks) {
    const auto stored = ledger_->credits({organization});
    if (!stored) return stored.error().message;
    std::map<RequestId, Credit> rows;
    for (const Credit& credit : *stored) rows[credit.operation] = credit;
    if (rows != paid[organization]) return "credits of " + organization + " differ from the model";
  }
  const auto by_tag = ledger_->spend_by_tag(0);
  if (!by_tag) return by_tag.error().message;
  for (const TagSpendRow& row : *by_tag) {
    stored_spent[{row.organization.value, row.tag, row.bucket_unix_s}] = row.amount.nano;
  }
  return stored_spent == spent ? "" : "spend by tag differs from the model";
}

RequestId Simulation::new_id() {
  std::array<std::uint8_t, 10> bytes{};
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random_());
  ++ids_;
  return RequestId::make(clock_.unix_ms(), bytes);
}

Record Simulation::base_record(const RequestId& request) {
  Record r;
  r.unix_ns = clock_.unix_ns();
  r.request = request;
  r.organization.value = "org" + std::to_string(chance(3));
  r.project.value = r.organization.value + "/p" + std::to_string(chance(2));
  r.key.value = "key0000" + std::to_string(chance(2));
  r.actor = "service:default";
  r.model.value = "model-" + std::to_string(chance(2));
  r.model_digest = std::string(64, 'd');
  r.price_version = "2026-11-01";
  r.tier = static_cast<Tier>(chance(3));
  r.currency = "USD";
  r.data_class = "internal";
  if (chance(3) == 0) r.token_commitment = "c0ffee";
  return r;
}

}  // namespace tokenworks::ledger::test
