// Blocks, fibers, barriers and warp meetings. Compiled without instrumentation.
#include "execute.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "fiber.hpp"
#include "kernel.hpp"
#include "state.hpp"

namespace tokenworks::emulator {
namespace {

std::recursive_mutex& lock() {
  static std::recursive_mutex m;
  return m;
}

struct Machine {
  Fibers fibers{1024};
  Block block;
  const std::function<void()>* body = nullptr;
  std::string failure;
};
Machine& machine() {                                 // of this thread of the host: a grid that waits for another card's keeps its own
  thread_local Machine m;
  return m;
}

// Grids that have begun; more than one only while all but one wait at flags.
std::vector<std::uint32_t>& begun() {
  static std::vector<std::uint32_t> launches;
  return launches;
}
std::condition_variable_any& flags_changed() {
  static std::condition_variable_any c;
  return c;
}

std::size_t& failed_grids() {                        // so far: what waits for one of them waits for nothing
  static std::size_t n = 0;
  return n;
}

bool flag_shows(const Thread& t) { return static_cast<std::int32_t>(*t.flag - t.flag_value) >= 0 || *t.left != 0; }

thread_local bool grid_runs_here = false;

void thread_entry() {
  Machine& m = machine();
  (*m.body)();
  Thread& t = m.block.threads[static_cast<std::size_t>(m.fibers.running())];
  t.state = Thread::State::ended;
  for (;;) m.fibers.yield();
}

Thread& self() {
  Machine& m = machine();
  return m.block.threads[static_cast<std::size_t>(m.fibers.running())];
}

void wait_as(Thread::State state, const char* where) {
  Thread& t = self();
  t.state = state;
  t.where = where;
  machine().fibers.yield();
}

std::string threads_in(const Block& b, Thread::State state) {
  std::string text;
  int n = 0;
  for (const Thread& t : b.threads)
    if (t.state == state && ++n <= 4) text += fmt::format("{}{}", text.empty() ? "" : ", ", t.index);
  return fmt::format("{} threads ({}{})", n, text, n > 4 ? ", ..." : "");
}

std::string divergence(const Block& b) {
  std::string where;
  for (const Thread& t : b.threads)
    if (t.state == Thread::State::at_barrier || t.state == Thread::State::at_meeting) {
      where = t.where;
      break;
    }
  return fmt::format("divergence: no thread can go on; {} at the barrier, {} at a warp operation (first: {}), {} ended",
                     threads_in(b, Thread::State::at_barrier), threads_in(b, Thread::State::at_meeting), where,
                     threads_in(b, Thread::State::ended));
}

void release_barrier(Block& b) {
  int value = 0;
  for (const Thread& t : b.threads) value |= t.barrier_value;
  ++b.tick;
  b.barrier_tick = b.tick;
  for (std::uint32_t& w : b.warp_tick) w = b.tick;
  for (Thread& t : b.threads) {
    t.state = Thread::State::ready;
    t.barrier_result = value;
  }
}

// Gives the emulator to other grids until a flag that a thread of this block waits for shows; false: another grid failed meanwhile,
// or none did for a minute.
bool let_others_run(const Block& b) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  const auto shows = [&] { return std::ranges::any_of(b.threads, [](const Thread& t) { return t.state == Thread::State::at_flag && flag_shows(t); }); };
  const std::size_t failed = failed_grids();
  while (!shows()) {
    if (failed_grids() != failed) return false;
    flags_changed().wait_for(lock(), std::chrono::milliseconds(20));   // `left` is nobody's flag: it is looked at now and then
    if (std::chrono::steady_clock::now() > until) return false;
  }
  return true;
}

// One block to its end; false after a fault.
bool run_block(Machine& m, std::mt19937_64& random) {
  Block& b = m.block;
  const auto n = b.threads.size();
  for (std::size_t i = 0; i < n; ++i) m.fibers.start(static_cast<int>(i), thread_entry);
  std::vector<std::size_t> ready;
  for (;;) {
    ready.clear();
    std::size_t at_barrier = 0, ended = 0, at_flag = 0;
    for (std::size_t i = 0; i < n; ++i) {
      if (b.threads[i].state == Thread::State::at_flag && flag_shows(b.threads[i])) b.threads[i].state = Thread::State::ready;
      at_flag += b.threads[i].state == Thread::State::at_flag;
      at_barrier += b.threads[i].state == Thread::State::at_barrier;
      ended += b.threads[i].state == Thread::State::ended;
      if (b.threads[i].state == Thread::State::ready) ready.push_back(i);
    }
    if (ended == n) return true;
    if (ready.empty() && at_flag > 0) {
      if (let_others_run(b)) continue;
      m.failure = fmt::format("no other card told it to go on: {} wait at a flag", threads_in(b, Thread::State::at_flag));
      return false;
    }
    if (ready.empty()) {
      if (at_barrier != n) {
        m.failure = divergence(b);
        return false;
      }
      release_barrier(b);
      continue;
    }
    std::shuffle(ready.begin(), ready.end(), random);
    for (const std::size_t i : ready) {
      ++counts().switches;
      m.fibers.resume(static_cast<int>(i));
      if (!m.failure.empty()) {
        m.failure += fmt::format(" [thread {} of block ({}, {}, {})]", i, b.index.x, b.index.y, b.index.z);
        return false;
      }
    }
  }
}

void prepare(Block& b, const Grid& grid, std::uint32_t number) {
  b.number = number;
  b.index = {number % grid.blocks[0], number / grid.blocks[0] % grid.blocks[1],
             number / grid.blocks[0] / grid.blocks[1]};
  const std::uint32_t n = grid.threads[0] * grid.threads[1] * grid.threads[2];
  b.threads.assign(n, {});
  for (std::uint32_t i = 0; i < n; ++i) {
    Thread& t = b.threads[i];
    t.index = i;
    t.coordinates = {i % grid.threads[0], i / grid.threads[0] % grid.threads[1],
                     i / grid.threads[0] / grid.threads[1]};
  }
  b.meetings.assign((n + 31) / 32, {});
  b.warp_tick.assign((n + 31) / 32, 1);
  b.tick = b.barrier_tick = 1;
  b.shared_bytes = grid.shared_bytes;
  b.acquired = 0;
  b.from_cards.clear();
  b.wrote = b.told = {};
  std::memset(b.shared.get(), kPoison, grid.shared_bytes);
  std::fill_n(b.cells.begin(), grid.shared_bytes, SharedCell{});
}

}  // namespace

