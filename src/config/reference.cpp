#include "tokenworks/config/config.hpp"

namespace tokenworks::config {

// A test holds this table equal to what the parser asks for, and docs/configuration.md equal to this table.
const std::vector<KeyDoc>& reference() {
  static const char* const kPlant = "tokenworks.yaml";
  static const char* const kPrices = "prices.yaml";
  static const char* const kTenants = "tenants.yaml";
  static const std::vector<KeyDoc> table = [] {
    std::vector<KeyDoc> t{
        {kPlant, "plant.name", "text", "tokenworks", "name of the plant; a label of every entry"},
        {kPlant, "plant.region", "text", "", "region label of every entry"},
        {kPlant, "plant.jurisdiction", "text", "", "country code; checked against an organization's residency"},
        {kPlant, "listen", "list of host:port", "127.0.0.1:8080", "public addresses; port 0 takes a free one"},
        {kPlant, "tls.certificate", "path", "", "PEM chain; turns TLS on for the public listeners, and for an admin listener that is not loopback"},
        {kPlant, "tls.private_key", "path", "", "PEM key of the certificate"},
        {kPlant, "tls.client_ca", "path", "", "PEM; clients must show a certificate it signed (mTLS)"},
        {kPlant, "tls.client_certificate", "required, optional", "required", "optional: who shows none is let in as well; one that is shown must be good"},
        {kPlant, "tls.certificates[].certificate", "path", "required", "a further PEM chain, shown to clients that ask for a name it is made out to (SNI)"},
        {kPlant, "tls.certificates[].private_key", "path", "required", "PEM key of that certificate"},
        {kPlant, "admin.listen", "host:port", "127.0.0.1:9090", "probes, metrics, admin API; needs TLS unless loopback"},
        {kPlant, "data_dir", "path", "required", "ledger, server key, control socket, lock"},
        {kPlant, "models[].id", "text", "required", "the name clients use"},
        {kPlant, "models[].path", "path", "required", "a GGUF file or a Hugging Face folder"},
        {kPlant, "models[].aliases", "list", "", "further names"},
        {kPlant, "models[].backend", "auto, cpu, cuda, cuda:N+N", "auto", "where it runs; cuda:1 is that card, cuda:0+1 one model over both"},
        {kPlant, "models[].compute", "default, exact, bf16, fp16, fp8, bf16-kv8, fp8-kv8", "default", "exact: fp32 arithmetic on the CPU, slower; the others on a card only (bf16 is its default), kv8: the cache in fp8"},
        {kPlant, "models[].speculation", "ngram, off", "off", "ngram: drafts tokens from the request's own text; same output, fewer steps"},
        {kPlant, "models[].embeddings", "auto, last, mean, first, off", "auto", "how /v1/embeddings pools this model; auto: as its files say, a decoder's last token; off: it is refused"},
        {kPlant, "models[].context_tokens", "16 to 16777216", "8192", "longest prompt and output together"},
        {kPlant, "models[].kv_cache", "size", "512MiB", "memory for keys and values, on each card"},
        {kPlant, "models[].swap", "size", "512MiB", "host memory for keys and values of preempted sequences, for each card; 0B: none, they are computed anew; no matter on the CPU"},
        {kPlant, "models[].max_sequences", "1 to 4096", "64", "sequences that run at once"},
        {kPlant, "models[].step_target", "duration", "25ms", "how long one step may take; sizes prefill chunks"},
        {kPlant, "models[].cost_units.input", "decimal, 0.01 to 100", "1", "what computing a prompt token counts in the fair shares (docs/scheduling.md); never money"},
        {kPlant, "models[].cost_units.cached_input", "decimal, 0 to 100", "0.1", "one that was found in the prefix cache"},
        {kPlant, "models[].cost_units.output", "decimal, 0.01 to 100", "2", "a token of output"},
        {kPlant, "models[].threads", "0 to 1024", "0", "compute threads; 0: one per core"},
        {kPlant, "models[].data_classes", "list", "public, internal", "classes of data it may see; the first is the default"},
        {kPlant, "models[].load", "true, false", "true", "false: known and priced, loaded only by the admin API (docs/models.md)"},
        {kPlant, "prices", "path", "required", "the price book"},
        {kPlant, "tenants", "path", "required", "plans and organizations"},
        {kPlant, "webhooks.<name>.url", "address", "required", "is told of events by a signed POST; http:// or https://"},
        {kPlant, "webhooks.<name>.secret", "text", "one of the two", "what signs; whsec_ and Base64, or the bytes themselves; never empty"},
        {kPlant, "webhooks.<name>.secret_file", "path", "", "file with the secret instead"},
        {kPlant, "webhooks.<name>.old_secret", "text", "", "signs beside secret, so that receivers can change over one by one"},
        {kPlant, "webhooks.<name>.old_secret_file", "path", "", "file with the old secret instead"},
        {kPlant, "webhooks.<name>.events", "list of words", "[*]", "budget.threshold, credit.expired; * is all"},
        {kPlant, "ledger.store", "sqlite, postgresql", "sqlite", "where the books are; only sqlite in this version"},
        {kPlant, "ledger.dsn_file", "path", "", "file with the connection string for postgresql"},
        {kPlant, "ledger.progress", "step or duration", "100ms", "how often running sequences are journaled"},
        {kPlant, "limits.body", "size", "10MiB", "longest request body, after inflation"},
        {kPlant, "limits.header", "size", "64KiB", "longest request head"},
        {kPlant, "limits.queue_requests", "number", "1024", "requests waiting for an engine; more are answered 503"},
        {kPlant, "limits.queue_per_tenant", "number", "256", "of these, of one organization in one tier; more are answered 429"},
        {kPlant, "limits.write_timeout", "duration", "30s", "a socket without any progress for this long is closed"},
        {kPlant, "limits.read_timeout", "duration", "60s", "time for a whole request to arrive"},
        {kPlant, "limits.idle_timeout", "duration", "120s", "an idle keep-alive connection is closed"},
        {kPlant, "limits.drain", "duration", "30s", "time for running answers at shutdown"},
        {kPlant, "limits.hold_expiry", "duration", "1h", "a hold whose request shows no sign of life for this long is ended"},
        {kPlant, "limits.connections", "number", "16384", "open connections; more are refused"},
        {kPlant, "limits.choices", "1 to 128", "16", "largest n"},
        {kPlant, "limits.stop_strings", "number", "16", "longest list of stop strings"},
        {kPlant, "limits.logit_bias", "number", "1024", "most entries of logit_bias"},
        {kPlant, "limits.messages", "number", "4096", "most messages of a chat"},
        {kPlant, "limits.top_logprobs", "0 to 100", "20", "largest top_logprobs"},
        {kPlant, "limits.content_parts", "number", "1024", "most content parts of one message"},
        {kPlant, "limits.tools", "0 to 4096", "128", "most tools of a request"},
        {kPlant, "limits.schema_bytes", "size", "256KiB", "longest JSON schema; the tools of a request together"},
        {kPlant, "limits.embedding_inputs", "1 to 4096", "2048", "inputs of one embeddings request"},
        {kPlant, "limits.embedding_tokens", "1 to 2^24", "300000", "tokens of all inputs of one embeddings request"},
        {kPlant, "limits.idempotency", "size", "256MiB", "answers kept for repeats of an Idempotency-Key; beyond, the oldest are repeated as usage only"},
        {kPlant, "limits.idempotency_per_tenant", "size", "32MiB", "of these, of one organization"},
        {kPlant, "log.level", "debug, info, warn, error", "info", "least level that is written"},
        {kPlant, "log.format", "json, text", "json", "form of a log line"},
        {kPlant, "io_threads", "1 to 64", "1", "threads that serve connections"},
        {kPrices, "version", "text", "required", "name of this version; every entry carries it"},
        {kPrices, "currency", "ISO 4217 code", "USD", "of every amount"},
        {kPrices, "plans", "prices by plan and model", "", "instead of models, for its organizations: <plan>: {models: {<name>: {...}}}"},
        {kPrices, "organizations", "prices by organization and model", "", "as plans, for one organization; goes before its plan's"},
        {kPrices, "versions[].version", "text", "required", "name of a later version, which has models, tiers, plans and organizations of its own"},
        {kPrices, "versions[].from", "RFC 3339 instant or date", "required", "in force from then on, until the next version; ascending"},
        {kPrices, "tiers.priority", "decimal, six places", "1.75", "multiplies every price; the result must be whole pico-units per token"},
        {kPrices, "tiers.standard", "decimal, six places", "1", "as above"},
        {kPrices, "tiers.batch", "decimal, six places", "0.5", "as above"},
        {kTenants, "plans.<name>.models", "list", "*", "models that may be used; * is all"},
        {kTenants, "plans.<name>.tier", "priority, standard, batch", "standard", "tier of its requests"},
        {kTenants, "plans.<name>.weight", "1 to 1000", "1", "fair share against other tenants"},
        {kTenants, "plans.<name>.reserved_tokens_per_second", "number", "0", "throughput an organization has bought per model: computed before others' work"},
        {kTenants, "plans.<name>.reserve_output_tokens", "number", "512", "output tokens a token window reserves at first"},
        {kTenants, "organizations.<name>.plan", "text", "required", "name of a plan"},
        {kTenants, "organizations.<name>.currency", "ISO 4217 code", "the price book's", "must be the price book's in this version"},
        {kTenants, "organizations.<name>.credit_line", "decimal, nine places", "none", "unpaid spending may not exceed it; without top-ups and without this, it is not limited"},
        {kTenants, "organizations.<name>.residency", "list", "anywhere", "jurisdictions its data may be processed in"},
        {kTenants, "organizations.<name>.retention", "none, standard", "none", "none: nothing of a request's content outlives it"},
        {kTenants, "organizations.<name>.access[].models", "list", "*", "models the rule is about"},
        {kTenants, "organizations.<name>.access[].days", "mon to sun", "every day", "days of the week"},
        {kTenants, "organizations.<name>.access[].from", "HH:MM", "00:00", "from this local time"},
        {kTenants, "organizations.<name>.access[].to", "HH:MM", "24:00", "until this local time; before from: past midnight"},
        {kTenants, "organizations.<name>.access[].timezone", "zone name", "UTC", "of from and to"},
        {kTenants, "organizations.<name>.projects.<name>.models", "list", "the plan's", "narrows the models"},
        {kTenants, "organizations.<name>.projects.<name>.cost_centre", "text", "", "for reports"},
        {kTenants, "organizations.<name>.projects.<name>.data_class", "text", "the model's first", "class of its data"},
        {kTenants, "identity[].issuer", "text", "required", "whose bearer tokens (JWT) are taken beside API keys: the token's `iss`"},
        {kTenants, "identity[].audience", "text", "required", "what the token's `aud` must name"},
        {kTenants, "identity[].jwks", "path or https URL", "required", "the issuer's public keys, a JSON Web Key Set"},
        {kTenants, "identity[].refresh", "duration", "5m", "how often the keys are read again"},
        {kTenants, "identity[].leeway", "duration", "60s", "how far the issuer's clock may be off"},
        {kTenants, "identity[].claim", "text", "", "the claim that names the project; a dot goes into an object"},
        {kTenants, "identity[].projects.<name>", "organization/project", "", "value of the claim, and the project it means; the first that fits counts"},
        {kTenants, "identity[].project", "organization/project", "none: refused", "of tokens whose claim maps nowhere"},
    };
    // A price list stands in four places.
    for (const std::string list : {"", "bands[].", "times[].", "times[].bands[]."}) {
      const std::string p = "models.<name>." + list;
      const bool whole = list.empty();
      const char* const kSix = "decimal, six places";
      const auto otherwise = [&](const char* of_model) { return whole ? of_model : list == "times[]." ? "the model's" : "as without the band"; };
      if (list.ends_with("bands[].")) {
        t.push_back({kPrices, p + "over", "tokens, 128k is 128000", "required", "the prices of requests with more prompt tokens, all of their tokens"});
      }
      if (list == "times[].") {
        t.push_back({kPrices, p + "days", "mon to sun", "every day", "days on which the span begins"});
        t.push_back({kPrices, p + "from", "HH:MM", "00:00", "from this local time"});
        t.push_back({kPrices, p + "to", "HH:MM", "24:00", "until this local time; before from: past midnight"});
        t.push_back({kPrices, p + "timezone", "zone name", "UTC", "of from and to; one for all times of a model"});
        t.push_back({kPrices, p + "multiplier", "decimal, six places", "", "multiplies every price meanwhile; or prices instead"});
      }
      t.push_back({kPrices, p + "input", kSix, otherwise("required"), "per million uncached prompt tokens"});
      t.push_back({kPrices, p + "cached_input", kSix, otherwise("as input"), "per million prompt tokens found in the prefix cache"});
      t.push_back({kPrices, p + "cache_write", kSix, otherwise("as input"), "per million prompt tokens written to a cache that charges for it"});
      t.push_back({kPrices, p + "output", kSix, otherwise("required"), "per million output tokens"});
      t.push_back({kPrices, p + "reasoning", kSix, otherwise("as output"), "per million output tokens of reasoning"});
      t.push_back({kPrices, p + "embedding", kSix, otherwise("as input"), "per million prompt tokens of an embedding"});
      t.push_back({kPrices, p + "per_request", "decimal, twelve places", otherwise("0"), "per request that used anything"});
    }
    const auto limit_meaning = [](const std::string& name) -> std::string {
      if (name == "concurrent_requests") return "requests at once";
      const std::size_t per = name.find("_per_");
      std::string unit = name.substr(0, per);
      if (unit == "tokens") unit = "prompt and output tokens";
      if (unit == "input_tokens") unit = "prompt tokens";
      if (unit == "output_tokens") unit = "output tokens";
      const std::string span = name.substr(per + 5);
      return unit + " in any " + (span == "minute" ? "60 seconds" : span == "hour" ? "60 minutes" : "24 hours");
    };
    for (const LimitName& limit : kLimitNames) {
      const std::string what = limit_meaning(limit.name), key = limit.name;
      t.push_back({kTenants, "plans.<name>." + key, "number", "none", what});
      t.push_back({kTenants, "plans.<name>.model_limits.<name>." + key, "number", "none", what + ", of this model"});
      t.push_back({kTenants, "organizations.<name>.projects.<name>." + key, "number", "none", what + "; narrows the plan"});
    }
    // The same budget may stand in three places, in its long form and in its short one.
    for (const std::string owner : {"plans.<name>.", "organizations.<name>.", "organizations.<name>.projects.<name>."}) {
      for (const std::string form : {"budgets[].", "budget."}) {
        const std::string p = owner + form;
        t.push_back({kTenants, p + "amount", "decimal, nine places", "required", "the most that may be spent"});
        t.push_back({kTenants, p + "per", "day, week, month, total", "month", "calendar period in its time zone"});
        t.push_back({kTenants, p + "mode", "hard, soft", "hard", "hard: never overspent; soft: only reported"});
        t.push_back({kTenants, p + "warn_at", "list of percentages", "", "when to warn"});
        t.push_back({kTenants, p + "timezone", "zone name", "UTC", "where days begin"});
        t.push_back({kTenants, p + "model", "text", "any", "only this model's spend"});
        t.push_back({kTenants, p + "tag", "text", "any", "only spend with this tag: name=value of a request's metadata"});
        t.push_back({kTenants, p + "key", "id of a key", "any", "only this key's spend"});
      }
    }
    return t;
  }();
  return table;
}

}  // namespace tokenworks::config
