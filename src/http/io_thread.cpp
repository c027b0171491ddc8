#include "io_thread.hpp"

#include <pthread.h>

#include <boost/asio/post.hpp>

#include <vector>

#include "tokenworks/base/log.hpp"

namespace tokenworks::http {

IoThread::IoThread() : work_(context_.get_executor()) {}

IoThread::~IoThread() {
  if (thread_.joinable()) stop(std::chrono::seconds(0));
}

void IoThread::start() {
  std::packaged_task<void()> task([this] {
    for (;;) {
      try {
        context_.run();
        return;
      } catch (const std::exception& e) {            // the last backstop: one connection's defect must not end the others
        log::error("http.exception", {{"what", std::string_view(e.what())}});
      }
    }
  });
  done_ = task.get_future();
  thread_ = std::thread(std::move(task));
  pthread_setname_np(thread_.native_handle(), "tw-io");
}

void IoThread::drain() {
  boost::asio::post(context_, [this] {
    draining_ = true;
    for (Session* session : std::vector<Session*>(sessions_.begin(), sessions_.end())) session->drain();
  });
}

void IoThread::stop(std::chrono::nanoseconds patience) {
  if (!thread_.joinable()) return;
  boost::asio::post(context_, [this] {
    std::vector<std::shared_ptr<Session>> alive;     // aborting one may end another
    for (Session* session : sessions_) alive.push_back(session->shared_from_this());
    for (const auto& session : alive) session->abort();
  });
  work_.reset();
  if (done_.wait_for(patience) != std::future_status::ready) {
    log::warn("http.stop_forced", {{"connections", connections()}});
    context_.stop();
  }
  thread_.join();
}

void IoThread::add(Session& session) {
  sessions_.insert(&session);
  if (draining_) session.drain();                    // accepted just before the listener closed
}

void IoThread::remove(Session& session) {
  sessions_.erase(&session);
  count_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace tokenworks::http
