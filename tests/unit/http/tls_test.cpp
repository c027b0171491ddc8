#include "tls_client.hpp"
#include "tokenworks/http/tls_check.hpp"

#include <gtest/gtest.h>

namespace tokenworks::http::test {
namespace {

class Tls : public ::testing::Test {
 protected:
  void SetUp() override {
    make_certificate(dir_.path(), "first");
    make_certificate(dir_.path(), "second");
  }
  config::Plant::Tls files(const std::string& name) const { return {dir_.path() + "/" + name + ".crt", dir_.path() + "/" + name + ".key", ""}; }
  tokenworks::test::ScratchDir dir_;
};

TEST_F(Tls, AnswersAndStreamsComeOverTls12AndTls13ButNothingOlder) {
  Plant plant([&](ServerOptions& o) { o.tls = files("first"); });
  EXPECT_TRUE(plant.server->api_urls()[0].starts_with("https://"));
  for (const auto& [version, name] : {std::pair{TLS1_2_VERSION, "TLSv1.2"}, {TLS1_3_VERSION, "TLSv1.3"}}) {
    TlsClient client(plant.server->api_urls()[0], version);
    ASSERT_TRUE(client.connected());
    EXPECT_EQ(client.protocol(), name);
    EXPECT_NE(client.ask(post("/v1/chat/completions", chat_body("fake", true)), "0\r\n\r\n").find("data: [DONE]"), std::string::npos);
    EXPECT_NE(client.ask(get("/v1/models"), "]}").find("200 OK"), std::string::npos);
  }
  EXPECT_FALSE(TlsClient(plant.server->api_urls()[0], TLS1_1_VERSION).connected());
  EXPECT_TRUE(plant.server->admin_url().starts_with("http://")) << "a loopback admin listener stays plain";
  EXPECT_EQ(plant.admin().ask(get("/livez", "")).status, 200);
}

TEST_F(Tls, AReloadGivesNewConnectionsTheNewCertificateAndKeepsTheOldOnesOpen) {
  Plant plant([&](ServerOptions& o) { o.tls = files("first"); });
  TlsClient before(plant.server->api_urls()[0]);
  ASSERT_TRUE(before.connected());
  EXPECT_EQ(before.server_name(), "first");
  ASSERT_TRUE(plant.server->reload_tls(files("second")));
  EXPECT_EQ(TlsClient(plant.server->api_urls()[0]).server_name(), "second");
  EXPECT_NE(before.ask(get("/v1/models"), "]}").find("200 OK"), std::string::npos);
  config::Plant::Tls mixed = files("second");
  mixed.private_key = files("first").private_key;
  const auto refused = plant.server->reload_tls(mixed);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::bad_config);
  EXPECT_NE(refused.error().message.find("first.key"), std::string::npos) << refused.error().message;
  EXPECT_EQ(TlsClient(plant.server->api_urls()[0]).server_name(), "second");
}

TEST_F(Tls, ClientsMustShowACertificateWhenAnAuthorityIsConfigured) {
  Plant plant([&](ServerOptions& o) {
    o.tls = files("first");
    o.tls.client_ca = dir_.path() + "/second.crt";
  });
  TlsClient known(plant.server->api_urls()[0], TLS1_3_VERSION, dir_.path() + "/second");
  EXPECT_NE(known.ask(get("/v1/models"), "]}").find("200 OK"), std::string::npos);
  TlsClient nobody(plant.server->api_urls()[0]);
  EXPECT_EQ(nobody.ask(get("/v1/models"), "]}"), "");
  TlsClient stranger(plant.server->api_urls()[0], TLS1_3_VERSION, dir_.path() + "/first");
  EXPECT_EQ(stranger.ask(get("/v1/models"), "]}"), "");
}

TEST_F(Tls, WhoShowsNoCertificateIsLetInWhereItIsOptionalButABadOneIsNot) {
  Plant plant([&](ServerOptions& o) {
    o.tls = files("first");
    o.tls.client_ca = dir_.path() + "/second.crt";
    o.tls.client_required = false;
  });
  TlsClient nobody(plant.server->api_urls()[0]);
  EXPECT_NE(nobody.ask(get("/v1/models"), "]}").find("200 OK"), std::string::npos);
  TlsClient known(plant.server->api_urls()[0], TLS1_3_VERSION, dir_.path() + "/second");
  EXPECT_NE(known.ask(get("/v1/models"), "]}").find("200 OK"), std::string::npos);
  TlsClient stranger(plant.server->api_urls()[0], TLS1_3_VERSION, dir_.path() + "/first");
  EXPECT_EQ(stranger.ask(get("/v1/models"), "]}"), "");
}

TEST_F(Tls, TheCertificateIsTheOneMadeOutToTheNameThatIsAskedFor) {
  Plant plant([&](ServerOptions& o) {
    o.tls = files("first");
    o.tls.more = {{files("second").certificate, files("second").private_key}};
  });
  const std::string url = plant.server->api_urls()[0];
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    EXPECT_EQ(TlsClient(url, version).server_name(), "first") << "no name was asked for";
    EXPECT_EQ(TlsClient(url, version, "", "second").server_name(), "second");
    EXPECT_EQ(TlsClient(url, version, "", "first").server_name(), "first");
    EXPECT_EQ(TlsClient(url, version, "", "third").server_name(), "first");
  }
  TlsClient client(url, TLS1_3_VERSION, "", "second");
  EXPECT_NE(client.ask(get("/v1/models"), "]}").find("200 OK"), std::string::npos);
}

