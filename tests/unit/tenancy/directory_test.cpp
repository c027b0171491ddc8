#include "tokenworks/tenancy/directory.hpp"

#include <gtest/gtest.h>

#include <set>

#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/time_zone.hpp"

namespace tokenworks::tenancy {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kNow = 1'795'521'600 * kSecond;   // 2026-11-24T12:00:00Z, a Tuesday; 13:00 in Berlin

class DirectoryTest : public ::testing::Test {
 protected:
  DirectoryTest() {
    config::PlanSpec plan;
    plan.name = "starter";
    plan.models = {"small", "large"};
    tenants.plans = {plan};
    for (const char* name : {"acme", "beta"}) {
      config::OrganizationSpec o;
      o.name = name;
      o.plan = "starter";
      o.where = {"tenants.yaml", 5};
      o.projects.resize(2);
      o.projects[0].name = "default";
      o.projects[1].name = "search";
      o.projects[1].models = {"small"};
      tenants.organizations.push_back(o);
    }
  }

  NewKey key(const std::string& role = "member", const std::string& organization = "acme", const std::string& project = "default") {
    KeyOrder order;
    order.organization = organization;
    order.project = project;
    order.role = role;
    auto made = make_key(order, tenants, {"small", "large"}, kNow);
    EXPECT_TRUE(made) << made.error().message;
    return *made;
  }
  std::shared_ptr<const Directory> build(const std::vector<ledger::KeyRow>& rows) {
    auto built = Directory::build(tenants, rows, numbers);
    EXPECT_TRUE(built) << built.error().message;
    return *built;
  }

  config::OrganizationSpec& acme() { return tenants.organizations[0]; }

