#include "tokenworks/tenancy/identity.hpp"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "support/paths.hpp"
#include "tenancy/jwt.hpp"

namespace tokenworks::tenancy {
namespace {

constexpr std::int64_t kNow = 1'795'521'600;         // 2026-11-24T12:00:00Z

class FixedClock final : public Clock {
 public:
  std::int64_t unix_ns() const override { return kNow * 1'000'000'000; }
  std::int64_t steady_ns() const override { return real_.steady_ns(); }

 private:
  SystemClock real_;
};

std::string base64url(std::string_view bytes) {
  static const char* const kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t v = 0;
    for (std::size_t k = 0; k < 3; ++k) v = v << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (std::size_t k = 0; k < 4 && i + k <= bytes.size(); ++k) out += kDigits[v >> (18 - 6 * k) & 63];
  }
  return out;
}

// An Ed25519 key of the test's own: the issuer.
class Issuer {
 public:
  explicit Issuer(std::string id = "k1") : id_(std::move(id)) {
    EVP_PKEY_CTX* context = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, nullptr);
    EVP_PKEY_keygen_init(context);
    EVP_PKEY_keygen(context, &key_);
    EVP_PKEY_CTX_free(context);
  }
  ~Issuer() { EVP_PKEY_free(key_); }
  Issuer(const Issuer&) = delete;

  std::string jwk() const {
    unsigned char raw[32];
    std::size_t size = sizeof raw;
    EVP_PKEY_get_raw_public_key(key_, raw, &size);
    return R"({"kty":"OKP","crv":"Ed25519","use":"sig","kid":")" + id_ + R"(","x":")" + base64url({reinterpret_cast<char*>(raw), size}) + "\"}";
  }
  std::string token(const std::string& claims, std::string header = "") const {
    if (header.empty()) header = R"({"alg":"EdDSA","kid":")" + id_ + "\"}";
    const std::string part = base64url(header) + "." + base64url(claims);
    unsigned char signature[64];
    std::size_t size = sizeof signature;
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    EVP_DigestSignInit(context, nullptr, nullptr, nullptr, key_);
    EVP_DigestSign(context, signature, &size, reinterpret_cast<const unsigned char*>(part.data()), part.size());
    EVP_MD_CTX_free(context);
    return part + "." + base64url({reinterpret_cast<char*>(signature), size});
  }

 private:
  std::string id_;
  EVP_PKEY* key_ = nullptr;
};

// Published examples: RFC 7515 A.2 (RSA) and A.3 (EC), RFC 8037 A.4 (Ed25519).
struct Vector {
  const char *jwk, *header, *body, *signature, *algorithm;
};
const Vector kVectors[] = {
    {R"({"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"})",
     "eyJhbGciOiJSUzI1NiJ9",
     "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
     "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
     "RS256"},
    {R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})",
     "eyJhbGciOiJFUzI1NiJ9",
     "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
     "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q", "ES256"},
    {R"({"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})", "eyJhbGciOiJFZERTQSJ9",
     "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
     "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", "EdDSA"}};

TEST(Identity, ThePublishedExamplesVerifyAndEveryBitOfThemMatters) {
  for (const Vector& v : kVectors) {
    const auto keys = parse_key_set(std::string(R"({"keys":[)") + v.jwk + "]}");
    ASSERT_TRUE(keys) << v.algorithm << ": " << keys.error().message;
    const std::string part = std::string(v.header) + "." + v.body;
    Token token;
    token.algorithm = v.algorithm;
    token.signed_part = part;
    token.signature = *from_base64url(v.signature);
    EXPECT_EQ(verify_signature(token, *keys), Signature::good) << v.algorithm;
    Token other = token;
    other.signature[5] = static_cast<char>(other.signature[5] ^ 1);
    EXPECT_EQ(verify_signature(other, *keys), Signature::bad) << v.algorithm;
    const std::string changed = part + "x";
    other = token;
    other.signed_part = changed;
    EXPECT_EQ(verify_signature(other, *keys), Signature::bad) << v.algorithm;
    other = token;
    other.algorithm = v.algorithm == std::string("RS256") ? "ES256" : "RS256";
    EXPECT_EQ(verify_signature(other, *keys), Signature::unknown_key) << "a key is good for its own kind only";
  }
}

