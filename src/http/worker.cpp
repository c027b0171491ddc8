#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "handlers.hpp"

namespace tokenworks::http {
namespace {

boost::asio::awaitable<void> run(const std::function<void()>& work) {
  work();
  co_return;
}

}  // namespace

boost::asio::awaitable<void> on_worker(boost::asio::thread_pool& pool, const std::function<void()>& work) {
  boost::asio::awaitable<void> job = run(work);
  co_await boost::asio::co_spawn(pool, std::move(job), boost::asio::use_awaitable);
}

std::string actor_of(const Exchange& exchange) {
  const tenancy::Principal* who = exchange.caller.principal;
  return exchange.plane == Plane::local || who == nullptr ? "local" : who->principal + "#" + who->key.value;
}

}  // namespace tokenworks::http