Options& options() {
  static Options o;
  return o;
}
Counts& counts() {
  static Counts c;
  return c;
}
Memory& memory() {
  static Memory m;
  return m;
}
Guard::Guard() { lock().lock(); }
Guard::~Guard() { lock().unlock(); }

Block* running_block() {
  if (!grid_runs_here) return nullptr;               // another rank's thread launches while this grid runs
  Machine& m = machine();
  return m.fibers.running() >= 0 ? &m.block : nullptr;
}
Thread& running_thread() { return self(); }
bool on_a_stack(std::uintptr_t address) { return machine().fibers.holds(address); }

void fault(const char* why) {
  Machine& m = machine();
  if (m.failure.empty()) m.failure = why;
  for (;;) m.fibers.yield();
}
void fault_with(const std::string& why) {
  Machine& m = machine();
  if (m.failure.empty()) m.failure = why;
  for (;;) m.fibers.yield();
}

std::string run_grid(const Grid& grid, const std::function<void()>& body) {
  const Guard guard;
  grid_runs_here = true;
  const struct Leaving {
    ~Leaving() { grid_runs_here = false; }
  } leaving;
  Machine& m = machine();
  Block& b = m.block;
  const std::uint64_t blocks = std::uint64_t{grid.blocks[0]} * grid.blocks[1] * grid.blocks[2];
  const std::uint64_t threads = std::uint64_t{grid.threads[0]} * grid.threads[1] * grid.threads[2];
  if (blocks == 0 || threads == 0 || threads > 1024 || blocks > 0x7FFFFFFF || grid.blocks[1] > 65535 ||
      grid.blocks[2] > 65535 || grid.shared_bytes > Block::kSharedMax)
    return fmt::format("{}: launch refused: {} blocks of {} threads with {} bytes of shared memory", grid.name, blocks,
                       threads, grid.shared_bytes);
  static std::uint32_t launches = 0;
  b.launch = ++launches;
  begun().push_back(b.launch);
  const struct Ending {
    std::uint32_t launch;
    ~Ending() { std::erase(begun(), launch); }
  } ending{b.launch};
  b.released.assign(blocks, 0);
  b.atomic_tick = 0;
  b.threads_per_block = {grid.threads[0], grid.threads[1], grid.threads[2]};
  b.grid = {grid.blocks[0], grid.blocks[1], grid.blocks[2]};
  m.body = &body;
  m.failure.clear();
  std::mt19937_64 random(options().seed * 0x9E3779B97F4A7C15u + b.launch);
  std::vector<std::uint32_t> order(blocks);
  for (std::uint32_t i = 0; i < blocks; ++i) order[i] = i;
  // Blocks run one after another; those that wait for their like on another card have to come in the same order there.
  std::mt19937_64 together(options().seed);
  std::shuffle(order.begin(), order.end(), grid.together ? together : random);
  ++counts().grids;
  counts().blocks += blocks;
  counts().threads += blocks * threads;
  for (const std::uint32_t number : order) {
    prepare(b, grid, number);
    if (run_block(m, random)) continue;
    ++failed_grids();
    return fmt::format("{}: {}", grid.name, m.failure);
  }
  return {};
}

