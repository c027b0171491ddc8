#include "grammar/matcher.hpp"

#include <algorithm>
#include <map>

namespace tokenworks::grammar {

std::unique_ptr<Matcher> CompiledGrammar::matcher() const {
  return std::make_unique<WalkingMatcher>(shared_from_this());
}

const std::uint32_t* WalkingMatcher::mask() {
  if (mask_ == nullptr && !lost_) {
    walker_.allow(kMaskWork);
    mask_ = grammar_->masks().mask(position_, walker_);
    lost_ = mask_ == nullptr;
  }
  return lost_ ? nothing() : mask_->data();
}

const std::uint32_t* WalkingMatcher::nothing() {
  if (mask_ == nullptr) mask_ = std::make_shared<const Masks::Mask>(grammar_->masks().trie().mask_words(), 0);
  return mask_->data();
}

bool WalkingMatcher::accept(TokenId token) {
  const Trie& trie = grammar_->masks().trie();
  const auto& stop = trie.stop_tokens();
  if (std::find(stop.begin(), stop.end(), token) != stop.end()) return position_.complete;
  const std::string_view bytes = trie.token_bytes(token);
  return !bytes.empty() && accept_bytes(bytes);
}

bool WalkingMatcher::accept_bytes(std::string_view bytes) {
  if (lost_) return false;
  const std::size_t frames = walker_.frames();
  Position now = position_;
  walker_.allow(kMaskWork);
  for (const char c : bytes) {
    walker_.step(now, static_cast<std::uint8_t>(c), next_);
    std::swap(now, next_);
    if (walker_.exhausted()) {
      lost_ = true;
      mask_.reset();
    }
    if (now.dead() || lost_) {
      walker_.truncate(frames);
      return false;
    }
  }
  position_ = std::move(now);
  mask_.reset();
  if (walker_.frames() > compact_at_) {
    walker_.compact(position_);
    compact_at_ = std::max<std::size_t>(4096, walker_.frames() * 2);
  }
  return true;
}

void Walker::compact(Position& position) {
  std::map<std::uint32_t, std::uint32_t> moved;  // ascending: parents come before their children
  for (const Configuration& c : position.at) {
    for (std::uint32_t at = c.stack; at != kBottom && moved.emplace(at, 0).second;) at = frames_[at].parent;
  }
  std::vector<Frame> kept{frames_[kBottom]};
  for (auto& [old, fresh] : moved) {
    Frame frame = frames_[old];
    if (frame.parent != kBottom) frame.parent = moved.at(frame.parent);
    fresh = static_cast<std::uint32_t>(kept.size());
    kept.push_back(frame);
  }
  for (Configuration& c : position.at) {
    if (c.stack != kBottom) c.stack = moved.at(c.stack);
  }
  frames_ = std::move(kept);
}

}  // namespace tokenworks::grammar
