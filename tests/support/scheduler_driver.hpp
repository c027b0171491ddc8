#pragma once
// SchedulerDriver: runs a Scheduler against a pretend device and checks every step from the outside: what the block tables
// lead to must be exactly the sequence's own tokens, a block must never show another tenant's data, a step must keep to its
// budget, a sequence must end once. Throws std::runtime_error with the first thing that is wrong. For tests.
#include <map>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "tokenworks/scheduler/scheduler.hpp"

namespace tokenworks::test {

class SchedulerDriver {
 public:
  struct Live {
    std::uint32_t tenant = 0, weight = 1;
    Tier tier = Tier::standard;
    std::vector<TokenId> tokens;                     // prompt and output
    std::size_t prompt = 0;
    std::int64_t output_left = 0;
    std::uint64_t id = 0;
    std::int64_t added_step = 0;
    bool paused = false, first_rows = false;
  };
  struct Work {                                      // what one step did for one tenant, in cost units
    double units = 0;
  };

  explicit SchedulerDriver(const scheduler::Options& options)
      : options_(options), scheduler_(options), cells_(static_cast<std::size_t>(options.kv_blocks) * 16) {}

  scheduler::Scheduler& scheduler() { return scheduler_; }
  std::map<scheduler::Handle, Live>& live() { return live_; }
  std::int64_t finished() const { return finished_; }
  std::int64_t now() const { return now_; }
  void pass_ns(std::int64_t ns) { now_ += ns; }
  const scheduler::StepPlan& plan() const { return *plan_; }
  const std::map<std::uint32_t, double>& work() const { return work_; }   // of the last step, units by `account`
  std::int64_t longest_wait_steps() const { return longest_wait_; }

  scheduler::Handle add(std::uint32_t tenant, std::uint32_t weight, Tier tier, std::vector<TokenId> prompt,
                        std::int64_t max_tokens, scheduler::Handle leader = scheduler::kNoHandle,
                        std::int64_t deadline_ns = 0, std::uint32_t scheduler_tenant = ~0u) {
    scheduler::SequenceSpec spec;
    spec.prompt = std::make_shared<scheduler::Prompt>(prompt);
    spec.tenant = scheduler_tenant == ~0u ? tenant : scheduler_tenant;
    spec.weight = weight;
    spec.tier = tier;
    spec.max_tokens = max_tokens;
    spec.leader = leader;
    spec.deadline_ns = deadline_ns;
    const auto handle = scheduler_.add(spec, now_);
    if (!handle) throw std::runtime_error("add: " + handle.error().message);
    Live live;
    live.tenant = tenant, live.weight = weight, live.tier = tier;
    live.prompt = prompt.size();
    live.tokens = std::move(prompt);
    live.output_left = max_tokens;
    live.id = ++ids_;
    live.added_step = steps_;
    require(live_.emplace(*handle, std::move(live)).second, "a handle was given out twice");
    return *handle;
  }
  void cancel(scheduler::Handle h) {
    scheduler_.cancel(h);
    live_.erase(h);
    ++finished_;
  }

  // One step; false when the plan was empty. `pause` and `poison` in 1/1000 per sampled row.
  bool step(std::mt19937_64& random, int pause = 0, int poison = 0, std::int64_t step_ns = 0) {
    ++steps_;
    plan_ = &scheduler_.plan(now_);
    const scheduler::StepPlan& p = *plan_;
    for (const auto h : p.expired) {
      require(live_.erase(h) == 1, "an unknown sequence expired");
      ++finished_;
    }
    for (const std::int32_t b : p.zero) {
      for (int i = 0; i < 16; ++i) cells_[static_cast<std::size_t>(b) * 16 + static_cast<std::size_t>(i)] = {};
    }
    for (const auto h : p.preempted) require(live_.count(h) == 1, "an unknown sequence was preempted");
    work_.clear();
    if (p.items.empty()) return false;
    check_budget(p);
    std::set<scheduler::Handle> once;
    std::vector<scheduler::Outcome> outcomes;
    std::vector<scheduler::Handle> sampled;
    for (const auto& item : p.items) {
      require(once.insert(item.handle).second, "a sequence stands twice in a plan");
      run(p, item);
      if (!item.samples) continue;
      Live& live = live_.at(item.handle);
      scheduler::Outcome outcome;
      outcome.token = static_cast<TokenId>((live.tokens.back() * 31 + static_cast<TokenId>(live.tokens.size())) & 1023) + 1;
      live.tokens.push_back(outcome.token);
      if (--live.output_left == 0) {
        outcome.then = scheduler::Outcome::Then::ends;
      } else if (static_cast<int>(random() % 1000) < poison) {
        outcome.then = scheduler::Outcome::Then::ends_poisoned;
      } else if (static_cast<int>(random() % 1000) < pause) {
        outcome.then = scheduler::Outcome::Then::pauses;
        live.paused = true;
      }
      sampled.push_back(item.handle);
      outcomes.push_back(outcome);
    }
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      if (outcomes[i].then == scheduler::Outcome::Then::ends || outcomes[i].then == scheduler::Outcome::Then::ends_poisoned) {
        live_.erase(sampled[i]);
        ++finished_;
      }
    }
    now_ += step_ns > 0 ? step_ns : 1'000'000;
    scheduler_.commit(outcomes, now_, step_ns);
    return true;
  }

