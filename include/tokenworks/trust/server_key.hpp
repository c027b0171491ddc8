#pragma once
// ServerKey: the plant's own secret, <data_dir>/server.key (0600): made at first start, never shown. What needs a secret
// derives its own from it by purpose, so that one leak does not open another.
#include <string>
#include <string_view>

#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/result.hpp"

namespace tokenworks::trust {

class ServerKey {
 public:
  // Reads the file, or makes it. io when it cannot be read or others may read it; the message says what to do.
  static Result<ServerKey> open(const std::string& path);
  // HMAC-SHA-256(secret, purpose): "prefix-cache", "side-table", ...
  std::string derive(std::string_view purpose) const;

 private:
  std::string secret_;
};

}  // namespace tokenworks::trust
