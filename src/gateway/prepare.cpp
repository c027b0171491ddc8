#include "prepare.hpp"

#include <atomic>

#include "constraint.hpp"
#include "prompt.hpp"

namespace tokenworks::gateway {
namespace {

Result<Prepared> work(const GenerateRequest& request, const ServedModel& model, std::int64_t unix_seconds) {
  AnswerBegin begin;
  auto prompts = encode_prompts(request, model, unix_seconds, begin);
  if (!prompts) return prompts.error();
  auto constraints = make_constraints(request, model, begin, prompts->size() * request.made());
  if (!constraints) return constraints.error();
  return Prepared{std::move(*prompts), std::move(*constraints), begin};
}

}  // namespace

boost::asio::awaitable<Result<Prepared>> prepare(std::shared_ptr<const GenerateRequest> request,
                                                 std::shared_ptr<const ServedModel> model, std::int64_t unix_seconds,
                                                 std::shared_ptr<Bell> bell, Workbench& bench, std::string organization) {
  if (prompt_bytes(*request) <= kInlinePromptBytes && !constrained(*request)) {
    co_return work(*request, *model, unix_seconds);
  }
  struct Job {
    std::atomic<bool> done{false};
    Result<Prepared> result = error(Errc::internal, "not prepared");
  };
  auto job = std::make_shared<Job>();
  // The worker shares ownership of everything it reads: the coroutine may die meanwhile.
  bench.post(organization, constrained(*request) ? Work::grammar : Work::prompt, [job, request, model, unix_seconds, bell] {
    try {
      job->result = work(*request, *model, unix_seconds);
    } catch (const std::exception& e) {
      job->result = error(Errc::internal, e.what());
    }
    job->done.store(true, std::memory_order_release);
    bell->ring();
  });
  while (!job->done.load(std::memory_order_acquire)) co_await bell->wait();
  co_return std::move(job->result);
}

}  // namespace tokenworks::gateway
