// The ledger's contract as its callers see it.
#include <gtest/gtest.h>

#include <thread>

#include "fixture.hpp"

namespace tokenworks::ledger::test {
namespace {

TEST(Ledger, AnEntryComesBackAsItWasGivenWithItsPlaceInTheChain) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  const Record opened = hold(request(1), 1000);
  Record ended = settle(opened, 300, 500);
  ended.token_commitment = "5f";
  ended.retry_count = 2;
  ended.tier = Tier::batch;
  ASSERT_TRUE(book(*plant.ledger, opened));
  ASSERT_TRUE(book(*plant.ledger, ended));
  const auto entries = plant.ledger->entries_of(request(1));
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 2u);
  const Entry& e = (*entries)[1];
  EXPECT_EQ(e.type, EntryType::settle);
  EXPECT_EQ(e.unix_ns, kNoon);
  EXPECT_EQ(e.request, request(1));
  EXPECT_EQ(e.organization.value, "acme");
  EXPECT_EQ(e.project.value, "acme/search");
  EXPECT_EQ(e.key.value, "k1234567");
  EXPECT_EQ(e.actor, "service:default");
  EXPECT_EQ(e.model.value, "smollm2-135m-instruct");
  EXPECT_EQ(e.model_digest, std::string(64, 'a'));
  EXPECT_EQ(e.tokenizer_digest, std::string(64, 'b'));
  EXPECT_EQ(e.price_version, "2026-11-01");
  EXPECT_EQ(e.price_hash, std::string(64, 'c'));
  EXPECT_EQ(e.tier, Tier::batch);
  EXPECT_EQ(e.usage, (Usage{100, 20, 40, 10}));
  EXPECT_EQ(e.amount, Money{800});
  EXPECT_EQ(e.held, Money{1000});
  EXPECT_EQ(e.currency, "USD");
  EXPECT_EQ(e.lines, ended.lines);
  EXPECT_EQ(e.finish_reason, "stop");
  EXPECT_EQ(e.build_id, "test");
  EXPECT_EQ(e.region, "eu-central");
  EXPECT_EQ(e.jurisdiction, "DE");
  EXPECT_EQ(e.data_class, "internal");
  EXPECT_EQ(e.token_commitment, "5f");
  EXPECT_FALSE(e.receipt_id);
  EXPECT_EQ(e.retry_count, 2);
  EXPECT_EQ(e.writer_id, plant.ledger->recovery().writer_id);
  EXPECT_EQ(e.seq, 2);
  EXPECT_EQ(e.prev_hash, (*entries)[0].hash);
  EXPECT_NE(e.hash, e.prev_hash);
}

TEST(Ledger, BalancesAreTopupsPlusAdjustsMinusSettles) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(book(*plant.ledger, money(request(1), EntryType::topup, 5'000'000)));
  ASSERT_TRUE(book(*plant.ledger, money(request(2), EntryType::adjust, -300)));
  const Record first = hold(request(3), 1000), other = hold(request(4), 700, "globex");
  for (const Record& r : {first, settle(first, 100, 200), other, settle(other, 0, 50), hold(request(5), 9)}) {
    ASSERT_TRUE(book(*plant.ledger, r));
  }
  const auto rows = plant.ledger->balances();
  ASSERT_TRUE(rows);
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_EQ((*rows)[0].organization.value, "acme");
  EXPECT_EQ((*rows)[0].balance, Money{5'000'000 - 300 - 300});
  EXPECT_TRUE((*rows)[0].prepaid);
  EXPECT_EQ((*rows)[1].balance, Money{-50});
  EXPECT_FALSE((*rows)[1].prepaid);
  const auto report = plant.ledger->verify();
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->ok) << report->first_bad.value_or("");
  EXPECT_EQ(report->open_holds, 1);
  EXPECT_EQ(report->entries, 7);
  // 5000000 + 300 + holds 1709 + settled holds 1700
  EXPECT_EQ(report->debits, "0.005003709");
  EXPECT_EQ(report->credits, report->debits);
}