bool grid_runs(std::uint32_t launch) { return std::ranges::find(begun(), launch) != begun().end(); }
std::size_t grids_begun() { return begun().size(); }
void wait_at_flag() { wait_as(Thread::State::at_flag, "a flag"); }
void tell_flags() { flags_changed().notify_all(); }

Index thread_index() { return self().coordinates; }
Index block_index() { return machine().block.index; }
Index block_size() { return machine().block.threads_per_block; }
Index grid_size() { return machine().block.grid; }
std::uint32_t lane() { return self().index % 32; }
bool planted(int bug) { return options().planted == bug; }

void* shared_memory(std::size_t bytes) {
  Block& b = machine().block;
  if (bytes > b.shared_bytes)
    fault_with(fmt::format("the kernel takes {} bytes of shared memory, launched with {}", bytes, b.shared_bytes));
  return b.shared.get();
}

void sync_threads() { (void)sync_threads_or(0); }
int sync_threads_or(int value) {
  self().barrier_value = value;
  wait_as(Thread::State::at_barrier, "__syncthreads");
  return self().barrier_result;
}

std::uint32_t active_lanes() {
  const Block& b = machine().block;
  const std::uint32_t first = self().index / 32 * 32;
  std::uint32_t mask = 0;
  for (std::uint32_t l = 0; l < 32 && first + l < b.threads.size(); ++l)
    if (b.threads[first + l].state != Thread::State::ended) mask |= 1u << l;
  return mask;
}

void meet(std::uint32_t mask, const char* what, void* mine, Combine combine) {
  Block& b = machine().block;
  Thread& t = self();
  const std::uint32_t my_lane = t.index % 32, first = t.index / 32 * 32;
  if ((mask >> my_lane & 1u) == 0)
    fault_with(fmt::format("{}: lane {} is not in its own mask {:#x}", what, my_lane, mask));
  for (std::uint32_t l = 0; l < 32; ++l)
    if ((mask >> l & 1u) != 0 && (first + l >= b.threads.size() || b.threads[first + l].state == Thread::State::ended))
      fault_with(fmt::format("{}: mask {:#x} names lane {}, which is not there or has ended", what, mask, l));
  auto& meetings = b.meetings[t.index / 32];
  auto at = std::find_if(meetings.begin(), meetings.end(), [&](const Meeting& m) { return m.mask == mask; });
  if (at == meetings.end()) {
    meetings.push_back({});
    at = std::prev(meetings.end());
    at->mask = mask;
    at->what = what;
  }
  if (std::strcmp(at->what, what) != 0)
    fault_with(fmt::format("warp divergence: lane {} comes to {} where others are at {}", my_lane, what, at->what));
  at->slots[my_lane] = mine;
  at->arrived |= 1u << my_lane;
  if (at->arrived != mask) {
    wait_as(Thread::State::at_meeting, what);
    return;
  }
  const Meeting full = *at;
  meetings.erase(at);
  for (std::uint32_t l = 0; l < 32; ++l)
    if ((mask >> l & 1u) != 0) b.threads[first + l].state = Thread::State::ready;
  void* slots[32];
  std::copy(std::begin(full.slots), std::end(full.slots), slots);
  combine(slots, mask);
}

// Orders all lanes of the warp; a meeting of some of them is taken to order nothing.
void sync_warp(std::uint32_t mask) {
  meet(mask, "__syncwarp", nullptr, [](void**, std::uint32_t met) {
    Block& b = machine().block;
    if (met == active_lanes()) b.warp_tick[self().index / 32] = ++b.tick;
  });
}

}  // namespace tokenworks::emulator
