// The small grammars and tables: headers, queries, durations, routes, roles, pages of usage.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "http/headers.hpp"
#include "http/organization.hpp"
#include "http/routes.hpp"

namespace tokenworks::http {
namespace {

using nlohmann::json;

TEST(Wire, ResetDurationsAreTheFormSdksParse) {
  EXPECT_EQ(reset_duration(12), "12ms");
  EXPECT_EQ(reset_duration(1000), "1s");
  EXPECT_EQ(reset_duration(1500), "1.5s");
  EXPECT_EQ(reset_duration(360'000), "6m0s");
  EXPECT_EQ(reset_duration(7'384'000), "2h3m4s");
  EXPECT_EQ(reset_duration(-5), "0ms");
}

TEST(Wire, SecondsAreReadExactlyOrNotAtAll) {
  EXPECT_EQ(parse_seconds("30"), 30'000'000'000);
  EXPECT_EQ(parse_seconds("0.000000001"), 1);
  EXPECT_EQ(parse_seconds("86400"), 86'400'000'000'000);
  for (const char* bad : {"", "0", "-1", "1e3", "1.2.3", "nan", "86401", "99999999999999999999", "."}) EXPECT_FALSE(parse_seconds(bad)) << bad;
}

TEST(Wire, HeaderGrammarsAreReadAsTheRfcsSay) {
  Headers headers;
  headers.add("Connection", "Keep-Alive, Upgrade");
  EXPECT_TRUE(headers.has_token("connection", "upgrade"));
  EXPECT_FALSE(headers.has_token("connection", "up"));
  EXPECT_EQ(bearer("Bearer  abc "), "abc");
  EXPECT_EQ(bearer("bearer abc"), "abc");
  EXPECT_EQ(bearer("Basic abc"), "");
  EXPECT_TRUE(is_json("application/json; charset=utf-8"));
  EXPECT_TRUE(is_json("Application/Problem+JSON"));
  EXPECT_TRUE(is_json(""));
  EXPECT_FALSE(is_json("text/json"));
  EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");   // RFC 9110's own example
  EXPECT_EQ(percent_decode("a%2Fb+c", false), "a/b+c");
  EXPECT_FALSE(percent_decode("%zz", false));
  EXPECT_FALSE(percent_decode("%0", false));
  EXPECT_FALSE(percent_decode("a%00", false)) << "no NUL in a name";
  const auto query = Query::parse("a=1&group_by[]=x&group_by=y,z&b=%20");
  EXPECT_EQ(query->list("group_by"), (std::vector<std::string>{"x", "y", "z"}));
  EXPECT_EQ(query->get("b"), " ");
}

TEST(Routes, EveryRouteIsFoundByItsOwnPatternAndChecksItsRole) {
  tenancy::Principal member, billing, op;
  member.organization = billing.organization = {"acme"};
  billing.role = tenancy::Role::billing;
  op.role = tenancy::Role::operator_;
  for (const Plane plane : {Plane::api, Plane::admin}) {
    for (const Route& route : routes_of(plane)) {
      std::string path(route.pattern);
      if (const auto at = path.find("{*}"); at != std::string::npos) path.replace(at, 3, "x/y");
      if (const auto at = path.find("{}"); at != std::string::npos) path.replace(at, 2, "x");
      EXPECT_EQ(match(routes_of(plane), route.method, path).route, &route) << path;
      EXPECT_EQ(match(routes_of(plane), "PATCH", path).route, nullptr);
      const bool open = route.access == Access::open;
      EXPECT_EQ(may_enter(route, plane, nullptr).has_value(), open) << path;
      if (route.access == Access::operator_) {
        EXPECT_EQ(may_enter(route, plane, &member).error().code, Errc::insufficient_permissions) << path;
        EXPECT_TRUE(may_enter(route, plane, &op));
        EXPECT_TRUE(may_enter(route, Plane::local, nullptr)) << "the control socket's file is its key";
      }
      if (route.access == Access::books) {
        EXPECT_FALSE(may_enter(route, plane, &member));
        EXPECT_TRUE(may_enter(route, plane, &billing));
        EXPECT_FALSE(may_enter(route, plane, &op)) << "a key of the plant has no organization of its own";
      }
    }
  }
  for (const Route& route : routes_of(Plane::admin)) {
    EXPECT_EQ(route.access == Access::open, route.quiet) << route.pattern << ": only probes and metrics are open";
  }
}

std::vector<ledger::UsageRow> some_rows(std::int64_t day) {
  ledger::UsageRow a;
  a.bucket_unix_s = day;
  a.organization = "acme", a.project = "acme/default", a.model = "m1", a.currency = "USD";
  a.requests = 2, a.usage = {100, 40, 30, 0}, a.cost = Money{9'007'199'254'740'993};
  ledger::UsageRow b = a;
  b.model = "m2", b.requests = 1, b.usage = {10, 0, 3, 0}, b.cost = Money{7};
  return {a, b};
}

TEST(Organization, UsageComesAsPagesOfBuckets) {
  const std::int64_t day = 19'000 * 86'400;
  const auto query = *Query::parse("start_time=" + std::to_string(day + 5) + "&end_time=" + std::to_string(day + 9 * 86'400 + 1) + "&group_by=model");
  const auto page = read_page_query(query, false, 0);
  ASSERT_TRUE(page) << page.error().message;
  const auto asked = ledger_query(*page, "acme");
  EXPECT_EQ(asked.from_unix_ns, day * 1'000'000'000);
  EXPECT_EQ(asked.to_unix_ns, (day + 7 * 86'400) * 1'000'000'000);
  EXPECT_TRUE(asked.by_model && !asked.by_project && !asked.by_tier);
  const json body = json::parse(*usage_page(*page, some_rows(day)));
  EXPECT_EQ(body["object"], "page");
  ASSERT_EQ(body["data"].size(), 7u);
  EXPECT_EQ(body["data"][0]["start_time"], day);
  EXPECT_EQ(body["data"][0]["end_time"], day + 86'400);
  ASSERT_EQ(body["data"][0]["results"].size(), 2u);
  const json& first = body["data"][0]["results"][0];
  EXPECT_EQ(first["object"], "organization.usage.completions.result");
  EXPECT_EQ(first["model"], "m1");
  EXPECT_EQ(first["input_tokens"], 100);
  EXPECT_EQ(first["input_cached_tokens"], 40);
  EXPECT_EQ(first["num_model_requests"], 2);
  EXPECT_TRUE(first["project_id"].is_null());
  EXPECT_TRUE(body["data"][1]["results"].empty());
  EXPECT_EQ(body["has_more"], true);
  EXPECT_EQ(body["next_page"], "page_" + std::to_string(day + 7 * 86'400));
  const auto next = *Query::parse("start_time=" + std::to_string(day) + "&end_time=" + std::to_string(day + 10 * 86'400) + "&page=" + body["next_page"].get<std::string>());
  const json rest = json::parse(*usage_page(*read_page_query(next, false, 0), {}));
  EXPECT_EQ(rest["data"].size(), 3u);
  EXPECT_TRUE(rest["next_page"].is_null());
}

TEST(Organization, CostsAreExactNumbersInLowerCaseCurrency) {
  const std::int64_t day = 19'000 * 86'400;
  const auto page = read_page_query(*Query::parse("start_time=" + std::to_string(day) + "&limit=1"), true, day + 10);
  const auto body = costs_page(*page, some_rows(day));
  EXPECT_NE(body->find(R"("amount":{"value":9007199.254741,"currency":"usd"})"), std::string::npos) << *body;
  EXPECT_EQ(json::parse(*body)["data"][0]["results"][0]["object"], "organization.costs.result");
}

TEST(Organization, BadQueriesNameTheirParameter) {
  const std::pair<const char*, const char*> table[] = {
      {"", "start_time"}, {"start_time=x", "start_time"}, {"start_time=-1", "start_time"}, {"start_time=100&end_time=50", "end_time"},
      {"start_time=0&bucket_width=2d", "bucket_width"}, {"start_time=0&limit=0", "limit"}, {"start_time=0&limit=32", "limit"},
      {"start_time=0&group_by=colour", "group_by"}, {"start_time=0&page=3", "page"}, {"start_time=0&page=page_5", "page"},
      {"start_time=99999999999999", "start_time"}};
  for (const auto& [query, param] : table) EXPECT_EQ(read_page_query(*Query::parse(query), false, 1'700'000'000).error().param, param) << query;
}

}  // namespace
}  // namespace tokenworks::http
