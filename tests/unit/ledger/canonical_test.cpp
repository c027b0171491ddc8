#include "ledger/canonical.hpp"

#include <gtest/gtest.h>

#include <random>

#include "ledger/dictionary.hpp"
#include "ledger/journal.hpp"
#include "ledger/postings.hpp"

namespace tokenworks::ledger {
namespace {

TEST(Lines, AreWrittenAndReadBack) {
  const std::vector<std::pair<std::string, Money>> lines = {
      {"input", {7400}}, {"cached_input", {0}}, {"output", {INT64_MAX}}};
  EXPECT_EQ(lines_text(lines), "input:7400,cached_input:0,output:9223372036854775807");
  EXPECT_EQ(owned_lines(lines_text(lines)), lines);
  std::vector<Line> read;
  EXPECT_TRUE(parse_lines("", read));
  EXPECT_TRUE(read.empty());
  for (const char* bad :
       {"a", "a:", ":1", "a:1,", ",a:1", "a:-1", "a:1.5", "a:9223372036854775808", "a:1 ", "a:1,,b:2"}) {
    EXPECT_FALSE(parse_lines(bad, read)) << bad;
  }
}

TEST(Postings, TotalsInTextAgreeWithMoneyWhereBothReach) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 10'000; ++i) {
    const auto value = static_cast<std::int64_t>(random() >> 1 >> random() % 63);
    ASSERT_EQ(decimal_text(static_cast<Unsigned128>(value)), format_decimal(value, 9));
    ASSERT_EQ(from_bytes(to_bytes(static_cast<Unsigned128>(value))), static_cast<Unsigned128>(value));
  }
  const Unsigned128 large = static_cast<Unsigned128>(UINT64_MAX) * 1'000'000;
  EXPECT_EQ(decimal_text(large), "18446744073709551.615");
  EXPECT_EQ(from_bytes(to_bytes(large)), large);
  EXPECT_EQ(decimal_text(0), "0");
}

TEST(Postings, EveryEntryBalancesByItself) {
  std::mt19937_64 random(4);
  for (int i = 0; i < 20'000; ++i) {
    const auto type = static_cast<EntryType>(1 + random() % 7);
    const auto held = static_cast<std::int64_t>(random() % 1'000'000'000);
    std::int64_t amount = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(held + 1));
    if (type == EntryType::topup || type == EntryType::adjust) amount -= held / 2;
    const std::int64_t part = amount / 3;
    const std::vector<Line> lines = {{"input", part}, {"output", amount - part}};
    Totals sum;
    for_each_posting(type, amount, held,
                     type == EntryType::settle ? std::span<const Line>(lines) : std::span<const Line>(),
                     [&](Account, std::string_view, std::int64_t debit, std::int64_t credit) {
                       ASSERT_GE(debit, 0);
                       ASSERT_GE(credit, 0);
                       sum.debits += static_cast<Unsigned128>(debit);
                       sum.credits += static_cast<Unsigned128>(credit);
                     });
    ASSERT_EQ(sum.debits, sum.credits) << name(type);
  }
}

TEST(PlainText, IsUtf8WithoutControlCharacters) {
  for (const char* good : {"", "acme/search", "Zürich", "日本", "🦊", "a\xf4\x8f\xbf\xbf"})
    EXPECT_TRUE(is_plain_text(good, 64)) << good;
  for (const char* bad : {"\n", "\x7f", "\x80", "a\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80",
                          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xff"}) {
    EXPECT_FALSE(is_plain_text(bad, 64)) << bad;
  }
  EXPECT_FALSE(is_plain_text("abc", 2));
}

TEST(Journal, ComesBackWholeAndADamagedOneNeverDoes) {
  JournalWriter writer;
  std::vector<Progress> all;
  for (int i = 1; i <= 20; ++i) {
    Progress p;
    p.request.bytes[15] = static_cast<std::uint8_t>(i);
    p.usage = {i, i / 2, 2 * i, i};
    p.charge = {3 * i};
    p.lines = {{"input", {i}}, {"output", {2 * i}}};
    writer.add(p);
    all.push_back(p);
  }
  const std::string bytes = writer.finish();
  const auto as_span = [](const std::string& text) {
    return std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  };
  const auto read = read_journal(as_span(bytes));
  ASSERT_TRUE(read);
  ASSERT_EQ(read->size(), all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ((*read)[i].request, all[i].request);
    EXPECT_EQ((*read)[i].usage, all[i].usage);
    EXPECT_EQ((*read)[i].charge, all[i].charge);
    EXPECT_EQ((*read)[i].lines, all[i].lines);
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string bad = bytes;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    ASSERT_FALSE(read_journal(as_span(bad))) << i;
    ASSERT_FALSE(read_journal(as_span(bytes.substr(0, i)))) << i;
  }
}

}  // namespace
}  // namespace tokenworks::ledger
