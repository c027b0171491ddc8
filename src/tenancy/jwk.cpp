#include "jwk.hpp"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

#include <nlohmann/json.hpp>
#include <optional>

namespace tokenworks::tenancy {
namespace {

using nlohmann::json;

constexpr std::size_t kKeysMax = 64;                 // of a set
constexpr int kRsaBitsLeast = 2048, kRsaBitsMost = 16384;

std::string text_of(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::shared_ptr<EVP_PKEY> owned(EVP_PKEY* key) { return {key, [](EVP_PKEY* k) { EVP_PKEY_free(k); }}; }

std::shared_ptr<EVP_PKEY> from_params(const char* type, OSSL_PARAM_BLD* builder) {
  const std::unique_ptr<OSSL_PARAM, void (*)(OSSL_PARAM*)> params(OSSL_PARAM_BLD_to_param(builder), OSSL_PARAM_free);
  const std::unique_ptr<EVP_PKEY_CTX, void (*)(EVP_PKEY_CTX*)> context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr), EVP_PKEY_CTX_free);
  EVP_PKEY* key = nullptr;
  if (!params || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1) {
    ERR_clear_error();
    return nullptr;
  }
  return owned(key);
}

std::string rsa(const json& object, JsonWebKey& into) {
  const auto modulus = from_base64url(text_of(object, "n")), exponent = from_base64url(text_of(object, "e"));
  if (!modulus || !exponent || modulus->empty() || exponent->empty() || modulus->size() > kRsaBitsMost / 8) return "its n or e is no number";
  const auto number = [](const std::string& bytes) {
    return std::unique_ptr<BIGNUM, void (*)(BIGNUM*)>(BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()), nullptr), BN_free);
  };
  const auto n = number(*modulus), e = number(*exponent);
  if (BN_num_bits(n.get()) < kRsaBitsLeast) return "its modulus has less than 2048 bits";
  const std::unique_ptr<OSSL_PARAM_BLD, void (*)(OSSL_PARAM_BLD*)> builder(OSSL_PARAM_BLD_new(), OSSL_PARAM_BLD_free);
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  into.key = from_params("RSA", builder.get());
  return into.key ? "" : "OpenSSL refuses its numbers";
}

std::string elliptic(const json& object, JsonWebKey& into) {
  const std::size_t size = into.curve == "P-256" ? 32 : into.curve == "P-384" ? 48 : into.curve == "P-521" ? 66 : 0;
  if (size == 0) return "its curve '" + into.curve.substr(0, 32) + "' is not P-256, P-384 or P-521";
  const auto x = from_base64url(text_of(object, "x")), y = from_base64url(text_of(object, "y"));
  if (!x || !y || x->size() != size || y->size() != size) return "its x or y has not the length of a coordinate";
  const std::string point = '\x04' + *x + *y;        // SEC 1: uncompressed
  const std::unique_ptr<OSSL_PARAM_BLD, void (*)(OSSL_PARAM_BLD*)> builder(OSSL_PARAM_BLD_new(), OSSL_PARAM_BLD_free);
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, into.curve.c_str(), 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size());
  into.key = from_params("EC", builder.get());
  return into.key ? "" : "its point is not on the curve";
}

std::string edwards(const json& object, JsonWebKey& into) {
  const auto x = from_base64url(text_of(object, "x"));
  if (into.curve != "Ed25519" || !x || x->size() != 32) return "it is no Ed25519 key";
  into.key = owned(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, reinterpret_cast<const unsigned char*>(x->data()), x->size()));
  return into.key ? "" : "OpenSSL refuses it";
}

}  // namespace

std::optional<std::string> from_base64url(std::string_view text) {
  if (text.size() % 4 == 1) return std::nullopt;
  std::string out;
  out.reserve(text.size() * 3 / 4);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    int value = 0;
    if (c >= 'A' && c <= 'Z') value = c - 'A';
    else if (c >= 'a' && c <= 'z') value = c - 'a' + 26;
    else if (c >= '0' && c <= '9') value = c - '0' + 52;
    else if (c == '-') value = 62;
    else if (c == '_') value = 63;
    else return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out += static_cast<char>(bits >> count & 0xff);
  }
  if ((bits & ((1u << count) - 1)) != 0) return std::nullopt;   // a second spelling of the same bytes
  return out;
}

Result<std::vector<JsonWebKey>> parse_key_set(std::string_view text) {
  const json set = json::parse(text, nullptr, false);
  if (!set.is_object() || !set.contains("keys") || !set["keys"].is_array()) {
    return error(Errc::bad_config, "is no JSON Web Key Set: an object with a list 'keys' is needed");
  }
  std::vector<JsonWebKey> keys;
  std::string first_reason;
  for (const json& object : set["keys"]) {
    if (!object.is_object() || keys.size() >= kKeysMax) continue;
    JsonWebKey key{text_of(object, "kid"), text_of(object, "kty"), text_of(object, "crv"), text_of(object, "alg"), nullptr};
    const std::string use = text_of(object, "use");
    std::string reason = "its type '" + key.type.substr(0, 32) + "' is not RSA, EC or OKP";
    if (!use.empty() && use != "sig") reason = "it is for encryption";
    else if (key.type == "RSA") reason = rsa(object, key);
    else if (key.type == "EC") reason = elliptic(object, key);
    else if (key.type == "OKP") reason = edwards(object, key);
    if (reason.empty()) keys.push_back(std::move(key));
    else if (first_reason.empty()) first_reason = "; of key '" + key.id.substr(0, 64) + "': " + reason;
  }
  if (keys.empty()) return error(Errc::bad_config, "holds no key that signatures can be checked with" + first_reason);
  return keys;
}

}  // namespace tokenworks::tenancy