struct Refusal {
  const char* why;
  std::function<Record(const Record& open)> make;    // `open`: a request with 1000 held
};

class ARecordThatBreaksTheBooks : public testing::TestWithParam<Refusal> {};

TEST_P(ARecordThatBreaksTheBooks, IsRefusedAndLeavesNoTrace) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  const Record open = hold(request(1), 1000);
  ASSERT_TRUE(book(*plant.ledger, open));
  ASSERT_TRUE(book(*plant.ledger, money(request(2), EntryType::topup, 77)));
  const Result<> told = book(*plant.ledger, GetParam().make(open));
  EXPECT_FALSE(told) << GetParam().why;
  EXPECT_EQ(plant.ledger->health().refused, 1);
  EXPECT_TRUE(plant.ledger->health().ok);
  ASSERT_TRUE(book(*plant.ledger, settle(open, 1, 2)));   // the books go on
  const auto report = plant.ledger->verify();
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->ok) << report->first_bad.value_or("");
  EXPECT_EQ(report->entries, 3);
}

Record changed(Record r, const std::function<void(Record&)>& change) {
  change(r);
  return r;
}

INSTANTIATE_TEST_SUITE_P(
    Ledger, ARecordThatBreaksTheBooks,
    testing::Values(
        Refusal{"a second hold", [](const Record& r) { return r; }},
        Refusal{"an unknown hold", [](const Record&) { return settle(hold(request(9), 5), 1, 1); }},
        Refusal{"a settle above the hold", [](const Record& r) { return settle(r, 500, 501); }},
        Refusal{"a release of less than held", [](const Record& r) { return ending(r, EntryType::release, 999); }},
        Refusal{"an expiry of more than held", [](const Record& r) { return ending(r, EntryType::expire, 1001); }},
        Refusal{"an extension of nothing",
                [](const Record&) { return ending(hold(request(9), 1), EntryType::extend, 1); }},
        Refusal{"another organization's hold",
                [](const Record& r) {
                  return changed(settle(r, 1, 1), [](Record& x) { x.organization.value = "globex"; });
                }},
        Refusal{"another currency",
                [](const Record& r) { return changed(settle(r, 1, 1), [](Record& x) { x.currency = "EUR"; }); }},
        Refusal{"lines that do not add up",
                [](const Record& r) { return changed(settle(r, 1, 1), [](Record& x) { x.amount = {3}; }); }},
        Refusal{"a negative line", [](const Record& r) { return settle(r, -1, 2); }},
        Refusal{
            "a class twice",
            [](const Record& r) { return changed(settle(r, 1, 1), [](Record& x) { x.lines[1].first = "input"; }); }},
        Refusal{
            "a class with a comma",
            [](const Record& r) { return changed(settle(r, 1, 1), [](Record& x) { x.lines[1].first = "a,b:1"; }); }},
        Refusal{"a negative hold", [](const Record&) { return hold(request(9), -1); }},
        Refusal{
            "more cached than input",
            [](const Record& r) { return changed(settle(r, 1, 1), [](Record& x) { x.usage.cached_input = 101; }); }},
        Refusal{"negative tokens",
                [](const Record& r) { return changed(settle(r, 1, 1), [](Record& x) { x.usage.output = -1; }); }},
        Refusal{"no organization", [](const Record&) { return hold(request(9), 1, ""); }},
        Refusal{"a control character", [](const Record&) { return hold(request(9), 1, std::string("a\0b", 3)); }},
        Refusal{"broken UTF-8", [](const Record&) { return hold(request(9), 1, "a\xc3"); }},
        Refusal{"an account out of range",
                [](const Record&) { return money(request(9), EntryType::topup, (std::int64_t{1} << 61) - 1); }},
        Refusal{"the smallest number", [](const Record&) { return money(request(9), EntryType::adjust, INT64_MIN); }},
        Refusal{"another top-up under a used id",
                [](const Record&) { return money(request(2), EntryType::topup, 78); }},
        Refusal{"a time before 1970",
                [](const Record&) { return changed(hold(request(9), 1), [](Record& x) { x.unix_ns = -1; }); }}),
    [](const testing::TestParamInfo<Refusal>& info) {
      std::string text = info.param.why;
      for (char& c : text) {
        if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
      }
      return text;
    });

