#include "ledger/schema.hpp"

#include <string>

#include "ledger/credit_table.hpp"

namespace tokenworks::ledger {
namespace {

constexpr const char* kBooks = R"sql(
CREATE TABLE state(
  id INTEGER PRIMARY KEY CHECK (id = 1),
  writer INTEGER NOT NULL, commits INTEGER NOT NULL, rolled_through INTEGER NOT NULL, minute_from INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (1, 0, 0, 0, 0);

CREATE TABLE writers(
  number INTEGER PRIMARY KEY, writer_id TEXT NOT NULL UNIQUE, opened_unix_ns INTEGER NOT NULL,
  build_id TEXT NOT NULL, genesis BLOB NOT NULL
) STRICT;

CREATE TABLE series(
  id INTEGER PRIMARY KEY, organization TEXT NOT NULL, project TEXT NOT NULL, key_id TEXT NOT NULL,
  model TEXT NOT NULL, tier TEXT NOT NULL, currency TEXT NOT NULL,
  UNIQUE (organization, project, key_id, model, tier, currency)
) STRICT;

CREATE TABLE contexts(
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, series INTEGER NOT NULL, actor TEXT NOT NULL,
  model_digest TEXT NOT NULL, tokenizer_digest TEXT NOT NULL, price_version TEXT NOT NULL, price_hash TEXT NOT NULL,
  build_id TEXT NOT NULL, region TEXT NOT NULL, jurisdiction TEXT NOT NULL, data_class TEXT NOT NULL
) STRICT;

CREATE TABLE entries(
  id INTEGER PRIMARY KEY, schema_version INTEGER NOT NULL, type INTEGER NOT NULL, time INTEGER NOT NULL,
  request BLOB NOT NULL, context INTEGER NOT NULL,
  input INTEGER NOT NULL, cached_input INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,
  amount INTEGER NOT NULL, held INTEGER NOT NULL, lines TEXT NOT NULL, finish_reason TEXT NOT NULL,
  retry_count INTEGER NOT NULL, token_commitment TEXT, attestation_id TEXT, receipt_id TEXT, hash BLOB NOT NULL
) STRICT;
CREATE INDEX entries_request ON entries(request);
CREATE INDEX entries_settled ON entries(time) WHERE type = 3;

CREATE TABLE open_holds(
  request BLOB PRIMARY KEY, entry INTEGER NOT NULL, held INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE progress(
  id INTEGER PRIMARY KEY CHECK (id = 1), writer INTEGER NOT NULL, unix_ns INTEGER NOT NULL, data BLOB NOT NULL
) STRICT;

CREATE TABLE rollups(
  level INTEGER NOT NULL, bucket INTEGER NOT NULL, series INTEGER NOT NULL, requests INTEGER NOT NULL,
  input INTEGER NOT NULL, cached_input INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,
  cost INTEGER NOT NULL, PRIMARY KEY (level, bucket, series)
) STRICT, WITHOUT ROWID;
CREATE TABLE accounts(
  series INTEGER NOT NULL, kind TEXT NOT NULL, debits BLOB NOT NULL, credits BLOB NOT NULL,
  PRIMARY KEY (series, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE keys(
  id TEXT PRIMARY KEY, secret_hash BLOB NOT NULL, organization TEXT NOT NULL, project TEXT NOT NULL,
  role TEXT NOT NULL, principal TEXT NOT NULL, models TEXT NOT NULL, created_unix_ns INTEGER NOT NULL,
  expires_unix_ns INTEGER NOT NULL, revoked_unix_ns INTEGER NOT NULL, rotated_from TEXT NOT NULL
) STRICT;
CREATE TABLE audit_events(
  id INTEGER PRIMARY KEY, unix_ns INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, object TEXT NOT NULL,
  before_hash TEXT NOT NULL, after_hash TEXT NOT NULL
) STRICT;
CREATE TABLE price_books(
  hash TEXT PRIMARY KEY, version TEXT NOT NULL, text TEXT NOT NULL, since_unix_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE idempotency(
  organization TEXT NOT NULL, key TEXT NOT NULL, body_hash BLOB NOT NULL, request BLOB NOT NULL,
  finished INTEGER NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL,
  input INTEGER NOT NULL, cached_input INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,
  cost INTEGER NOT NULL, created_unix_ns INTEGER NOT NULL, PRIMARY KEY (organization, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_created ON idempotency(created_unix_ns);
CREATE TABLE annotations(
  request BLOB NOT NULL, organization TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY (request, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX annotations_organization ON annotations(organization);

CREATE VIEW ledger_entries AS SELECT
  e.schema_version, w.writer_id, e.id & 0xffffffffff AS seq,
  CASE e.type WHEN 1 THEN 'hold' WHEN 2 THEN 'extend' WHEN 3 THEN 'settle' WHEN 4 THEN 'release' WHEN 5 THEN 'expire'
    WHEN 6 THEN 'topup' WHEN 7 THEN 'adjust' END AS type,
  e.time, 'req_' || lower(hex(e.request)) AS request_id, s.organization, s.project, s.key_id, c.actor, s.model,
  c.model_digest, c.tokenizer_digest, c.price_version, c.price_hash, s.tier, e.input, e.cached_input, e.output,
  e.reasoning, e.amount, e.held, s.currency, e.lines, e.finish_reason, e.retry_count, c.build_id, c.region,
  c.jurisdiction, c.data_class, e.token_commitment, e.attestation_id, e.receipt_id,
  lower(hex(coalesce((SELECT p.hash FROM entries p WHERE p.id = e.id - 1), w.genesis))) AS prev_hash,
  lower(hex(e.hash)) AS hash
FROM entries e JOIN contexts c ON c.id = e.context JOIN series s ON s.id = c.series
  JOIN writers w ON w.number = e.id >> 40;
)sql";

// Entries with expiry and tag hashes, credits, spend by tag, limits of keys, settings. Old entries keep their bytes: the
// new columns are added with a default, which rewrites no row.
constexpr const char* kCredits = R"sql(
ALTER TABLE entries ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN tags BLOB NOT NULL DEFAULT x'';
ALTER TABLE keys ADD COLUMN limits TEXT NOT NULL DEFAULT '';
ALTER TABLE state ADD COLUMN rolled BLOB NOT NULL DEFAULT x'';

CREATE TABLE credits(
  operation BLOB PRIMARY KEY, series INTEGER NOT NULL, booked_unix_ns INTEGER NOT NULL,
  expires_unix_ns INTEGER NOT NULL, amount INTEGER NOT NULL, remaining INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX credits_series ON credits(series);
CREATE TABLE tag_spend(
  bucket INTEGER NOT NULL, series INTEGER NOT NULL, tag BLOB NOT NULL, requests INTEGER NOT NULL,
  tokens INTEGER NOT NULL, cost INTEGER NOT NULL, PRIMARY KEY (bucket, series, tag)
) STRICT, WITHOUT ROWID;
CREATE TABLE settings(
  kind TEXT NOT NULL, organization TEXT NOT NULL, id TEXT NOT NULL, json TEXT NOT NULL,
  PRIMARY KEY (kind, organization, id)
) STRICT, WITHOUT ROWID;

DROP VIEW ledger_entries;
CREATE VIEW ledger_entries AS SELECT
  e.schema_version, w.writer_id, e.id & 0xffffffffff AS seq,
  CASE e.type WHEN 1 THEN 'hold' WHEN 2 THEN 'extend' WHEN 3 THEN 'settle' WHEN 4 THEN 'release' WHEN 5 THEN 'expire'
    WHEN 6 THEN 'topup' WHEN 7 THEN 'adjust' END AS type,
  e.time, 'req_' || lower(hex(e.request)) AS request_id, s.organization, s.project, s.key_id, c.actor, s.model,
  c.model_digest, c.tokenizer_digest, c.price_version, c.price_hash, s.tier, e.input, e.cached_input, e.output,
  e.reasoning, e.amount, e.held, s.currency, e.lines, e.finish_reason, e.retry_count, c.build_id, c.region,
  c.jurisdiction, c.data_class, e.token_commitment, e.attestation_id, e.receipt_id, e.expires,
  lower(hex(e.tags)) AS tags,
  lower(hex(coalesce((SELECT p.hash FROM entries p WHERE p.id = e.id - 1), w.genesis))) AS prev_hash,
  lower(hex(e.hash)) AS hash
FROM entries e JOIN contexts c ON c.id = e.context JOIN series s ON s.id = c.series
  JOIN writers w ON w.number = e.id >> 40;
)sql";

// Which price books were in force when, and events on their way out. What older files know of the first is since when they
// have a book.
constexpr const char* kOutbox = R"sql(
CREATE TABLE price_history(
  id INTEGER PRIMARY KEY, applied_unix_ns INTEGER NOT NULL, from_unix_ns INTEGER NOT NULL, hash TEXT NOT NULL
) STRICT;
INSERT INTO price_history(applied_unix_ns, from_unix_ns, hash)
  SELECT since_unix_ns, -9223372036854775808, hash FROM price_books ORDER BY since_unix_ns, rowid;

CREATE TABLE outbox(
  id INTEGER PRIMARY KEY, receiver TEXT NOT NULL, event TEXT NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL,
  created_unix_ns INTEGER NOT NULL, state INTEGER NOT NULL, attempts INTEGER NOT NULL, due_unix_ns INTEGER NOT NULL,
  error TEXT NOT NULL, UNIQUE (receiver, event)
) STRICT;
CREATE INDEX outbox_due ON outbox(receiver, due_unix_ns) WHERE state = 0;
)sql";

constexpr Migration kMigrations[] = {{1, kBooks}, {2, kCredits, fill_credits}, {3, kOutbox}};
static_assert(std::size(kMigrations) == kStoreVersion);

Error newer(std::int64_t found, std::int64_t known) {
  return error(Errc::bad_file, "the ledger has schema version " + std::to_string(found) +
                                   ", this program knows up to " + std::to_string(known) +
                                   "; use the newer tokenworks that wrote it");
}

// One step and the rows that say so, all or nothing.
Result<> apply(const Connection& store, const Migration& step, std::int64_t unix_ns, std::string_view build_id) {
  if (auto done = store.run("BEGIN IMMEDIATE"); !done) return done;
  if (auto done = store.run(step.sql); !done) return done;
  if (step.fill != nullptr) {
    if (auto done = step.fill(store); !done) return done;
  }
  auto record = store.prepare("INSERT INTO schema_versions VALUES (?1, ?2, ?3)");
  if (!record) return record.error();
  record->bind(1, step.version).bind(2, unix_ns).bind(3, build_id);
  if (auto done = record->run(); !done) return done;
  return store.run(("PRAGMA user_version = " + std::to_string(step.version) + "; COMMIT").c_str());
}

}  // namespace

std::span<const Migration> migrations() { return kMigrations; }

Result<> migrate(const Connection& store, std::span<const Migration> steps, std::int64_t unix_ns,
                 std::string_view build_id) {
  const auto tables = store.value("SELECT count(*) FROM sqlite_schema");
  if (!tables) return tables.error();
  const auto application = store.value("PRAGMA application_id");
  if (!application) return application.error();
  if (*application != kApplicationId) {
    if (*tables != 0 || *application != 0) {
      return error(Errc::bad_file, "the file is a database of another program, not a tokenworks ledger");
    }
    const std::string first = "BEGIN IMMEDIATE; PRAGMA application_id = " + std::to_string(kApplicationId) +
                              "; CREATE TABLE schema_versions(version INTEGER PRIMARY KEY, unix_ns INTEGER NOT NULL,"
                              " build_id TEXT NOT NULL) STRICT; COMMIT";
    if (auto done = store.run(first.c_str()); !done) return done;
  }
  const auto version = store.value("PRAGMA user_version");
  if (!version) return version.error();
  if (*version > steps.back().version) return newer(*version, steps.back().version);
  for (const Migration& step : steps) {
    if (step.version <= *version) continue;
    if (auto done = apply(store, step, unix_ns, build_id); !done) {
      if (store.in_transaction()) (void)store.run("ROLLBACK");
      return error(done.error().code, "migrating the ledger to schema version " + std::to_string(step.version) + ": " +
                                          done.error().message);
    }
  }
  return {};
}

Result<> check_version(const Connection& store) {
  const auto application = store.value("PRAGMA application_id");
  if (!application) return application.error();
  if (*application != kApplicationId) return error(Errc::bad_file, "the file is not a tokenworks ledger");
  const auto version = store.value("PRAGMA user_version");
  if (!version) return version.error();
  if (*version > kStoreVersion) return newer(*version, kStoreVersion);
  if (*version < kStoreVersion) {
    return error(Errc::bad_file, "the ledger has the older schema version " + std::to_string(*version) +
                                     "; start the daemon once to migrate it");
  }
  return {};
}

}  // namespace tokenworks::ledger
