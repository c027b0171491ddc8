#include <algorithm>
#include <iterator>

#include "tokenworks/engine/engine.hpp"

namespace tokenworks::engine {

const char* name(Finish finish) {
  switch (finish) {
    case Finish::running: return "running";
    case Finish::stop: return "stop";
    case Finish::length: return "length";
    case Finish::budget: return "budget";
    case Finish::cancelled: return "cancelled";
    case Finish::deadline: return "deadline";
    case Finish::failed: return "failed";
  }
  return "unknown";
}

void TokenStream::drain(std::vector<TokenEvent>& into) {
  std::lock_guard lock(mutex_);
  if (into.empty()) {
    into.swap(events_);
  } else {
    into.insert(into.end(), std::move_iterator(events_.begin()), std::move_iterator(events_.end()));
    events_.clear();
  }
  woken_ = false;
}

std::int64_t TokenStream::cached_tokens() const {
  std::lock_guard lock(mutex_);
  return cached_;
}

std::int64_t TokenStream::began_ns() const {
  std::lock_guard lock(mutex_);
  return began_ns_;
}

void TokenStream::set_began(std::int64_t steady_ns) {
  std::lock_guard lock(mutex_);
  began_ns_ = steady_ns;
}

std::vector<float> TokenStream::take_embedding(std::uint32_t choice) {
  std::lock_guard lock(mutex_);
  return choice < embeddings_.size() ? std::move(embeddings_[choice]) : std::vector<float>();
}

void TokenStream::set_embedding(std::uint32_t choice, std::vector<float> vector) {
  std::lock_guard lock(mutex_);
  if (embeddings_.size() <= choice) embeddings_.resize(choice + 1);
  embeddings_[choice] = std::move(vector);
}

void TokenStream::detach() {
  std::function<void()> gone;
  std::lock_guard lock(mutex_);
  gone.swap(wake_);
}

void TokenStream::push(TokenEvent&& event) {
  std::lock_guard lock(mutex_);
  if (ended_.size() <= event.choice) ended_.resize(event.choice + 1);
  if (ended_[event.choice]) return;
  ended_[event.choice] = event.finish != Finish::running;
  events_.push_back(std::move(event));
  pending_ = true;
}

void TokenStream::end_rest(std::uint32_t choices, Finish finish) {
  for (std::uint32_t i = 0; i < choices; ++i) push({.choice = i, .finish = finish});
  flush();
}

bool TokenStream::ended(std::uint32_t choices) const {
  std::lock_guard lock(mutex_);
  return ended_.size() >= choices && std::find(ended_.begin(), ended_.end(), false) == ended_.end();
}

// The wake runs under the mutex: once detach() returned, none is under way either.
void TokenStream::flush() {
  std::lock_guard lock(mutex_);
  if (!pending_) return;
  pending_ = false;
  if (woken_ || !wake_) return;
  woken_ = true;
  wake_();
}

void TokenStream::set_cached(std::int64_t tokens) {
  std::lock_guard lock(mutex_);
  cached_ = tokens;
}

}  // namespace tokenworks::engine
