#include "ledger/verify.hpp"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "ledger/entry_rows.hpp"
#include "ledger/parts.hpp"
#include "ledger/postings.hpp"
#include "ledger/rollup.hpp"
#include "ledger/verify_credits.hpp"

namespace tokenworks::ledger {
namespace {

using AccountKey = std::pair<std::int64_t, std::string>;   // series, kind

class Verification {
 public:
  explicit Verification(const Connection& store) : store_(store), reader_(store) {}
  Result<VerifyReport> run();

 private:
  struct Hold {
    std::int64_t held, organization, entry;
  };
  Result<> read_state();
  Result<> read_series();
  Result<> walk();
  Result<> check(const EntryRow& row, const std::string& writer_id, Digest& head);
  bool follow_hold(const EntryRow& row, std::int64_t organization);
  void post(const EntryRow& row, std::int64_t series, std::int64_t organization);
  Result<> compare_accounts();
  Result<> compare_rollups();
  Result<> compare_holds();
  Result<> compare_credits();
  void bad(std::string what) {
    if (!report_.first_bad) report_.first_bad = std::move(what);
  }
  void bad_entry(const std::string& writer_id, std::int64_t id, const std::string& why) {
    bad(writer_id + "/" + std::to_string(seq_of(id)) + ": " + why);
  }

