#pragma once
// What is wrong with the certificates and keys a configuration names: the same code that a server starts with.
#include <string>
#include <vector>

#include "tokenworks/config/config.hpp"

namespace tokenworks::http {

struct TlsMistake {
  std::string key;                                   // of the configuration: "tls.certificate", "tls.certificates[0].private_key"
  std::string what;                                  // names the file, what is wrong with it and what to do
};
// Empty when TLS is off or a server could start.
std::vector<TlsMistake> tls_mistakes(const config::Plant::Tls& tls);

}  // namespace tokenworks::http
