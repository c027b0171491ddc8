#include "tokenworks/config/config.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "config/parts.hpp"
#include "support/paths.hpp"
#include "tokenworks/config/check.hpp"
#include "tokenworks/config/difference.hpp"

namespace tokenworks::config {
namespace {

const std::string kPlant = R"(plant: {name: demo, region: eu-central, jurisdiction: DE}
listen: ["127.0.0.1:0"]
admin: {listen: "127.0.0.1:0"}
data_dir: ./data
models:
  - {id: m, path: model.gguf, aliases: [default], kv_cache: 64MiB, step_target: 10ms, cost_units: {input: 0.5, cached_input: 0}}
prices: prices.yaml
tenants: tenants.yaml
ledger: {store: sqlite, progress: step}
limits: {body: 1MiB, write_timeout: 2s}
webhooks: {finance: {url: "https://example.com/hook", secret: "bytes"}}
)";
const std::string kPrices = R"(version: "1"
models:
  m: {input: 0.10, cached_input: 0.05, output: 0.40}
tiers: {priority: 1.75, standard: 1, batch: 0.5}
)";
const std::string kTenants = R"(plans:
  starter: {models: ["*"], requests_per_minute: 60, model_limits: {m: {tokens_per_day: 9}}, budgets: [{amount: "5.00", per: month, warn_at: [50, 80]}]}
organizations:
  acme:
    plan: starter
    residency: [DE]
    access: [{days: [mon, fri], from: "07:00", to: "20:00", timezone: Europe/Berlin}]
    projects: {default: {}, search: {budget: {amount: "1.00", per: day}, cost_centre: "4711"}}
)";

class ConfigTest : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) { std::ofstream(dir_.path() + "/" + name) << text; }
  void SetUp() override {
    write("model.gguf", "GGUF");
    write("tokenworks.yaml", kPlant);
    write("prices.yaml", kPrices);
    write("tenants.yaml", kTenants);
  }
  Result<Config> load_it() { return load(dir_.path() + "/tokenworks.yaml"); }
  std::string mistakes() {
    const auto c = load_it();
    return c ? "" : c.error().message;
  }
  static std::string replaced(std::string text, const std::string& from, const std::string& to) {
    return text.replace(text.find(from), from.size(), to);
  }

  test::ScratchDir dir_;
};

