#include "grammar/trie.hpp"

#include <algorithm>
#include <numeric>

namespace tokenworks::grammar {
namespace {
constexpr std::size_t kSharedMax = 4096;      // masks, some 6 KB each
constexpr std::size_t kTokenBytesMax = 4096;  // longer tokens are never offered under a grammar
}  // namespace

std::string control_bytes(std::string_view spelling) {
  return spelling.empty() ? std::string() : "\xFF" + std::string(spelling);
}

std::shared_ptr<const VocabularyTrie> VocabularyTrie::build(const tokenizer::Tokenizer& tokenizer) {
  return std::make_shared<const Trie>(tokenizer);
}

Trie::Trie(const tokenizer::Tokenizer& tokenizer)
    : vocab_size_(tokenizer.vocab_size()), digest_(tokenizer.digest()), stop_(tokenizer.stop_tokens()) {
  std::vector<TokenId> order;
  offsets_.push_back(0);
  for (TokenId id = 0; id < vocab_size_; ++id) {
    const bool stop = std::find(stop_.begin(), stop_.end(), id) != stop_.end();
    const bool control = tokenizer.is_control(id);
    const std::string spelled = control && !stop ? control_bytes(tokenizer.decode({id}, true)) : std::string();
    const std::string& bytes = control ? spelled : tokenizer.token_bytes(id);
    // No text has the byte that leads control tokens: a token of it must not begin to spell one.
    const bool usable = control || bytes.find('\xFF') == std::string::npos;
    if (!stop && usable && bytes.size() <= kTokenBytesMax) bytes_ += bytes;
    offsets_.push_back(bytes_.size());
    if (offsets_[offsets_.size() - 1] > offsets_[offsets_.size() - 2]) order.push_back(id);
  }
  std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    const auto x = token_bytes(a), y = token_bytes(b);
    return x != y ? x < y : a < b;
  });
  nodes_.push_back({0, 0, 0, 0, 0});
  std::vector<std::uint32_t> path{0};  // path[d]: the open node of depth d
  std::string_view previous;
  for (const TokenId id : order) {
    const std::string_view bytes = token_bytes(id);
    std::size_t common = 0;
    while (common < previous.size() && common < bytes.size() && previous[common] == bytes[common]) ++common;
    while (path.size() > common + 1) {
      nodes_[path.back()].end = static_cast<std::uint32_t>(nodes_.size());
      path.pop_back();
    }
    for (std::size_t d = common; d < bytes.size(); ++d) {
      path.push_back(static_cast<std::uint32_t>(nodes_.size()));
      const auto at = static_cast<std::uint32_t>(tokens_.size());
      nodes_.push_back({0, at, at, static_cast<std::uint16_t>(d + 1), static_cast<std::uint8_t>(bytes[d])});
    }
    tokens_.push_back(id);
    nodes_[path.back()].token_end = static_cast<std::uint32_t>(tokens_.size());
    previous = bytes;
    longest_ = std::max(longest_, bytes.size());
  }
  for (const std::uint32_t node : path) nodes_[node].end = static_cast<std::uint32_t>(nodes_.size());
}

std::string_view Trie::token_bytes(TokenId id) const {
  if (id < 0 || id >= vocab_size_) return {};
  const auto i = static_cast<std::size_t>(id);
  return std::string_view(bytes_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
}

std::shared_ptr<const LocalMask> Trie::shared_mask(std::uint64_t key) const {
  std::lock_guard lock(mutex_);
  const auto found = shared_.find(key);
  return found == shared_.end() ? nullptr : found->second;
}

void Trie::share_mask(std::uint64_t key, std::shared_ptr<const LocalMask> mask) const {
  std::lock_guard lock(mutex_);
  if (shared_.size() < kSharedMax) shared_.emplace(key, std::move(mask));
}

}  // namespace tokenworks::grammar
