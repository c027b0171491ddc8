#include "engine/drafter.hpp"

#include <openssl/crypto.h>

#include <algorithm>
#include <bit>

namespace tokenworks::engine {
namespace {

constexpr std::int64_t kPauseMax = 128;

}  // namespace

Drafter::~Drafter() {
  OPENSSL_cleanse(tokens_.data(), tokens_.size() * sizeof(TokenId));
  OPENSSL_cleanse(drafts_.data(), drafts_.size() * sizeof(TokenId));
}

void Drafter::start(std::span<const TokenId> prompt) {
  table_.assign(std::bit_ceil(std::max<std::size_t>(256, 2 * prompt.size())), -1);
  for (const TokenId token : prompt) tokens_.push_back(token), index();
}

void Drafter::add(TokenId token) {
  if (tokens_.size() >= table_.size()) grow();
  tokens_.push_back(token);
  if (pause_ > 0) --pause_;
  index();
}

// The latest occurrence wins, also over another n-gram of the same hash: the table is a hint, the tokens are compared.
void Drafter::index() {
  match_ = -1;
  const std::size_t n = tokens_.size();
  if (n < kGram) return;
  std::uint64_t hash = 0;
  for (std::size_t i = n - kGram; i < n; ++i) hash = (hash ^ static_cast<std::uint32_t>(tokens_[i])) * 0x9e3779b97f4a7c15ull;
  std::int32_t& slot = table_[static_cast<std::size_t>(hash >> 20) & (table_.size() - 1)];
  if (slot >= static_cast<std::int32_t>(kGram) && std::equal(tokens_.end() - kGram, tokens_.end(), tokens_.begin() + slot - kGram)) match_ = slot;
  slot = static_cast<std::int32_t>(n);
}

void Drafter::grow() {
  std::vector<TokenId> tokens;
  tokens.swap(tokens_);
  table_.assign(2 * table_.size(), -1);
  for (const TokenId token : tokens) tokens_.push_back(token), index();
  OPENSSL_cleanse(tokens.data(), tokens.size() * sizeof(TokenId));
}

std::span<const TokenId> Drafter::propose(std::int64_t most) {
  drafts_.clear();
  if (match_ < 0 || pause_ > 0) return {};
  const auto n = static_cast<std::size_t>(std::min<std::int64_t>(length_, most));
  const auto from = static_cast<std::size_t>(match_);
  while (drafts_.size() < n) {                       // past the end it goes on with itself: what repeats, repeats
    const std::size_t at = from + drafts_.size();
    drafts_.push_back(at < tokens_.size() ? tokens_[at] : drafts_[at - tokens_.size()]);
  }
  return drafts_;
}

void Drafter::learn(std::int32_t tried, std::int32_t kept) {
  if (tried == 0) return;
  if (kept == tried) {
    length_ = std::min(2 * length_, kMost);
    failures_ = 0;
  } else if (kept > 0) {
    length_ = std::max(kept, 2);
    failures_ = std::max(0, failures_ - 1);
  } else {
    length_ = 2;
    pause_ = std::min<std::int64_t>(std::int64_t{2} << std::min(failures_++, 10), kPauseMax);
  }
}

}  // namespace tokenworks::engine
