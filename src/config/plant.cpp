#include <algorithm>
#include <array>
#include <set>

#include "address.hpp"
#include "parts.hpp"

namespace tokenworks::config {
namespace {

bool good_model_id(const std::string& id) {
  return !id.empty() && id.size() <= 200 && std::all_of(id.begin(), id.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' || c == '/' || c == ':';
  });
}

// auto, cpu, cuda, or one of the latter two with different numbers below 64 behind it.
bool good_backend(const std::string& text) {
  const std::size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  if (colon == std::string::npos) return kind == "auto" || kind == "cpu" || kind == "cuda";
  if (kind != "cpu" && kind != "cuda") return false;
  std::set<int> seen;
  for (std::size_t at = colon; at < text.size();) {
    const std::size_t end = std::min(text.find('+', at + 1), text.size()), digits = end - at - 1;
    if (digits < 1 || digits > 2 || text.find_first_not_of("0123456789", at + 1) < end) return false;
    if (const int number = std::stoi(text.substr(at + 1, digits)); number > 63 || !seen.insert(number).second) return false;
    at = end;
  }
  return true;
}

}  // namespace

void read_model(Fields& f, ModelSpec& m) {
  m.where = f.where();
  f.text("id", m.id, m.id.empty());
  if (!m.id.empty() && !good_model_id(m.id)) f.mistake("id", "may hold letters, digits and - _ . / : only, at most 200");
  f.text("path", m.path, m.path.empty());
  f.texts("aliases", m.aliases);
  f.text("backend", m.backend);
  if (!good_backend(m.backend)) {
    f.mistake("backend", "is '" + m.backend + "'; auto, cpu, cuda, or cards by number, such as cuda:1, or cuda:0+1 for one model over both");
    m.backend = "auto";                              // said once; what else is wrong with the model is looked for as without it
  }
  f.word("compute", m.compute, {"default", "exact", "bf16", "fp16", "fp8", "bf16-kv8", "fp8-kv8"});
  f.word("speculation", m.speculation, {"ngram", "off"});
  f.word("embeddings", m.embeddings, {"auto", "last", "mean", "first", "off"});
  f.integer("context_tokens", m.context_tokens, 16, 1 << 24);
  f.size("kv_cache", m.kv_cache_bytes, 1 << 20);
  f.size("swap", m.swap_bytes, 0);
  f.integer("max_sequences", m.max_sequences, 1, 4096);
  f.duration("step_target", m.step_target_ns, 1'000'000);
  f.mapping("cost_units", [&](Fields& g) {
    constexpr std::array<const char*, 3> kClasses{"input", "cached_input", "output"};
    for (std::size_t i = 0; i < kClasses.size(); ++i) {
      g.decimal(kClasses[i], m.cost_units_micro[i], 6);
      const bool free = i == 1;                      // what costs nothing to compute may be free; the rest never is
      if (m.cost_units_micro[i] < (free ? 0 : 10'000) || m.cost_units_micro[i] > 100'000'000) {
        g.mistake(kClasses[i], std::string("is outside ") + (free ? "0" : "0.01") + " to 100 cost units per token");
      }
    }
  });
  f.integer("threads", m.threads, 0, 1024);
  f.texts("data_classes", m.data_classes);
  if (m.data_classes.empty()) f.mistake("data_classes", "must name at least one class");
  std::string load = m.load ? "true" : "false";
  f.word("load", load, {"true", "false"});
  m.load = load == "true";
}

void read_plant(Fields& f, Plant& p) {
  f.mapping("plant", [&](Fields& g) {
    g.text("name", p.name);
    g.text("region", p.region);
    g.text("jurisdiction", p.jurisdiction);
    if (!p.jurisdiction.empty() && !good_country(p.jurisdiction)) g.mistake("jurisdiction", "is '" + p.jurisdiction + kCountryWanted);
  });
  f.texts("listen", p.listen);
  if (p.listen.empty()) f.mistake("listen", "must name at least one address");
  std::vector<Address> addresses;
  for (const std::string& text : p.listen) {
    Address address;
    const std::string what = mistake_in_address(text, address);
    const auto taken = [&](const Address& other) { return what.empty() && collide(address, other); };
    if (!what.empty()) f.mistake("listen", "holds '" + text + "'; " + what);
    if (std::any_of(addresses.begin(), addresses.end(), taken)) f.mistake("listen", "holds '" + text + "', which an address before it takes already");
    if (what.empty()) addresses.push_back(address);
  }
  std::erase_if(p.listen, [](const std::string& text) { Address ignored; return !mistake_in_address(text, ignored).empty(); });
  f.mapping("tls", [&](Fields& g) {
    g.text("certificate", p.tls.certificate);
    g.text("private_key", p.tls.private_key);
    g.text("client_ca", p.tls.client_ca);
    std::string client = "required";
    g.word("client_certificate", client, {"required", "optional"});
    p.tls.client_required = client == "required";
    if (g.has("client_certificate") && p.tls.client_ca.empty()) g.mistake("client_certificate", "needs client_ca, which signs what clients show");
    g.list("certificates", [&](Fields& h) {
      auto& [certificate, key] = p.tls.more.emplace_back();
      h.text("certificate", certificate, true);
      h.text("private_key", key, true);
    });
    if (!p.tls.more.empty() && p.tls.certificate.empty()) {
      g.mistake("certificates", "needs certificate and private_key beside it: what is shown to clients that name no host");
    }
    if (p.tls.certificate.empty() != p.tls.private_key.empty()) {
      g.document().mistake(g.line(), "tls needs both certificate and private_key");
    }
    if (!p.tls.client_ca.empty() && p.tls.certificate.empty()) {
      g.document().mistake(g.line(), "tls.client_ca needs certificate and private_key as well");
    }
  });
  f.mapping("admin", [&](Fields& g) {
    g.text("listen", p.admin_listen);
    Address address;
    if (const std::string what = mistake_in_address(p.admin_listen, address); !what.empty()) {
      g.mistake("listen", "is '" + p.admin_listen + "'; " + what);
      p.admin_listen.clear();
    } else if (!is_loopback(address) && !p.tls.on()) {
      g.mistake("listen", "is '" + p.admin_listen + "', not a loopback address: set tls, or listen on 127.0.0.1");
    } else if (std::any_of(addresses.begin(), addresses.end(), [&](const Address& a) { return collide(a, address); })) {
      g.mistake("listen", "is '" + p.admin_listen + "', which the public listen takes already");
    }
  });
  f.text("data_dir", p.data_dir, true);
  f.list("models", [&](Fields& g) { read_model(g, p.models.emplace_back()); });
  if (p.models.empty()) f.mistake("models", "must list at least one model ({id, path})");
  std::set<std::string> names;
  for (const ModelSpec& m : p.models) {
    if (!names.insert(m.id).second) f.document().mistake(m.where.line, "the model name '" + m.id + "' is used twice");
    for (const std::string& alias : m.aliases) {
      if (!names.insert(alias).second) f.document().mistake(m.where.line, "the model name '" + alias + "' is used twice");
    }
  }
  f.text("prices", p.prices_path, true);
  f.text("tenants", p.tenants_path, true);
  f.mapping("ledger", [&](Fields& g) {
    g.word("store", p.ledger_store, {"sqlite", "postgresql"});
    g.text("dsn_file", p.ledger_dsn_file);
    if (p.ledger_store == "postgresql") {
      g.mistake("store", "is 'postgresql', which this build does not have yet: use sqlite");
    }
    std::string progress;
    g.text("progress", progress);
    if (progress == "step") {
      p.progress_step = true;
    } else if (!progress.empty()) {
      g.duration("progress", p.progress_ns, 1'000'000);
    }
  });
  f.mapping("limits", [&](Fields& g) {
    auto& l = p.limits;
    g.size("body", l.body_bytes, 1 << 10);
    g.size("header", l.header_bytes, 1 << 10);
    g.integer("queue_requests", l.queue_requests, 1, 1 << 20);
    g.integer("queue_per_tenant", l.queue_per_tenant, 1, 1 << 20);
    g.duration("write_timeout", l.write_timeout_ns, 1'000'000);
    g.duration("read_timeout", l.read_timeout_ns, 1'000'000);
    g.duration("idle_timeout", l.idle_timeout_ns, 1'000'000);
    g.duration("drain", l.drain_ns, 0);
    g.duration("hold_expiry", l.hold_expiry_ns, 1'000'000'000);
    g.integer("connections", l.connections, 1, 1 << 20);
    g.integer("choices", l.choices, 1, 128);
    g.integer("stop_strings", l.stop_strings, 1, 1024);
    g.integer("logit_bias", l.logit_bias, 0, 1 << 20);
    g.integer("messages", l.messages, 1, 1 << 20);
    g.integer("top_logprobs", l.top_logprobs, 0, 100);
    g.integer("content_parts", l.content_parts, 1, 1 << 20);
    g.integer("tools", l.tools, 0, 4096);
    g.size("schema_bytes", l.schema_bytes, 64);
    g.integer("embedding_inputs", l.embedding_inputs, 1, 4096);
    g.integer("embedding_tokens", l.embedding_tokens, 1, 1 << 24);
    g.size("idempotency", l.idempotency_bytes, 0);
    g.size("idempotency_per_tenant", l.idempotency_per_tenant_bytes, 0);
  });
  f.mapping("log", [&](Fields& g) {
    g.word("level", p.log_level, {"debug", "info", "warn", "error"});
    std::string format = "json";
    g.word("format", format, {"json", "text"});
    p.log_json = format == "json";
  });
  read_webhooks(f, p);
  f.integer("io_threads", p.io_threads, 1, 64);
}

}  // namespace tokenworks::config
