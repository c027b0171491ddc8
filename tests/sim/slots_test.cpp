// Clients that ask again as soon as they have their answer, more of them than the plant has slots: then slots are what is
// scarce, not the step's budget, and a sequence keeps its slot to its end. Tenants whose queues never run empty must still
// get service as their weights say. Queues are bounded as on the daemon, and who is refused comes back after a while.
#include <gtest/gtest.h>

#include <cstdio>

#include "engine/queue_book.hpp"
#include "support/scheduler_driver.hpp"

namespace tokenworks::sim {
namespace {

struct Crowd {
  std::uint32_t weight = 1;
  int clients = 18;
  std::int32_t prompt = 20;                          // up to half as much again
  std::int64_t output = 24;
  Tier tier = Tier::standard;
};

struct Seen {
  std::vector<double> units, tokens;                 // [crowd] service in cost units, and output tokens
  std::vector<std::int64_t> silent_ns;               // [crowd] the longest time without a token
  std::int64_t preemptions = 0, ended = 0, refused = 0;
};

Seen run(const std::vector<Crowd>& crowds, std::int32_t slots, std::int64_t seconds, bool weights_count = true) {
  scheduler::Options options;
  options.kv_blocks = 4096;
  options.context_tokens = 2048;
  options.rows_max = 512;
  options.sequences_max = slots;
  options.cache_secret = "secret";
  test::SchedulerDriver driver(options, false);
  engine::QueueBook book(12);
  std::mt19937_64 random(7);
  constexpr std::int64_t kRetryNs = 200'000'000;
  struct Client {
    std::size_t crowd;
    std::int64_t asks_ns = 0;                        // when it asks next; -1: it waits for its answer
    std::uint64_t id = 0;
    engine::QueueEntry entry;
    std::int64_t began_ns = 0;
  };
  std::vector<Client> clients;
  for (std::size_t c = 0; c < crowds.size(); ++c) clients.insert(clients.end(), static_cast<std::size_t>(crowds[c].clients), Client{c, 0, 0, {}, 0});
  std::map<std::uint64_t, std::size_t> asked;        // by id
  Seen seen;
  seen.units.resize(crowds.size()), seen.tokens.resize(crowds.size()), seen.silent_ns.resize(crowds.size());
  const std::int64_t begin = driver.now(), warm = begin + 5'000'000'000, until = begin + seconds * 1'000'000'000;
  std::vector<std::int64_t> last(crowds.size(), warm);
  std::vector<std::uint64_t> ended;
  driver.on_planned = [&] {
    for (const auto& item : driver.plan().items) {
      Client& client = clients[asked.at(driver.live().at(item.handle).id)];
      if (client.began_ns == 0) book.began(client.entry, client.began_ns = driver.now());
    }
  };
  driver.on_token = [&](const test::SchedulerDriver::Live& live) {
    if (live.output_left == 0) ended.push_back(live.id);
    if (driver.now() < warm) return;
    ++seen.tokens[live.tenant];
    seen.silent_ns[live.tenant] = std::max(seen.silent_ns[live.tenant], driver.now() - last[live.tenant]);
    last[live.tenant] = driver.now();
  };
  const auto takes = [](const scheduler::StepPlan& p) {
    return static_cast<std::int64_t>(2e6 + 1e5 * p.prefill_tokens + 3e5 * p.decode_tokens);
  };
  while (driver.now() < until) {
    for (std::size_t n = 0; n < clients.size(); ++n) {
      Client& client = clients[n];
      if (client.asks_ns < 0 || client.asks_ns > driver.now()) continue;
      const Crowd& crowd = crowds[client.crowd];
      const auto tenant = static_cast<std::uint32_t>(client.crowd);
      const std::uint32_t weight = weights_count ? crowd.weight : 1;
      std::vector<TokenId> prompt(static_cast<std::size_t>(crowd.prompt) + random() % (static_cast<std::size_t>(crowd.prompt) / 2 + 1));
      for (TokenId& t : prompt) t = static_cast<TokenId>(random() % 30'000);
      client.entry = {tenant, weight, crowd.tier, 0, 1, static_cast<std::int64_t>(prompt.size()), crowd.output, 0};
      if (!book.enter(client.entry, driver.now())) {
        client.asks_ns = driver.now() + kRetryNs;
        ++seen.refused;
        continue;
      }
      const auto h = driver.add(tenant, weight, crowd.tier, std::move(prompt), crowd.output);
      client.id = driver.live().at(h).id;
      client.began_ns = 0;
      client.asks_ns = -1;
      asked[client.id] = n;
    }
    ended.clear();
    if (!driver.step(random, takes)) driver.pass_ns(1'000'000);
    for (const std::uint64_t id : ended) {
      Client& client = clients[asked.at(id)];
      book.ended(client.entry, client.began_ns, driver.now(), engine::QueueBook::End::complete);
      client.asks_ns = driver.now() + 2'000'000;     // the way to the client and back
      asked.erase(id);
      ++seen.ended;
    }
    book.publish(driver.scheduler().forecast());
    if (driver.now() < warm) continue;
    for (const auto& [tenant, u] : driver.work()) seen.units[tenant] += u;
  }
  seen.preemptions = driver.scheduler().stats().preemptions;
  return seen;
}

// Service per weight of every crowd against the mean of its tier, and of tiers against theirs.
void expect_shares(const char* what, const std::vector<Crowd>& crowds, const Seen& seen, double within) {
  std::printf("slots, %s: %lld answers, %lld preemptions, %lld refusals; units per weight", what, static_cast<long long>(seen.ended),
              static_cast<long long>(seen.preemptions), static_cast<long long>(seen.refused));
  double units = 0, weight = 0;
  for (std::size_t c = 0; c < crowds.size(); ++c) units += seen.units[c], weight += crowds[c].weight;
  for (std::size_t c = 0; c < crowds.size(); ++c) {
    const double ratio = seen.units[c] / crowds[c].weight / (units / weight);
    std::printf(" %.3f", ratio);
    EXPECT_NEAR(ratio, 1, within) << what << ", crowd " << c;
    EXPECT_LT(seen.silent_ns[c], 30'000'000'000) << what << ", crowd " << c;
  }
  std::printf("\n");
}

TEST(Slots, TenantsWhoseQueuesNeverEndShareSlotsAsTheirWeightsSay) {
  const std::vector<std::pair<const char*, std::vector<Crowd>>> plants = {
      {"1:3", {{1}, {3}}},
      {"1:1", {{1}, {1}}},
      {"1:2", {{1}, {2}}},
      {"1:10", {{1}, {10, 24}}},
      {"3:1, long answers against short", {{3, 18, 20, 200}, {1, 18, 20, 10}}},
      {"1:3, long prompts against short", {{1, 18, 400, 24}, {3, 18, 20, 24}}},
      {"1:2:3:4", {{1}, {2}, {3}, {4}}},
  };
  for (const auto& [what, crowds] : plants) expect_shares(what, crowds, run(crowds, 8, 120), 0.02);
}

TEST(Slots, ManyMoreTenantsThanSlotsTakeTurnsByWeight) {
  std::vector<Crowd> crowds;
  for (std::uint32_t n = 0; n < 40; ++n) crowds.push_back({1 + n % 4, 6, 30, 40});
  expect_shares("forty tenants", crowds, run(crowds, 8, 600), 0.02);
}

TEST(Slots, TiersShareThemToo) {
  const std::vector<Crowd> crowds = {{16, 18, 20, 24, Tier::priority}, {4, 18, 20, 24}, {1, 18, 20, 24, Tier::batch}};
  std::vector<Crowd> same = crowds;
  for (Crowd& c : same) c.weight = 1;                // the tier gives the weight
  const Seen seen = run(same, 8, 300);
  expect_shares("priority, standard and batch", crowds, seen, 0.1);
}

}  // namespace
}  // namespace tokenworks::sim