TEST_F(Tls, EveryMistakeIsFoundAtOnceAndNamedByItsKey) {
  const auto found = [](const config::Plant::Tls& tls) {
    std::string all;
    for (const TlsMistake& m : tls_mistakes(tls)) all += m.key + ": " + m.what + "\n";
    return all;
  };
  EXPECT_EQ(found(files("first")), "");
  EXPECT_EQ(found({}), "");
  config::Plant::Tls swapped{files("first").private_key, files("first").certificate, dir_.path() + "/none.crt"};
  swapped.more = {{files("second").certificate, files("first").private_key}};
  const std::string all = found(swapped);
  EXPECT_NE(all.find("tls.certificate: " + dir_.path() + "/first.key holds a private key instead of a certificate: are"), std::string::npos) << all;
  EXPECT_NE(all.find("tls.private_key: " + dir_.path() + "/first.crt holds a certificate instead of a private key: are"), std::string::npos) << all;
  EXPECT_NE(all.find("tls.client_ca: " + dir_.path() + "/none.crt cannot be read"), std::string::npos) << all;
  EXPECT_NE(all.find("tls.certificates[0].private_key: " + dir_.path() + "/first.key does not belong to the certificate"), std::string::npos) << all;
}

TEST_F(Tls, AClientThatVanishesIsNoticedAndPlainTextIsNotAnswered) {
  Plant plant([&](ServerOptions& o) { o.tls = files("first"); });
  {
    TlsClient client(plant.server->api_urls()[0]);
    client.ask(post("/v1/chat/completions", chat_body("wait", true)), "assistant");
    client.raw().close();
  }
  EXPECT_TRUE(eventually([&] { return plant.service.departures == 1; }));
  RawClient plain = plant.client();
  plain.send(get("/v1/models"));
  EXPECT_TRUE(plain.at_end());
  EXPECT_EQ(plain.buffer().find("HTTP/1.1"), std::string::npos);
  EXPECT_TRUE(TlsClient(plant.server->api_urls()[0]).connected());
}

TEST_F(Tls, FilesThatCannotBeUsedAreNamedAtTheStart) {
  config::Plant::Tls missing = files("none");
  try {
    Plant plant([&](ServerOptions& o) { o.tls = missing; });
    FAIL() << "started without a certificate";
  } catch (const std::runtime_error& e) {
    EXPECT_NE(std::string(e.what()).find("none.crt"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace tokenworks::http::test
