#include "tokenworks/billing/price_archive.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "price_rules.hpp"
#include "tokenworks/base/crypto.hpp"

namespace tokenworks::billing {
namespace {

using Json = nlohmann::json;
using History = std::vector<ledger::PriceHistoryRow>;

constexpr const char* kKept = "the ledger";          // stands for the file of a price whose file is gone

struct Unreadable {
  std::string what;
};

const Json& at(const Json& j, const char* key) {
  const auto it = j.find(key);
  if (it == j.end()) throw Unreadable{std::string("'") + key + "' is missing"};
  return *it;
}

std::int64_t count(const Json& j, const char* key, int places = 0) {
  const Json& text = at(j, key);
  const auto value = text.is_string() ? parse_decimal(text.get<std::string>(), places) : Result<std::int64_t>(error(Errc::bad_file, ""));
  if (!value) throw Unreadable{std::string("'") + key + "' is no number"};
  return *value;
}

void read_list(const Json& j, config::PriceList& into) {
  into.where.file = kKept;
  for (std::size_t i = 0; i < config::kPriceClasses; ++i) into.pico[i] = count(j, config::name(static_cast<config::PriceClass>(i)));
}

void read_bands(const Json& j, std::vector<config::PriceBand>& into) {
  for (const Json& b : at(j, "bands")) {
    config::PriceBand& band = into.emplace_back();
    band.over = count(b, "over");
    read_list(at(b, "prices"), band);
  }
}

config::PriceTime read_time(const Json& j) {
  config::PriceTime time;
  time.where.file = kKept;
  const auto days = at(j, "days").get<std::string>();
  if (days.size() != 7) throw Unreadable{"'days' names no week"};
  if (days != "1111111") {
    for (int day = 0; day < 7; ++day) {
      if (days[static_cast<std::size_t>(day)] == '1') time.days.push_back(day);
    }
  }
  time.from_minute = count(j, "from");
  time.to_minute = count(j, "to");
  time.timezone = at(j, "timezone").get<std::string>();
  const std::int64_t micro = count(j, "multiplier", 6);
  if (micro != kMicro) {                             // it multiplies the lists of the model, which stand there too
    time.multiplier_micro = micro;
  } else {
    read_list(at(j, "prices"), time);
    read_bands(j, time.bands);
  }
  return time;
}

void read_models(const Json& j, config::PricesByModel& into) {
  for (const auto& [name, m] : j.items()) {
    config::ModelPrices& model = into[name];
    read_list(at(m, "prices"), model);
    read_bands(m, model.bands);
    for (const Json& t : at(m, "times")) model.times.push_back(read_time(t));
  }
}

config::Prices read_version(const Json& j) {
  config::Prices p;
  p.where.file = kKept;
  p.version = at(j, "version").get<std::string>();
  p.currency = at(j, "currency").get<std::string>();
  if (at(j, "from_unix_ns") != "") p.from_unix_ns = count(j, "from_unix_ns");
  read_models(at(j, "models"), p.models);
  for (const auto& [name, models] : at(j, "plans").items()) read_models(models, p.plans[name]);
  for (const auto& [name, models] : at(j, "organizations").items()) read_models(models, p.organizations[name]);
  for (std::size_t tier = 0; tier < kTierNames.size(); ++tier) p.tier_micro[tier] = count(at(j, "tiers"), kTierNames[tier], 6);
  return p;
}

// The rows that were applied together with `row`, up to one past the last.
std::size_t group_end(const History& history, std::size_t row) {
  std::size_t end = row;
  while (end < history.size() && history[end].applied_unix_ns == history[row].applied_unix_ns) ++end;
  return end;
}

struct Span {
  std::int64_t from = 0, until = 0;                  // empty when until <= from
};
// When a row was in force: from its own beginning, but not before it was applied, until the next of its group or the next
// group replaced it.
Span in_force(const History& history, std::size_t row) {
  Span span{std::max(history[row].applied_unix_ns, history[row].from_unix_ns), INT64_MAX};
  const std::size_t end = group_end(history, row);
  if (end < history.size()) span.until = history[end].applied_unix_ns;
  if (row + 1 < end) span.until = std::min(span.until, history[row + 1].from_unix_ns);
  return span;
}

Result<ArchivedBook> archived(const History& history, std::size_t row) {
  auto book = read_price_text(history[row].book.text, history[row].book.hash);
  if (!book) return book.error();
  const Span span = in_force(history, row);
  return ArchivedBook{std::move(*book), span.from, span.until};
}

// The text without the instant from which it holds: the prices alone.
std::string prices_alone(std::string_view text) {
  constexpr std::string_view kKey = "\"from_unix_ns\":\"";
  const std::size_t begin = text.find(kKey);
  if (begin == std::string_view::npos) return std::string(text);
  const std::size_t end = text.find('"', begin + kKey.size());
  return std::string(text.substr(0, begin)) + std::string(text.substr(std::min(end, text.size())));
}

bool comparable(const ledger::PriceHistoryRow& row) {   // the form before the present one says less than what was in force
  return row.book.text.find("\"format\":\"tokenworks price book 1\"") == std::string::npos;
}

}  // namespace

Result<std::shared_ptr<const PriceBook>> read_price_text(std::string_view text, std::string_view hash) {
  const auto bad = [&](const std::string& why) {
    return error(Errc::bad_file, "the price book " + std::string(hash.substr(0, 16)) + " kept in the ledger cannot be read: " + why);
  };
  try {
    const Json j = Json::parse(text);
    if (at(j, "format") != "tokenworks price book 2") return bad("its format is not known to this program");
    auto book = PriceBook::make(read_version(j));
    if (!book) return bad(book.error().message);
    if ((*book)->versions().front().hash != hash) return bad("it is not what its hash says");
    return book;
  } catch (const Unreadable& e) {
    return bad(e.what);
  } catch (const Json::exception&) {
    return bad("it is not JSON of the expected form");
  }
}

Result<ArchivedBook> book_in_force(const History& history, std::int64_t unix_ns) {
  for (std::size_t row = history.size(); row-- > 0;) {
    const Span span = in_force(history, row);
    if (unix_ns >= span.from && unix_ns < span.until) return archived(history, row);
  }
  return ArchivedBook{};
}

Result<ArchivedBook> book_by_hash(const History& history, std::string_view hash) {
  std::optional<std::size_t> found;
  for (std::size_t row = 0; row < history.size() && hash.size() >= 8; ++row) {
    if (!history[row].book.hash.starts_with(hash)) continue;
    if (found && history[*found].book.hash != history[row].book.hash) {
      return error(Errc::invalid_request, "several price books begin with " + std::string(hash) + ": give more of the hash");
    }
    if (!found) found = row;
  }
  if (!found) return error(Errc::not_found, "the ledger keeps no price book whose hash begins with '" + std::string(hash) + "'");
  return archived(history, *found);
}

Result<> check_prices_change(const PriceBook& fresh, const History& history, std::int64_t unix_ns) {
  if (history.empty()) return {};
  Mistakes mistakes;
  for (const PriceBook::Version& v : fresh.versions()) {
    const std::string prices = prices_alone(v.text);
    bool known = false;                              // these very prices from this very instant
    for (std::size_t row = 0; row < history.size(); ++row) {
      const ledger::PriceHistoryRow& old = history[row];
      if (old.book.version != v.version) continue;
      if (old.from_unix_ns == v.from_unix_ns && old.book.hash == v.hash) known = true;
      const Span span = in_force(history, row);
      if (span.until <= span.from || span.from > unix_ns || !comparable(old) || prices_alone(old.book.text) == prices) continue;
      mistakes.add(v.where, "version '" + v.version +
                                "' has been in force with other prices, and what was charged by it stays explained by it: give the "
                                "new prices a version of their own");
    }
    if (v.from_unix_ns != INT64_MIN && v.from_unix_ns <= unix_ns && !known) {
      mistakes.add(v.where, "version '" + v.version +
                                "' would begin in the past: prices cannot change for what was charged; let it begin later, or put "
                                "it first in the file, without a date, to be in force from now on");
    }
  }
  if (!mistakes.none()) return error(Errc::bad_config, mistakes.text());
  return {};
}

Result<> check_currency(const PriceBook& fresh, const std::string& kept) {
  if (kept == fresh.currency()) return {};
  const config::Where& where = fresh.versions().front().where;
  return error(Errc::bad_config, where.file + ":" + std::to_string(where.line) + ": currency is " + fresh.currency() +
                                     ", but the books in data_dir are kept in " + kept + ": nothing is converted; go back to " + kept +
                                     ", or begin new books in another data_dir");
}

Result<> check_currency(const PriceBook& fresh, const std::vector<ledger::BalanceRow>& balances) {
  const auto other = std::ranges::find_if(balances, [&](const ledger::BalanceRow& row) { return row.currency != fresh.currency(); });
  return other == balances.end() ? Result<>{} : check_currency(fresh, other->currency);
}

}  // namespace tokenworks::billing
