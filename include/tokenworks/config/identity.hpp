#pragma once
// IssuerSpec: whose bearer tokens (JSON Web Tokens of an OpenID Connect issuer) are taken beside API keys, and which project
// a token's holder works for. Part of tenants.yaml, so that a reload swaps it together with the organizations it names.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tokenworks::config {

struct IssuerSpec {
  std::string issuer;                                // must equal the token's `iss`
  std::string audience;                              // must be (one of) the token's `aud`
  std::string jwks;                                  // the issuer's keys: a file, absolute after load, or an https URL
  std::int64_t refresh_ns = 300'000'000'000;         // how often a URL is asked again, and a file looked at
  std::int64_t leeway_ns = 60'000'000'000;           // how far the two clocks may differ
  std::string claim;                                 // the claim that names the project: "team", or "realm_access.roles"
  std::vector<std::pair<std::string, std::string>> projects;   // value of the claim -> "organization/project", first match wins
  std::string project;                               // of tokens whose claim maps nowhere; "": such tokens are refused
};

}  // namespace tokenworks::config
