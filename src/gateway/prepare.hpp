#pragma once
// What a request needs before it can be admitted: its prompts as token ids and, for structured output, its constraints.
// Long texts and grammars are prepared on a worker so that an IO thread never computes for long.
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <vector>

#include "bell.hpp"
#include "tokenworks/engine/engine.hpp"
#include "tokenworks/gateway/plant.hpp"
#include "tool_prompt.hpp"
#include "workbench.hpp"

namespace tokenworks::gateway {

struct Prepared {
  std::vector<std::vector<TokenId>> prompts;
  std::vector<std::shared_ptr<engine::Constraint>> constraints;   // empty, or one per prompt and choice
  AnswerBegin begin;                                 // of a chat
  std::int64_t arrived_ns = 0;                       // steady: when the request came, before all this; its time limit counts from then
};

boost::asio::awaitable<Result<Prepared>> prepare(std::shared_ptr<const GenerateRequest> request,
                                                 std::shared_ptr<const ServedModel> model, std::int64_t unix_seconds,
                                                 std::shared_ptr<Bell> bell, Workbench& bench, std::string organization);

}  // namespace tokenworks::gateway
