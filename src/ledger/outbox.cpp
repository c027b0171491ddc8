#include "ledger/outbox.hpp"

#include "ledger/reader.hpp"

namespace tokenworks::ledger {

Result<> write_events(const Connection& store, const std::vector<OutboxEvent>& events) {
  if (events.empty()) return {};
  auto insert = store.prepare(
      "INSERT OR IGNORE INTO outbox(receiver, event, type, body, created_unix_ns, state, attempts, due_unix_ns, error)"
      " VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, ?5, '')");
  if (!insert) return insert.error();
  for (const OutboxEvent& e : events) {
    insert->bind(1, e.receiver).bind(2, e.id).bind(3, e.type).bind(4, e.body).bind(5, e.unix_ns);
    if (auto done = insert->run(); !done) return done;
  }
  return {};
}

Result<> write_outcome(const Connection& store, const DeliveryOutcome& o) {
  const bool due = o.state == DeliveryOutcome::State::due;
  auto update = store.prepare(due ? "UPDATE outbox SET state = ?2, attempts = ?3, due_unix_ns = ?4, error = ?5 WHERE id = ?1"
                                  : "UPDATE outbox SET state = ?2, attempts = ?3, due_unix_ns = ?4, error = ?5, body = '' WHERE id = ?1");
  if (!update) return update.error();
  update->bind(1, o.number).bind(2, static_cast<std::int64_t>(o.state)).bind(3, o.attempts).bind(4, o.due_unix_ns).bind(5, o.error);
  return update->run();
}

Result<std::vector<Delivery>> Reader::deliveries_due(const std::string& receiver, std::int64_t unix_ns, std::int64_t most) {
  auto find = store_.prepare(
      "SELECT id, receiver, event, type, body, created_unix_ns, attempts, due_unix_ns FROM outbox"
      " WHERE state = 0 AND receiver = ?1 AND due_unix_ns <= ?2 ORDER BY due_unix_ns, id LIMIT ?3");
  if (!find) return find.error();
  find->bind(1, receiver).bind(2, unix_ns).bind(3, most);
  std::vector<Delivery> rows;
  for (;;) {
    const auto more = find->step();
    if (!more) return more.error();
    if (!*more) return rows;
    Delivery& d = rows.emplace_back();
    d.number = find->integer(0);
    d.receiver = find->text(1);
    d.id = find->text(2);
    d.type = find->text(3);
    d.body = find->text(4);
    d.unix_ns = find->integer(5);
    d.attempts = find->integer(6);
    d.due_unix_ns = find->integer(7);
  }
}

Result<std::int64_t> Reader::deliveries_pending(const std::string& receiver) {
  auto count = store_.prepare("SELECT count(*) FROM outbox WHERE state = 0 AND receiver = ?1");
  if (!count) return count.error();
  count->bind(1, receiver);
  const auto row = count->step();
  if (!row) return row.error();
  return *row ? count->integer(0) : 0;
}

}  // namespace tokenworks::ledger