TEST(Identity, ATokenIsKnownByItsShapeHoweverItsHeaderIsSpaced) {
  for (const char* header : {R"({"alg":"RS256"})", R"({ "alg": "RS256" })", "{\n  \"alg\": \"RS256\"\n}", "{\r\n\"alg\":\"RS256\"}"}) {
    EXPECT_TRUE(Identity::is_token(base64url(header) + "." + base64url("{}") + ".AAAA")) << header;
  }
  for (const char* other : {"", "sk-tw-a.b.c", "eyJ.eyJ", "eyJ.eyJ.AA.AA", "127.0.1"}) EXPECT_FALSE(Identity::is_token(other)) << other;
}

TEST(Identity, TokensThatAskForNoSignatureOrAnHmacAreNeverRead) {
  for (const char* algorithm : {"none", "None", "HS256", "HS512", "", "RSA-OAEP"}) {
    const auto read = read_token(base64url(std::string(R"({"alg":")") + algorithm + "\"}") + "." + base64url("{}") + ".AAAA");
    EXPECT_FALSE(read) << algorithm;
  }
  EXPECT_FALSE(read_token("a.b")) << "two parts";
  EXPECT_FALSE(read_token("eyJ.eyJ.AA.AA")) << "five parts are encrypted ones";
  EXPECT_FALSE(read_token(base64url(R"({"alg":"RS256","crit":["exp"]})") + "." + base64url("{}") + ".AAAA"));
  EXPECT_FALSE(read_token(std::string(20'000, 'a') + ".a.a"));
  EXPECT_FALSE(from_base64url("AB")) << "the last bits must be zero: one spelling per text";
  EXPECT_EQ(from_base64url("AA"), std::string(1, '\0'));
}

class IdentityTest : public ::testing::Test {
 protected:
  IdentityTest() {
    write_keys({issuer_.jwk()});
    spec_.issuer = "https://id.example";
    spec_.audience = "plant";
    spec_.jwks = dir_.path() + "/keys.json";
    spec_.claim = "realm.teams";
    spec_.projects = {{"search", "acme/search"}, {"books", "acme/default"}};
    identity_ = Identity::make(clock_, "secret", [](const std::string&) -> Result<std::string> { return error(Errc::io, "no network"); });
  }
  void write_keys(const std::vector<std::string>& jwks) {
    std::string all;
    for (const std::string& jwk : jwks) all += (all.empty() ? "" : ",") + jwk;
    std::ofstream(dir_.path() + "/keys.json") << R"({"keys":[)" + all + "]}";
  }
  static std::string claims(const std::string& more, const std::string& exp = std::to_string(kNow + 300)) {
    return R"({"iss":"https://id.example","aud":["other","plant"],"sub":"anna","exp":)" + exp + more + "}";
  }
  std::string why(const std::string& token) {
    const auto verified = identity_->verify(token);
    return verified ? "" : verified.error().message;
  }

  tokenworks::test::ScratchDir dir_;
  FixedClock clock_;
  Issuer issuer_;
  config::IssuerSpec spec_;
  std::unique_ptr<Identity> identity_;
};

TEST_F(IdentityTest, AGoodTokenMeansTheFirstProjectItsClaimNames) {
  ASSERT_TRUE(identity_->apply({spec_}));
  const std::string token = issuer_.token(claims(R"(,"realm":{"teams":["books","search"]})"));
  ASSERT_TRUE(Identity::is_token(token));
  const auto who = identity_->verify(token);
  ASSERT_TRUE(who) << who.error().message;
  EXPECT_EQ(who->project, "acme/search");
  EXPECT_EQ(who->organization, "acme");
  EXPECT_EQ(who->key.size(), 20u);
  EXPECT_EQ(who->key.find("anna"), std::string::npos) << "a subject is a person";
  const auto other = identity_->verify(issuer_.token(claims(R"(,"realm":{"teams":"books"})")));
  ASSERT_TRUE(other);
  EXPECT_EQ(other->project, "acme/default");
  EXPECT_EQ(other->key, who->key) << "the same person";
  const auto nowhere = identity_->verify(issuer_.token(claims(R"(,"realm":{"teams":["cooking"]})")));
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code, Errc::insufficient_permissions);
  spec_.project = "acme/default";
  ASSERT_TRUE(identity_->apply({spec_}));
  EXPECT_TRUE(identity_->verify(issuer_.token(claims(""))));
  EXPECT_FALSE(Identity::is_token("sk-tw-abcdefgh-0123456789012345678901234567890123456789"));
}

TEST_F(IdentityTest, EveryClaimThatIsWrongIsNamed) {
  spec_.project = "acme/default";
  ASSERT_TRUE(identity_->apply({spec_}));
  EXPECT_NE(why(issuer_.token(claims("", std::to_string(kNow - 61)))).find("expired"), std::string::npos);
  EXPECT_EQ(why(issuer_.token(claims("", std::to_string(kNow - 59)))), "") << "clocks may differ by the leeway";
  EXPECT_NE(why(issuer_.token(claims("", "\"soon\""))).find("'exp'"), std::string::npos);
  EXPECT_NE(why(issuer_.token(claims("", "1e300"))).find("'exp'"), std::string::npos);
  EXPECT_NE(why(issuer_.token(claims(",\"nbf\":" + std::to_string(kNow + 120)))).find("not valid yet"), std::string::npos);
  EXPECT_NE(why(issuer_.token(R"({"iss":"https://id.example","aud":"plant","sub":"anna"})")).find("never expires"), std::string::npos);
  EXPECT_NE(why(issuer_.token(R"({"iss":"https://id.example","aud":"shop","sub":"anna","exp":9999999999})")).find("audience"), std::string::npos);
  EXPECT_NE(why(issuer_.token(R"({"iss":"https://evil.example","aud":"plant","sub":"anna","exp":9999999999})")).find("issuer"), std::string::npos);
  EXPECT_NE(why(issuer_.token(R"({"iss":"https://id.example","aud":"plant","exp":9999999999})")).find("subject"), std::string::npos);
  EXPECT_NE(why(Issuer("k1").token(claims(""))).find("not signed by its issuer"), std::string::npos);
  EXPECT_NE(why(Issuer("k9").token(claims(""))).find("does not publish"), std::string::npos);
}

TEST_F(IdentityTest, AKeyTheIssuerHasRotatedInIsFoundWithoutAReload) {
  spec_.project = "acme/default";
  ASSERT_TRUE(identity_->apply({spec_}));
  const Issuer next("k2");
  const std::string token = next.token(claims(""));
  EXPECT_FALSE(identity_->verify(token));
  write_keys({issuer_.jwk(), next.jwk()});
  for (int i = 0; i < 600 && !identity_->verify(token); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(identity_->verify(token));
  EXPECT_TRUE(identity_->verify(issuer_.token(claims(""))));
}

TEST_F(IdentityTest, AKeyFileThatCannotBeUsedChangesNothing) {
  spec_.project = "acme/default";
  ASSERT_TRUE(identity_->apply({spec_}));
  config::IssuerSpec broken = spec_;
  broken.jwks = dir_.path() + "/none.json";
  const auto refused = identity_->apply({broken});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("none.json"), std::string::npos);
  EXPECT_TRUE(identity_->verify(issuer_.token(claims(""))));
  EXPECT_NE(mistake_in_key_set(R"({"keys":[{"kty":"oct","k":"AAAA","kid":"s"}]})").find("'oct'"), std::string::npos);
  EXPECT_NE(mistake_in_key_set(R"({"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]})").find("2048"), std::string::npos);
  EXPECT_NE(mistake_in_key_set("[]"), "");
  EXPECT_EQ(mistake_in_key_set(R"({"keys":[{"kty":"oct","k":"AAAA"},)" + issuer_.jwk() + "]}"), "") << "others' keys are left out";
}

TEST_F(IdentityTest, TokensAreRefusedUntilAUrlHasAnswered) {
  std::atomic<bool> up{false};
  auto identity = Identity::make(clock_, "secret", [&](const std::string& url) -> Result<std::string> {
    EXPECT_EQ(url, "https://id.example/keys");
    if (!up) return error(Errc::io, "no network");
    return R"({"keys":[)" + issuer_.jwk() + "]}";
  });
  spec_.jwks = "https://id.example/keys";
  spec_.project = "acme/default";
  ASSERT_TRUE(identity->apply({spec_})) << "a provider that is down is no reason not to start";
  const std::string token = issuer_.token(claims(""));
  const auto early = identity->verify(token);
  ASSERT_FALSE(early);
  EXPECT_NE(early.error().message.find("could not be read"), std::string::npos);
  up = true;
  for (int i = 0; i < 600 && !identity->verify(token); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(identity->verify(token));
}

}  // namespace
}  // namespace tokenworks::tenancy
