#include "tls.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <fstream>
#include <sstream>

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

// One context per certificate; the first is what a connection begins with.
struct Bundle {
  TlsContext first{TlsContext::tls_server};
  std::vector<std::unique_ptr<TlsContext>> more;
};

bool made_out_to(TlsContext& context, const char* name) {
  X509* certificate = SSL_CTX_get0_certificate(context.native_handle());
  return certificate != nullptr && X509_check_host(certificate, name, 0, 0, nullptr) == 1;
}

// RFC 6066: the certificate made out to the name the client asks for; the first one for any other name, and for none.
int choose_certificate(SSL* ssl, int*, void* of) {
  auto* bundle = static_cast<Bundle*>(of);
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (name == nullptr || made_out_to(bundle->first, name)) return SSL_TLSEXT_ERR_OK;
  for (const auto& context : bundle->more) {
    if (!made_out_to(*context, name)) continue;
    SSL_set_SSL_CTX(ssl, context->native_handle());
    break;
  }
  return SSL_TLSEXT_ERR_OK;
}

std::string reason_of_openssl() {
  char text[256] = "unknown reason";
  if (const unsigned long code = ERR_peek_last_error(); code != 0) ERR_error_string_n(code, text, sizeof text);
  ERR_clear_error();
  return text;
}

// What a PEM file holds, for a message that says more than OpenSSL's. "" for nothing to remark.
std::string remark_on(const std::string& path, const char* wanted) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return "cannot be read: there is no such file, or no right to read it";
  std::stringstream all;
  all << file.rdbuf();
  const std::string text = all.str();
  const bool certificate = text.find("-----BEGIN CERTIFICATE-----") != std::string::npos ||
                           text.find("-----BEGIN TRUSTED CERTIFICATE-----") != std::string::npos;
  const bool key = text.find("PRIVATE KEY-----") != std::string::npos;
  const bool want_key = std::string_view(wanted) == "a private key";
  if (want_key ? key : certificate) {
    if (want_key && text.find("ENCRYPTED") != std::string::npos) return "holds a key that is locked by a password; give it one without";
    return "";
  }
  if (want_key ? certificate : key) {
    return std::string("holds ") + (want_key ? "a certificate" : "a private key") + " instead of " + wanted + ": are certificate and private_key swapped?";
  }
  return std::string("holds no ") + (wanted + 2) + " in PEM form (-----BEGIN ...)";
}

class Maker {
 public:
  explicit Maker(std::vector<TlsMistake>& mistakes) : mistakes_(mistakes) {}

  // `prefix`: "tls." or "tls.certificates[0].".
  void load(TlsContext& context, const std::string& prefix, const std::string& certificate, const std::string& key) {
    SSL_CTX* raw = context.native_handle();
    ERR_clear_error();
    SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
    SSL_CTX_set_options(raw, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS); // an idle connection gives its buffers back
    if (SSL_CTX_set_cipher_list(raw, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1) note(prefix + "certificate", certificate, "", "");
    const bool have_certificate = SSL_CTX_use_certificate_chain_file(raw, certificate.c_str()) == 1;
    if (!have_certificate) note(prefix + "certificate", certificate, remark_on(certificate, "a certificate"), reason_of_openssl());
    // Read on its own first: a key that does not fit must be told from one that cannot be read.
    ERR_clear_error();
    const std::unique_ptr<BIO, int (*)(BIO*)> file(BIO_new_file(key.c_str(), "r"), BIO_free);
    const auto no_password = [](char*, int, int, void*) { return 0; };
    const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> read(
        file ? PEM_read_bio_PrivateKey(file.get(), nullptr, no_password, nullptr) : nullptr, EVP_PKEY_free);
    if (!read) {
      note(prefix + "private_key", key, remark_on(key, "a private key"), reason_of_openssl());
    } else if (have_certificate && (SSL_CTX_use_PrivateKey(raw, read.get()) != 1 || SSL_CTX_check_private_key(raw) != 1)) {
      note(prefix + "private_key", key, "does not belong to the certificate " + certificate + "; the two must be made together", "");
    }
    ERR_clear_error();
    static constexpr unsigned char kSession[] = "tokenworks";
    SSL_CTX_set_session_id_context(raw, kSession, sizeof kSession - 1);
    SSL_CTX_set_alpn_select_cb(raw, choose_protocol, nullptr);
  }

  void ask_clients(TlsContext& context, const config::Plant::Tls& tls) {
    if (tls.client_ca.empty()) return;
    SSL_CTX* raw = context.native_handle();
    if (SSL_CTX_load_verify_locations(raw, tls.client_ca.c_str(), nullptr) != 1) {
      return note("tls.client_ca", tls.client_ca, remark_on(tls.client_ca, "a certificate"), reason_of_openssl());
    }
    SSL_CTX_set_client_CA_list(raw, SSL_load_client_CA_file(tls.client_ca.c_str()));
    SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | (tls.client_required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
  }

 private:
  void note(const std::string& key, const std::string& path, const std::string& remark, const std::string& openssl) {
    mistakes_.push_back({key, path + " " + (remark.empty() ? "cannot be used: " + openssl : remark)});
  }
  std::vector<TlsMistake>& mistakes_;
};

std::shared_ptr<Bundle> make_bundle(const config::Plant::Tls& tls, std::vector<TlsMistake>& mistakes) {
  auto bundle = std::make_shared<Bundle>();
  Maker maker(mistakes);
  maker.load(bundle->first, "tls.", tls.certificate, tls.private_key);
  maker.ask_clients(bundle->first, tls);
  for (std::size_t i = 0; i < tls.more.size(); ++i) {
    auto& context = *bundle->more.emplace_back(std::make_unique<TlsContext>(TlsContext::tls_server));
    maker.load(context, "tls.certificates[" + std::to_string(i) + "].", tls.more[i].first, tls.more[i].second);
    maker.ask_clients(context, tls);
  }
  if (!tls.more.empty()) {
    SSL_CTX_set_tlsext_servername_callback(bundle->first.native_handle(), choose_certificate);
    SSL_CTX_set_tlsext_servername_arg(bundle->first.native_handle(), bundle.get());
  }
  return bundle;
}

}  // namespace

std::vector<TlsMistake> tls_mistakes(const config::Plant::Tls& tls) {
  std::vector<TlsMistake> mistakes;
  if (tls.on()) make_bundle(tls, mistakes);
  return mistakes;
}

Result<std::shared_ptr<TlsContext>> make_tls(const config::Plant::Tls& tls) {
  std::vector<TlsMistake> mistakes;
  const auto bundle = make_bundle(tls, mistakes);
  if (mistakes.empty()) return std::shared_ptr<TlsContext>(bundle, &bundle->first);
  std::string all;
  for (const TlsMistake& m : mistakes) all += (all.empty() ? "" : "\n") + m.key + ": " + m.what;
  return error(Errc::bad_config, all);
}

}  // namespace tokenworks::http
