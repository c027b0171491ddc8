// prices.yaml: what it may say, and a row for every way to say it wrong: refused with file and line, nothing half applied.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "support/paths.hpp"
#include "tokenworks/base/time_zone.hpp"
#include "tokenworks/config/config.hpp"

namespace tokenworks::config {
namespace {

class PricesFile : public ::testing::Test {
 protected:
  void SetUp() override {
    write("model.gguf", "GGUF");
    write("tokenworks.yaml", "data_dir: data\nprices: prices.yaml\ntenants: tenants.yaml\nmodels: [{id: m, path: model.gguf}]\n");
    write("tenants.yaml", "plans: {starter: {}}\norganizations: {acme: {plan: starter}}\n");
  }
  void write(const std::string& name, const std::string& text) { std::ofstream(dir_.path() + "/" + name) << text; }
  Result<Config> load_prices(const std::string& text) {
    write("prices.yaml", text);
    return load(dir_.path() + "/tokenworks.yaml");
  }
  test::ScratchDir dir_;
};

const std::string kWhole = R"(version: "1"
currency: USD
models:
  m:
    input: 0.10
    output: 0.40
    per_request: 0.000000000001
    bands: [{over: 128k, input: 0.20}, {over: 200000, input: 0.30, output: 0.50}]
    times:
      - {days: [mon, fri], from: "08:00", to: "12:00", timezone: Europe/Berlin, multiplier: 1.5}
      - {days: [fri], from: "22:00", to: "06:00", timezone: Europe/Berlin, multiplier: 0.5}
plans: {starter: {models: {m: {input: 1, output: 2}}}}
organizations: {acme: {models: {m: {input: 3, output: 4}}}}
tiers: {priority: 2}
versions:
  - version: "2"
    from: 2027-01-01T00:00:00+01:00
    models: {m: {input: 5, output: 6}}
    tiers: {batch: 0.25}
)";

TEST_F(PricesFile, SaysClassesBandsTimesOverridesAndVersions) {
  const auto c = load_prices(kWhole);
  ASSERT_TRUE(c) << c.error().message;
  const ModelPrices& m = c->prices.models.at("m");
  EXPECT_EQ(m[PriceClass::input], 100'000);
  EXPECT_EQ(m[PriceClass::cached_input], std::nullopt);
  EXPECT_EQ(m[PriceClass::per_request], 1);
  ASSERT_EQ(m.bands.size(), 2u);
  EXPECT_EQ(m.bands[0].over, 128'000);
  EXPECT_EQ(m.bands[1].over, 200'000);
  EXPECT_EQ(m.bands[1].where.line, 8);
  ASSERT_EQ(m.times.size(), 2u);
  EXPECT_EQ(m.times[0].multiplier_micro, 1'500'000);
  EXPECT_EQ(m.times[1].from_minute, 22 * 60);
  EXPECT_EQ(m.times[1].where.line, 11);
  EXPECT_EQ(c->prices.plans.at("starter").at("m")[PriceClass::output], 2'000'000);
  EXPECT_EQ(c->prices.organizations.at("acme").at("m")[PriceClass::input], 3'000'000);
  EXPECT_EQ(c->prices.tier_micro[0], 2'000'000);
  ASSERT_EQ(c->prices.later.size(), 1u);
  EXPECT_EQ(c->prices.later[0].from_unix_ns, *parse_instant("2026-12-31T23:00:00Z"));
  EXPECT_EQ(c->prices.later[0].tier_micro[0], 1'750'000) << "a version inherits nothing";
  EXPECT_EQ(c->prices.later[0].tier_micro[2], 250'000);
}

TEST_F(PricesFile, EveryBadValueIsRefusedWithItsLine) {
  struct Row {
    const char *from, *to;
    int line;
    const char* says;
  };
  const Row rows[] = {
      {"input: 0.10", "input: -0.10", 5, "models.m.input is '-0.10'; it must not be negative"},
      {"input: 0.10", "input: NaN", 5, "is not a decimal number"},
      {"input: 0.10", "input: .inf", 5, "is not a decimal number"},
      {"input: 0.10", "input: 1e3", 5, "is not a decimal number"},
      {"input: 0.10", "input: 0x10", 5, "is not a decimal number"},
      {"input: 0.10", "input: 0.1000000000000000001", 5, "has more than 6 decimals"},
      {"input: 0.10", "input: 9223372036854.775808", 5, "is too large"},
      {"input: 0.10", "input: 99999999999999999999999999", 5, "is too large"},
      {"input: 0.10", "input: [1]", 5, "must be a single value"},
      {"input: 0.10", "inptu: 0.10", 5, "unknown key 'models.m.inptu'; did you mean 'input'?"},
      {"    output: 0.40\n", "", 4, "models.m: 'output' is missing"},
      {"per_request: 0.000000000001", "per_request: 0.0000000000001", 7, "has more than 12 decimals"},
      {"per_request: 0.000000000001", "per_request: -1", 7, "must not be negative"},
      {"currency: USD", "currency: XYZ", 2, "currency is 'XYZ'; a code of ISO 4217 is needed"},
      {"currency: USD", "currency: usd", 2, "a code of ISO 4217 is needed"},
      {"over: 200000", "over: 128k", 8, "bands must not overlap"},
      {"over: 200000", "over: 100k", 8, "bands must not overlap"},
      {"over: 128k", "over: -1", 8, "a number of tokens such as 128k"},
      {"over: 128k", "over: 1.5k", 8, "a number of tokens such as 128k"},
      {"over: 128k", "over: 99999999999999999999", 8, "a number of tokens such as 128k"},
      {"over: 128k, input: 0.20", "over: 128k", 8, "names no price"},
      {"over: 128k, input: 0.20", "input: 0.20", 8, "'over' is missing"},
      {"days: [fri], from: \"22:00\"", "days: [fri], from: \"11:59\"", 11, "overlaps times[0] of line 10"},
      {"days: [fri], from: \"22:00\", to: \"06:00\"", "days: [thu], from: \"22:00\", to: \"08:01\"", 11, "overlaps times[0] of line 10"},
      {"days: [fri], from: \"22:00\", to: \"06:00\"", "days: [sun], from: \"22:00\", to: \"08:01\"", 11, "overlaps times[0] of line 10"},
      {"days: [fri], from: \"22:00\", to: \"06:00\", timezone: Europe/Berlin", "days: [sun], timezone: UTC", 11, "must be in one zone"},
      {"timezone: Europe/Berlin, multiplier: 1.5", "timezone: Europe/Atlantis, multiplier: 1.5", 10, "which is no time zone"},
      {"from: \"08:00\"", "from: \"8\"", 10, "a time of day such as"},
      {"from: \"08:00\", to: \"12:00\"", "from: \"08:00\", to: \"08:00\"", 10, "equals 'from'"},
      {"days: [mon, fri]", "days: [mon, frei]", 10, "holds 'frei'"},
      {"multiplier: 1.5", "multiplier: -1", 10, "must not be negative"},
      {"multiplier: 1.5", "multiplier: 1000.000001", 10, "is above 1000"},
      {"multiplier: 1.5", "multiplier: 1.5, input: 1", 10, "has a multiplier and prices"},
      {", multiplier: 1.5", "", 10, "has neither a multiplier nor a price"},
      {"multiplier: 1.5", "input: 1", 10, "has prices while the model has bands"},
      {"priority: 2", "priority: NaN", 14, "is not a decimal number"},
      {"priority: 2", "priority: 1001", 14, "is above 1000"},
      {"2027-01-01T00:00:00+01:00", "soon", 17, "an instant such as 2027-01-01"},
      {"2027-01-01T00:00:00+01:00", "2027-02-29", 17, "an instant such as 2027-01-01"},
      {"version: \"2\"", "version: \"1\"", 16, "stands twice"},
      {"    from: 2027-01-01T00:00:00+01:00\n", "", 16, "'from' is missing"},
      {"models: {m: {input: 5, output: 6}}", "models: {n: {input: 5, output: 6}}", 18, "a price for 'n', which is no configured model"},
      {"starter: {models", "startr: {models", 12, "the plan 'startr', which does not exist; did you mean 'starter'?"},
      {"acme: {models", "acne: {models", 13, "the organization 'acne', which does not exist; did you mean 'acme'?"},
      {"{models: {m: {input: 3, output: 4}}}", "{}", 13, "overrides no price"},
  };
  ASSERT_TRUE(load_prices(kWhole));
  for (const Row& row : rows) {
    std::string text = kWhole;
    const std::size_t at = text.find(row.from);
    ASSERT_NE(at, std::string::npos) << row.from;
    const auto c = load_prices(text.replace(at, std::string(row.from).size(), row.to));
    ASSERT_FALSE(c) << row.to;
    EXPECT_EQ(c.error().code, Errc::bad_config);
    const std::string& all = c.error().message;
    const std::string place = "prices.yaml:" + std::to_string(row.line) + ": ";
    std::istringstream lines(all);
    bool found = false;
    for (std::string line; std::getline(lines, line);) {
      found = found || (line.find(place) != std::string::npos && line.find(row.says) != std::string::npos);
    }
    EXPECT_TRUE(found) << row.to << "\nexpected " << place << row.says << "\n" << all;
  }
}

TEST_F(PricesFile, VersionsFollowEachOther) {
  const std::string more = "  - {version: \"3\", from: %, models: {m: {input: 1, output: 1}}}\n";
  for (const char* from : {"2027-01-01T00:00:00+01:00", "2026-12-31T23:00:00Z", "2026-06-01"}) {
    std::string text = kWhole + more;
    const auto c = load_prices(text.replace(text.find('%'), 1, from));
    ASSERT_FALSE(c) << from;
    EXPECT_NE(c.error().message.find("prices.yaml:20: versions[1].from is '"), std::string::npos) << c.error().message;
    EXPECT_NE(c.error().message.find("versions must not overlap"), std::string::npos) << c.error().message;
  }
}

TEST(Instant, IsReadToTheNanosecondInAnyOffset) {
  EXPECT_EQ(parse_instant("1970-01-01T00:00:00Z"), 0);
  EXPECT_EQ(parse_instant("2026-11-23T07:00:00.000000001+01:00"), 1'795'413'600'000'000'001);
  EXPECT_EQ(parse_instant("2026-11-23"), 1'795'392'000'000'000'000);
  EXPECT_EQ(parse_instant("1969-12-31T23:59:59Z"), -1'000'000'000);
  for (const char* bad : {"", "2026", "2026-13-01", "2026-02-29", "2026-11-23 07:00:00Z", "2026-11-23T07:00Z", "2026-11-23T24:00:00Z",
                          "2026-11-23T07:00:00", "2026-11-23T07:00:00.Z", "2026-11-23T07:00:00.1234567890Z", "2026-11-23T07:00:00+1:00",
                          "2026-11-23T07:00:00Zx", "9999-01-01"}) {
    EXPECT_FALSE(parse_instant(bad)) << bad;
  }
}

}  // namespace
}  // namespace tokenworks::config
