// docs/metrics.md and what deploy/ ships for Prometheus and Grafana, held against what the daemon really exposes.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "tokenworks/telemetry/metrics.hpp"

namespace tokenworks::telemetry {
namespace {

namespace fs = std::filesystem;

fs::path root() { return fs::path(__FILE__).parent_path().parent_path().parent_path().parent_path(); }

std::string read(const fs::path& path) {
  std::ifstream in(root() / path);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

struct Family {
  std::string type, help;
  std::set<std::string> labels;
};

// From the exposition's own text: families with their type, help and labels (without the histogram's `le`).
std::map<std::string, Family> exposed() {
  auto metrics = Metrics::make({{"version", "1"}, {"build_id", "b"}});
  metrics->set_organizations({"acme"});
  metrics->set_models({"m"});
  metrics->on_scrape([] {
    Scrape scrape;
    scrape.currency = "USD";
    scrape.webhooks = {{"finance", 1, 2, 3, 4}};
    scrape.cards = {{"0", 40.0, 300.0, 1e9, 0.0, 0.0, 5000}};
    scrape.energy = {{"acme", "m", "decode", 5}};
    return scrape;
  });
  metrics->request_done({.organization = "acme", .model = "m", .currency = "USD", .usage = {1, 0, 1, 0}});
  std::map<std::string, Family> families;
  std::istringstream lines(metrics->expose(false));
  std::string current;
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, std::regex("# HELP (\\S+) (.*)"))) {
      families[match[1]].help = match[2];
    } else if (std::regex_match(line, match, std::regex("# TYPE (\\S+) (\\S+)"))) {
      families[current = match[1]].type = match[2];
    } else {
      const std::regex label("([a-z_]+)=\"");
      for (std::sregex_iterator at(line.begin(), line.end(), label), end; at != end; ++at) {
        if ((*at)[1] != "le") families[current].labels.insert((*at)[1]);
      }
    }
  }
  return families;
}

TEST(MetricsPage, ListsExactlyWhatIsExposedWithTypeLabelsAndMeaning) {
  const auto families = exposed();
  std::map<std::string, Family> listed;
  std::istringstream lines(read("docs/metrics.md"));
  const std::regex row(R"(\| `([a-z_]+)` \| (\w+) \| ([a-z_, ]*) \| (.*) \|)");
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_match(line, match, row)) continue;
    Family& family = listed[match[1]];
    family.type = match[2];
    family.help = match[4];
    std::istringstream labels(match[3]);
    for (std::string label; std::getline(labels, label, ',');) {
      label.erase(0, label.find_first_not_of(' '));
      if (!label.empty()) family.labels.insert(label.substr(0, label.find(' ')));
    }
  }
  for (const auto& [name, family] : families) {
    ASSERT_TRUE(listed.contains(name)) << name << " is exposed but not in docs/metrics.md";
    EXPECT_EQ(listed[name].type, family.type) << name;
    EXPECT_EQ(listed[name].help, family.help) << name;
    EXPECT_EQ(listed[name].labels, family.labels) << name;
  }
  for (const auto& [name, family] : listed) EXPECT_TRUE(families.contains(name)) << name << " is in docs/metrics.md but not exposed";
}

// INTERFACE "Metrics", copied by hand: renaming one breaks what others script against.
TEST(MetricsPage, EveryNameOfTheInterfaceIsThere) {
  const auto families = exposed();
  for (const char* name :
       {"requests_total", "tokens_total", "tokens_discarded_total", "charge_total", "sequences_running", "sequences_waiting", "holds_open", "hold_amount",
        "kv_blocks", "prefix_hit_tokens_total", "preemptions_total", "time_to_first_token_seconds", "inter_token_seconds", "request_seconds", "queue_seconds",
        "step_seconds", "step_sequences", "step_tokens", "ledger_commit_seconds", "ledger_entries_total", "fairness_gap_units", "fairness_bound_units",
        "config_last_reload_success", "build_info"}) {
    EXPECT_TRUE(families.contains(std::string("tokenworks_") + name)) << name;
  }
  EXPECT_EQ(families.at("tokenworks_requests_total").labels, (std::set<std::string>{"organization", "model", "status"}));
}

