// The ranks of a model as one Runner: the caller's thread is the first rank's, every other has a thread of its own that waits
// for the next step. A step is over when every rank is through with it.
#include "tokenworks/model/tensor_parallel.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "model/load.hpp"

namespace tokenworks::model {
namespace {

class Ranks final : public Runner {
 public:
  Ranks(std::vector<std::unique_ptr<backend::Communicator>> communicators, std::vector<std::unique_ptr<Runner>> runners)
      : communicators_(std::move(communicators)), runners_(std::move(runners)), results_(runners_.size()), info_(runners_[0]->info()) {
    for (std::size_t r = 1; r < runners_.size(); ++r) {
      info_.weight_bytes += runners_[r]->info().weight_bytes;
      info_.kv_bytes += runners_[r]->info().kv_bytes;
      info_.workspace_bytes += runners_[r]->info().workspace_bytes;
      info_.kv_blocks = std::min(info_.kv_blocks, runners_[r]->info().kv_blocks);
      threads_.emplace_back([this, r] { serve(r); });
    }
    for (std::size_t r = 1; r < runners_.size(); ++r) {
      info_.swap_bytes += runners_[r]->info().swap_bytes;
      info_.swap_slots = std::min(info_.swap_slots, runners_[r]->info().swap_slots);
      info_.swap_move_ns = std::max(info_.swap_move_ns, runners_[r]->info().swap_move_ns);
    }
    info_.fingerprint += fmt::format("/tp{}", runners_.size());        // sums in another order are other numbers
  }
  ~Ranks() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& t : threads_) t.join();
    communicators_.clear();                          // they may hold memory of the runners' backends
  }

  const RunnerInfo& info() const override { return info_; }
  Result<> run(const Step& step, std::span<backend::Sampled> sampled) override {
    return all([&](std::size_t r) -> Result<> {
      if (r == 0) return runners_[0]->run(step, sampled);
      std::vector<backend::Sampled> nobody(sampled.size());
      return runners_[r]->run(step, nobody);
    });
  }
  Result<> launch(const Step& step) override {
    return all([&](std::size_t r) { return runners_[r]->launch(step); });
  }
  Result<> take(std::span<backend::Sampled> sampled) override {
    return all([&](std::size_t r) -> Result<> {
      if (r == 0) return runners_[0]->take(sampled);
      return runners_[r]->take({});
    });
  }
  Result<> logits(const backend::StepRows& rows, std::span<const std::int32_t> wanted, std::span<float> out) override {
    return all([&](std::size_t r) { return runners_[r]->logits(rows, wanted, out); });         // only the first writes
  }
  void zero_blocks(std::span<const std::int32_t> blocks) override {
    (void)all([&](std::size_t r) -> Result<> {
      runners_[r]->zero_blocks(blocks);
      return {};
    });
  }
  void swap_out(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) override {
    (void)all([&](std::size_t r) -> Result<> {
      runners_[r]->swap_out(blocks, slots);
      return {};
    });
  }
  void swap_in(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots, std::span<const std::int32_t> freed) override {
    (void)all([&](std::size_t r) -> Result<> {
      runners_[r]->swap_in(blocks, slots, freed);
      return {};
    });
  }

 private:
  using Job = std::function<Result<>(std::size_t)>;

  // The job on every rank's thread; the device's own words before those of a rank that merely lost the other.
  Result<> all(const Job& job) {
    {
      const std::lock_guard lock(mutex_);
      job_ = &job;
      ++round_;
      busy_ = threads_.size();
    }
    changed_.notify_all();
    results_[0] = one(job, 0);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return busy_ == 0; });
    for (const auto& r : results_)
      if (!r && r.error().message.find("another rank") == std::string::npos) return r;
    for (const auto& r : results_)
      if (!r) return r;
    return {};
  }
  // A rank that fails alone must not leave the others waiting for it.
  Result<> one(const Job& job, std::size_t r) {
    Result<> done = error(Errc::engine_failed, "a rank threw");
    try {
      done = job(r);
    } catch (const std::exception& e) {
      done = error(Errc::engine_failed, fmt::format("rank {} threw: {}", r, e.what()));
    }
    if (!done && done.error().code == Errc::engine_failed) communicators_[r]->leave();
    return done;
  }
  void serve(std::size_t r) {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stopping_ || round_ != seen; });
      if (stopping_) return;
      seen = round_;
      const Job& job = *job_;
      lock.unlock();
      auto done = one(job, r);
      lock.lock();
      results_[r] = std::move(done);
      if (--busy_ == 0) changed_.notify_all();
    }
  }

  std::vector<std::unique_ptr<backend::Communicator>> communicators_;
  std::vector<std::unique_ptr<Runner>> runners_;
  std::vector<Result<>> results_;
  RunnerInfo info_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  const Job* job_ = nullptr;
  std::uint64_t round_ = 0;
  std::size_t busy_ = 0;
  bool stopping_ = false;
};

}  // namespace

Result<std::unique_ptr<Runner>> load_tensor_parallel(std::shared_ptr<const formats::ModelFile> file,
                                                     std::vector<std::unique_ptr<backend::Backend>> backends,
                                                     const LoadOptions& options) {
  const auto size = static_cast<std::int32_t>(backends.size());
  if (size == 0) return error(Errc::bad_config, fmt::format("{}: a model needs at least one rank", file->path()));
  if (size == 1) return load(file, std::move(backends[0]), options);
  std::vector<backend::Backend*> each;
  for (const auto& b : backends) each.push_back(b.get());
  auto communicators = backend::make_communicators(each);
  std::vector<std::unique_ptr<Runner>> runners;
  for (std::int32_t r = 0; r < size; ++r) {
    const auto i = static_cast<std::size_t>(r);
    auto runner = load_rank(*file, std::move(backends[i]), options, {r, size}, communicators[i].get());
    if (!runner) return runner.error();
    runners.push_back(std::move(*runner));
  }
  return std::unique_ptr<Runner>(std::make_unique<Ranks>(std::move(communicators), std::move(runners)));
}

}  // namespace tokenworks::model
