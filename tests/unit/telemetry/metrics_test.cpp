#include "tokenworks/telemetry/metrics.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <thread>

#include "support/paths.hpp"

namespace tokenworks::telemetry {
namespace {

std::unique_ptr<Metrics> plant() {
  auto metrics = Metrics::make({{"version", "0.1.0"}, {"build_id", "abc"}, {"backend", "cpu"}});
  metrics->set_organizations({"acme", "globex"});
  metrics->set_models({"smollm2"});
  metrics->on_scrape([] {
    Scrape scrape;
    scrape.currency = "USD";
    scrape.models.push_back({.id = "smollm2", .running = 3, .waiting = 2, .kv_used = 10, .kv_cached = 4, .kv_free = 50});
    return scrape;
  });
  return metrics;
}

// The number a sample line carries, or -1 when there is no such series.
double value(const std::string& text, const std::string& series) {
  const std::size_t at = ("\n" + text).find("\n" + series + " ");
  return at == std::string::npos ? -1 : std::strtod(text.c_str() + at + series.size(), nullptr);
}

std::string run_promtool(const std::string& exposition, int& status) {
  const test::ScratchDir dir;
  std::ofstream(dir.path() + "/in") << exposition;
  const std::string command = "promtool check metrics < " + dir.path() + "/in > " + dir.path() + "/out 2>&1";
  status = std::system(command.c_str());
  std::ifstream out(dir.path() + "/out");
  return {std::istreambuf_iterator<char>(out), {}};
}

TEST(Metrics, PromtoolFindsNothingToComplainAbout) {
  ASSERT_EQ(std::system("promtool --version > /dev/null 2>&1"), 0)
      << "promtool is missing: install the Debian package prometheus";
  auto metrics = plant();
  metrics->request_done({.organization = "acme", .model = "smollm2", .currency = "USD", .usage = {7, 0, 3, 0},
                         .charge = Money{7400}, .seconds = 0.5, .queue_seconds = 0.01, .first_token_seconds = 0.02});
  metrics->step("smollm2", 0.02, 512, 16, 17);
  int status = 0;
  const std::string said = run_promtool(metrics->expose(false), status);
  EXPECT_EQ(status, 0) << said;
  EXPECT_EQ(said, "");
  run_promtool("bad:name_total 1\n", status);
  EXPECT_NE(status, 0) << "the check itself must be able to fail";
}

TEST(Metrics, SeriesOfConfiguredTenantsExistAtZeroBeforeTheFirstRequest) {
  const std::string text = plant()->expose(false);
  for (const char* organization : {"acme", "globex"}) {
    const std::string who = std::string("organization=\"") + organization + "\"";
    EXPECT_EQ(value(text, "tokenworks_requests_total{model=\"smollm2\"," + who + ",status=\"200\"}"), 0);
    for (const char* token_class : {"input", "cached_input", "output", "reasoning"}) {
      EXPECT_EQ(value(text, "tokenworks_tokens_total{class=\"" + std::string(token_class) + "\",model=\"smollm2\"," + who + "}"), 0);
    }
    EXPECT_EQ(value(text, "tokenworks_charge_total{" + who + ",currency=\"USD\"}"), 0);
  }
  EXPECT_EQ(value(text, "tokenworks_time_to_first_token_seconds_count"), 0);
  EXPECT_EQ(value(text, "tokenworks_config_last_reload_success"), 1);
}

TEST(Metrics, TokenClassesAreDisjointAndAddUp) {
  auto metrics = plant();
  metrics->request_done({.organization = "acme", .model = "smollm2", .usage = {100, 64, 30, 12}});
  const std::string text = metrics->expose(false);
  const auto of = [&](const std::string& c) {
    return value(text, "tokenworks_tokens_total{class=\"" + c + "\",model=\"smollm2\",organization=\"acme\"}");
  };
  EXPECT_EQ(of("input"), 36);
  EXPECT_EQ(of("cached_input"), 64);
  EXPECT_EQ(of("output"), 18);
  EXPECT_EQ(of("reasoning"), 12);
}

// Nano-units beside nine million units: a running sum in a double (53 bits) would lose every one of them.
TEST(Metrics, ChargesAddUpWithoutLosingANanoUnit) {
  auto metrics = plant();
  metrics->request_done({.organization = "acme", .model = "smollm2", .currency = "USD", .charge = Money{9'000'000'000'000'001}});
  for (int i = 0; i < 10'000; ++i) {
    metrics->request_done({.organization = "acme", .model = "smollm2", .currency = "USD", .charge = Money{1}});
  }
  EXPECT_DOUBLE_EQ(value(metrics->expose(false), "tokenworks_charge_total{organization=\"acme\",currency=\"USD\"}"), 9000000.000010001);
}

TEST(Metrics, UnknownNamesShareOneLabelAndTheNumberOfLabelsIsBounded) {
  auto metrics = plant();
  for (int i = 0; i < 1000; ++i) {
    metrics->request_done({.organization = "o" + std::to_string(i), .model = "m" + std::to_string(i), .status = 404});
  }
  EXPECT_EQ(value(metrics->expose(false), "tokenworks_requests_total{model=\"other\",organization=\"other\",status=\"404\"}"), 1000);

  std::vector<std::string> many;
  for (int i = 0; i < 1000; ++i) many.push_back("org" + std::to_string(i));
  metrics->set_organizations(many);
  const std::string text = metrics->expose(false);
  std::set<std::string> labels;
  const std::regex label("organization=\"([^\"]*)\"");
  for (std::sregex_iterator at(text.begin(), text.end(), label), end; at != end; ++at) labels.insert((*at)[1]);
  EXPECT_LE(labels.size(), 201u);
  EXPECT_GE(labels.size(), 150u);
}

TEST(Metrics, OpenMetricsNamesCounterFamiliesWithoutTotalAndEndsWithItsMark) {
  auto metrics = plant();
  const std::string text = metrics->expose(true);
  EXPECT_NE(text.find("# TYPE tokenworks_requests counter\n"), std::string::npos);
  EXPECT_NE(text.find("\ntokenworks_requests_total{"), std::string::npos);
  EXPECT_EQ(text.find("# TYPE tokenworks_requests_total"), std::string::npos);
  EXPECT_NE(text.find("# TYPE tokenworks_sequences_running gauge\n"), std::string::npos);
  EXPECT_TRUE(text.ends_with("\n# EOF\n"));
  EXPECT_EQ(metrics->expose(false).find("# EOF"), std::string::npos);
}

TEST(Metrics, GaugesAreReadWhenSomebodyLooks) {
  const std::string text = plant()->expose(false);
  EXPECT_EQ(value(text, "tokenworks_sequences_running"), 3);
  EXPECT_EQ(value(text, "tokenworks_sequences_waiting"), 2);
  EXPECT_EQ(value(text, "tokenworks_kv_blocks{state=\"cached\"}"), 4);
  EXPECT_GT(value(text, "process_resident_memory_bytes"), 1e6);
  EXPECT_EQ(value(text, "tokenworks_build_info{backend=\"cpu\",build_id=\"abc\",version=\"0.1.0\"}"), 1);
}

TEST(Metrics, CardsAndTheirEnergyAreToldAsTheyWereRead) {
  auto metrics = Metrics::make({});
  metrics->set_organizations({"acme", "globex"});
  metrics->on_scrape([&] {
    Scrape scrape;
    scrape.cards = {{.device = "0", .power_watts = 350.0, .energy_millijoules = 1'000'000}, {.device = "1", .temperature_celsius = 61.0}};
    scrape.energy = {{"_idle", "", "idle", 500}, {"acme", "m", "decode", 2'001}, {"acme", "m", "prefill", 7}, {"unheard", "m", "decode", 40}, {"gone", "m", "decode", 2}};
    return scrape;
  });
  const std::string text = metrics->expose(false);
  EXPECT_EQ(value(text, "tokenworks_gpu_energy_joules_total{device=\"0\"}"), 1000);
  EXPECT_EQ(value(text, "tokenworks_gpu_power_watts{device=\"0\"}"), 350);
  EXPECT_EQ(value(text, "tokenworks_gpu_temperature_celsius{device=\"1\"}"), 61);
  EXPECT_EQ(value(text, "tokenworks_gpu_temperature_celsius{device=\"0\"}"), -1);
  const auto joules = [&](const char* organization, const char* model, const char* phase) {
    return value(text, std::string("tokenworks_energy_joules_total{organization=\"") + organization + "\",model=\"" + model + "\",phase=\"" + phase + "\"}");
  };
  EXPECT_EQ(joules("_idle", "", "idle"), 0.5);
  EXPECT_EQ(joules("acme", "m", "decode"), 2.001);
  EXPECT_EQ(joules("acme", "m", "prefill"), 0.007);
  EXPECT_EQ(joules("other", "m", "decode"), 0.042) << "organizations without a label of their own are one";
}

TEST(Metrics, ThreadsMayCountAndLookAtTheSameTime) {
  auto metrics = plant();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        metrics->request_done({.organization = "acme", .model = "smollm2", .currency = "USD", .usage = {1, 0, 1, 0}, .charge = Money{1}});
        metrics->inter_token("smollm2", 0.01, 2);
        metrics->ledger_commit(0.004, 2);
        if (t == 0 && i % 100 == 0) metrics->set_organizations({"acme", "globex", "o" + std::to_string(i)}), metrics->expose(i % 200 == 0);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const std::string text = metrics->expose(false);
  EXPECT_EQ(value(text, "tokenworks_requests_total{model=\"smollm2\",organization=\"acme\",status=\"200\"}"), 2000);
  EXPECT_EQ(value(text, "tokenworks_inter_token_seconds_count"), 4000);
  EXPECT_EQ(value(text, "tokenworks_ledger_entries_total"), 4000);
}

}  // namespace
}  // namespace tokenworks::telemetry
