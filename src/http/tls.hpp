#pragma once
// TLS from the plant's configuration: TLS 1.2 and 1.3 with forward secrecy, client certificates when client_ca is set,
// further certificates by the name a client asks for (SNI).
#include <memory>

#include "tokenworks/base/result.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/http/tls_check.hpp"
#include "transport.hpp"

namespace tokenworks::http {

// bad_config with every mistake, a line each. Start-up and reload.
Result<std::shared_ptr<TlsContext>> make_tls(const config::Plant::Tls& tls);

}  // namespace tokenworks::http
