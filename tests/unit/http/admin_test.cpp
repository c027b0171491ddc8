// The admin table over its listener and over the control socket, and Idempotency-Key on the public one.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "raw_client.hpp"
#include "support/paths.hpp"
#include "tokenworks/jobs/idempotency.hpp"

namespace tokenworks::http::test {
namespace {

using nlohmann::json;

std::string operate(const std::string& method, const std::string& path, const std::string& body = "", const std::string& key = "sk-tw-operator") {
  return method + " " + path + " HTTP/1.1\r\nHost: x\r\n" + (key.empty() ? "" : "Authorization: Bearer " + key + "\r\n") +
         "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

TEST(Admin, ProbesTellTheTruthWithoutAKey) {
  Plant plant;
  EXPECT_EQ(plant.admin().ask(get("/livez", "")).body, "ok\n");
  EXPECT_EQ(plant.admin().ask(get("/readyz", "")).status, 200);
  plant.readiness.ready = false;
  plant.readiness.checks = {{"ledger", "ok"}, {"model fake", "no step finished in time"}};
  const Response verbose = plant.admin().ask(get("/readyz?verbose", ""));
  EXPECT_EQ(verbose.status, 503);
  EXPECT_EQ(verbose.body, "[+]ledger ok\n[-]model fake no step finished in time\nnot ok\n");
  EXPECT_EQ(plant.admin().ask(get("/livez", "")).status, 200) << "not ready is no reason to restart";
  EXPECT_EQ(plant.admin().ask(get("/health", "")).status, 503);
}

TEST(Admin, MetricsComeInTheFormatTheScraperAsksFor) {
  Plant plant;
  const Response plain = plant.admin().ask(get("/metrics", ""));
  EXPECT_EQ(plain.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_NE(plain.body.find("tokenworks_build_info{version=\"test\"} 1"), std::string::npos);
  const Response open = plant.admin().ask(get("/metrics", "", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"));
  EXPECT_EQ(open.headers.get("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
  EXPECT_TRUE(open.body.ends_with("# EOF\n"));
}

TEST(Admin, KeysAreMadeRotatedListedAndRevoked) {
  Plant plant;
  RawClient client = plant.admin();
  const Response made = client.ask(operate("POST", "/admin/v1/keys", R"({"organization":"acme","project":"p","role":"billing","models":["fake"],"expires":"30d"})"));
  ASSERT_EQ(made.status, 200) << made.body;
  const json key = json::parse(made.body);
  EXPECT_EQ(key["key"], "sk-tw-newkey01-secret");
  EXPECT_EQ(key["id"], "newkey01");
  EXPECT_EQ(key["project"], "acme/p");
  EXPECT_EQ(made.headers.get("cache-control"), "no-store");
  const Response wrong = client.ask(operate("POST", "/admin/v1/keys", R"({"organisation":"acme"})"));
  EXPECT_EQ(wrong.status, 400);
  EXPECT_EQ(json::parse(wrong.body)["error"]["param"], "organisation");
  EXPECT_EQ(client.ask(operate("POST", "/admin/v1/keys", "{")).status, 400);
  for (const std::string date : {"2027-02-31T00:00:00Z", "2650-01-01T00:00:00Z", "2027-01- 1T00:00:00Z", "2027-01-01", "2020-01-01T00:00:00Z"}) {
    const Response no_date = client.ask(operate("POST", "/admin/v1/keys", R"({"organization":"acme","project":"p","expires":")" + date + "\"}"));
    EXPECT_EQ(no_date.status, 400) << date;
    EXPECT_EQ(json::parse(no_date.body)["error"]["param"], "expires") << date;
  }
  EXPECT_EQ(json::parse(client.ask(operate("GET", "/admin/v1/keys")).body)["data"].size(), 2u);
  EXPECT_EQ(client.ask(operate("POST", "/admin/v1/keys/newkey01/rotate", R"({"grace":"1h"})")).status, 200);
  EXPECT_NEAR(static_cast<double>(plant.administration.grace), 3600e9, 1e9);
  EXPECT_EQ(client.ask(operate("POST", "/admin/v1/keys/newkey01/rotate", R"({"grace":"0s"})")).status, 200);
  EXPECT_EQ(plant.administration.grace, 0);
  EXPECT_EQ(client.ask(operate("POST", "/admin/v1/keys/newkey01/rotate", R"({"grace":"later"})")).status, 400);
  EXPECT_EQ(client.ask(operate("DELETE", "/admin/v1/keys/newkey01")).status, 200);
  EXPECT_EQ(client.ask(operate("DELETE", "/admin/v1/keys/other")).status, 404);
  EXPECT_EQ(plant.administration.actors.at(0), "service:default#key6");
}

TEST(Admin, ModelsAreListedLoadedReplacedUnloadedAndNamed) {
  using Kind = gateway::ModelOrder::Kind;
  Plant plant;
  RawClient client = plant.admin();
  const Response listed = client.ask(operate("GET", "/admin/v1/models"));
  EXPECT_EQ(listed.body, R"({"data":[{"id":"m","state":"serving","path":"/m.gguf","digest":"abc","system_fingerprint":"fp","format":"gguf","context_tokens":512,"aliases":["default"],"data_classes":["public"],"running":2,"waiting":1},)"
                         R"({"id":"n","state":"not_loaded","path":"/n.gguf","digest":null,"system_fingerprint":null,"format":null,"context_tokens":0,"aliases":[],"data_classes":[],"running":0,"waiting":0}]})");
  EXPECT_EQ(client.ask(operate("POST", "/admin/v1/models", R"({"id":"n","path":"/x.gguf"})")).body, listed.body);
  EXPECT_EQ(client.ask(operate("POST", "/admin/v1/models/org%2Fm/replace", R"({"kv_cache":"1GiB"})")).status, 200);
  EXPECT_EQ(client.ask(operate("DELETE", "/admin/v1/models/m")).status, 200);
  EXPECT_EQ(client.ask(operate("POST", "/admin/v1/aliases", R"({"alias":"best","model":"m"})")).status, 200);
  EXPECT_EQ(client.ask(operate("DELETE", "/admin/v1/aliases/best")).status, 200);
  const auto& orders = plant.administration.orders;
  ASSERT_EQ(orders.size(), 5u);
  EXPECT_TRUE(orders[0].kind == Kind::load && orders[0].id == "n" && orders[0].spec == R"({"id":"n","path":"/x.gguf"})");
  EXPECT_TRUE(orders[1].kind == Kind::replace && orders[1].id == "org/m" && orders[1].spec == R"({"kv_cache":"1GiB"})");
  EXPECT_TRUE(orders[2].kind == Kind::unload && orders[2].id == "m");
  EXPECT_TRUE(orders[3].kind == Kind::alias && orders[3].id == "m" && orders[3].alias == "best");
  EXPECT_TRUE(orders[4].kind == Kind::alias && orders[4].id.empty() && orders[4].alias == "best");
  const Response busy = client.ask(operate("DELETE", "/admin/v1/models/busy"));
  EXPECT_EQ(busy.status, 503);
  EXPECT_EQ(busy.headers.get("retry-after"), "1");
  for (const auto& [path, body, param] : {std::tuple{"/admin/v1/models", "{}", "id"}, {"/admin/v1/models", R"({"id":7})", "id"}, {"/admin/v1/aliases", R"({"model":"m"})", "alias"},
                                          {"/admin/v1/aliases", R"({"alias":"x"})", "model"}, {"/admin/v1/models/m/replace", R"({"id":"n"})", "id"}}) {
    const Response refused = client.ask(operate("POST", path, body));
    EXPECT_EQ(refused.status, 400) << path << body;
    EXPECT_EQ(json::parse(refused.body)["error"]["param"], param) << path << body;
  }
  EXPECT_EQ(orders.size(), 6u) << "what names no model reaches nobody";
}

TEST(Admin, TheOtherOperatorRoutesAnswer) {
  Plant plant;
  RawClient client = plant.admin();
  EXPECT_EQ(client.ask(operate("POST", "/admin/v1/reload")).body, R"({"ok":true,"restart_needed":["models.m.path","limits.body"]})");
  plant.administration.reload_fails = true;
  const Response refused = client.ask(operate("POST", "/admin/v1/reload"));
  EXPECT_EQ(refused.status, 400);
  EXPECT_NE(refused.body.find("prices.yaml:3"), std::string::npos);
  EXPECT_EQ(json::parse(client.ask(operate("GET", "/admin/v1/audit_events?limit=2")).body)["data"].size(), 2u);
  EXPECT_EQ(json::parse(client.ask(operate("POST", "/admin/v1/ledger/verify")).body)["ok"], true);
  EXPECT_EQ(client.ask(operate("POST", "/admin/v1/ledger/backup", R"({"path":"/tmp/b.sqlite"})")).status, 200);
  EXPECT_EQ(client.ask(operate("POST", "/admin/v1/ledger/backup", R"({"path":"b.sqlite"})")).status, 400);
  EXPECT_EQ(client.ask(operate("POST", "/admin/v1/ledger/erase", R"({"organization":"acme"})")).status, 200);
  EXPECT_EQ(client.ask(operate("POST", "/admin/v1/ledger/erase")).status, 400);
  EXPECT_EQ(plant.administration.erased, std::vector<std::string>{"acme"});
  const json entries = json::parse(client.ask(operate("GET", "/admin/v1/requests/req_0192aabbccdd7000800000000000abcd/entries")).body);
  EXPECT_EQ(entries["data"][0]["amount"], "0.0000074");
  EXPECT_EQ(client.ask(operate("GET", "/admin/v1/requests/nonsense/entries")).status, 400);
}

TEST(Admin, UsageIsOnesOwnOnThePublicListenerAndEverybodysOnTheAdminOne) {
  Plant plant;
  EXPECT_EQ(plant.client().ask(get("/v1/organization/costs?start_time=0", "sk-tw-billing")).status, 200);
  EXPECT_EQ(plant.administration.asked.organization, "acme");
  EXPECT_EQ(plant.admin().ask(get("/v1/organization/costs?start_time=0", "sk-tw-operator")).status, 200);
  EXPECT_EQ(plant.administration.asked.organization, "");
  const Response member = plant.client().ask(get("/v1/organization/costs?start_time=0"));
  EXPECT_EQ(member.status, 403);
  EXPECT_EQ(json::parse(member.body)["error"]["code"], "insufficient_permissions");
}

TEST(Admin, TheControlSocketIsItsOwnersAlone) {
  const tokenworks::test::ScratchDir dir;
  const std::string path = dir.path() + "/control.sock";
  {
    Plant plant([&](ServerOptions& o) { o.control_socket = path; });
    struct stat there {};
    ASSERT_EQ(stat(path.c_str(), &there), 0);
    EXPECT_EQ(there.st_mode & 0777, 0600u);
    RawClient client(path);
    EXPECT_EQ(client.ask(operate("POST", "/admin/v1/keys", R"({"organization":"acme"})", "")).status, 200);
    EXPECT_EQ(plant.administration.actors.at(0), "local");
  }
  EXPECT_NE(access(path.c_str(), F_OK), 0) << "it goes with the server";
}

TEST(Admin, AnOpenAdminListenerWithoutTlsIsRefused) {
  try {
    Plant plant([](ServerOptions& o) { o.admin_listen = "0.0.0.0:0"; });
    FAIL();
  } catch (const std::runtime_error& e) {
    EXPECT_NE(std::string(e.what()).find("without TLS"), std::string::npos);
  }
  for (const char* bad : {"8080", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:x", "no.such.host.invalid:1"}) {
    EXPECT_THROW(Plant([&](ServerOptions& o) { o.listen = {bad}; }), std::runtime_error) << bad;
  }
}

// Over the real store: a SQLite ledger in a scratch folder.
TEST(Idempotency, ARepeatedKeyIsAnsweredOnceAndItsUsageReplayed) {
  const tokenworks::test::ScratchDir dir;
  const SystemClock clock;
  ledger::LedgerOptions books;
  books.path = dir.path() + "/ledger.sqlite";
  auto ledger = ledger::Ledger::open(books, clock);
  ASSERT_TRUE(ledger) << ledger.error().message;
  auto store = jobs::Idempotency::open(**ledger, clock);
  ASSERT_TRUE(store);
  Plant plant([&](ServerOptions& o) { o.idempotency = store->get(); }, [](FakeService& s) { s.refusals["quota"] = error(Errc::insufficient_quota, "used up"); });
  RawClient client = plant.client();
  for (const bool stream : {false, true}) {
    const std::string key = std::string("Idempotency-Key: order-") + (stream ? "2" : "1") + "\r\n";
    const int before = plant.service.generated;
    const Response first = client.ask(post("/v1/chat/completions", chat_body("fake", stream), key));
    EXPECT_EQ(first.status, 200);
    EXPECT_EQ(first.headers.count("x-idempotent-replayed"), 0u);
    const Response again = client.ask(post("/v1/chat/completions", chat_body("fake", stream), key));
    EXPECT_EQ(again.status, 200);
    EXPECT_EQ(again.headers.get("x-idempotent-replayed"), "true");
    EXPECT_EQ(again.headers.get("content-type"), first.headers.get("content-type"));
    EXPECT_NE(again.body.find(R"("completion_tokens":3)"), std::string::npos) << again.body;
    EXPECT_EQ(again.body.find("Hel"), std::string::npos) << "retention is none: no content was kept";
    EXPECT_NE(again.body.find(R"("finish_reason":"stop")"), std::string::npos) << "every choice is there, and says nothing: " << again.body;
    EXPECT_NE(again.body.find(R"("model":"fake")"), std::string::npos);
    EXPECT_NE(again.body.find(R"("replay":"usage_only")"), std::string::npos);
    EXPECT_EQ(plant.service.generated, before + 1);
    EXPECT_EQ(client.ask(post("/v1/chat/completions", chat_body("other", stream), key)).status, 422);
  }
  const std::string key = "Idempotency-Key: refused\r\n";
  EXPECT_EQ(client.ask(post("/v1/chat/completions", chat_body("quota"), key)).status, 429);
  EXPECT_EQ(client.ask(post("/v1/chat/completions", chat_body("fake"), key)).status, 200) << "nothing was charged: the key is free again";
  EXPECT_EQ(client.ask(post("/v1/chat/completions", chat_body("fake"), "Idempotency-Key: " + std::string(300, 'k') + "\r\n")).status, 400);
  const int running = plant.service.departures, begun = plant.service.generated;
  RawClient slow = plant.client();
  slow.send(post("/v1/chat/completions", chat_body("wait"), "Idempotency-Key: slow\r\n"));
  ASSERT_TRUE(eventually([&] { return plant.service.generated == begun + 1; }));
  const Response twin = client.ask(post("/v1/chat/completions", chat_body("wait"), "Idempotency-Key: slow\r\n"));
  EXPECT_EQ(twin.status, 409);
  EXPECT_FALSE(twin.headers.get("retry-after").empty());
  slow.close();
  EXPECT_TRUE(eventually([&] { return plant.service.departures == running + 1; }));
}

}  // namespace
}  // namespace tokenworks::http::test
