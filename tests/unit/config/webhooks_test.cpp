// webhooks in tokenworks.yaml: what signs, where to, and a row for every way to say it wrong.
#include <gtest/gtest.h>

#include <fstream>

#include "support/paths.hpp"
#include "tokenworks/base/base64.hpp"
#include "tokenworks/config/config.hpp"

namespace tokenworks::config {
namespace {

class WebhooksFile : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) { std::ofstream(dir_.path() + "/" + name) << text; }
  Result<Config> load_it(const std::string& webhooks) {
    write("model.gguf", "GGUF");
    write("prices.yaml", "version: \"1\"\nmodels: {m: {input: 1, output: 1}}\n");
    write("tenants.yaml", "plans: {starter: {}}\norganizations: {acme: {plan: starter}}\n");
    write("tokenworks.yaml", "data_dir: data\nprices: prices.yaml\ntenants: tenants.yaml\nmodels: [{id: m, path: model.gguf}]\n" + webhooks);
    return load(dir_.path() + "/tokenworks.yaml");
  }
  test::ScratchDir dir_;
};

TEST_F(WebhooksFile, SecretsAreBytesBase64OrAFile) {
  write("secret", "  whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
  const auto c = load_it(R"(webhooks:
  finance: {url: "https://example.com/hook?x=1", secret: "plain bytes", events: [budget.threshold]}
  ops: {url: "http://127.0.0.1:8000/", secret_file: secret}
)");
  ASSERT_TRUE(c) << c.error().message;
  ASSERT_EQ(c->plant.webhooks.size(), 2u);
  EXPECT_EQ(c->plant.webhooks[0].name, "finance");
  EXPECT_EQ(c->plant.webhooks[0].secret, "plain bytes");
  EXPECT_EQ(c->plant.webhooks[0].events, std::vector<std::string>{"budget.threshold"});
  EXPECT_EQ(c->plant.webhooks[1].secret, *from_base64("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
  EXPECT_EQ(c->plant.webhooks[1].events, std::vector<std::string>{"*"});
  EXPECT_EQ(c->plant.webhooks[1].old_secret, "");
  const auto changing = load_it("webhooks: {w: {url: \"https://a/\", secret: new, old_secret_file: secret}}\n");
  ASSERT_TRUE(changing) << changing.error().message;
  EXPECT_EQ(changing->plant.webhooks[0].old_secret, *from_base64("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
}

TEST_F(WebhooksFile, EveryMistakeIsNamedWithItsLineAndNoSecretIsShown) {
  write("empty", " \n");
  const std::pair<const char*, const char*> rows[] = {
      {"url: \"https://a/\", secret: \"\"", "webhooks.w.secret is empty"},
      {"url: \"https://a/\", secret: \"  \"", "webhooks.w.secret is empty"},
      {"url: \"https://a/\", secret: whsec_", "webhooks.w.secret is empty"},
      {"url: \"https://a/\", secret: \"whsec_TOPSECRET!\"", "is not Base64"},
      {"url: \"https://a/\", secret_file: empty", "webhooks.w.secret_file is empty"},
      {"url: \"https://a/\", secret_file: nowhere", "which cannot be read"},
      {"url: \"https://a/\"", "has no secret"},
      {"url: \"https://a/\", secret: TOPSECRET, secret_file: empty", "has both secret and secret_file"},
      {"url: \"https://a/\", secret: TOPSECRET, old_secret: \"\"", "webhooks.w.old_secret is empty"},
      {"url: \"https://a/\", secret: TOPSECRET, old_secret: TOPSECRET", "is the same as secret"},
      {"url: \"https://a/\", secret: a, old_secret: TOPSECRET, old_secret_file: empty", "has both old_secret and old_secret_file"},
      {"secret: TOPSECRET", "'url' is missing"},
      {"url: a, secret: TOPSECRET", "webhooks.w.url is not an http:// or https:// address"},
      {"url: \"ftp://a/\", secret: TOPSECRET", "webhooks.w.url is not"},
      {"url: \"https://\", secret: TOPSECRET", "webhooks.w.url is not"},
      {"url: \"https://u:p@a/\", secret: TOPSECRET", "webhooks.w.url is not"},
      {"url: \"https://a/ b\", secret: TOPSECRET", "webhooks.w.url is not"},
      {"url: \"https://a/\", secret: TOPSECRET, events: [budget.treshold]", "did you mean 'budget.threshold'?"},
      {"url: \"https://a/\", secret: TOPSECRET, events: []", "names no event"},
      {"url: \"https://a/\", secert: TOPSECRET", "did you mean 'secret'?"}};
  for (const auto& [text, says] : rows) {
    const auto c = load_it(std::string("webhooks:\n  w: {") + text + "}\n");
    ASSERT_FALSE(c) << text;
    EXPECT_NE(c.error().message.find("tokenworks.yaml:6: "), std::string::npos) << c.error().message;
    EXPECT_NE(c.error().message.find(says), std::string::npos) << c.error().message;
    EXPECT_EQ(c.error().message.find("TOPSECRET"), std::string::npos) << c.error().message;
  }
  EXPECT_FALSE(load_it("webhooks:\n  \"a b\": {url: \"https://a/\", secret: x}\n"));
}

}  // namespace
}  // namespace tokenworks::config
