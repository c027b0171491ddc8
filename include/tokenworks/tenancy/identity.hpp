#pragma once
// Identity: bearer tokens beside API keys. Checks a JSON Web Token (RFC 7519) against the issuers of tenants.yaml:
// signature by the issuer's published keys (RFC 7517), `iss`, `aud`, `exp`, `nbf`; then maps a claim to a project. A token
// is never stored or logged; its subject appears as a salted hash only.
//
// verify() is for any thread and touches no file and no socket. A thread of its own reads key sets again when they are old,
// or when a token names a key that is not there (an issuer that rotated), at most every few seconds.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/clock.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/config/identity.hpp"

namespace tokenworks::tenancy {

struct Bearer {                                      // whom a valid token speaks for
  std::string organization, project;                 // "acme", "acme/search"
  std::string key;                                   // stands where a key's id does: "jwt-" and 16 hex digits of the subject's hash
};

// The text of a key set; errors name the place. Files are read by Identity itself, this is for URLs.
using FetchText = std::function<Result<std::string>(const std::string& url)>;

class Identity {
 public:
  // `secret` salts the hash of subjects. Clock and fetch outlive it.
  static std::unique_ptr<Identity> make(const Clock& clock, std::string secret, FetchText fetch);
  virtual ~Identity() = default;

  // Start-up and reload: swaps the issuers whole or not at all. bad_config when a key *file* cannot be used; a URL that does
  // not answer is tried again until it does, and its tokens are refused until then.
  virtual Result<> apply(const std::vector<config::IssuerSpec>& issuers) = 0;
  // Whether the text is a token rather than an API key.
  static bool is_token(std::string_view bearer);
  // invalid_api_key says what is wrong with the token, never its content; insufficient_permissions: it maps to no project.
  virtual Result<Bearer> verify(std::string_view token) const = 0;
};

// What is wrong with a set of keys, "" when it can be used: for `tokenworks check`.
std::string mistake_in_key_set(std::string_view json);

}  // namespace tokenworks::tenancy
