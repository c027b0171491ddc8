#pragma once
// A small text from a URL: the key set of an identity provider. https, or http on this machine; no redirects; proxies from
// the environment. Blocks; any thread.
#include <string>

#include "tokenworks/base/result.hpp"

namespace tokenworks::app {

Result<std::string> fetch_text(const std::string& url);

}  // namespace tokenworks::app