  void resume_all() {
    for (auto& [h, live] : live_) {
      if (!live.paused) continue;
      live.paused = false;
      scheduler_.resume(h);
    }
  }
  static void require(bool ok, const std::string& what) {
    if (!ok) throw std::runtime_error(what);
  }

 private:
  struct Cell {
    TokenId token = 0;
    std::int32_t position = -1;
    std::uint32_t tenant = ~0u;
  };

  void check_budget(const scheduler::StepPlan& p) {
    require(static_cast<std::int32_t>(p.tokens.size()) <= options_.rows_max, "a step has more rows than allowed");
    require(p.items.size() <= static_cast<std::size_t>(options_.sequences_max), "a step has more sequences than allowed");
    require(p.prefill_tokens <= std::max<std::int64_t>(scheduler_.stats().step_budget, 16), "prompt work above the budget");
  }

  // Writes the rows into their cells and reads the whole context back through the table.
  void run(const scheduler::StepPlan& p, const scheduler::PlannedRows& item) {
    Live& live = live_.at(item.handle);
    require(!live.paused, "a paused sequence was planned");
    const std::int32_t context = item.first + item.count;
    require(context <= static_cast<std::int32_t>(live.tokens.size()), "planned beyond what is known");
    require(item.samples == (context == static_cast<std::int32_t>(live.tokens.size())), "samples at the wrong place");
    for (std::int32_t i = 0; i < item.count; ++i) {
      const auto row = static_cast<std::size_t>(item.row + i);
      require(p.positions[row] == item.first + i, "a row has the wrong position");
      require(p.tokens[row] == live.tokens[static_cast<std::size_t>(item.first + i)], "a row has the wrong token");
      Cell& cell = cell_of(p, item, item.first + i);
      require(cell.position == -1 || cell.tenant == live.tenant, "a block was not zeroed between tenants");
      cell = {p.tokens[row], p.positions[row], live.tenant};
    }
    for (std::int32_t i = 0; i < context; ++i) {
      const Cell& cell = cell_of(p, item, i);
      require(cell.tenant == live.tenant, "a block table leads to another tenant's data");
      require(cell.position == i && cell.token == live.tokens[static_cast<std::size_t>(i)],
              "the cache does not hold this sequence's tokens at position " + std::to_string(i));
    }
    const double rows = item.decode ? 2.0 : item.count;
    work_[live.tenant] += rows + (item.started ? 0.1 * item.cached : 0);
    if (!live.first_rows) {
      live.first_rows = true;
      longest_wait_ = std::max(longest_wait_, steps_ - live.added_step);
    }
  }
  Cell& cell_of(const scheduler::StepPlan& p, const scheduler::PlannedRows& item, std::int32_t position) {
    const std::int32_t block = p.block_tables.at(static_cast<std::size_t>(item.table + position / 16));
    require(block >= 0 && block < options_.kv_blocks, "a table names a block that does not exist");
    return cells_[static_cast<std::size_t>(block) * 16 + static_cast<std::size_t>(position % 16)];
  }

  scheduler::Options options_;
  scheduler::Scheduler scheduler_;
  std::vector<Cell> cells_;
  std::map<scheduler::Handle, Live> live_;
  std::map<std::uint32_t, double> work_;
  const scheduler::StepPlan* plan_ = nullptr;
  std::int64_t now_ = 1'000'000'000, steps_ = 0, finished_ = 0, longest_wait_ = 0;
  std::uint64_t ids_ = 0;
};

}  // namespace tokenworks::test
