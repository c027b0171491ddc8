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
  const std::size_t bound;
  mutable std::mutex mutex;
  std::list<Entry> entries;  // most recently used first
  std::map<Digest, std::list<Entry>::iterator> index;
};

Cache::Cache(std::size_t entries) : state_(new State{entries < 1 ? 1 : entries, {}, {}, {}}) {}
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
  if (state_->entries.size() > state_->bound) {
    state_->index.erase(state_->entries.back().key);
    state_->entries.pop_back();
  }
  return *compiled;
}

std::size_t Cache::size() const {
  std::lock_guard lock(state_->mutex);
  return state_->entries.size();
}

}  // namespace tokenworks::grammar
