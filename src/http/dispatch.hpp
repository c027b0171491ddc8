#pragma once
// Dispatch: everything that is decided from a request's head, before its body is read: which route, who asks, may they,
// can the body be read at all. A request that is refused here costs no body.
#include <optional>

#include "routes.hpp"

namespace tokenworks::http {

struct Admitted {
  const Route* route = nullptr;
  std::vector<std::string> captures;
  Query query;
  gateway::Caller caller;
  std::optional<Reply> answer;                       // set: this is the answer, nothing more is to be done
};

Admitted dispatch(const Plant& plant, Plane plane, const Incoming& request);
// The body as it was meant, when it came compressed.
boost::asio::awaitable<Result<>> decode_body(const Plant& plant, Incoming& request);

}  // namespace tokenworks::http
