#pragma once
// JSON Web Keys (RFC 7517, 7518, 8037): a key set's text to public keys OpenSSL can verify with. RSA of 2048 to 16384 bits,
// EC on P-256, P-384 and P-521, Ed25519. Keys for encryption, symmetric keys and unknown types are left out: a set may hold
// them beside ours. Private to src/tenancy.
#include <openssl/evp.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/result.hpp"

namespace tokenworks::tenancy {

struct JsonWebKey {
  std::string id;                                    // `kid`, may be ""
  std::string type, curve, algorithm;                // `kty`, `crv`, `alg` ("": any that fits the type)
  std::shared_ptr<EVP_PKEY> key;
};

// bad_config: no JSON, no "keys", or none in it that can be used (with the reason for the first).
Result<std::vector<JsonWebKey>> parse_key_set(std::string_view json);

// Base64url without padding (RFC 7515 appendix C); nullopt for anything else.
std::optional<std::string> from_base64url(std::string_view text);

}  // namespace tokenworks::tenancy
