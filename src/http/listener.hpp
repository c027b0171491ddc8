#pragma once
// Listeners: bound sockets and the loops that accept from them. Accepting never spins: when descriptors run out it waits a
// moment and tries again; a connection beyond the limit is told 503 and closed.
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <functional>
#include <string>
#include <vector>

#include "tokenworks/base/result.hpp"
#include "transport.hpp"

namespace tokenworks::http {

// The addresses of "host:port", "[::1]:0", "*:8080" or ":8080". bad_config with the text when it is none.
Result<std::vector<boost::asio::ip::tcp::endpoint>> resolve_listen(const std::string& text);
bool is_loopback(const std::vector<boost::asio::ip::tcp::endpoint>& endpoints);
// "http://127.0.0.1:41233"
std::string url_of(const boost::asio::ip::tcp::endpoint& endpoint, bool tls);

// Binds and listens; bad_config naming the address and the reason.
Result<boost::asio::ip::tcp::acceptor> bind_tcp(boost::asio::io_context& context, const boost::asio::ip::tcp::endpoint& at);
// A Unix socket of mode 0600; a stale file of a dead process is replaced.
Result<boost::asio::local::stream_protocol::acceptor> bind_unix(boost::asio::io_context& context, const std::string& path);

// Accepts until the acceptor is closed. `next` chooses the context of a new connection, `take` gets the socket, on the
// acceptor's thread.
using NextContext = std::function<boost::asio::io_context&()>;
using TakeSocket = std::function<void(boost::asio::io_context&, StreamSocket)>;
boost::asio::awaitable<void> accept_tcp(boost::asio::ip::tcp::acceptor& acceptor, NextContext next, TakeSocket take);
boost::asio::awaitable<void> accept_unix(boost::asio::local::stream_protocol::acceptor& acceptor, NextContext next, TakeSocket take);

}  // namespace tokenworks::http
