#include "workbench.hpp"

#include <boost/asio/post.hpp>
#include <utility>

namespace tokenworks::gateway {

void Workbench::Turns::push(const std::string& organization, std::function<void()> job) {
  auto& own = waiting[organization];
  if (own.empty()) circle.push_back(organization);
  own.push_back(std::move(job));
}

std::function<void()> Workbench::Turns::pop() {
  const std::string organization = std::move(circle.front());
  circle.pop_front();
  const auto own = waiting.find(organization);
  std::function<void()> job = std::move(own->second.front());
  own->second.pop_front();
  if (own->second.empty()) {
    waiting.erase(own);
  } else {
    circle.push_back(organization);
  }
  return job;
}

void Workbench::post(const std::string& organization, Work work, std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    (work == Work::grammar ? grammars_ : prompts_).push(organization, std::move(job));
  }
  boost::asio::post(pool_, [this] { work_on(); });
}

std::optional<Workbench::Next> Workbench::next() {
  std::lock_guard lock(mutex_);
  if (!grammars_.empty() && grammars_running_ < grammars_most_) {
    ++grammars_running_;
    return Next{grammars_.pop(), Work::grammar};
  }
  if (!prompts_.empty()) return Next{prompts_.pop(), Work::prompt};
  return std::nullopt;
}

// Comes once for every job, and does whichever is next. A grammar that had to wait for others loses its turn so, and gets one
// when one of them is done.
void Workbench::work_on() {
  auto found = next();
  if (!found) return;
  found->job();
  if (found->work == Work::prompt) return;
  std::lock_guard lock(mutex_);
  --grammars_running_;
  if (!grammars_.empty()) boost::asio::post(pool_, [this] { work_on(); });
}

}  // namespace tokenworks::gateway
