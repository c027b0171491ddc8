#include "tokenworks/config/difference.hpp"

#include <algorithm>

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

void compare(const ModelSpec& a, const ModelSpec& b, Differences& d) {
  d.note("path", a.path, b.path);
  d.note("aliases", a.aliases, b.aliases);
  d.note("backend", a.backend, b.backend);
  d.note("compute", a.compute, b.compute);
  d.note("speculation", a.speculation, b.speculation);
  d.note("context_tokens", a.context_tokens, b.context_tokens);
  d.note("kv_cache", a.kv_cache_bytes, b.kv_cache_bytes);
  d.note("max_sequences", a.max_sequences, b.max_sequences);
  d.note("step_target", a.step_target_ns, b.step_target_ns);
  d.note("threads", a.threads, b.threads);
  d.note("data_classes", a.data_classes, b.data_classes);
}

void compare_models(const Plant& running, const Plant& fresh, Differences& d) {
  const auto in = [](const Plant& plant, const std::string& id) {
    return std::find_if(plant.models.begin(), plant.models.end(), [&](const ModelSpec& m) { return m.id == id; });
  };
  for (const ModelSpec& m : running.models) {
    const auto now = in(fresh, m.id);
    if (now == fresh.models.end()) {
      d.keys.push_back("models." + m.id + " (removed)");
      continue;
    }
    d.prefix = "models." + m.id + ".";
    compare(m, *now, d);
    d.prefix.clear();
  }
  for (const ModelSpec& m : fresh.models) {
    if (in(running, m.id) == running.models.end()) d.keys.push_back("models." + m.id + " (added)");
  }
}

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
  compare_models(running, fresh, d);
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
