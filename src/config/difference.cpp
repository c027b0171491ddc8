#include "tokenworks/config/difference.hpp"

namespace tokenworks::config {
namespace {

class Differences {
 public:
  template <class T>
  void note(const char* key, const T& running, const T& fresh) {
    if (running != fresh) keys.push_back(prefix + key);
  }
  std::string prefix;
  std::vector<std::string> keys;
};

void compare_limits(const Plant::Limits& a, const Plant::Limits& b, Differences& d) {
  d.prefix = "limits.";
  d.note("body", a.body_bytes, b.body_bytes);
  d.note("header", a.header_bytes, b.header_bytes);
  d.note("queue_requests", a.queue_requests, b.queue_requests);
  d.note("queue_per_tenant", a.queue_per_tenant, b.queue_per_tenant);
  d.note("write_timeout", a.write_timeout_ns, b.write_timeout_ns);
  d.note("read_timeout", a.read_timeout_ns, b.read_timeout_ns);
  d.note("idle_timeout", a.idle_timeout_ns, b.idle_timeout_ns);
  d.note("drain", a.drain_ns, b.drain_ns);
  d.note("hold_expiry", a.hold_expiry_ns, b.hold_expiry_ns);
  d.note("connections", a.connections, b.connections);
  d.note("choices", a.choices, b.choices);
  d.note("stop_strings", a.stop_strings, b.stop_strings);
  d.note("logit_bias", a.logit_bias, b.logit_bias);
  d.note("messages", a.messages, b.messages);
  d.note("top_logprobs", a.top_logprobs, b.top_logprobs);
  d.note("content_parts", a.content_parts, b.content_parts);
  d.note("tools", a.tools, b.tools);
  d.note("schema_bytes", a.schema_bytes, b.schema_bytes);
  d.note("embedding_inputs", a.embedding_inputs, b.embedding_inputs);
  d.note("embedding_tokens", a.embedding_tokens, b.embedding_tokens);
  d.note("idempotency", a.idempotency_bytes, b.idempotency_bytes);
  d.note("idempotency_per_tenant", a.idempotency_per_tenant_bytes, b.idempotency_per_tenant_bytes);
  d.prefix.clear();
}

}  // namespace

std::vector<std::string> restart_needed(const Plant& running, const Plant& fresh) {
  Differences d;
  d.note("plant.name", running.name, fresh.name);
  d.note("plant.region", running.region, fresh.region);
  d.note("plant.jurisdiction", running.jurisdiction, fresh.jurisdiction);
  d.note("listen", running.listen, fresh.listen);
  d.note("admin.listen", running.admin_listen, fresh.admin_listen);
  d.note("data_dir", running.data_dir, fresh.data_dir);
  d.note("ledger.store", running.ledger_store, fresh.ledger_store);
  d.note("ledger.dsn_file", running.ledger_dsn_file, fresh.ledger_dsn_file);
  if (running.progress_step != fresh.progress_step || running.progress_ns != fresh.progress_ns) d.keys.push_back("ledger.progress");
  compare_limits(running.limits, fresh.limits, d);
  d.note("log.level", running.log_level, fresh.log_level);
  d.note("log.format", running.log_json, fresh.log_json);
  d.note("io_threads", running.io_threads, fresh.io_threads);
  return std::move(d.keys);
}

}  // namespace tokenworks::config
