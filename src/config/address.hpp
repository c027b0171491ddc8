#pragma once
// Addresses to listen on, as text: "host:port", "[v6]:port". What can be said of one without asking the network; names are
// resolved and interfaces looked for where the daemon is about to listen (src/app/preflight.cpp). Private to src/config.
#include <string>
#include <vector>

namespace tokenworks::config {

struct Address {
  std::string host;                                  // without brackets; "0.0.0.0" for *
  int port = 0;
};

// Why it is no address; empty when it is one.
std::string mistake_in_address(const std::string& text, Address& into);

bool is_loopback(const Address& address);

// Two of one port that cannot both be listened on: the same host, or one of them is every address of the machine.
bool collide(const Address& a, const Address& b);

}  // namespace tokenworks::config
