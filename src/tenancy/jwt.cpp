#include "jwt.hpp"

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace tokenworks::tenancy {
namespace {

using nlohmann::json;

constexpr std::size_t kTokenMax = 16 << 10;
constexpr const char* kWho = "This bearer token";

Error invalid(const std::string& why) { return error(Errc::invalid_api_key, std::string(kWho) + " " + why); }

struct Algorithm {
  const char* name;
  const char* key_type;
  const char* curve;                                 // of EC and OKP: an algorithm is bound to one (RFC 7518 3.4)
  const EVP_MD* (*digest)();
  bool pss;
};
const Algorithm kAlgorithms[] = {
    {"RS256", "RSA", "", EVP_sha256, false},     {"RS384", "RSA", "", EVP_sha384, false},     {"RS512", "RSA", "", EVP_sha512, false},
    {"PS256", "RSA", "", EVP_sha256, true},      {"PS384", "RSA", "", EVP_sha384, true},      {"PS512", "RSA", "", EVP_sha512, true},
    {"ES256", "EC", "P-256", EVP_sha256, false}, {"ES384", "EC", "P-384", EVP_sha384, false}, {"ES512", "EC", "P-521", EVP_sha512, false},
    {"EdDSA", "OKP", "Ed25519", nullptr, false}};

const Algorithm* algorithm_of(const std::string& name) {
  const auto found = std::find_if(std::begin(kAlgorithms), std::end(kAlgorithms), [&](const Algorithm& a) { return name == a.name; });
  return found == std::end(kAlgorithms) ? nullptr : found;
}

// r and s side by side (RFC 7518 3.4) as the DER OpenSSL reads; "" when the length is wrong.
std::string der_of(const std::string& raw, const std::string& curve) {
  const std::size_t size = curve == "P-256" ? 32 : curve == "P-384" ? 48 : 66;
  if (raw.size() != 2 * size) return {};
  const auto* bytes = reinterpret_cast<const unsigned char*>(raw.data());
  const std::unique_ptr<ECDSA_SIG, void (*)(ECDSA_SIG*)> signature(ECDSA_SIG_new(), ECDSA_SIG_free);
  ECDSA_SIG_set0(signature.get(), BN_bin2bn(bytes, static_cast<int>(size), nullptr), BN_bin2bn(bytes + size, static_cast<int>(size), nullptr));
  unsigned char* der = nullptr;
  const int length = i2d_ECDSA_SIG(signature.get(), &der);
  std::string out(reinterpret_cast<char*>(der), length > 0 ? static_cast<std::size_t>(length) : 0);
  OPENSSL_free(der);
  return out;
}

bool signed_by(const Token& token, const Algorithm& algorithm, const JsonWebKey& key) {
  const std::string signature = key.type == "EC" ? der_of(token.signature, key.curve) : token.signature;
  if (signature.empty()) return false;
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  EVP_PKEY_CTX* how = nullptr;
  bool good = EVP_DigestVerifyInit(context.get(), &how, algorithm.digest == nullptr ? nullptr : algorithm.digest(), nullptr, key.key.get()) == 1;
  if (good && algorithm.pss) {
    good = EVP_PKEY_CTX_set_rsa_padding(how, RSA_PKCS1_PSS_PADDING) == 1 && EVP_PKEY_CTX_set_rsa_pss_saltlen(how, RSA_PSS_SALTLEN_DIGEST) == 1;
  }
  good = good && EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()), signature.size(),
                                  reinterpret_cast<const unsigned char*>(token.signed_part.data()), token.signed_part.size()) == 1;
  ERR_clear_error();
  return good;
}

// NumericDate: seconds, perhaps with a fraction. Nullopt when absent; an error text when it is no number that can be a time.
std::optional<std::int64_t> date_of(const json& claims, const char* name, std::string& wrong) {
  const auto found = claims.find(name);
  if (found == claims.end()) return std::nullopt;
  const double seconds = found->is_number() ? found->get<double>() : std::nan("");
  if (!(seconds > -1e11 && seconds < 1e11)) {
    wrong = std::string("has a claim '") + name + "' that is no time";
    return std::nullopt;
  }
  return static_cast<std::int64_t>(std::floor(seconds));
}

bool names(const json& value, const std::string& word) {
  if (value.is_string()) return value.get_ref<const std::string&>() == word;
  if (!value.is_array()) return false;
  return std::any_of(value.begin(), value.end(), [&](const json& v) { return v.is_string() && v.get_ref<const std::string&>() == word; });
}