TEST_F(ConfigTest, ReadsTheThreeFilesOfTheInterface) {
  const auto c = load_it();
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->plant.jurisdiction, "DE");
  EXPECT_EQ(c->plant.data_dir, dir_.path() + "/data");
  ASSERT_EQ(c->plant.models.size(), 1u);
  EXPECT_EQ(c->plant.models[0].kv_cache_bytes, 64 << 20);
  EXPECT_EQ(c->plant.models[0].step_target_ns, 10'000'000);
  EXPECT_EQ(c->plant.models[0].cost_units_micro, (std::array<std::int64_t, 3>{500'000, 0, 2'000'000}));
  EXPECT_TRUE(c->plant.progress_step);
  EXPECT_EQ(c->plant.limits.body_bytes, 1 << 20);
  EXPECT_EQ(c->prices.models.at("m")[PriceClass::input], 100'000);   // 0.10 per million = 10^-7 = 100,000 pico-units a token
  EXPECT_EQ(c->prices.models.at("m")[PriceClass::output], 400'000);
  EXPECT_EQ(c->prices.tier_micro[0], 1'750'000);
  const OrganizationSpec& acme = c->tenants.organizations.at(0);
  EXPECT_EQ(acme.currency, "USD");
  EXPECT_EQ(acme.access.at(0).from_minute, 7 * 60);
  EXPECT_EQ(acme.access.at(0).days, (std::vector<int>{0, 4}));
  ASSERT_EQ(acme.projects.size(), 2u);
  EXPECT_EQ(acme.projects[1].budgets.at(0).amount.nano, 1'000'000'000);
  EXPECT_EQ(c->tenants.plans.at(0).budgets.at(0).warn_at, (std::vector<std::int64_t>{50, 80}));
}

TEST_F(ConfigTest, EveryMistakeIsNamedAtOnceWithLineAndNearestKey) {
  write("tokenworks.yaml", replaced(replaced(kPlant, "kv_cache: 64MiB", "kv_cash: 64MiB"), "data_dir", "datadir"));
  write("prices.yaml", replaced(kPrices, "output: 0.40", "output: -1"));
  write("tenants.yaml", replaced(replaced(kTenants, "plan: starter", "plan: startr"), "[mon, fri]", "[mon, frei]"));
  const std::string all = mistakes();
  EXPECT_NE(all.find("tokenworks.yaml:6: unknown key 'models[0].kv_cash'; did you mean 'kv_cache'?"), std::string::npos) << all;
  EXPECT_NE(all.find("tokenworks.yaml:4: unknown key 'datadir'; did you mean 'data_dir'?"), std::string::npos) << all;
  EXPECT_NE(all.find("'data_dir' is missing"), std::string::npos) << all;
  EXPECT_NE(all.find("prices.yaml:3: models.m.output is '-1'; it must not be negative"), std::string::npos) << all;
  EXPECT_NE(all.find("tenants.yaml:7: organizations.acme.access[0].days holds 'frei'"), std::string::npos) << all;
  EXPECT_NE(all.find("tenants.yaml:4: organization 'acme' has the plan 'startr', which does not exist; did you mean 'starter'?"),
            std::string::npos) << all;
}

TEST_F(ConfigTest, AModelWithoutAPriceAndAPriceWithoutAModelAreMistakes) {
  write("prices.yaml", replaced(kPrices, "  m:", "  n:"));
  const std::string all = mistakes();
  EXPECT_NE(all.find("model 'm' has no price"), std::string::npos) << all;
  EXPECT_NE(all.find("a price for 'n', which is no configured model"), std::string::npos) << all;
}

TEST_F(ConfigTest, BadValuesOfEveryKindAreRefused) {
  const std::pair<const char*, const char*> plant[] = {
      {"progress: step", "progress: soon"}, {"body: 1MiB", "body: much"},       {"write_timeout: 2s", "write_timeout: 2"},
      {"127.0.0.1:0\"]", "localhost\"]"},   {"listen: \"127.0.0.1:0\"", "listen: \"0.0.0.0:9090\""},
      {"path: model.gguf", "path: gone.gguf"}, {"store: sqlite", "store: oracle"}, {"aliases: [default]", "aliases: [m]"},
      {"kv_cache: 64MiB", "kv_cache: 99999999999999999999GiB"}, {"input: 0.5,", "input: 0,"}, {"input: 0.5,", "input: 100.5,"},
      {"cached_input: 0}", "outputs: 2}"}};
  for (const auto& [from, to] : plant) {
    write("tokenworks.yaml", replaced(kPlant, from, to));
    EXPECT_NE(mistakes(), "") << to;
  }
  write("tokenworks.yaml", kPlant);
  for (const char* bad : {"0.0000001", "NaN", "1e3", "99999999999999", "''", "[1]"}) {
    write("prices.yaml", replaced(kPrices, "0.40", bad));
    EXPECT_NE(mistakes().find("prices.yaml:3: "), std::string::npos) << bad;
  }
  write("prices.yaml", replaced(kPrices, "version: \"1\"", "version: \"1\"\ncurrency: dollars"));
  EXPECT_NE(mistakes(), "");
  write("prices.yaml", kPrices);
  const std::pair<const char*, const char*> tenants[] = {
      {"requests_per_minute: 60", "requests_per_minute: -1"}, {"amount: \"5.00\"", "amount: \"5.0000000001\""},
      {"per: month", "per: year"}, {"Europe/Berlin", "Europe/Atlantis"}, {"from: \"07:00\"", "from: \"7\""}, {"acme:", "\"a/b\":"}};
  for (const auto& [from, to] : tenants) {
    write("tenants.yaml", replaced(kTenants, from, to));
    EXPECT_NE(mistakes(), "") << to;
  }
  write("tenants.yaml", "plans: {a: {}, a: {}}\n");
  EXPECT_NE(mistakes().find("stands twice"), std::string::npos);
  write("tenants.yaml", "plans: [\n");
  EXPECT_NE(mistakes().find("is not valid YAML"), std::string::npos);
}

// Every field of money and limits, wherever it may stand, against everything that is not exact and whole: refused with
// file:line and the path of the field.
TEST_F(ConfigTest, EveryFieldOfMoneyAndLimitsRefusesWhatIsNotExactWithItsLineAndPath) {
  const auto refuses = [&](const std::string& tenants, const std::string& path, const std::string& value) {
    write("tenants.yaml", tenants);
    const std::string all = mistakes();
    const auto line = static_cast<std::size_t>(std::count(tenants.begin(), tenants.begin() + static_cast<std::ptrdiff_t>(tenants.find("HERE")), '\n')) + 1;
    EXPECT_NE(all.find("tenants.yaml:" + std::to_string(line) + ": " + path), std::string::npos) << path << " = " << value << ": " << all;
  };
  const std::string organization = "\norganizations:\n  acme:\n    plan: a\n";
  for (const LimitName& limit : kLimitNames) {
    const std::string name = limit.name;
    for (const std::string bad : {"-1", "1.5", "1e3", "NaN", "many", "9223372036854775808", "99999999999999999999", "[1]", "1 000", "''", "", "null", "~"}) {
      const std::string field = name + ": " + bad + "  # HERE\n";
      refuses("plans:\n  a:\n    " + field + organization, "plans.a." + name, bad);
      refuses("plans:\n  a:\n    model_limits:\n      m:\n        " + field + organization, "plans.a.model_limits.m." + name, bad);
      refuses("plans:\n  a: {}" + organization + "    projects:\n      p:\n        " + field, "organizations.acme.projects.p." + name, bad);
    }
  }
  for (const std::string bad : {"-1", "\"-0.000000001\"", "NaN", "inf", "1e3", "\"1.0000000000000000001\"", "\"0.0000000001\"", "9223372037",
                                "99999999999999999999", "5 USD", "\"1,5\"", "[1]"}) {
    const std::string amount = "amount: " + bad + "  # HERE\n";
    refuses("plans:\n  a:\n    budgets:\n      - " + amount + organization, "plans.a.budgets[0].amount", bad);
    refuses("plans:\n  a:\n    budget:\n      " + amount + organization, "plans.a.budget.amount", bad);
    refuses("plans:\n  a: {}" + organization + "    budgets:\n      - " + amount, "organizations.acme.budgets[0].amount", bad);
    refuses("plans:\n  a: {}" + organization + "    projects:\n      p:\n        budget:\n          " + amount,
            "organizations.acme.projects.p.budget.amount", bad);
    refuses("plans:\n  a: {}" + organization + "    credit_line: " + bad + "  # HERE\n", "organizations.acme.credit_line", bad);
  }
  for (const std::string nothing : {"''", "", "null"}) {   // would be no line at all: unlimited
    refuses("plans:\n  a: {}" + organization + "    credit_line: " + nothing + "  # HERE\n", "organizations.acme.credit_line", nothing);
  }
  const std::pair<const char*, const char*> budget[] = {{"per", "year"}, {"mode", "firm"}, {"warn_at", "[0]"}, {"warn_at", "[-5]"}, {"warn_at", "[50.5]"},
                                                        {"warn_at", "[1001]"}, {"timezone", "Mars/Olympus"}, {"tag", "team"}, {"tag", "=x"}, {"tag", "team="}};
  for (const auto& [key, value] : budget) {
    refuses("plans:\n  a: {}" + organization + "    budgets:\n      - amount: 1\n        " + key + ": " + value + "  # HERE\n",
            std::string("organizations.acme.budgets[0].") + key, value);
  }
  const std::pair<const char*, const char*> tags[] = {{"budgets[0].tag", "    budget"}, {"projects.p.budgets[0].tag", "    projects:\n      p:\n        budget"}};
  for (const auto& [path, at] : tags) {              // what nobody could count: refused here, not only where it would be counted
    refuses("plans:\n  a: {}" + organization + at + "s: [{amount: 1, tag: team=red, model: m}]  # HERE\n", std::string("organizations.acme.") + path, "with a model");
  }
  refuses("plans:\n  a: {}" + organization + "    budgets: [{amount: 1, tag: team=red, key: 1a2b3c4d}]  # HERE\n", "organizations.acme.budgets[0].tag", "with a key");
  refuses("plans:\n  a: {}" + organization + "    projects: {p: {budgets: [{amount: 1, tag: team=red}]}}  # HERE\n",
          "organizations.acme.projects.p.budgets[0].tag", "in a project");
  for (const std::string bad : {"-1", "0", "1.5", "NaN", "99999999999999999999"}) {
    refuses("plans:\n  a:\n    weight: " + bad + "  # HERE\n" + organization, "plans.a.weight", bad);
    refuses("plans:\n  a:\n    reserve_output_tokens: " + bad + "  # HERE\n" + organization, "plans.a.reserve_output_tokens", bad);
    if (bad != "0") refuses("plans:\n  a:\n    reserved_tokens_per_second: " + bad + "  # HERE\n" + organization, "plans.a.reserved_tokens_per_second", bad);
  }
  write("tenants.yaml", "plans:\n  a: {model_limits: {nobody: {tokens_per_day: 5}}}" + organization);
  EXPECT_NE(mistakes().find("names the model 'nobody'"), std::string::npos);
  write("tenants.yaml", "plans:\n  a: {}" + organization + "    currency: XYZ\n");
  EXPECT_NE(mistakes().find("currency"), std::string::npos);
  write("tenants.yaml", "plans:\n  a: {}" + organization + "    credit_line: \"9007199.254740993\"\n    budget: {amount: \"9007199.254740993\", tag: team=a}\n");
  const auto c = load_it();
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->tenants.organizations[0].credit_line->nano, 9'007'199'254'740'993);
  EXPECT_EQ(c->tenants.organizations[0].budgets[0].amount.nano, 9'007'199'254'740'993);
}

TEST_F(ConfigTest, TheEnvironmentOverridesAnyKeyByItsPath) {
  setenv("TOKENWORKS_LEDGER_PROGRESS", "250ms", 1);
  setenv("TOKENWORKS_MODELS_0_KV_CACHE", "128MiB", 1);
  setenv("TOKENWORKS_LIMITS_DRAIN", "7s", 1);
  setenv("TOKENWORKS_LOG_LEVEL", "warn", 1);
  const auto c = load_it();
  unsetenv("TOKENWORKS_LEDGER_PROGRESS");
  unsetenv("TOKENWORKS_MODELS_0_KV_CACHE");
  unsetenv("TOKENWORKS_LIMITS_DRAIN");
  unsetenv("TOKENWORKS_LOG_LEVEL");
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_FALSE(c->plant.progress_step);
  EXPECT_EQ(c->plant.progress_ns, 250'000'000);
  EXPECT_EQ(c->plant.models[0].kv_cache_bytes, 128 << 20);
  EXPECT_EQ(c->plant.limits.drain_ns, 7'000'000'000);
  EXPECT_EQ(c->plant.log_level, "warn");
}

TEST_F(ConfigTest, AListOfPlainValuesIsReplacedByTheEnvironmentWhetherTheFileHasOneOrNot) {
  for (const bool in_file : {true, false}) {
    write("tokenworks.yaml", replaced(kPlant, "listen:", in_file ? "listen: [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n#" : "#"));
    setenv("TOKENWORKS_LISTEN", "127.0.0.1:8081,127.0.0.2:8082,127.0.0.3:8083", 1);
    const auto c = load_it();
    ASSERT_TRUE(c) << c.error().message;
    EXPECT_EQ(c->plant.listen.size(), 3u) << in_file;
    setenv("TOKENWORKS_LISTEN", "nonsense", 1);
    EXPECT_NE(mistakes().find("environment variable TOKENWORKS_LISTEN: listen holds 'nonsense'"), std::string::npos) << mistakes();
    unsetenv("TOKENWORKS_LISTEN");
  }
  setenv("TOKENWORKS_TENANTS_PLANS_STARTER_BUDGETS_0_WARN_AT", "10,20,30", 1);
  const auto c = load_it();
  unsetenv("TOKENWORKS_TENANTS_PLANS_STARTER_BUDGETS_0_WARN_AT");
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->tenants.plans[0].budgets[0].warn_at, (std::vector<std::int64_t>{10, 20, 30}));
}

TEST_F(ConfigTest, AMistakeInTheEnvironmentNamesTheVariableAndAnUnknownOneIsAMistake) {
  setenv("TOKENWORKS_LIMITS_DRAIN", "soon", 1);
  setenv("TOKENWORKS_LEDGER_PROGRES", "step", 1);
  setenv("TOKENWORKS_TENANTS_PLANS_STARTER_WEIGTH", "2", 1);
  setenv("TOKENWORKS_SERVICE_HOST", "10.0.0.1", 1);          // Kubernetes' own
  const std::string all = mistakes();
  for (const char* name : {"TOKENWORKS_LIMITS_DRAIN", "TOKENWORKS_LEDGER_PROGRES", "TOKENWORKS_TENANTS_PLANS_STARTER_WEIGTH",
                           "TOKENWORKS_SERVICE_HOST"}) {
    unsetenv(name);
  }
  EXPECT_NE(all.find("environment variable TOKENWORKS_LIMITS_DRAIN: limits.drain is 'soon'"), std::string::npos) << all;
  EXPECT_EQ(all.find("tokenworks.yaml:"), std::string::npos) << "no line of a file is to blame: " << all;
  EXPECT_NE(all.find("TOKENWORKS_LEDGER_PROGRES: is the name of no configuration key; did you mean 'TOKENWORKS_LEDGER_PROGRESS'?"),
            std::string::npos) << all;
  EXPECT_NE(all.find("did you mean 'TOKENWORKS_TENANTS_PLANS_STARTER_WEIGHT'?"), std::string::npos) << all;
  EXPECT_EQ(all.find("SERVICE_HOST"), std::string::npos) << all;
  EXPECT_EQ(mistakes(), "");
}

TEST_F(ConfigTest, FilesThatAreNoneHaveAFirstLineAndADirectoryIsCalledOne) {
  write("tokenworks.yaml", "");
  EXPECT_EQ(mistakes().find(":0:"), std::string::npos) << mistakes();
  EXPECT_NE(mistakes().find("tokenworks.yaml:1: 'data_dir' is missing"), std::string::npos) << mistakes();
  write("tokenworks.yaml", kPlant);
  const auto folder = load(dir_.path());
  ASSERT_FALSE(folder);
  EXPECT_NE(folder.error().message.find("it is a directory; name a file in it, such as "), std::string::npos) << folder.error().message;
  EXPECT_NE(folder.error().message.find("tokenworks.yaml"), std::string::npos);
}

TEST_F(ConfigTest, AFileThatIsNotUtf8IsRefusedAtItsFirstBadByte) {
  write("tokenworks.yaml", replaced(kPlant, "eu-central", "caf\xC3\xA9"));
  EXPECT_EQ(mistakes(), "") << "UTF-8 is what it should be";
  write("tokenworks.yaml", "\xEF\xBB\xBF" + kPlant);
  EXPECT_EQ(mistakes(), "") << "with a byte order mark too";
  for (const char* bad : {"caf\xE9", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\x80", "\xE2\x82"}) {
    write("tokenworks.yaml", replaced(kPlant, "DE}", std::string("DE} # ") + bad));
    EXPECT_NE(mistakes().find("tokenworks.yaml:1: is not UTF-8 from here on"), std::string::npos) << mistakes();
  }
  write("tokenworks.yaml", replaced(kPlant, "data_dir: ./data", "data_dir: d\xFFt"));
  EXPECT_NE(mistakes().find("tokenworks.yaml:4: is not UTF-8"), std::string::npos) << mistakes();
  write("tokenworks.yaml", replaced(kPlant, "eu-central", "\"\\ud800\""));
  EXPECT_NE(mistakes().find("tokenworks.yaml:1: "), std::string::npos) << "half a surrogate pair, by an escape: " << mistakes();
  write("tokenworks.yaml", kPlant);
  setenv("TOKENWORKS_PLANT_REGION", "caf\xE9", 1);
  EXPECT_NE(mistakes().find("environment variable TOKENWORKS_PLANT_REGION"), std::string::npos) << mistakes();
  unsetenv("TOKENWORKS_PLANT_REGION");
}

TEST_F(ConfigTest, ASecondDocumentIsNotReadInSilence) {
  for (const char* harmless : {"---\n", "...\n", "--- # nothing\n"}) {
    write("prices.yaml", kPrices + harmless);
    EXPECT_EQ(mistakes(), "") << harmless;
  }
  write("prices.yaml", "---\n" + kPrices);
  EXPECT_EQ(mistakes(), "");
  write("prices.yaml", kPrices + "---\nversion: \"2\"\n");
  EXPECT_NE(mistakes().find("prices.yaml:6: begins a second document"), std::string::npos) << mistakes();
}

TEST_F(ConfigTest, AddressesNobodyCouldListenOnAreMistakes) {
  const auto listen = [&](const std::string& list, const std::string& admin = "127.0.0.1:0") {
    write("tokenworks.yaml", replaced(replaced(kPlant, "listen: [\"127.0.0.1:0\"]", "listen: [" + list + "]"), "{listen: \"127.0.0.1:0\"}",
                                      "{listen: \"" + admin + "\"}"));
    return mistakes();
  };
  for (const char* good : {"'[::1]:0', '*:8080'", "'localhost:0', 'plant_1.example:80'", "'0.0.0.0:80', '127.0.0.1:81'", "'127.0.0.1:0', '127.0.0.1:0'"}) {
    EXPECT_EQ(listen(good), "") << good;
  }
  for (const char* bad : {"1.2.3.4:5:6", "999.1.1.1:80", "1.2.3:80", "[nohost]:80", "[1.2.3.4]:80", "a host:80", "http://x:80", "x:70000", ":80", "x"}) {
    EXPECT_NE(listen(std::string("'") + bad + "'").find(std::string("tokenworks.yaml:2: listen holds '") + bad + "'"), std::string::npos) << bad << mistakes();
  }
  for (const char* twice : {"'127.0.0.1:80', '127.0.0.1:80'", "'0.0.0.0:80', '127.0.0.1:80'", "'[::]:80', '[::1]:80'"}) {
    EXPECT_NE(listen(twice).find("which an address before it takes already"), std::string::npos) << twice;
  }
  EXPECT_NE(listen("'0.0.0.0:9090'", "127.0.0.1:9090").find("which the public listen takes already"), std::string::npos);
  EXPECT_NE(listen("'127.0.0.1:0'", "127.example:9090").find("not a loopback address"), std::string::npos) << "a name that only looks like one";
}

TEST_F(ConfigTest, AnOrganizationMayNotBeCalledWhatTheMetricsCallTheRest) {
  write("tenants.yaml", replaced(kTenants, "  acme:", "  other:"));
  EXPECT_NE(mistakes().find("tenants.yaml:4: the organization name 'other'"), std::string::npos) << mistakes();
}

TEST_F(ConfigTest, AKeysPlaceIsFoundAndFurtherChecksJoinTheList) {
  const std::string file = dir_.path() + "/tokenworks.yaml";
  EXPECT_EQ(place_of(file, "data_dir"), file + ":4");
  EXPECT_EQ(place_of(file, "models[0].kv_cache"), file + ":6");
  EXPECT_EQ(place_of(file, "tls.certificate"), file + ":1") << "not there: where it would stand";
  setenv("TOKENWORKS_DATA_DIR", dir_.path().c_str(), 1);
  EXPECT_EQ(place_of(file, "data_dir"), "environment variable TOKENWORKS_DATA_DIR");
  unsetenv("TOKENWORKS_DATA_DIR");
  write("tokenworks.yaml", replaced(kPlant, "write_timeout: 2s", "write_timeout: 2x"));
  const auto c = load(file, [](const Config& seen, std::vector<std::string>& list) { list.push_back("model " + seen.plant.models.at(0).id); });
  ASSERT_FALSE(c);
  EXPECT_NE(c.error().message.find("limits.write_timeout"), std::string::npos);
  EXPECT_NE(c.error().message.find("\nmodel m"), std::string::npos) << "both are told at once";
}

TEST_F(ConfigTest, WhatAReloadCannotChangeIsNamed) {
  const auto before = load_it();
  ASSERT_TRUE(before) << before.error().message;
  EXPECT_TRUE(restart_needed(before->plant, before->plant).empty());
  write("tokenworks.yaml", replaced(replaced(kPlant, "kv_cache: 64MiB", "kv_cache: 65MiB"), "body: 1MiB", "body: 2MiB"));
  const auto after = load_it();
  ASSERT_TRUE(after) << after.error().message;
  EXPECT_EQ(restart_needed(before->plant, after->plant), (std::vector<std::string>{"limits.body"})) << "models are a reload's to change";
}

TEST_F(ConfigTest, AModelStandsOnAKindOfDeviceOnACardOrOverSeveral) {
  for (const char* good : {"auto", "cpu", "cuda", "cuda:1", "cuda:0+1", "cpu:0+1+2+3"}) {
    write("tokenworks.yaml", replaced(kPlant, "kv_cache: 64MiB", std::string("backend: ") + good));
    const auto c = load_it();
    ASSERT_TRUE(c) << c.error().message;
    EXPECT_EQ(c->plant.models[0].backend, good);
  }
  for (const char* bad : {"gpu", "auto:0", "'cuda:'", "cuda:0+", "cuda:0+0", "cuda:64", "cuda:-1", "cuda:001", "cuda:x", "'cuda:0,1'"}) {
    write("tokenworks.yaml", replaced(kPlant, "kv_cache: 64MiB", std::string("backend: ") + bad));
    const std::string words = mistakes();
    EXPECT_NE(words.find("tokenworks.yaml:6: models[0].backend is '"), std::string::npos) << bad << ": " << words;
    EXPECT_NE(words.find("cuda:0+1"), std::string::npos) << words;
  }
}

TEST_F(ConfigTest, IssuersOfBearerTokensAreReadAndTheirProjectsMustExist) {
  const std::string identity = R"(identity:
  - {issuer: "https://id", audience: plant, jwks: keys.json, claim: teams, projects: {a: acme/search}, project: acme/default}
)";
  write("tenants.yaml", kTenants + identity);
  const auto c = load_it();
  ASSERT_TRUE(c) << c.error().message;
  ASSERT_EQ(c->tenants.issuers.size(), 1u);
  const IssuerSpec& i = c->tenants.issuers[0];
  EXPECT_EQ(i.jwks, dir_.path() + "/keys.json");
  EXPECT_EQ(i.projects, (std::vector<std::pair<std::string, std::string>>{{"a", "acme/search"}}));
  EXPECT_EQ(i.refresh_ns, 300'000'000'000);
  write("tenants.yaml", kTenants + replaced(replaced(identity, "acme/search", "acme/serch"), "keys.json", "http://id/keys"));
  EXPECT_NE(mistakes().find("did you mean 'acme/search'?"), std::string::npos) << mistakes();
  EXPECT_NE(mistakes().find("tenants.yaml:10: identity[0].jwks is 'http://id/keys'; keys come over https"), std::string::npos) << mistakes();
}

TEST_F(ConfigTest, TheReferenceNamesExactlyTheKeysTheParserKnows) {
  std::set<std::pair<std::string, std::string>> asked, named;
  (void)load_asking(dir_.path() + "/tokenworks.yaml", &asked);
  for (const KeyDoc& k : reference()) named.insert({k.file, k.path});
  std::set<std::pair<std::string, std::string>> leaves;     // a mapping is asked for too, but only its keys are documented
  for (const auto& key : asked) {
    const auto inside = [&](const auto& other) {
      return other.first == key.first && (other.second.starts_with(key.second + ".") || other.second.starts_with(key.second + "[]"));
    };
    if (std::none_of(asked.begin(), asked.end(), inside)) leaves.insert(key);
  }
  for (const auto& [file, path] : leaves) EXPECT_TRUE(named.contains({file, path})) << file << " " << path << " is not in the reference";
  for (const auto& [file, path] : named) EXPECT_TRUE(leaves.contains({file, path})) << file << " " << path << " is not known to the parser";
}

TEST_F(ConfigTest, CountriesAreWrittenOneWaySinceResidencyComparesThemAsText) {
  for (const std::string bad : {"de", "Germany", "D", "DEU", "DE-", "DE-bayern", "49", "\"DE \""}) {
    write("tokenworks.yaml", replaced(kPlant, "jurisdiction: DE", "jurisdiction: " + bad));
    EXPECT_NE(mistakes().find("tokenworks.yaml:1: plant.jurisdiction is '"), std::string::npos) << bad << ": " << mistakes();
    write("tokenworks.yaml", kPlant);
    write("tenants.yaml", replaced(kTenants, "residency: [DE]", "residency: [FR, " + bad + "]"));
    EXPECT_NE(mistakes().find("residency holds '"), std::string::npos) << bad << ": " << mistakes();
    write("tenants.yaml", kTenants);
  }
  write("tenants.yaml", replaced(kTenants, "residency: [DE]", "residency: [NO, US-CA, DE]"));
  EXPECT_EQ(mistakes(), "");
}

TEST(Configuration, TheDocumentHoldsEveryRowOfTheReference) {
  const auto root = std::filesystem::path(__FILE__).parent_path().parent_path().parent_path().parent_path();
  std::ifstream file(root / "docs" / "configuration.md");
  std::stringstream text;
  text << file.rdbuf();
  for (const KeyDoc& k : reference()) {
    const std::string row = "| `" + k.path + "` | " + k.type + " | " + k.otherwise + " | " + k.meaning + " |";
    EXPECT_NE(text.str().find(row), std::string::npos) << "docs/configuration.md lacks: " << row;
  }
}

}  // namespace
}  // namespace tokenworks::config
