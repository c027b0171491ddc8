#pragma once
// The endpoint table: every route of every listener in one place, with who may use it. Nothing that is not in this table
// can be reached, and nothing in it is reached without its check.
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "handlers.hpp"

namespace tokenworks::http {

enum class Access : std::uint8_t {
  open,                                              // no key: probes, metrics
  key,                                               // any valid key
  books,                                             // role billing or org_admin: one's own organization's figures
  operator_,                                         // role operator; nothing on the control socket, whose file is the key
};

struct Route {
  std::string_view method;
  // Segments; "{}" captures one, "{*}" at the end captures the rest, slashes included.
  std::string_view pattern;
  Access access;
  Answer (*handler)(Exchange&);
  bool json_body = false;                            // the body must be JSON
  bool quiet = false;                                // logged at debug: asked every few seconds by machines
  bool billable = false;
};

// The routes of a listener; the control socket has the admin table.
std::span<const Route> routes_of(Plane plane);

struct Match {
  const Route* route = nullptr;                      // null: not found, or `allow` tells the methods there are
  std::vector<std::string> captures;
  std::string allow;                                 // "GET, HEAD, OPTIONS"; "" when the path is unknown
};
// HEAD is answered by GET routes. `path` is percent-encoded; a broken escape matches nothing.
Match match(std::span<const Route> routes, std::string_view method, std::string_view path);

// Whether this caller may use the route: invalid_api_key without a key, insufficient_permissions with the wrong role.
Result<> may_enter(const Route& route, Plane plane, const tenancy::Principal* principal);

}  // namespace tokenworks::http
