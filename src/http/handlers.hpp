#pragma once
// The handlers of the endpoint table: one function per route, grouped by source file. Each runs on the connection's
// thread, returns a whole Reply or streams through the exchange's outlet, and reports problems as error_reply().
#include "exchange.hpp"

namespace tokenworks::http {

using Answer = boost::asio::awaitable<Reply>;

// generate.cpp
Answer chat_completions(Exchange& exchange);
Answer completions(Exchange& exchange);
// texts.cpp
Answer embeddings(Exchange& exchange);
Answer tokenize(Exchange& exchange);
Answer detokenize(Exchange& exchange);
// models.cpp
Answer list_models(Exchange& exchange);
Answer show_model(Exchange& exchange);
// organization.cpp
Answer usage_completions(Exchange& exchange);
Answer costs(Exchange& exchange);
// probes.cpp
Answer livez(Exchange& exchange);
Answer readyz(Exchange& exchange);
Answer health(Exchange& exchange);
Answer metrics(Exchange& exchange);
// admin.cpp
Answer create_key(Exchange& exchange);
Answer list_keys(Exchange& exchange);
Answer rotate_key(Exchange& exchange);
Answer revoke_key(Exchange& exchange);
Answer reload(Exchange& exchange);
Answer audit_events(Exchange& exchange);
Answer request_entries(Exchange& exchange);
Answer verify_ledger(Exchange& exchange);
Answer backup_ledger(Exchange& exchange);
Answer erase_annotations(Exchange& exchange);
// admin_models.cpp
Answer list_served_models(Exchange& exchange);
Answer load_model(Exchange& exchange);
Answer replace_model(Exchange& exchange);
Answer unload_model(Exchange& exchange);
Answer set_alias(Exchange& exchange);
Answer remove_alias(Exchange& exchange);
// money.cpp
Answer add_credit(Exchange& exchange);
Answer list_credits(Exchange& exchange);
Answer expire_credits(Exchange& exchange);
Answer list_budgets(Exchange& exchange);
Answer set_budget(Exchange& exchange);
Answer remove_budget(Exchange& exchange);

// Runs `work` on a pool and goes on on the connection's thread. `work` is the caller's local: a
// temporary in a co_await expression is destroyed twice by g++ 12.
boost::asio::awaitable<void> on_worker(boost::asio::thread_pool& pool, const std::function<void()>& work);
// Who did it, for audit rows: the principal and its key's id, or "local".
std::string actor_of(const Exchange& exchange);

}  // namespace tokenworks::http