  config::Tenants tenants;
  std::map<std::string, std::uint32_t> numbers;
};

TEST_F(DirectoryTest, AKeyIsFoundByItsTextAndComesWithEverythingResolved) {
  const NewKey made = key("member", "acme", "search");
  EXPECT_EQ(made.text.size(), 55u);
  EXPECT_EQ(made.text.substr(0, 6), "sk-tw-");
  EXPECT_EQ(made.text.substr(6, 8), made.row.id.value);
  EXPECT_EQ(made.row.secret_hash, sha256(made.text)) << "the hash of the whole text";
  const auto directory = build({key().row, made.row});
  const auto who = directory->find(made.text, kNow);
  ASSERT_TRUE(who);
  EXPECT_EQ((*who)->organization.value, "acme");
  EXPECT_EQ((*who)->project.value, "acme/search");
  EXPECT_EQ((*who)->principal, "service:default");
  EXPECT_EQ((*who)->plan->name, "starter");
  EXPECT_EQ((*who)->project_spec->name, "search");
  EXPECT_EQ((*who)->organization_spec, directory->organization("acme"));
  EXPECT_EQ(directory->organization("nobody"), nullptr);
}

TEST_F(DirectoryTest, EveryWrongTextIsRefusedAndNeverRepeated) {
  const NewKey made = key();
  const auto directory = build({made.row});
  std::vector<std::string> wrong{"", "sk-", "Bearer x", std::string(10'000, 'a'), made.text + "x", made.text.substr(0, 54), " " + made.text,
                                 "sk-tw-" + std::string(8, '\0') + "-" + std::string(40, 'a')};
  for (std::size_t i = 0; i < made.text.size(); ++i) {
    std::string altered = made.text;
    altered[i] = altered[i] == 'a' ? 'b' : 'a';
    wrong.push_back(altered);
  }
  for (const std::string& text : wrong) {
    const auto who = directory->find(text, kNow);
    ASSERT_FALSE(who) << text;
    EXPECT_EQ(who.error().code, Errc::invalid_api_key);
    EXPECT_EQ(who.error().message.find(made.text.substr(15, 20)), std::string::npos);
  }
}

TEST_F(DirectoryTest, KeysExpireAreRevokedAndRotateWithGrace) {
  NewKey made = key();
  made.row.expires_unix_ns = kNow + 10 * kSecond;
  auto directory = build({made.row});
  EXPECT_TRUE(directory->find(made.text, kNow + 10 * kSecond - 1));
  const auto expired = directory->find(made.text, kNow + 10 * kSecond);
  ASSERT_FALSE(expired);
  EXPECT_NE(expired.error().message.find("expired"), std::string::npos);

  const auto rotation = rotate_key(made.row, 5 * kSecond, kNow);
  ASSERT_TRUE(rotation);
  EXPECT_EQ(rotation->fresh.row.rotated_from, made.row.id.value);
  EXPECT_EQ(rotation->fresh.row.expires_unix_ns, made.row.expires_unix_ns) << "a rotation lends no time";
  directory = build({rotation->old, rotation->fresh.row});
  EXPECT_TRUE(directory->find(rotation->fresh.text, kNow));
  EXPECT_TRUE(directory->find(made.text, kNow + 5 * kSecond - 1));
  const auto revoked = directory->find(made.text, kNow + 5 * kSecond);
  ASSERT_FALSE(revoked);
  EXPECT_NE(revoked.error().message.find("revoked"), std::string::npos);

  EXPECT_FALSE(rotate_key(rotation->old, kSecond, kNow + 5 * kSecond)) << "a revoked key cannot be renewed";
  EXPECT_FALSE(rotate_key(made.row, kSecond, kNow + 11 * kSecond)) << "nor an expired one";
  EXPECT_FALSE(rotate_key(made.row, -1, kNow));
  EXPECT_FALSE(rotate_key(made.row, INT64_MAX, kNow));
  EXPECT_EQ(rotate_key(rotation->old, 100 * kSecond, kNow)->old.revoked_unix_ns, kNow + 5 * kSecond) << "grace never lengthens";
}

TEST_F(DirectoryTest, RowsThatNoLongerFitAreIgnoredAndTheOthersServe) {
  const NewKey good = key();
  NewKey gone = key(), project = key(), role = key(), homeless = key();
  gone.row.organization.value = "gone";
  project.row.project.value = "acme/gone";
  role.row.role = "emperor";
  homeless.row.organization.value = "";
  const auto directory = build({gone.row, project.row, role.row, homeless.row, good.row});
  EXPECT_TRUE(directory->find(good.text, kNow));
  for (const NewKey* bad : {&gone, &project, &role, &homeless}) EXPECT_FALSE(directory->find(bad->text, kNow));
}

TEST_F(DirectoryTest, TenantNumbersStayTheSameAcrossReloads) {
  const NewKey beta = key("member", "beta");
  const auto before = (*build({beta.row})->find(beta.text, kNow))->tenant;
  config::OrganizationSpec first = acme();
  first.name = "aaaa";
  tenants.organizations.insert(tenants.organizations.begin(), first);
  EXPECT_EQ((*build({beta.row})->find(beta.text, kNow))->tenant, before);
  std::set<std::uint32_t> distinct;
  for (const auto& [name, number] : numbers) distinct.insert(number);
  EXPECT_EQ(distinct.size(), 3u);
}

TEST_F(DirectoryTest, AMistakeInTheTenantsIsNamedWithItsLine) {
  acme().plan = "gold";
  acme().access = {{{"*"}, {9}, 0, 2000, "Mars/Base"}};
  tenants.organizations.push_back(tenants.organizations[1]);
  const auto built = Directory::build(tenants, {}, numbers);
  ASSERT_FALSE(built);
  EXPECT_EQ(built.error().code, Errc::bad_config);
  for (const char* part : {"tenants.yaml:5: organization acme: has no plan named 'gold'", "Mars/Base", "24:00", "mon to sun", "beta: is there twice"}) {
    EXPECT_NE(built.error().message.find(part), std::string::npos) << part << " in\n" << built.error().message;
  }
}

TEST_F(DirectoryTest, PlantKeysBelongToNobodyAndOthersToSomebody) {
  for (const char* role : {"operator", "security_officer", "auditor"}) {
    const NewKey made = key(role, "");
    const auto directory = build({made.row});
    const auto who = directory->find(made.text, kNow);
    ASSERT_TRUE(who);
    EXPECT_EQ((*who)->plan, nullptr);
    EXPECT_EQ(name((*who)->role), role);
  }
  const auto refused = [&](const KeyOrder& order, const char* param) {
    const auto made = make_key(order, tenants, {"small", "large"}, kNow);
    ASSERT_FALSE(made) << param;
    EXPECT_EQ(made.error().code, Errc::invalid_request);
    EXPECT_EQ(made.error().param, param) << made.error().message;
  };
  KeyOrder order;
  refused(order, "organization");
  order.organization = "acmee";
  refused(order, "organization");
  EXPECT_NE(make_key(order, tenants, {}, kNow).error().message.find("did you mean 'acme'"), std::string::npos);
  order.organization = "acme";
  order.project = "serch";
  refused(order, "project");
  order.project = "search";
  order.role = "opperator";
  refused(order, "role");
  order.role = "operator";
  refused(order, "organization");
  order.role = "member";
  order.models = {"tiny"};
  refused(order, "models");
  order.models = {"large"};                          // the project may use only "small"
  refused(order, "models");
  order.models = {"small"};
  for (const char* bad : {"robot:x", "user:", "anna", "user:a b", "agent:x\n"}) {
    order.principal = bad;
    refused(order, "principal");
  }
  order.principal = "agent:night-shift";
  order.expires_unix_ns = kNow;
  refused(order, "expires");
  order.expires_unix_ns = kNow + 1;
  EXPECT_TRUE(make_key(order, tenants, {"small", "large"}, kNow));
}

TEST_F(DirectoryTest, ThousandKeysHaveThousandIdsAndEveryLetterAppears) {
  std::set<std::string> ids;
  std::set<char> letters;
  for (int i = 0; i < 1000; ++i) {
    const NewKey made = key();
    ids.insert(made.row.id.value);
    letters.insert(made.text.begin() + 6, made.text.end());
  }
  EXPECT_EQ(ids.size(), 1000u);
  EXPECT_EQ(letters.size(), 63u) << "62 letters and the dash";
}

// may_use: one principal per case.
class AccessTest : public DirectoryTest {
 protected:
  Result<> may(const std::string& model, std::int64_t unix_ns = kNow, const std::string& data_class = "", const std::string& project = "default") {
    const NewKey made = key("member", "acme", project);
    ledger::KeyRow row = made.row;
    row.models = key_models;
    const auto directory = build({row});
    UseCase use;
    use.model = model;
    use.model_data_classes = &classes;
    use.data_class = data_class;
    use.jurisdiction = jurisdiction;
    use.unix_ns = unix_ns;
    seen = may_see(**directory->find(made.text, kNow), model).has_value();
    return may_use(**directory->find(made.text, kNow), use);
  }
  // At a local time in Berlin, e.g. 2026-11-24 is the Tuesday of kNow.
  static std::int64_t berlin(std::int64_t day_from_tuesday, int hour, int minute = 0) {
    const TimeZone& zone = **TimeZone::find("Europe/Berlin");
    return zone.to_unix(1'795'478'400 + day_from_tuesday * 86'400 + hour * 3600 + minute * 60) * kSecond;
  }

  std::vector<std::string> key_models, classes{"public", "internal"};
  std::string jurisdiction = "DE";
  bool seen = false;
};

TEST_F(AccessTest, PlanProjectAndKeyEachMayNarrowTheModels) {
  EXPECT_TRUE(may("large"));
  EXPECT_TRUE(seen);
  EXPECT_EQ(may("huge").error().code, Errc::model_not_allowed);
  EXPECT_FALSE(seen);
  EXPECT_EQ(may("large", kNow, "", "search").error().code, Errc::model_not_allowed);
  EXPECT_TRUE(may("small", kNow, "", "search"));
  key_models = {"large"};
  EXPECT_EQ(may("small").error().code, Errc::model_not_allowed);
  EXPECT_TRUE(may("large"));
}

TEST_F(AccessTest, ResidencyAndDataClassesAreEnforced) {
  acme().residency = {"FR", "AT"};
  EXPECT_EQ(may("large").error().code, Errc::residency_violation);
  jurisdiction = "";
  EXPECT_EQ(may("large").error().code, Errc::residency_violation);
  jurisdiction = "AT";
  EXPECT_TRUE(may("large"));
  EXPECT_EQ(may("large", kNow, "secret").error().code, Errc::model_not_allowed);
  EXPECT_TRUE(may("large", kNow, "internal"));
  acme().projects[0].data_class = "secret";
  EXPECT_FALSE(may("large", kNow, "internal")) << "a project's class binds a request that names another";
  classes = {"public", "secret"};
  EXPECT_TRUE(may("large"));
}

TEST_F(AccessTest, AClassNotNamedIsTheProjectsOrTheModelsFirst) {
  Principal who;
  config::ProjectSpec project;
  EXPECT_EQ(data_class_of(who, "", classes), "public");
  project.data_class = "internal";
  who.project_spec = &project;
  EXPECT_EQ(data_class_of(who, "", classes), "internal");
  EXPECT_EQ(data_class_of(who, "public", classes), "public");
}

TEST_F(AccessTest, RulesOpenAtLocalTimesAndTheRefusalNamesTheNextOpening) {
  acme().access = {{{"*"}, {0, 1, 2, 3, 4}, 7 * 60, 20 * 60, "Europe/Berlin"}};
  EXPECT_TRUE(may("large"));
  EXPECT_TRUE(may("large", berlin(0, 7)));
  const auto early = may("large", berlin(0, 6, 59));
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code, Errc::model_not_allowed_now);
  EXPECT_NE(early.error().message.find("2026-11-24T07:00:00+01:00 (Europe/Berlin)"), std::string::npos) << early.error().message;
  EXPECT_TRUE(seen) << "listed although closed now";
  EXPECT_FALSE(may("large", berlin(0, 20)));
  const auto friday = may("large", berlin(3, 21));
  EXPECT_NE(friday.error().message.find("2026-11-30T07:00:00+01:00"), std::string::npos) << "Monday: " << friday.error().message;
  // The same rule in summer time, where 07:00 is an hour earlier on every other clock.
  const TimeZone& zone = **TimeZone::find("Europe/Berlin");
  EXPECT_EQ(zone.format(berlin(0, 7) / kSecond - 150 * 86'400), "2026-06-27T08:00:00+02:00");
  EXPECT_FALSE(may("large", (berlin(0, 7) / kSecond - 150 * 86'400) * kSecond)) << "a Saturday";
  EXPECT_TRUE(may("large", (berlin(0, 7) / kSecond - 151 * 86'400 - 3600) * kSecond)) << "Friday 07:00 CEST";
  EXPECT_FALSE(may("large", (berlin(0, 7) / kSecond - 151 * 86'400 - 3601) * kSecond));
}

TEST_F(AccessTest, ASpanOverMidnightBelongsToTheDayItBegins) {
  acme().access = {{{"large"}, {4}, 22 * 60, 6 * 60, "Europe/Berlin"}};   // Friday night
  EXPECT_FALSE(may("large", berlin(3, 21, 59)));
  EXPECT_TRUE(may("large", berlin(3, 22)));
  EXPECT_TRUE(may("large", berlin(4, 5, 59)));
  EXPECT_FALSE(may("large", berlin(4, 6)));
  EXPECT_FALSE(may("large", berlin(4, 23)));
  EXPECT_FALSE(may("large", berlin(3, 3))) << "Friday morning belongs to Thursday night";
  EXPECT_EQ(may("small").error().code, Errc::model_not_allowed) << "no rule names it";
  acme().access.push_back({{"*"}, {}, 0, 1440, "UTC"});
  EXPECT_TRUE(may("small"));
  EXPECT_TRUE(may("large", berlin(3, 3))) << "one rule that allows suffices";
}

TEST_F(AccessTest, ARuleInsideASpringGapDoesNotOpenThatDay) {
  acme().access = {{{"*"}, {}, 2 * 60, 3 * 60, "Europe/Berlin"}};   // 2027-03-28 has no 02:00 to 03:00
  const std::int64_t gap = 1'806'195'600;            // 03:00 CEST
  EXPECT_EQ((*TimeZone::find("Europe/Berlin"))->format(gap), "2027-03-28T03:00:00+02:00");
  const auto refused = may("large", (gap - 1) * kSecond);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("2027-03-29T02:00:00+02:00"), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace tokenworks::tenancy
