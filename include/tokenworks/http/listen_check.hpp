#pragma once
// What stands against listening on an address, with the code a server starts with. A port that somebody has already is not
// said: it may be the very plant whose configuration is checked.
#include <string>

namespace tokenworks::http {

// Empty when one could listen on it: "listen address 'nohost:80': the host name cannot be resolved (...)".
std::string listen_mistake(const std::string& address);

}  // namespace tokenworks::http
