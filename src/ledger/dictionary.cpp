#include "ledger/dictionary.hpp"

namespace tokenworks::ledger {
namespace {

constexpr std::size_t kTextMax = 1024;

const char* unusable_field(const Record& r) {
  const std::pair<const char*, const std::string*> fields[] = {
      {"organization", &r.organization.value}, {"project", &r.project.value}, {"key", &r.key.value},
      {"actor", &r.actor}, {"model", &r.model.value}, {"model_digest", &r.model_digest},
      {"tokenizer_digest", &r.tokenizer_digest}, {"price_version", &r.price_version}, {"price_hash", &r.price_hash},
      {"currency", &r.currency}, {"build_id", &r.build_id}, {"region", &r.region}, {"jurisdiction", &r.jurisdiction},
      {"data_class", &r.data_class}};
  for (const auto& [field, text] : fields) {
    if (!is_plain_text(*text, kTextMax)) return field;
  }
  return nullptr;
}

}  // namespace

bool is_plain_text(std::string_view text, std::size_t bytes_max) {
  if (text.size() > bytes_max) return false;
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x20 || lead == 0x7f) return false;
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || i + length > text.size()) return false;
    std::uint32_t code = lead & (0xffu >> (length + 1));
    for (std::size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xc0) != 0x80) return false;
      code = code << 6 | (next & 0x3fu);
    }
    const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    if (overlong || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return false;
    i += length;
  }
  return true;
}

Result<Dictionary::Known> Dictionary::of(const Record& record, std::string_view bytes, Result<>& refusal) {
  if (const auto found = known_.find(bytes); found != known_.end()) return found->second;
  if (const char* field = unusable_field(record)) {
    refusal = error(Errc::internal, std::string("the entry's ") + field +
                                        " is longer than 1024 bytes, not UTF-8 or has control characters");
    return Known{};
  }
  if (known_.size() >= kKept) known_.clear();
  Known made;
  const auto organization_series = organization(record.organization.value, record.currency);
  if (!organization_series) return organization_series.error();
  made.organization = *organization_series;
  const auto own_series = series(record, true);
  if (!own_series) return own_series.error();
  made.series = *own_series;
  const auto context = insert_context(record, made.series, bytes);
  if (!context) return context.error();
  made.context = *context;
  return known_.emplace(std::string(bytes), made).first->second;
}

Result<std::int64_t> Dictionary::organization(const std::string& organization, const std::string& currency) {
  std::string key;
  put_text(key, organization);
  put_text(key, currency);
  if (const auto found = organizations_.find(key); found != organizations_.end()) return found->second;
  Record only;
  only.organization.value = organization;
  only.currency = currency;
  const auto id = series(only, false);
  if (!id) return id.error();
  if (organizations_.size() >= kKept) organizations_.clear();
  organizations_.emplace(std::move(key), *id);
  return *id;
}

// Not `whole`: the organization's own series, where everything but organization and currency is empty.
Result<std::int64_t> Dictionary::series(const Record& r, bool whole) {
  if (!insert_series_) {
    auto insert = store_.prepare(
        "INSERT INTO series(organization, project, key_id, model, tier, currency) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        " ON CONFLICT DO NOTHING");
    if (!insert) return insert.error();
    auto find = store_.prepare(
        "SELECT id FROM series WHERE organization = ?1 AND project = ?2 AND key_id = ?3 AND model = ?4 AND tier = ?5"
        " AND currency = ?6");
    if (!find) return find.error();
    insert_series_ = std::move(*insert);
    find_series_ = std::move(*find);
  }
  for (Statement* statement : {&insert_series_, &find_series_}) {
    statement->bind(1, r.organization.value).bind(2, r.project.value).bind(3, r.key.value).bind(4, r.model.value);
    statement->bind(5, std::string_view(whole ? tier_name(r.tier) : "")).bind(6, r.currency);
  }
  if (auto done = insert_series_.run(); !done) return done.error();
  const auto row = find_series_.step();
  if (!row) return row.error();
  const std::int64_t id = *row ? find_series_.integer(0) : 0;
  find_series_.reset();
  return id;
}

Result<std::int64_t> Dictionary::insert_context(const Record& r, std::int64_t series, std::string_view bytes) {
  if (!insert_context_) {
    auto insert = store_.prepare(
        "INSERT INTO contexts(digest, series, actor, model_digest, tokenizer_digest, price_version, price_hash,"
        " build_id, region, jurisdiction, data_class) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        " ON CONFLICT DO NOTHING");
    if (!insert) return insert.error();
    auto find = store_.prepare("SELECT id FROM contexts WHERE digest = ?1");
    if (!find) return find.error();
    insert_context_ = std::move(*insert);
    find_context_ = std::move(*find);
  }
  const Digest digest = sha256(bytes);
  insert_context_.bind(1, digest).bind(2, series).bind(3, r.actor).bind(4, r.model_digest);
  insert_context_.bind(5, r.tokenizer_digest).bind(6, r.price_version).bind(7, r.price_hash).bind(8, r.build_id);
  insert_context_.bind(9, r.region).bind(10, r.jurisdiction).bind(11, r.data_class);
  if (auto done = insert_context_.run(); !done) return done.error();
  find_context_.bind(1, digest);
  const auto row = find_context_.step();
  if (!row) return row.error();
  const std::int64_t id = *row ? find_context_.integer(0) : 0;
  find_context_.reset();
  return id;
}

}  // namespace tokenworks::ledger
