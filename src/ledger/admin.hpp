#pragma once
// The rows beside the books: keys, settings, audit events, idempotency, annotations. Each function runs inside the
// ledger thread's transaction; a mutation and its audit row are written together or not at all.
#include "ledger/sqlite.hpp"
#include "tokenworks/ledger/entry.hpp"
#include "tokenworks/ledger/rows.hpp"

namespace tokenworks::ledger {

Result<> write_audit(const Connection& store, const AuditEvent& event);
Result<> write_key(const Connection& store, const KeyRow& row);
Result<> write_setting(const Connection& store, const SettingRow& row);
Result<bool> delete_setting(const Connection& store, const SettingRow& row);   // false: there was none
Result<> write_idempotency(const Connection& store, const IdempotencyRow& row);
Result<> write_annotation(const Connection& store, const Annotation& annotation);
// Overwrites what it deletes (PRAGMA secure_delete), so that the text is not left in the file's free space.
Result<> delete_annotations(const Connection& store, const OrganizationId& organization);

}  // namespace tokenworks::ledger
