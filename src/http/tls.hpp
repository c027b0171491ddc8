#pragma once
// TLS from the plant's configuration: TLS 1.2 and 1.3 with forward secrecy, client certificates when client_ca is set.
#include <memory>

#include "tokenworks/base/result.hpp"
#include "tokenworks/config/config.hpp"
#include "transport.hpp"

namespace tokenworks::http {

// bad_config naming the file that cannot be read, or a key that does not belong to the certificate. Start-up and reload.
Result<std::shared_ptr<TlsContext>> make_tls(const config::Plant::Tls& tls);

}  // namespace tokenworks::http
