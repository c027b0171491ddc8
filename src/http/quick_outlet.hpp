#pragma once
// QuickOutlet: an Outlet that can send without a coroutine what the socket takes at once, as nearly every token.
#include <boost/asio/awaitable.hpp>
#include <string_view>

#include "tokenworks/base/result.hpp"

namespace tokenworks::http {

class QuickOutlet {
 public:
  virtual ~QuickOutlet() = default;
  // Outlet::send as far as it goes without waiting. True: the socket took all of it. False: flush() must be awaited, which
  // sends the rest.
  virtual bool send_now(std::string_view bytes) = 0;
  virtual boost::asio::awaitable<Result<>> flush() = 0;
};

}  // namespace tokenworks::http