// "realm_access.roles" goes into objects; a claim whose name holds the dots is taken first ("https://example.org/team").
const json* claim_at(const json& claims, const std::string& path) {
  if (const auto whole = claims.find(path); whole != claims.end()) return &*whole;
  const json* at = &claims;
  for (std::size_t from = 0; from <= path.size();) {
    const std::size_t to = std::min(path.find('.', from), path.size());
    if (!at->is_object()) return nullptr;
    const auto next = at->find(path.substr(from, to - from));
    if (next == at->end()) return nullptr;
    at = &*next;
    from = to + 1;
  }
  return at;
}

json claims_of(const Token& token) { return json::parse(token.claims, nullptr, false); }

}  // namespace

Result<Token> read_token(std::string_view text) {
  if (text.size() > kTokenMax) return invalid("is longer than 16 KiB");
  const std::size_t first = text.find('.'), second = text.find('.', first == std::string_view::npos ? first : first + 1);
  if (second == std::string_view::npos || text.find('.', second + 1) != std::string_view::npos) return invalid("has not the three parts of a signed one");
  const auto head = from_base64url(text.substr(0, first)), body = from_base64url(text.substr(first + 1, second - first - 1)),
             signature = from_base64url(text.substr(second + 1));
  if (!head || !body || !signature) return invalid("is not base64url");
  const json header = json::parse(*head, nullptr, false), claims = json::parse(*body, nullptr, false);
  if (!header.is_object() || !claims.is_object()) return invalid("does not hold JSON objects");
  if (header.contains("crit")) return invalid("asks for extensions this server does not know");   // RFC 7515 4.1.11
  Token token;
  if (const auto alg = header.find("alg"); alg != header.end() && alg->is_string()) token.algorithm = alg->get<std::string>();
  if (const auto kid = header.find("kid"); kid != header.end() && kid->is_string()) token.key_id = kid->get<std::string>();
  if (algorithm_of(token.algorithm) == nullptr) return invalid("is signed in a way this server does not take; RS, PS or ES with 256, 384 or 512 bits, or EdDSA");
  token.signed_part = text.substr(0, second);
  token.signature = *signature;
  token.claims = *body;
  return token;
}

Signature verify_signature(const Token& token, const std::vector<JsonWebKey>& keys) {
  const Algorithm* algorithm = algorithm_of(token.algorithm);
  bool tried = false;
  for (const JsonWebKey& key : keys) {
    if (algorithm == nullptr || key.type != algorithm->key_type || (*algorithm->curve != '\0' && key.curve != algorithm->curve)) continue;
    if (!key.algorithm.empty() && key.algorithm != token.algorithm) continue;
    if (!token.key_id.empty() && !key.id.empty() && key.id != token.key_id) continue;
    if (signed_by(token, *algorithm, key)) return Signature::good;
    tried = true;
  }
  return tried ? Signature::bad : Signature::unknown_key;
}

Result<Issued> find_issuer(const Token& token, const std::vector<config::IssuerSpec>& issuers) {
  const json claims = claims_of(token);
  bool known = false;
  for (const config::IssuerSpec& spec : issuers) {
    if (!claims.contains("iss") || !claims["iss"].is_string() || claims["iss"].get_ref<const std::string&>() != spec.issuer) continue;
    known = true;
    if (claims.contains("aud") && names(claims["aud"], spec.audience)) return Issued{&spec};
  }
  return invalid(known ? "is meant for another audience" : "comes from an issuer this server does not know");
}

Result<Claims> check_claims(const Token& token, const config::IssuerSpec& spec, std::int64_t unix_ns) {
  const json claims = claims_of(token);
  const std::int64_t now = unix_ns / 1'000'000'000, leeway = spec.leeway_ns / 1'000'000'000;
  std::string wrong;
  const auto expires = date_of(claims, "exp", wrong), begins = date_of(claims, "nbf", wrong), issued = date_of(claims, "iat", wrong);
  if (!wrong.empty()) return invalid(wrong);
  if (!expires) return invalid("never expires, which this server does not take: it has no 'exp'");
  if (now >= *expires + leeway) return invalid("has expired; get a new one from its issuer");
  if (begins && now < *begins - leeway) return invalid("is not valid yet");
  if (issued && now < *issued - leeway) return invalid("was issued in the future");
  Claims found;
  if (claims.contains("sub") && claims["sub"].is_string()) found.subject = claims["sub"].get<std::string>();
  if (found.subject.empty()) return invalid("names no subject");
  if (const json* value = spec.claim.empty() ? nullptr : claim_at(claims, spec.claim)) {
    for (const auto& [word, project] : spec.projects) {
      if (!names(*value, word)) continue;
      found.project = project;
      return found;
    }
  }
  found.project = spec.project;
  if (found.project.empty()) {
    return error(Errc::insufficient_permissions, "This bearer token's claim '" + spec.claim + "' names no project of this plant");
  }
  return found;
}

}  // namespace tokenworks::tenancy
