#pragma once
// SchedulerDriver: runs a Scheduler against a pretend device and checks every step from the outside: what the block tables
// lead to must be exactly the sequence's own tokens, a block must never show another tenant's data, a step must keep to its
// budget, a sequence must end once. Throws std::runtime_error with the first thing that is wrong. For tests.
#include <algorithm>
#include <concepts>
#include <functional>
#include <map>
#include <optional>
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
    std::int64_t added_ns = 0;
    bool paused = false;
    bool running = false;                            // has rows in the cache, or had in the last plan
    std::int32_t computed = 0;                       // tokens in the cache after the last step
    std::int64_t planned_step = 0;
    bool left_over = false;                          // of the last step it was planned in
    bool decoding() const { return tokens.size() > prompt && computed + 1 == static_cast<std::int32_t>(tokens.size()); }
  };

  // Without `read_back` the cache is not simulated: for long contexts.
  explicit SchedulerDriver(const scheduler::Options& options, bool read_back = true)
      : options_(options), scheduler_(options), read_back_(read_back), cells_(static_cast<std::size_t>(options.kv_blocks) * 16),
        host_(static_cast<std::size_t>(options.swap_slots) * 16) {}

  scheduler::Scheduler& scheduler() { return scheduler_; }
  std::map<scheduler::Handle, Live>& live() { return live_; }
  std::int64_t finished() const { return finished_; }
  std::int64_t now() const { return now_; }
  void pass_ns(std::int64_t ns) { now_ += ns; }
  void teach_wrongly(double factor) { taught_ = factor; }   // what the cost model is told of a step's time, against the truth
  const scheduler::StepPlan& plan() const { return *plan_; }
  // Of the last step: cost units by tenant beyond its reservation, and the tokens computed out of reservations.
  const std::map<std::uint32_t, double>& work() const { return work_; }
  const std::map<std::uint32_t, double>& reserved_work() const { return reserved_work_; }
  // Time to first rows or first output is the caller's to measure: called for every sampled token, after the step.
  std::function<void(const Live&)> on_token;
  std::function<void()> on_planned;                  // after a plan, before its commit

  // Seen from the outside: could one more unit of step budget have gone to this sequence in the last step? What runs and
  // was not served to its end could use it, and so could what waits while a slot is free (and the cache is ample).
  bool left_work(const Live& live) const {
    if (live.paused) return false;
    if (!live.running) return live.added_step < steps_ && slots_free_;
    if (live.planned_step == steps_) return live.left_over;
    return true;
  }
  std::int64_t steps() const { return steps_; }
  std::int64_t discarded() const { return discarded_; }      // sampled rows of steps that overlapped, for what had ended

  scheduler::Handle add(std::uint32_t tenant, std::uint32_t weight, Tier tier, std::vector<TokenId> prompt,
                        std::int64_t max_tokens, scheduler::Handle leader = scheduler::kNoHandle,
                        std::int64_t deadline_ns = 0, std::uint32_t scheduler_tenant = ~0u, std::int64_t reserved = 0) {
    scheduler::SequenceSpec spec;
    spec.prompt = std::make_shared<scheduler::Prompt>(prompt);
    spec.tenant = scheduler_tenant == ~0u ? tenant : scheduler_tenant;
    spec.weight = weight;
    spec.tier = tier;
    spec.max_tokens = max_tokens;
    spec.leader = leader;
    spec.deadline_ns = deadline_ns;
    spec.reserved_tokens_per_second = reserved;
    const auto handle = scheduler_.add(spec, now_);
    if (!handle) throw std::runtime_error("add: " + handle.error().message);
    Live live;
    live.tenant = tenant, live.weight = weight, live.tier = tier;
    live.prompt = prompt.size();
    live.tokens = std::move(prompt);
    live.output_left = max_tokens;
    live.id = ++ids_;
    live.added_step = steps_;
    live.added_ns = now_;
    require(live_.emplace(*handle, std::move(live)).second, "a handle was given out twice");
    return *handle;
  }
  void cancel(scheduler::Handle h) {
    scheduler_.cancel(h);
    live_.erase(h);
    ++finished_;
  }

  // One step; false when the plan was empty. `pause` and `poison` in 1/1000 per sampled row.
  // `step_ns` says what the step takes, 0: nothing the cost model may learn from.
  bool step(std::mt19937_64& random, int pause = 0, int poison = 0, std::int64_t step_ns = 0) {
    return step(random, [step_ns](const scheduler::StepPlan&) { return step_ns; }, pause, poison);
  }
  template <class Takes>
    requires std::invocable<Takes, const scheduler::StepPlan&>
  bool step(std::mt19937_64& random, const Takes& takes, int pause = 0, int poison = 0) {
    ++steps_;
    plan_ = &scheduler_.plan(now_);
    const scheduler::StepPlan& p = *plan_;
    for (const auto h : p.expired) {
      require(live_.erase(h) == 1, "an unknown sequence expired");
      ++finished_;
    }
    run_copies(p);
    for (const auto h : p.preempted) {
      require(live_.count(h) == 1, "an unknown sequence was preempted");
      live_.at(h).running = false;
      live_.at(h).computed = 0;
      live_.at(h).added_step = steps_;               // not before the next step again
    }
    slots_free_ = scheduler_.stats().running < options_.sequences_max;
    work_.clear(), reserved_work_.clear();
    if (p.items.empty()) return false;
    check_budget(p);
    const std::int64_t step_ns = takes(p);
    std::set<scheduler::Handle> once;
    std::vector<scheduler::Outcome> outcomes;
    std::vector<scheduler::Handle> sampled;
    further_.clear();
    further_.reserve(p.items.size());
    for (const auto& item : p.items) {
      require(once.insert(item.handle).second, "a sequence stands twice in a plan");
      run(p, item);
      if (!item.samples) continue;
      sampled.push_back(item.handle);
      further_.emplace_back();
      accept(p, item, further_.back());
    }
    if (on_planned) on_planned();
    for (std::size_t i = 0; i < sampled.size(); ++i) {
      Live& live = live_.at(sampled[i]);
      scheduler::Outcome outcome;
      outcome.token = next_token(live);
      live.tokens.push_back(outcome.token);
      --live.output_left;
      auto& further = further_[i];
      while (static_cast<std::int64_t>(further.size()) > live.output_left) further.pop_back();
      live.tokens.insert(live.tokens.end(), further.begin(), further.end());
      live.output_left -= static_cast<std::int64_t>(further.size());
      live.computed += static_cast<std::int32_t>(further.size());
      outcome.further = further;
      if (live.output_left == 0) {
        outcome.then = scheduler::Outcome::Then::ends;
      } else if (static_cast<int>(random() % 1000) < poison) {
        outcome.then = scheduler::Outcome::Then::ends_poisoned;
      } else if (static_cast<int>(random() % 1000) < pause) {
        outcome.then = scheduler::Outcome::Then::pauses;
        live.paused = true;
      }
      outcomes.push_back(outcome);
    }
    now_ += step_ns > 0 ? step_ns : 1'000'000;
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      if (on_token) on_token(live_.at(sampled[i]));
      if (outcomes[i].then == scheduler::Outcome::Then::ends || outcomes[i].then == scheduler::Outcome::Then::ends_poisoned) {
        live_.erase(sampled[i]);
        ++finished_;
      }
    }
    scheduler_.commit(outcomes, now_, static_cast<std::int64_t>(taught_ * static_cast<double>(step_ns)));
    return true;
  }

  // As step(), but what this step said is told to the scheduler when the next one has been planned; see Scheduler::assume. In
  // 1/1000 per sampled row: `stop` ends it unforeseen, `hold` gives it no row in the next plan. `settle` tells it at once.
  bool overlapped_step(std::mt19937_64& random, int stop, int hold, int pause, int poison, bool settle) {
    ++steps_;
    plan_ = &scheduler_.plan(now_);
    const scheduler::StepPlan& p = *plan_;
    for (const auto h : p.expired) {
      require(live_.erase(h) == 1, "an unknown sequence expired");
      ++finished_;
    }
    run_copies(p);
    for (const auto h : p.preempted) {
      require(live_.count(h) == 1, "an unknown sequence was preempted");
      live_.at(h).running = false;
      live_.at(h).computed = 0;
    }
    if (p.items.empty()) return land();
    Flight next;
    for (const auto& item : p.items) {
      Live& live = live_.at(item.handle);
      for (std::int32_t i = 0; i < item.count; ++i) {  // as a device would, from what it drew in the step before
        TokenId& token = const_cast<scheduler::StepPlan&>(p).tokens[static_cast<std::size_t>(item.row + i)];
        if (token >= 0) continue;
        require(flight_.has_value(), "a plan names a step that is not under way");
        const auto from = static_cast<std::size_t>(-2 - token);
        require(from < flight_->ids.size() && flight_->ids[from] == live.id, "a plan names another sequence's token");
        require(!flight_->paused[from], "what paused was planned");
        token = flight_->outcomes[from].token;
      }
      run(p, item);
      if (!item.samples) continue;
      scheduler::Outcome outcome;
      outcome.token = next_token(live);
      live.tokens.push_back(outcome.token);
      --live.output_left;
      const bool known = live.output_left <= 0;
      if (known || static_cast<int>(random() % 1000) < stop) {
        outcome.then = scheduler::Outcome::Then::ends;
      } else if (static_cast<int>(random() % 1000) < poison) {
        outcome.then = scheduler::Outcome::Then::ends_poisoned;
      } else if (static_cast<int>(random() % 1000) < pause) {
        outcome.then = scheduler::Outcome::Then::pauses;
      }
      next.handles.push_back(item.handle);
      next.ids.push_back(live.id);
      next.paused.push_back(outcome.then == scheduler::Outcome::Then::pauses);
      next.goes_on.push_back(!known && !next.paused.back() && static_cast<int>(random() % 1000) >= hold);
      next.outcomes.push_back(outcome);
    }
    land();
    flight_ = std::move(next);
    scheduler_.assume(flight_->goes_on);
    if (settle) land();
    return true;
  }
  // What the step under way said; false when there is none.
  bool land() {
    if (!flight_) return false;
    const Flight done = std::move(*flight_);
    flight_.reset();
    now_ += 1'000'000;
    for (std::size_t i = 0; i < done.handles.size(); ++i) {
      const auto found = live_.find(done.handles[i]);
      if (found == live_.end() || found->second.id != done.ids[i]) {
        ++discarded_;
        continue;
      }
      const auto then = done.outcomes[i].then;
      found->second.paused = then == scheduler::Outcome::Then::pauses;
      if (then != scheduler::Outcome::Then::ends && then != scheduler::Outcome::Then::ends_poisoned) continue;
      live_.erase(found);
      ++finished_;
    }
    scheduler_.commit(done.outcomes, now_, 0);
    return true;
  }

  // What the pretend model says next.
  static TokenId next_token(const Live& live) {
    return static_cast<TokenId>((live.tokens.back() * 31 + static_cast<TokenId>(live.tokens.size())) & 1023) + 1;
  }
  // Drafts for whatever decodes, each right with `right` in 1000.
  void propose(std::mt19937_64& random, std::size_t most, int right) {
    for (auto& [h, live] : live_) {
      if (!live.decoding() || live.paused) continue;
      Live copy = live;
      std::vector<TokenId> drafts;
      while (drafts.size() < most) {
        const bool good = static_cast<int>(random() % 1000) < right;
        copy.tokens.push_back(next_token(copy));
        drafts.push_back(good ? copy.tokens.back() : 5000);
        if (!good) copy.tokens.back() = 5000;
      }
      scheduler_.propose(h, drafts);
    }
  }

  void resume_all() {
    for (auto& [h, live] : live_) {
      if (!live.paused) continue;
      live.paused = false;
      scheduler_.resume(h);
    }
  }
  // Nothing of anybody stands in host memory.
  bool host_is_clean() const {
    return std::all_of(host_.begin(), host_.end(), [](const Cell& c) { return c.position == -1; });
  }
  static void require(bool ok, const std::string& what) {
    if (!ok) throw std::runtime_error(what);
  }

 private:
  struct Flight {                                    // a step that was assumed; [sampled row]
    std::vector<scheduler::Handle> handles;
    std::vector<std::uint64_t> ids;
    std::vector<std::uint8_t> goes_on, paused;
    std::vector<scheduler::Outcome> outcomes;
  };
  struct Cell {
    TokenId token = 0;
    std::int32_t position = -1;
    std::uint32_t tenant = ~0u;
  };

  void run_copies(const scheduler::StepPlan& p) {
    const auto copy = [](std::vector<Cell>& to, std::int32_t t, const std::vector<Cell>& from, std::int32_t f) {
      std::copy_n(from.begin() + 16 * f, 16, to.begin() + 16 * t);
    };
    for (std::size_t i = 0; i < p.swap_out.blocks.size(); ++i) {
      require(host_[static_cast<std::size_t>(p.swap_out.slots[i]) * 16].position == -1, "a slot of host memory was not zeroed");
      copy(host_, p.swap_out.slots[i], cells_, p.swap_out.blocks[i]);
    }
    for (const std::int32_t b : p.zero) std::fill_n(cells_.begin() + 16 * b, 16, Cell{});
    for (std::size_t i = 0; i < p.swap_in.blocks.size(); ++i) {
      require(host_[static_cast<std::size_t>(p.swap_in.slots[i]) * 16].position >= 0, "an empty slot of host memory was swapped in");
      copy(cells_, p.swap_in.blocks[i], host_, p.swap_in.slots[i]);
    }
    for (const std::int32_t s : p.swap_freed) std::fill_n(host_.begin() + 16 * s, 16, Cell{});
  }
  void check_budget(const scheduler::StepPlan& p) {
    require(static_cast<std::int32_t>(p.tokens.size()) <= options_.rows_max, "a step has more rows than allowed");
    require(p.items.size() <= static_cast<std::size_t>(options_.sequences_max), "a step has more sequences than allowed");
    require(p.prefill_tokens <= std::max<std::int64_t>(scheduler_.stats().step_budget, 16), "prompt work above the budget");
  }

  // Of the plan's drafts, those the model would have said.
  void accept(const scheduler::StepPlan& p, const scheduler::PlannedRows& item, std::vector<TokenId>& further) {
    Live copy = live_.at(item.handle);
    for (std::int32_t i = 0; i < item.drafts; ++i) {
      const TokenId said = next_token(copy);
      const TokenId draft = p.tokens[static_cast<std::size_t>(item.row + item.count - item.drafts + i)];
      if (draft != said) return;                     // `said` is the token of this row; what follows it was computed in vain
      copy.tokens.push_back(said);
      further.push_back(next_token(copy));
    }
  }

  // Writes the rows into their cells and reads the whole context back through the table.
  void run(const scheduler::StepPlan& p, const scheduler::PlannedRows& item) {
    Live& live = live_.at(item.handle);
    require(!live.paused, "a paused sequence was planned");
    const std::int32_t context = item.first + item.count - item.drafts;
    require(item.drafts == 0 || item.decode, "drafts of a sequence that does not decode");
    require(context <= static_cast<std::int32_t>(live.tokens.size()), "planned beyond what is known");
    require(item.samples == (context == static_cast<std::int32_t>(live.tokens.size())), "samples at the wrong place");
    if (read_back_) read_back(p, item, live, context);
    live.running = true;
    live.computed = context;
    live.planned_step = steps_;
    live.left_over = context < static_cast<std::int32_t>(live.tokens.size());
    const scheduler::CostUnits& u = options_.units;
    const std::int64_t rows = (item.decode ? u.output_micro : u.uncached_micro) * (item.count - item.drafts - item.reserved);
    reserved_work_[live.tenant] += item.reserved;
    work_[live.tenant] += static_cast<double>(rows + u.uncached_micro * item.drafts + (item.started ? u.cached_micro * item.cached : 0)) / 1e6;
  }
  void read_back(const scheduler::StepPlan& p, const scheduler::PlannedRows& item, const Live& live, std::int32_t context) {
    for (std::int32_t i = 0; i < item.count; ++i) {
      const auto row = static_cast<std::size_t>(item.row + i);
      require(p.positions[row] == item.first + i, "a row has the wrong position");
      const bool draft = i >= item.count - item.drafts;
      require(draft || p.tokens[row] == live.tokens[static_cast<std::size_t>(item.first + i)], "a row has the wrong token");
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
  }
  Cell& cell_of(const scheduler::StepPlan& p, const scheduler::PlannedRows& item, std::int32_t position) {
    const std::int32_t block = p.block_tables.at(static_cast<std::size_t>(item.table + position / 16));
    require(block >= 0 && block < options_.kv_blocks, "a table names a block that does not exist");
    return cells_[static_cast<std::size_t>(block) * 16 + static_cast<std::size_t>(position % 16)];
  }

  scheduler::Options options_;
  scheduler::Scheduler scheduler_;
  const bool read_back_;
  std::vector<Cell> cells_, host_;                   // of blocks, and of slots
  std::map<scheduler::Handle, Live> live_;
  std::map<std::uint32_t, double> work_, reserved_work_;
  std::vector<std::vector<TokenId>> further_;
  const scheduler::StepPlan* plan_ = nullptr;
  std::optional<Flight> flight_;
  std::int64_t now_ = 1'000'000'000, steps_ = 0, finished_ = 0, discarded_ = 0;
  bool slots_free_ = false;
  double taught_ = 1;
  std::uint64_t ids_ = 0;
};

}  // namespace tokenworks::test
