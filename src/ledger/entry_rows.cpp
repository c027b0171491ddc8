#include "ledger/entry_rows.hpp"

#include <algorithm>

namespace tokenworks::ledger {
namespace {

std::optional<std::string_view> optional_text(const Statement& row, int column) {
  if (row.null(column)) return std::nullopt;
  return row.text(column);
}

std::optional<std::string> owned(const std::optional<std::string_view>& text) {
  if (!text) return std::nullopt;
  return std::string(*text);
}

void copy_digest(std::span<const std::uint8_t> bytes, Digest& into) {
  if (bytes.size() == into.size()) std::copy(bytes.begin(), bytes.end(), into.begin());
}

}  // namespace

std::vector<TagHash> tag_hashes(std::span<const std::uint8_t> bytes) {
  std::vector<TagHash> tags(bytes.size() / sizeof(TagHash));
  for (std::size_t i = 0; i < tags.size(); ++i) {
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(i * sizeof(TagHash)), sizeof(TagHash), tags[i].begin());
  }
  return tags;
}

EntryRow entry_row(const Statement& row) {
  EntryRow r;
  r.id = row.integer(0);
  r.view.schema_version = static_cast<std::int32_t>(row.integer(1));
  r.view.type = static_cast<EntryType>(row.integer(2));
  r.view.time = row.integer(3);
  r.view.request = row.blob(4);
  r.context = row.integer(5);
  r.view.usage = {row.integer(6), row.integer(7), row.integer(8), row.integer(9)};
  r.view.amount = row.integer(10);
  r.view.held = row.integer(11);
  r.view.lines = row.text(12);
  r.view.finish_reason = row.text(13);
  r.view.retry_count = static_cast<std::int32_t>(row.integer(14));
  r.view.token_commitment = optional_text(row, 15);
  r.view.attestation_id = optional_text(row, 16);
  r.view.receipt_id = optional_text(row, 17);
  r.hash = row.blob(18);
  r.view.expires = row.integer(19);
  r.view.tags = row.blob(20);
  return r;
}

Result<const Context*> EntryReader::context(std::int64_t id) {
  if (const auto known = contexts_.find(id); known != contexts_.end()) return known->second.get();
  if (!find_context_) {
    auto made = store_.prepare(
        "SELECT s.organization, s.project, s.key_id, c.actor, s.model, c.model_digest, c.tokenizer_digest,"
        " c.price_version, c.price_hash, s.tier, s.currency, c.build_id, c.region, c.jurisdiction, c.data_class, s.id"
        " FROM contexts c JOIN series s ON s.id = c.series WHERE c.id = ?1");
    if (!made) return made.error();
    find_context_ = std::move(*made);
  }
  find_context_.bind(1, id);
  const auto found = find_context_.step();
  if (!found) return found.error();
  if (!*found) return error(Errc::bad_file, "context " + std::to_string(id) + " of an entry is missing");
  auto made = std::make_unique<Context>();
  Record& f = made->fields;
  const auto text = [&](int column) { return std::string(find_context_.text(column)); };
  f.organization.value = text(0);
  f.project.value = text(1);
  f.key.value = text(2);
  f.actor = text(3);
  f.model.value = text(4);
  f.model_digest = text(5);
  f.tokenizer_digest = text(6);
  f.price_version = text(7);
  f.price_hash = text(8);
  const auto tier = tier_of(find_context_.text(9));
  if (tier) f.tier = *tier;
  f.currency = text(10);
  f.build_id = text(11);
  f.region = text(12);
  f.jurisdiction = text(13);
  f.data_class = text(14);
  made->series = find_context_.integer(15);
  find_context_.reset();
  if (!tier) return error(Errc::bad_file, "context " + std::to_string(id) + " names an unknown tier");
  append_context(made->bytes, f);
  return contexts_.emplace(id, std::move(made)).first->second.get();
}

Result<const std::string*> EntryReader::writer_id(std::int64_t number) {
  if (const auto known = writers_.find(number); known != writers_.end()) return known->second.get();
  if (!find_writer_) {
    auto made = store_.prepare("SELECT writer_id, genesis FROM writers WHERE number = ?1");
    if (!made) return made.error();
    find_writer_ = std::move(*made);
  }
  find_writer_.bind(1, number);
  const auto found = find_writer_.step();
  if (!found) return found.error();
  if (!*found) return error(Errc::bad_file, "writer " + std::to_string(number) + " of an entry is missing");
  auto made = std::make_unique<std::string>(find_writer_.text(0));
  find_writer_.reset();
  return writers_.emplace(number, std::move(made)).first->second.get();
}

Result<Entry> EntryReader::entry(const EntryRow& row) {
  const auto context_found = context(row.context);
  if (!context_found) return context_found.error();
  const auto writer = writer_id(writer_of(row.id));
  if (!writer) return writer.error();
  Entry e;
  static_cast<Record&>(e) = (*context_found)->fields;
  e.type = row.view.type;
  e.unix_ns = row.view.time;
  if (row.view.request.size() == e.request.bytes.size()) {
    std::copy(row.view.request.begin(), row.view.request.end(), e.request.bytes.begin());
  }
  e.usage = row.view.usage;
  e.amount = {row.view.amount};
  e.held = {row.view.held};
  e.lines = owned_lines(row.view.lines);
  e.finish_reason = row.view.finish_reason;
  e.token_commitment = owned(row.view.token_commitment);
  e.attestation_id = owned(row.view.attestation_id);
  e.receipt_id = owned(row.view.receipt_id);
  e.retry_count = row.view.retry_count;
  e.expires_unix_ns = row.view.expires;
  e.tag_hashes = tag_hashes(row.view.tags);
  e.schema_version = row.view.schema_version;
  e.writer_id = **writer;
  e.seq = seq_of(row.id);
  copy_digest(row.hash, e.hash);
  if (!find_hash_) {
    auto made = store_.prepare(
        "SELECT coalesce((SELECT hash FROM entries WHERE id = ?1 - 1),"
        " (SELECT genesis FROM writers WHERE number = ?2))");
    if (!made) return made.error();
    find_hash_ = std::move(*made);
  }
  find_hash_.bind(1, row.id).bind(2, writer_of(row.id));
  const auto before = find_hash_.step();
  if (!before) return before.error();
  copy_digest(find_hash_.blob(0), e.prev_hash);
  find_hash_.reset();
  return e;
}

}  // namespace tokenworks::ledger
