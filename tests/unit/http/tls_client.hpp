#pragma once
// Certificates made by the openssl command at test time, and a blocking TLS client.
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "raw_client.hpp"
#include "support/paths.hpp"

namespace tokenworks::http::test {

// <dir>/<name>.crt and .key, self-signed.
inline void make_certificate(const std::string& dir, const std::string& name) {
  const std::string base = dir + "/" + name;
  const std::string command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=" + name +
                              " -keyout " + base + ".key -out " + base + ".crt 2> /dev/null";
  ASSERT_EQ(std::system(command.c_str()), 0) << "openssl is missing: install the Debian package openssl";
}

class TlsClient {
 public:
  explicit TlsClient(const std::string& url, int highest = TLS1_3_VERSION, const std::string& own = "", const std::string& name = "") : raw_(url), context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_min_proto_version(context_, TLS1_VERSION);
    SSL_CTX_set_security_level(context_, 0);
    SSL_CTX_set_max_proto_version(context_, highest);
    if (!own.empty()) SSL_CTX_use_certificate_file(context_, (own + ".crt").c_str(), SSL_FILETYPE_PEM);
    if (!own.empty()) SSL_CTX_use_PrivateKey_file(context_, (own + ".key").c_str(), SSL_FILETYPE_PEM);
    ssl_ = SSL_new(context_);
    const timeval patience{20, 0};
    setsockopt(raw_.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    SSL_set_fd(ssl_, raw_.fd());
    if (!name.empty()) SSL_set_tlsext_host_name(ssl_, name.c_str());
    connected_ = SSL_connect(ssl_) == 1;
  }
  ~TlsClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  TlsClient(const TlsClient&) = delete;

  bool connected() const { return connected_; }
  std::string protocol() const { return SSL_get_version(ssl_); }
  std::string server_name() const {                  // the subject of the certificate it showed
    char name[128] = "";
    X509* certificate = SSL_get1_peer_certificate(ssl_);
    if (certificate != nullptr) X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
    X509_free(certificate);
    return name;
  }
  // Sends, and reads until `mark` has come; what was read.
  std::string ask(const std::string& request, const std::string& mark) {
    SSL_write(ssl_, request.data(), static_cast<int>(request.size()));
    std::string got;
    char bytes[16384];
    while (got.find(mark) == std::string::npos) {
      const int n = SSL_read(ssl_, bytes, sizeof bytes);
      if (n <= 0) break;
      got.append(bytes, static_cast<std::size_t>(n));
    }
    return got;
  }
  RawClient& raw() { return raw_; }

 private:
  RawClient raw_;
  SSL_CTX* context_;
  SSL* ssl_;
  bool connected_ = false;
};

}  // namespace tokenworks::http::test
