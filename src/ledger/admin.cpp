#include "ledger/admin.hpp"

#include <algorithm>

#include "ledger/reader.hpp"

namespace tokenworks::ledger {
namespace {

// Model ids never contain a line break: the configuration refuses control characters.
std::string join(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) {
    if (!text.empty()) text += '\n';
    text += item;
  }
  return text;
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> items;
  while (!text.empty()) {
    const auto end = text.find('\n');
    items.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return items;
}

template <std::size_t N>
void copy_bytes(std::span<const std::uint8_t> from, std::array<std::uint8_t, N>& into) {
  if (from.size() == N) std::copy(from.begin(), from.end(), into.begin());
}

std::span<const std::uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// Steps a query and calls row(statement) for each row.
template <class Row>
Result<> each(Statement& statement, Row&& row) {
  for (;;) {
    const auto more = statement.step();
    if (!more) return more.error();
    if (!*more) return {};
    row(statement);
  }
}

}  // namespace

Result<> write_audit(const Connection& store, const AuditEvent& e) {
  auto insert = store.prepare(
      "INSERT INTO audit_events(unix_ns, actor, action, object, before_hash, after_hash)"
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
  if (!insert) return insert.error();
  insert->bind(1, e.unix_ns).bind(2, e.actor).bind(3, e.action).bind(4, e.object);
  insert->bind(5, e.before_hash).bind(6, e.after_hash);
  return insert->run();
}

Result<> write_key(const Connection& store, const KeyRow& k) {
  auto insert = store.prepare(
      "INSERT OR REPLACE INTO keys(id, secret_hash, organization, project, role, principal, models, created_unix_ns,"
      " expires_unix_ns, revoked_unix_ns, rotated_from, limits)"
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)");
  if (!insert) return insert.error();
  const std::string models = join(k.models);
  insert->bind(1, k.id.value).bind(2, k.secret_hash).bind(3, k.organization.value).bind(4, k.project.value);
  insert->bind(5, k.role).bind(6, k.principal).bind(7, models).bind(8, k.created_unix_ns);
  insert->bind(9, k.expires_unix_ns).bind(10, k.revoked_unix_ns).bind(11, k.rotated_from).bind(12, k.limits);
  return insert->run();
}

Result<> write_setting(const Connection& store, const SettingRow& s) {
  auto insert = store.prepare(
      "INSERT OR REPLACE INTO settings(kind, organization, id, json) VALUES (?1, ?2, ?3, ?4)");
  if (!insert) return insert.error();
  insert->bind(1, s.kind).bind(2, s.organization.value).bind(3, s.id).bind(4, s.json);
  return insert->run();
}

Result<bool> delete_setting(const Connection& store, const SettingRow& s) {
  auto remove = store.prepare("DELETE FROM settings WHERE kind = ?1 AND organization = ?2 AND id = ?3");
  if (!remove) return remove.error();
  remove->bind(1, s.kind).bind(2, s.organization.value).bind(3, s.id);
  if (auto done = remove->run(); !done) return done.error();
  return sqlite3_changes(store.raw()) > 0;
}

Result<> write_idempotency(const Connection& store, const IdempotencyRow& r) {
  auto insert = store.prepare(
      "INSERT OR REPLACE INTO idempotency(organization, key, body_hash, request, finished, status, body, input,"
      " cached_input, output, reasoning, cost, created_unix_ns)"
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)");
  if (!insert) return insert.error();
  insert->bind(1, r.organization.value).bind(2, r.key).bind(3, r.body_hash).bind(4, r.request.bytes);
  insert->bind(5, r.finished ? 1 : 0).bind(6, r.status).bind(7, bytes_of(r.body)).bind(8, r.usage.input);
  insert->bind(9, r.usage.cached_input).bind(10, r.usage.output).bind(11, r.usage.reasoning);
  insert->bind(12, r.cost.nano).bind(13, r.created_unix_ns);
  return insert->run();
}

Result<> write_annotation(const Connection& store, const Annotation& a) {
  auto insert = store.prepare(
      "INSERT OR REPLACE INTO annotations(request, organization, name, value) VALUES (?1, ?2, ?3, ?4)");
  if (!insert) return insert.error();
  for (const auto& [tag, value] : a.tags) {
    insert->bind(1, a.request.bytes).bind(2, a.organization.value).bind(3, tag).bind(4, value);
    if (auto done = insert->run(); !done) return done;
  }
  return {};
}

Result<> delete_annotations(const Connection& store, const OrganizationId& organization) {
  if (auto done = store.run("PRAGMA secure_delete = ON"); !done) return done;
  Result<> deleted;
  {
    auto remove = store.prepare("DELETE FROM annotations WHERE organization = ?1");
    if (!remove) return remove.error();
    remove->bind(1, organization.value);
    deleted = remove->run();
  }
  const auto back = store.run("PRAGMA secure_delete = OFF");
  return deleted ? back : deleted;
}

Result<std::vector<KeyRow>> Reader::keys() {
  auto find = store_.prepare(
      "SELECT id, secret_hash, organization, project, role, principal, models, created_unix_ns, expires_unix_ns,"
      " revoked_unix_ns, rotated_from, limits FROM keys ORDER BY created_unix_ns, id");
  if (!find) return find.error();
  std::vector<KeyRow> rows;
  const auto done = each(*find, [&](const Statement& s) {
    KeyRow& k = rows.emplace_back();
    k.id.value = s.text(0);
    copy_bytes(s.blob(1), k.secret_hash);
    k.organization.value = s.text(2);
    k.project.value = s.text(3);
    k.role = s.text(4);
    k.principal = s.text(5);
    k.models = split(s.text(6));
    k.created_unix_ns = s.integer(7);
    k.expires_unix_ns = s.integer(8);
    k.revoked_unix_ns = s.integer(9);
    k.rotated_from = s.text(10);
    k.limits = s.text(11);
  });
  if (!done) return done.error();
  return rows;
}

Result<std::vector<SettingRow>> Reader::settings(const std::string& kind) {
  auto find = store_.prepare(
      "SELECT kind, organization, id, json FROM settings WHERE kind = ?1 ORDER BY organization, id");
  if (!find) return find.error();
  find->bind(1, kind);
  std::vector<SettingRow> rows;
  const auto done = each(*find, [&](const Statement& s) {
    rows.push_back({std::string(s.text(0)), {std::string(s.text(1))}, std::string(s.text(2)), std::string(s.text(3))});
  });
  if (!done) return done.error();
  return rows;
}

Result<std::vector<AuditEvent>> Reader::audit_events(std::int64_t limit) {
  auto find = store_.prepare(
      "SELECT unix_ns, actor, action, object, before_hash, after_hash FROM audit_events ORDER BY id DESC LIMIT ?1");
  if (!find) return find.error();
  find->bind(1, std::max<std::int64_t>(limit, 0));
  std::vector<AuditEvent> rows;
  const auto done = each(*find, [&](const Statement& s) {
    rows.push_back({s.integer(0), std::string(s.text(1)), std::string(s.text(2)), std::string(s.text(3)),
                    std::string(s.text(4)), std::string(s.text(5))});
  });
  if (!done) return done.error();
  return rows;
}

// In the order in which they are stored: by time every row would be a place of its own in a file that no cache holds. Nearly
// all rows are young enough.
Result<std::vector<IdempotencyRow>> Reader::idempotency(std::int64_t not_before_unix_ns) {
  auto find = store_.prepare(
      "SELECT organization, key, body_hash, request, finished, status, body, input, cached_input, output, reasoning,"
      " cost, created_unix_ns FROM idempotency WHERE +created_unix_ns >= ?1 ORDER BY organization, key");
  if (!find) return find.error();
  find->bind(1, not_before_unix_ns);
  std::vector<IdempotencyRow> rows;
  const auto done = each(*find, [&](const Statement& s) {
    IdempotencyRow& r = rows.emplace_back();
    r.organization.value = s.text(0);
    r.key = s.text(1);
    copy_bytes(s.blob(2), r.body_hash);
    copy_bytes(s.blob(3), r.request.bytes);
    r.finished = s.integer(4) != 0;
    r.status = static_cast<std::int32_t>(s.integer(5));
    const auto body = s.blob(6);
    r.body.assign(reinterpret_cast<const char*>(body.data()), body.size());
    r.usage = {s.integer(7), s.integer(8), s.integer(9), s.integer(10)};
    r.cost.nano = s.integer(11);
    r.created_unix_ns = s.integer(12);
  });
  if (!done) return done.error();
  return rows;
}

}  // namespace tokenworks::ledger