  const Connection& store_;
  EntryReader reader_;
  VerifyReport report_;
  ChainHasher hasher_;
  Reach reach_;
  std::int64_t minute_from_ = 0;
  std::map<std::pair<std::string, std::string>, std::int64_t> organizations_;   // own series by organization, currency
  std::unordered_map<std::int64_t, std::int64_t> organization_of_;              // by series
  std::unordered_map<RequestId, Hold> holds_;
  std::unordered_set<RequestId> operations_;         // of topups and adjusts
  std::map<AccountKey, Totals> accounts_;
  std::unordered_map<CellKey, Cell, CellKeyHash> cells_;
  CreditCheck credits_;
  Totals all_;
  int places_ = 9;                                   // of the sums: six in books whose every currency counts micro-units
  std::string bytes_, why_;
  std::vector<Line> lines_;
};

Result<VerifyReport> Verification::run() {
  for (const auto step :
       {&Verification::read_state, &Verification::read_series, &Verification::walk, &Verification::compare_holds,
        &Verification::compare_accounts, &Verification::compare_rollups, &Verification::compare_credits}) {
    if (auto done = (this->*step)(); !done) return done.error();
    if (report_.first_bad) break;
  }
  report_.open_holds = static_cast<std::int64_t>(holds_.size());
  report_.debits = decimal_text(all_.debits, places_);
  report_.credits = decimal_text(all_.credits, places_);
  if (all_.debits != all_.credits) bad("debits " + report_.debits + " are not credits " + report_.credits);
  report_.ok = !report_.first_bad;
  return report_;
}

Result<> Verification::read_state() {
  auto find = store_.prepare("SELECT rolled, minute_from, rolled_through FROM state");
  if (!find) return find.error();
  const auto row = find->step();
  if (!row) return row.error();
  if (!*row) {
    bad("state: the row is missing");
    return {};
  }
  if (!reach_.read(find->blob(0)) || find->integer(2) != reach_.least()) {
    bad("state: rolled has another length or another least value than rolled_through");
    return {};
  }
  minute_from_ = find->integer(1);
  return {};
}

Result<> Verification::read_series() {
  auto find = store_.prepare("SELECT id, organization, project, key_id, model, tier, currency FROM series");
  if (!find) return find.error();
  std::vector<std::pair<std::int64_t, std::pair<std::string, std::string>>> all;
  for (;;) {
    const auto row = find->step();
    if (!row) return row.error();
    if (!*row) break;
    const std::pair<std::string, std::string> owner{find->text(1), find->text(6)};
    if (find->text(5).empty()) organizations_[owner] = find->integer(0);
    all.emplace_back(find->integer(0), owner);
  }
  for (const auto& [id, owner] : all) {
    const auto own = organizations_.find(owner);
    if (own != organizations_.end()) organization_of_[id] = own->second;
  }
  const auto micro = [](const auto& one) { return money_places(one.second.second) == 6; };
  if (!all.empty() && std::ranges::all_of(all, micro)) places_ = 6;
  return {};
}

// Writers and entries in step: both are in the order of their keys.
Result<> Verification::walk() {
  auto writers = store_.prepare("SELECT number, writer_id, genesis FROM writers ORDER BY number");
  if (!writers) return writers.error();
  auto entries = store_.prepare("SELECT " TOKENWORKS_ENTRY_COLUMNS " FROM entries ORDER BY id");
  if (!entries) return entries.error();
  auto more = entries->step();
  std::string previous_id;
  std::int64_t previous_seq = 0, last_id = 0;
  Digest head{};
  for (std::int64_t number = 1;; ++number) {
    const auto there = writers->step();
    if (!there) return there.error();
    if (!*there) break;
    const std::string writer_id(writers->text(1));
    const auto stored = writers->blob(2);
    const Digest first = genesis(number, writer_id, previous_id, previous_seq, head);
    if (writers->integer(0) != number || !std::equal(stored.begin(), stored.end(), first.begin(), first.end())) {
      bad(writer_id + "/0: the epoch does not commit to the head of the one before");
      return {};
    }
    head = first;
    std::int64_t seq = 0;
    for (;; more = entries->step()) {
      if (!more) return more.error();
      if (!*more) break;
      const EntryRow row = entry_row(*entries);
      if (writer_of(row.id) != number) break;
      if (seq_of(row.id) != ++seq) {
        bad_entry(writer_id, entry_id(number, seq), "the entry is missing");
        return {};
      }
      if (auto done = check(row, writer_id, head); !done) return done;
      if (report_.first_bad) return {};
      last_id = row.id;
      ++report_.entries;
    }
    previous_id = writer_id;
    previous_seq = seq;
  }
  report_.head = hex(head);
  if (*more) bad("writer " + std::to_string(writer_of(entries->integer(0))) + ": entries without a writer");
  if (reach_.most() > last_id) bad("entries are missing at the end: the rollups reach further than the chain");
  return {};
}

Result<> Verification::check(const EntryRow& row, const std::string& writer_id, Digest& head) {
  const auto context = reader_.context(row.context);
  if (!context) {
    if (context.error().code != Errc::bad_file) return context.error();
    bad_entry(writer_id, row.id, context.error().message);
    return {};
  }
  const EntryView& v = row.view;
  if (v.schema_version < 1 || v.schema_version > kSchemaVersion || v.tags.size() % sizeof(TagHash) != 0 ||
      (v.schema_version == 1 && (v.expires != 0 || !v.tags.empty()))) {
    bad_entry(writer_id, row.id, "fields its schema version does not have");
    return {};
  }
  bytes_.clear();
  append_entry(bytes_, writer_id, seq_of(row.id), row.view, (*context)->bytes);
  head = hasher_(head, bytes_);
  if (!std::equal(row.hash.begin(), row.hash.end(), head.begin(), head.end())) {
    bad_entry(writer_id, row.id, "the hash does not match: this entry or the one before was changed");
    return {};
  }
  const auto organization = organization_of_.find((*context)->series);
  if (organization == organization_of_.end()) {
    bad_entry(writer_id, row.id, "the organization's own series is missing");
  } else if (!follow_hold(row, organization->second)) {
    bad_entry(writer_id, row.id, why_);
  } else {
    post(row, (*context)->series, organization->second);
  }
  return {};
}

// The life of a hold; false with why_ when the entry breaks it.
bool Verification::follow_hold(const EntryRow& row, std::int64_t organization) {
  RequestId request;
  if (row.view.request.size() != request.bytes.size()) return why_ = "no request id", false;
  std::copy(row.view.request.begin(), row.view.request.end(), request.bytes.begin());
  std::int64_t sum = 0;
  if (!parse_lines(row.view.lines, lines_)) return why_ = "the charge lines cannot be read", false;
  for (const Line& line : lines_) {
    if (__builtin_add_overflow(sum, line.nano, &sum)) return why_ = "the charge lines overflow", false;
  }
  const EntryType type = row.view.type;
  if (sum != (type == EntryType::settle ? row.view.amount : 0))
    return why_ = "the charge lines are not the amount", false;
  const auto found = holds_.find(request);
  const auto open = found != holds_.end() && found->second.organization == organization;
  switch (type) {
    case EntryType::hold:
      if (found != holds_.end()) return why_ = "a second hold for an open request", false;
      holds_[request] = {row.view.amount, organization, row.id};
      break;
    case EntryType::extend:
      if (!open) return why_ = "extends a hold that is not open", false;
      if (__builtin_add_overflow(found->second.held, row.view.amount, &found->second.held))
        return why_ = "the hold overflows", false;
      break;
    case EntryType::settle:
    case EntryType::release:
    case EntryType::expire:
      if (!open) return why_ = "ends a hold that is not open", false;
      if (row.view.held != found->second.held) return why_ = "the amount held is not what was set aside", false;
      if (row.view.amount > row.view.held) return why_ = "settles above its hold", false;
      if (type != EntryType::settle && row.view.amount != row.view.held)
        return why_ = "gives back another amount than held", false;
      holds_.erase(found);
      return true;
    case EntryType::topup:
    case EntryType::adjust:
      if (!operations_.insert(request).second) return why_ = "books an operation a second time", false;
      break;
    default: return why_ = "an unknown entry type", false;
  }
  if (row.view.held != 0) return why_ = "an amount held on an entry that ends nothing", false;
  return true;
}

void Verification::post(const EntryRow& row, std::int64_t series, std::int64_t organization) {
  for_each_posting(row.view.type, row.view.amount, row.view.held, lines_,
                   [&](Account account, std::string_view token_class, std::int64_t debit, std::int64_t credit) {
                     all_.debits += static_cast<Unsigned128>(debit);
                     all_.credits += static_cast<Unsigned128>(credit);
                     const std::int64_t owner = account == Account::revenue ? series : organization;
                     if (row.id > reach_.of(owner)) return;
                     Totals& t = accounts_[{owner, kind_of(account, token_class)}];
                     t.debits += static_cast<Unsigned128>(debit);
                     t.credits += static_cast<Unsigned128>(credit);
                   });
  RequestId request;
  std::copy(row.view.request.begin(), row.view.request.end(), request.bytes.begin());   // follow_hold saw its length
  if (row.id <= reach_.of(organization)) credits_.follow(row.view, request, organization);
  if (row.view.type != EntryType::settle || row.id > reach_.of(series)) return;
  for (const std::int64_t level : kLevels) {
    const std::int64_t bucket = bucket_of(row.view.time, level);
    if (level == 60 && bucket < minute_from_) continue;
    if (!cells_[{level, bucket, series}].add({1, row.view.usage, row.view.amount})) bad("rollups: a sum overflows");
  }
}

Result<> Verification::compare_credits() {
  const auto different = credits_.compare(store_);
  if (!different) return different.error();
  if (*different) bad(**different);
  return {};
}

Result<> Verification::compare_holds() {
  auto find = store_.prepare("SELECT request, entry, held FROM open_holds");
  if (!find) return find.error();
  std::size_t matched = 0;
  for (;;) {
    const auto row = find->step();
    if (!row) return row.error();
    if (!*row) break;
    RequestId request;
    const auto id = find->blob(0);
    if (id.size() == request.bytes.size()) std::copy(id.begin(), id.end(), request.bytes.begin());
    const auto known = holds_.find(request);
    if (known == holds_.end() || known->second.entry != find->integer(1) || known->second.held != find->integer(2)) {
      bad("open_holds " + request.to_string() + ": the entries say otherwise");
    }
    ++matched;
  }
  if (matched != holds_.size()) bad("open_holds: rows are missing");
  return {};
}

Result<> Verification::compare_accounts() {
  auto find = store_.prepare("SELECT series, kind, debits, credits FROM accounts");
  if (!find) return find.error();
  std::size_t matched = 0;
  for (;;) {
    const auto row = find->step();
    if (!row) return row.error();
    if (!*row) break;
    const AccountKey key{find->integer(0), std::string(find->text(1))};
    const Totals stored{from_bytes(find->blob(2)), from_bytes(find->blob(3))};
    const auto known = accounts_.find(key);
    const Totals right = known == accounts_.end() ? Totals{} : known->second;
    matched += known == accounts_.end() ? 0 : 1;
    if (stored != right) {
      bad("account " + std::to_string(key.first) + "/" + key.second + ": stored debits " + decimal_text(stored.debits) +
          " credits " + decimal_text(stored.credits) + ", the entries say " + decimal_text(right.debits) + " and " +
          decimal_text(right.credits));
    }
  }
  if (matched != accounts_.size()) bad("accounts: rows are missing");
  return {};
}

Result<> Verification::compare_rollups() {
  auto find = store_.prepare(
      "SELECT level, bucket, series, requests, input, cached_input, output, reasoning, cost FROM rollups");
  if (!find) return find.error();
  std::size_t matched = 0;
  for (;;) {
    const auto row = find->step();
    if (!row) return row.error();
    if (!*row) break;
    const CellKey key{find->integer(0), find->integer(1), find->integer(2)};
    const Cell stored{
        find->integer(3), {find->integer(4), find->integer(5), find->integer(6), find->integer(7)}, find->integer(8)};
    const auto known = cells_.find(key);
    if (known == cells_.end() || !(known->second == stored)) {
      bad("rollup " + std::to_string(key.level) + "/" + std::to_string(key.bucket) + "/" + std::to_string(key.series) +
          ": not the sum of its entries");
    }
    ++matched;
  }
  if (matched != cells_.size()) bad("rollups: rows are missing");
  return {};
}

}  // namespace

Result<VerifyReport> verify_store(const Connection& store) {
  if (auto begun = store.run("BEGIN"); !begun) return begun.error();
  Result<VerifyReport> report = VerifyReport{};
  {
    Verification verification(store);
    report = verification.run();
  }
  if (store.in_transaction()) (void)store.run("ROLLBACK");
  return report;
}

}  // namespace tokenworks::ledger
