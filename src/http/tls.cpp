#include "tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>

namespace tokenworks::http {
namespace {

// RFC 7301: we speak http/1.1. A client that offers only other protocols goes on without an agreed one.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in, unsigned in_size, void*) {
  static constexpr unsigned char kOurs[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, kOurs, sizeof kOurs, in, in_size) != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

Error refused(const std::string& what, const std::string& path) {
  char text[256] = "unknown reason";
  if (const unsigned long code = ERR_peek_last_error(); code != 0) ERR_error_string_n(code, text, sizeof text);
  ERR_clear_error();
  return error(Errc::bad_config, "tls." + what + " " + path + " cannot be used: " + text);
}

}  // namespace

Result<std::shared_ptr<TlsContext>> make_tls(const config::Plant::Tls& tls) {
  auto context = std::make_shared<TlsContext>(TlsContext::tls_server);
  SSL_CTX* raw = context->native_handle();
  ERR_clear_error();
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);   // an idle connection gives its buffers back
  if (SSL_CTX_set_cipher_list(raw, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1) return refused("ciphers", "");
  if (SSL_CTX_use_certificate_chain_file(raw, tls.certificate.c_str()) != 1) return refused("certificate", tls.certificate);
  if (SSL_CTX_use_PrivateKey_file(raw, tls.private_key.c_str(), SSL_FILETYPE_PEM) != 1) return refused("private_key", tls.private_key);
  if (SSL_CTX_check_private_key(raw) != 1) return refused("private_key", tls.private_key + " (of " + tls.certificate + ")");
  if (!tls.client_ca.empty()) {
    if (SSL_CTX_load_verify_locations(raw, tls.client_ca.c_str(), nullptr) != 1) return refused("client_ca", tls.client_ca);
    SSL_CTX_set_client_CA_list(raw, SSL_load_client_CA_file(tls.client_ca.c_str()));
    SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  static constexpr unsigned char kSession[] = "tokenworks";
  SSL_CTX_set_session_id_context(raw, kSession, sizeof kSession - 1);
  SSL_CTX_set_alpn_select_cb(raw, choose_protocol, nullptr);
  return context;
}

}  // namespace tokenworks::http