// Every metric an expression names exists; counters are read through rate() or increase(), never raw.
void check_expression(const std::string& text, const std::map<std::string, Family>& families, const std::string& where) {
  const std::regex metric("(tokenworks|process)_[a-z_]+");
  for (std::sregex_iterator at(text.begin(), text.end(), metric), end; at != end; ++at) {
    std::string name = at->str();
    if (!families.contains(name)) name = std::regex_replace(name, std::regex("_(bucket|sum|count)$"), "");
    ASSERT_TRUE(families.contains(name)) << where << ": there is no metric " << at->str();
    if (families.at(name).type == "gauge") continue;
    const std::string before = text.substr(0, static_cast<std::size_t>(at->position()));
    EXPECT_TRUE(before.ends_with("rate(") || before.ends_with("increase(")) << where << ": a counter outside rate(): " << text;
  }
}

TEST(Prometheus, PromtoolAcceptsTheConfigurationAndTheRules) {
  ASSERT_EQ(std::system("promtool --version > /dev/null 2>&1"), 0) << "promtool is missing: install the Debian package prometheus";
  const std::string folder = (root() / "deploy/prometheus").string();
  EXPECT_EQ(std::system(("promtool check config " + folder + "/prometheus.yml > /dev/null").c_str()), 0);
  EXPECT_EQ(std::system(("promtool check rules " + folder + "/alerts.yml > /dev/null").c_str()), 0);
}

TEST(Prometheus, AlertsUseMetricsThatExist) {
  const auto families = exposed();
  std::istringstream lines(read("deploy/prometheus/alerts.yml"));
  int expressions = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t at = line.find("expr: ");
    if (at == std::string::npos) continue;
    check_expression(line.substr(at + 6), families, "alerts.yml");
    ++expressions;
  }
  EXPECT_GE(expressions, 8);
}

// The rules of Grafana's own dashboard linter (notes/operations.md A11).
TEST(Grafana, TheDashboardKeepsTheLintersRules) {
  const auto families = exposed();
  const auto dashboard = nlohmann::json::parse(read("deploy/grafana/tokenworks.json"));
  EXPECT_EQ(dashboard["editable"], false);
  EXPECT_EQ(dashboard["uid"], "tokenworks-plant");
  EXPECT_TRUE(dashboard.contains("schemaVersion") && dashboard.contains("__inputs"));
  std::map<std::string, nlohmann::json> variables;
  for (const auto& variable : dashboard["templating"]["list"]) variables[variable["name"]] = variable;
  EXPECT_EQ(variables["datasource"]["type"], "datasource");
  for (const char* name : {"job", "instance"}) {
    EXPECT_EQ(variables[name]["refresh"], 2) << name << " must follow the time range";
    EXPECT_EQ(variables[name]["datasource"]["uid"], "$datasource");
  }
  std::set<int> ids;
  for (const auto& panel : dashboard["panels"]) {
    const std::string title = panel["title"];
    EXPECT_TRUE(ids.insert(panel["id"].get<int>()).second);
    EXPECT_FALSE(title.empty() || panel["description"].get<std::string>().empty());
    EXPECT_FALSE(panel["fieldConfig"]["defaults"]["unit"].get<std::string>().empty()) << title;
    EXPECT_FALSE(panel["targets"].empty()) << title;
    EXPECT_EQ(panel["datasource"]["uid"], "$datasource") << title;
    for (const auto& target : panel["targets"]) {
      const std::string text = target["expr"];
      check_expression(text, families, title);
      const std::regex selector("\\{([^}]*)\\}");
      std::ptrdiff_t selectors = 0, chosen = 0;
      for (std::sregex_iterator at(text.begin(), text.end(), selector), end; at != end; ++at, ++selectors) {
        chosen += at->str().find("job=~\"$job\", instance=~\"$instance\"") != std::string::npos;
      }
      EXPECT_GT(selectors, 0) << text;
      EXPECT_EQ(selectors, chosen) << text;
      const std::regex range("\\[([^\\]]*)\\]");
      for (std::sregex_iterator at(text.begin(), text.end(), range), end; at != end; ++at) EXPECT_EQ((*at)[1], "$__rate_interval") << text;
    }
  }
  EXPECT_GE(ids.size(), 15u);
}

}  // namespace
}  // namespace tokenworks::telemetry
