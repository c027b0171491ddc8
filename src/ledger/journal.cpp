#include "ledger/journal.hpp"

#include <algorithm>
#include <string_view>

#include "ledger/canonical.hpp"

namespace tokenworks::ledger {
namespace {

// Reads big-endian values off the front; `ok` turns false when the bytes end too early.
struct Cursor {
  std::span<const std::uint8_t> left;
  bool ok = true;

  std::span<const std::uint8_t> take(std::size_t bytes) {
    if (bytes > left.size()) {
      ok = false;
      return {};
    }
    const auto taken = left.first(bytes);
    left = left.subspan(bytes);
    return taken;
  }
  std::uint64_t number(std::size_t bytes) {
    std::uint64_t value = 0;
    for (const std::uint8_t byte : take(bytes)) value = value << 8 | byte;
    return value;
  }
  std::int64_t i64() { return static_cast<std::int64_t>(number(8)); }
};

}  // namespace

JournalWriter::JournalWriter() { put_u32(bytes_, 0); }

void JournalWriter::add(const Progress& p) {
  ++count_;
  bytes_.append(reinterpret_cast<const char*>(p.request.bytes.data()), p.request.bytes.size());
  put_i64(bytes_, p.usage.input);
  put_i64(bytes_, p.usage.cached_input);
  put_i64(bytes_, p.usage.output);
  put_i64(bytes_, p.usage.reasoning);
  put_i64(bytes_, p.charge.nano);
  put_text(bytes_, lines_text(p.lines));
}

std::string JournalWriter::finish() {
  std::string count;
  put_u32(count, count_);
  bytes_.replace(0, count.size(), count);
  const Digest digest = sha256(bytes_);
  bytes_.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  return std::move(bytes_);
}

Result<std::vector<Progress>> read_journal(std::span<const std::uint8_t> bytes) {
  const Error bad = error(Errc::bad_file, "the ledger's progress journal is damaged; restore the store from a backup");
  if (bytes.size() < 36) return bad;
  const auto body = bytes.first(bytes.size() - 32);
  const Digest digest = sha256(std::as_bytes(body));
  if (!std::equal(digest.begin(), digest.end(), bytes.end() - 32)) return bad;
  Cursor cursor{body};
  std::vector<Progress> all;
  for (std::uint64_t left = cursor.number(4); left > 0 && cursor.ok; --left) {
    Progress p;
    const auto id = cursor.take(p.request.bytes.size());
    std::copy(id.begin(), id.end(), p.request.bytes.begin());
    p.usage.input = cursor.i64();
    p.usage.cached_input = cursor.i64();
    p.usage.output = cursor.i64();
    p.usage.reasoning = cursor.i64();
    p.charge.nano = cursor.i64();
    const auto text = cursor.take(cursor.number(4));
    p.lines = owned_lines({reinterpret_cast<const char*>(text.data()), text.size()});
    all.push_back(std::move(p));
  }
  if (!cursor.ok || !cursor.left.empty()) return bad;
  return all;
}

}  // namespace tokenworks::ledger