TEST(Ledger, TheSameTopupTwiceIsAcknowledgedTwiceAndBookedOnce) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(book(*plant.ledger, money(request(1), EntryType::topup, 500)));
  ASSERT_TRUE(book(*plant.ledger, money(request(1), EntryType::topup, 500)));
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(book(*plant.ledger, money(request(1), EntryType::topup, 500)));
  EXPECT_EQ(plant.ledger->balances()->at(0).balance, Money{500});
  EXPECT_EQ(plant.ledger->entries_of(request(1))->size(), 1u);
  const Result<> other = book(*plant.ledger, money(request(1), EntryType::topup, 501));
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, Errc::idempotency_mismatch);
}

TEST(Ledger, ExtensionsAddUpInTheHold) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  const Record open = hold(request(1), 100);
  ASSERT_TRUE(book(*plant.ledger, open));
  ASSERT_TRUE(book(*plant.ledger, ending(open, EntryType::extend, 50)));
  ASSERT_TRUE(book(*plant.ledger, ending(open, EntryType::extend, 25)));
  EXPECT_FALSE(book(*plant.ledger, settle(open, 100, 76)));
  ASSERT_TRUE(book(*plant.ledger, settle(open, 100, 75)));
  EXPECT_EQ(plant.ledger->entries_of(request(1))->back().held, Money{175});
}

TEST(Ledger, AFullQueueRefusesInsteadOfGrowing) {
  Plant plant;
  plant.options.queue_records = 3;
  ASSERT_EQ(plant.open(), "");
  plant.disk.fail_syncs(1'000'000);
  std::vector<Result<>> taken;
  for (int i = 0; i < 4; ++i) taken.push_back(plant.ledger->append(hold(request(i), 1), {}));
  EXPECT_TRUE(taken[0] && taken[1] && taken[2]);
  ASSERT_FALSE(taken[3]);
  EXPECT_EQ(taken[3].error().code, Errc::ledger_unavailable);
}

TEST(Ledger, ManyThreadsAppendReportAndReadAtOnce) {
  Plant plant;
  plant.tuning.checkpoints.background = true;
  plant.tuning.checkpoints.pages = 100;
  ASSERT_EQ(plant.open(), "");
  constexpr int kThreads = 6, kEach = 150;
  std::atomic<int> booked{0}, reported{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const Record open = hold(request(1 + t * kEach + i), 1000, "org" + std::to_string(t % 3));
        (void)plant.ledger->append(open, {});
        plant.ledger->progress({open.request, {100, 0, 1, 0}, {2}, {{"output", {2}}}},
                               [&](const Result<>& r) { reported += r ? 1 : 0; });
        (void)plant.ledger->append(settle(open, 3, 4), [&](const Result<>& r) { booked += r ? 1 : 0; });
      }
    });
  }
  std::thread reader([&] {
    while (booked < kThreads * kEach) {
      const auto report = plant.ledger->verify();
      ASSERT_TRUE(report);
      ASSERT_TRUE(report->ok) << report->first_bad.value_or("");
      const auto usage = plant.ledger->usage({});
      ASSERT_TRUE(usage);
      for (const UsageRow& row : *usage) ASSERT_EQ(row.cost.nano, 7 * row.requests);
      (void)plant.ledger->health();
    }
  });
  for (std::thread& thread : threads) thread.join();
  reader.join();
  EXPECT_EQ(booked, kThreads * kEach);
  std::int64_t requests = 0;
  for (const UsageRow& row : *plant.ledger->usage({})) requests += row.requests;
  EXPECT_EQ(requests, kThreads * kEach);
  plant.ledger.reset();
  EXPECT_EQ(reported, kThreads * kEach);             // each by a journal or by the end that covers it
}

}  // namespace
}  // namespace tokenworks::ledger::test
