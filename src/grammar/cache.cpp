#include <list>
#include <map>
#include <mutex>

#include "tokenworks/base/crypto.hpp"
#include "tokenworks/grammar/grammar.hpp"

namespace tokenworks::grammar {

struct Cache::State {
  struct Entry {
    Digest key;
    std::shared_ptr<const Grammar> grammar;
  };
  const std::size_t bound, bytes_bound;
  mutable std::mutex mutex;
  std::list<Entry> entries;  // most recently used first
  std::map<Digest, std::list<Entry>::iterator> index;

  // The newest stays, whatever it needs.
  void shrink() {
    std::size_t bytes = 0, kept = 0;
    for (const Entry& entry : entries) {
      bytes += entry.grammar->bytes();
      if (kept > 0 && (kept >= bound || bytes > bytes_bound)) break;
      ++kept;
    }
    while (entries.size() > kept) {
      index.erase(entries.back().key);
      entries.pop_back();
    }
  }
};

Cache::Cache(std::size_t entries, std::size_t bytes) : state_(new State{entries, bytes, {}, {}, {}}) {}
Cache::~Cache() = default;

Result<std::shared_ptr<const Grammar>> Cache::get(Kind kind, std::string_view source,
                                                  const std::shared_ptr<const VocabularyTrie>& vocabulary,
                                                  const Limits& limits) {
  if (kind == Kind::json_object) source = {};
  Sha256 hash;
  hash.update(std::as_bytes(std::span(vocabulary->digest())));
  hash.update(std::string(1, static_cast<char>(kind)));
  hash.update(source);
  const Digest key = hash.finish();
  {
    std::lock_guard lock(state_->mutex);
    if (const auto found = state_->index.find(key); found != state_->index.end()) {
      state_->entries.splice(state_->entries.begin(), state_->entries, found->second);
      return found->second->grammar;
    }
  }
  auto compiled = compile(kind, source, vocabulary, limits);  // outside the lock
  if (!compiled) return compiled.error();
  std::lock_guard lock(state_->mutex);
  if (const auto found = state_->index.find(key); found != state_->index.end()) return found->second->grammar;
  state_->entries.push_front({key, *compiled});
  state_->index[key] = state_->entries.begin();
  state_->shrink();
  return *compiled;
}

std::size_t Cache::size() const {
  std::lock_guard lock(state_->mutex);
  return state_->entries.size();
}

}  // namespace tokenworks::grammar
