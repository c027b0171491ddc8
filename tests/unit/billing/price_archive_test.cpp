// The past of prices: every version is read back from its text to the same hash and the same prices, the one in force at an
// instant is found, and what has been in force cannot be changed.
#include "tokenworks/billing/price_archive.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "support/paths.hpp"
#include "tokenworks/base/time_zone.hpp"

namespace tokenworks::billing {
namespace {

using History = std::vector<ledger::PriceHistoryRow>;

std::int64_t at(const char* text) { return *parse_instant(text); }

config::PriceVersion version(const std::string& name, std::int64_t input_pico, const char* from = nullptr, int line = 1) {
  config::PriceVersion v;
  v.version = name;
  v.where = {"prices.yaml", line};
  if (from != nullptr) v.from_unix_ns = at(from);
  v.models["m"] = {input_pico, input_pico, 4 * input_pico, {"prices.yaml", line + 1}};
  return v;
}

std::shared_ptr<const PriceBook> book(const config::PriceVersion& first, std::vector<config::PriceVersion> later = {}) {
  config::Prices prices;
  static_cast<config::PriceVersion&>(prices) = first;
  prices.later = std::move(later);
  auto made = PriceBook::make(prices);
  EXPECT_TRUE(made) << made.error().message;
  return *made;
}

void apply(History& history, const PriceBook& fresh, const char* when) {
  for (const PriceBook::Version& v : fresh.versions()) {
    history.push_back({at(when), v.from_unix_ns, {v.version, v.hash, v.text, at(when)}});
  }
}

std::string in_force(const History& history, const char* when) {
  const auto found = book_in_force(history, at(when));
  EXPECT_TRUE(found) << found.error().message;
  return found && found->book ? found->book->versions().front().version : "";
}

TEST(PriceArchive, EveryTextIsReadBackToItsHashAndItsPrices) {
  int versions = 0;
  const std::filesystem::path folder = test::golden_path("rating") + "/books";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is missing: run tests/golden/rating.py";
  std::mt19937_64 random(1);
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto c = config::load(entry.path() / "tokenworks.yaml");
    ASSERT_TRUE(c) << c.error().message;
    const auto whole = *PriceBook::make(c->prices);
    for (const PriceBook::Version& v : whole->versions()) {
      const auto again = read_price_text(v.text, v.hash);
      ASSERT_TRUE(again) << again.error().message;
      EXPECT_EQ((*again)->versions().front().text, v.text);
      ++versions;
      // The same price as the whole book gives, for anybody at any time it is in force.
      for (int i = 0; i < 300; ++i) {
        PriceQuestion q;
        const auto& [model, prices] = *std::next(c->prices.models.begin(), static_cast<std::ptrdiff_t>(random() % c->prices.models.size()));
        q.model = model;
        q.tier = static_cast<Tier>(random() % 3);
        const auto& o = c->tenants.organizations[random() % c->tenants.organizations.size()];
        q.plan = o.plan;
        q.organization = o.name;
        q.prompt_tokens = static_cast<std::int64_t>(random() % 300'000);
        q.unix_ns = at("2026-01-01") + static_cast<std::int64_t>(random() % (2 * 365 * 86'400)) * 1'000'000'000;
        if (&whole->in_force(q.unix_ns) != &v) continue;
        ASSERT_EQ((*again)->find(q), whole->find(q)) << model;
      }
    }
  }
  EXPECT_GT(versions, 12);
}

TEST(PriceArchive, ATextThatIsNotWhatItsHashSaysIsRefused) {
  const auto b = book(version("1", 100'000));
  std::string text = b->versions().front().text;
  const std::string hash = b->versions().front().hash;
  for (const std::string& bad : {std::string(text).replace(text.find("100000"), 6, "100001"), text.substr(0, text.size() / 2),
                                 std::string("{}"), std::string("[]"), std::string("7"), std::string(), text + "x",
                                 std::string(text).replace(text.find("\"100000\""), 8, "1e5"),
                                 std::string(text).replace(text.find("book 2"), 6, "book 9")}) {
    const auto read = read_price_text(bad, hash);
    ASSERT_FALSE(read) << bad;
    EXPECT_EQ(read.error().code, Errc::bad_file);
  }
}

TEST(PriceArchive, TheVersionInForceAtAnInstantIsTheOneThatWasAppliedThen) {
  History history;
  apply(history, *book(version("1", 100'000), {version("2", 200'000, "2026-03-01")}), "2026-01-01");
  apply(history, *book(version("3", 300'000)), "2026-06-01");
  apply(history, *book(version("1", 100'000)), "2026-07-01");   // back again
  EXPECT_EQ(in_force(history, "2025-12-31"), "");
  EXPECT_EQ(in_force(history, "2026-01-01"), "1");
  EXPECT_EQ(in_force(history, "2026-02-28T23:59:59.999999999Z"), "1");
  EXPECT_EQ(in_force(history, "2026-03-01"), "2");
  EXPECT_EQ(in_force(history, "2026-06-01"), "3");
  EXPECT_EQ(in_force(history, "2026-07-01"), "1");
  EXPECT_EQ(in_force(history, "2030-01-01"), "1");
  const auto second = book_in_force(history, at("2026-04-01"));
  EXPECT_EQ(second->from_unix_ns, at("2026-03-01"));
  EXPECT_EQ(second->until_unix_ns, at("2026-06-01"));
  // What never came into force is never found.
  History replaced;
  apply(replaced, *book(version("1", 100'000), {version("2", 200'000, "2026-03-01")}), "2026-01-01");
  apply(replaced, *book(version("3", 300'000)), "2026-02-01");
  EXPECT_EQ(in_force(replaced, "2026-03-02"), "3");
}

TEST(PriceArchive, ABookIsFoundByTheBeginningOfItsHash) {
  History history;
  const auto first = book(version("1", 100'000));
  apply(history, *first, "2026-01-01");
  apply(history, *book(version("3", 300'000)), "2026-06-01");
  const std::string hash = first->versions().front().hash;
  EXPECT_EQ(book_by_hash(history, hash)->book->versions().front().version, "1");
  EXPECT_EQ(book_by_hash(history, hash.substr(0, 8))->book->versions().front().version, "1");
  EXPECT_EQ(book_by_hash(history, hash.substr(0, 7)).error().code, Errc::not_found);
  EXPECT_EQ(book_by_hash(history, std::string(64, '0')).error().code, Errc::not_found);
}

TEST(PriceChange, TheFirstBookMayBeginWheneverItLikes) {
  EXPECT_TRUE(check_prices_change(*book(version("1", 100'000), {version("2", 200'000, "2020-01-01")}), {}, at("2026-02-01")));
}

TEST(PriceChange, WhatHasBeenInForceIsNotChangedAndThePastGetsNoNewVersion) {
  History history;
  apply(history, *book(version("1", 100'000), {version("2", 200'000, "2026-03-01"), version("3", 300'000, "2027-01-01")}), "2026-01-01");
  const std::int64_t now = at("2026-06-01");
  const auto refusal = [&](const config::PriceVersion& first, std::vector<config::PriceVersion> later = {}) {
    const auto checked = check_prices_change(*book(first, std::move(later)), history, now);
    return checked ? std::string() : checked.error().message;
  };
  // As it is, with more to come, with what is to come changed or taken back, begun anew, cleaned up.
  EXPECT_EQ(refusal(version("1", 100'000), {version("2", 200'000, "2026-03-01"), version("3", 300'000, "2027-01-01")}), "");
  EXPECT_EQ(refusal(version("1", 100'000), {version("2", 200'000, "2026-03-01"), version("3", 350'000, "2027-02-01")}), "");
  EXPECT_EQ(refusal(version("1", 100'000), {version("2", 200'000, "2026-03-01"), version("4", 8, "2026-06-02")}), "");
  EXPECT_EQ(refusal(version("5", 500'000)), "");
  EXPECT_EQ(refusal(version("2", 200'000)), "");
  EXPECT_EQ(refusal(version("3", 999'000)), "") << "it was never in force";

  EXPECT_NE(refusal(version("1", 100'008, nullptr, 7)).find("prices.yaml:7: version '1' has been in force with other prices"), std::string::npos);
  EXPECT_NE(refusal(version("2", 200'008)).find("version '2' has been in force"), std::string::npos);
  const std::string past = refusal(version("1", 100'000), {version("4", 200'000, "2026-05-31", 12)});
  EXPECT_NE(past.find("prices.yaml:12: version '4' would begin in the past"), std::string::npos) << past;
  // Moved within the past; at this very moment it is the past as well.
  EXPECT_NE(refusal(version("1", 100'000), {version("2", 200'000, "2026-02-01")}).find("'2' would begin in the past"), std::string::npos);
  EXPECT_NE(refusal(version("1", 100'000), {version("4", 200'000, "2026-06-01")}).find("'4' would begin in the past"), std::string::npos);
  // Every mistake is told.
  const std::string both = refusal(version("1", 16), {version("4", 8, "2026-05-31")});
  EXPECT_NE(both.find("'1' has been"), std::string::npos);
  EXPECT_NE(both.find("'4' would"), std::string::npos);
}

}  // namespace
}  // namespace tokenworks::billing
