#pragma once
// JSON Web Tokens in their compact form (RFC 7515, 7519), signed only: RS/PS/ES 256, 384, 512 and EdDSA. The key decides
// which algorithms may be named, never the token alone: `none` and HMAC do not exist here. Private to src/tenancy.

#include <functional>
#include <string_view>
#include <vector>

#include "jwk.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/config/identity.hpp"

namespace tokenworks::tenancy {

// A token taken apart; nothing in it is to be trusted before verify_signature().
struct Token {
  std::string algorithm, key_id;
  std::string_view signed_part;                      // of the text it was read from
  std::string signature, claims;                     // claims: JSON text
};
Result<Token> read_token(std::string_view text);

enum class Signature { good, bad, unknown_key };
Signature verify_signature(const Token& token, const std::vector<JsonWebKey>& keys);

struct Claims {
  std::string subject, project;                      // "organization/project"
};
// Issuer and audience select the spec; times are checked against it.
struct Issued {
  const config::IssuerSpec* spec = nullptr;
};
Result<Issued> find_issuer(const Token& token, const std::vector<config::IssuerSpec>& issuers);
Result<Claims> check_claims(const Token& token, const config::IssuerSpec& spec, std::int64_t unix_ns);

}  // namespace tokenworks::tenancy
