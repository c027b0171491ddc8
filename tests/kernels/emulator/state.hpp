#pragma once
// State of the block that runs, shared by the emulator's own sources.
#include <cstdint>
#include <cstdlib>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "kernel.hpp"

namespace tokenworks::emulator {

struct AsyncCopy {
  std::uintptr_t to, from;
  std::uint32_t bytes, from_bytes;
};

struct Thread {
  enum class State : std::uint8_t { ready, at_barrier, at_meeting, at_flag, ended };
  State state = State::ready;
  std::uint32_t index = 0;
  Index coordinates{0, 0, 0};
  const char* where = "";
  int barrier_value = 0, barrier_result = 0;
  bool fenced = false;                               // since its last write to global memory
  const volatile std::uint32_t *flag = nullptr, *left = nullptr;   // what it waits for at a flag
  std::uint32_t flag_value = 0;
  std::vector<AsyncCopy> copies;                     // of the open group
  std::vector<std::vector<AsyncCopy>> groups;        // committed, oldest first
};

struct Meeting {                                     // lanes of a warp on their way into one operation
  std::uint32_t mask = 0, arrived = 0;
  const char* what = "";
  void* slots[32] = {};
};

// Who touched a byte of shared memory last. Ticks count the block's barriers and warp barriers: an access is ordered after
// another when a barrier of the block, or of the warp both belong to, lies between.
struct SharedCell {
  std::uint32_t write_tick = 0, read_tick = 0;
  std::uint16_t writer = 0, reader = 0;              // thread + 1; 0: nobody
  std::uint8_t flags = 0;                            // of Flag
  enum Flag : std::uint8_t { kWritten = 1, kInFlight = 2, kAtomic = 4, kManyReaders = 8, kManyWarps = 16 };
};

// What a store with release of one card's grid makes visible to a thread of another that waited for it: everything its block
// did before its last barrier, and the storing thread's own. `acquired_*`: by whom, when; everybody's behind the next barrier.
struct Release {
  std::uint32_t launch = 0, block = 0, barrier_tick = 0, tick = 0;
  std::uint16_t thread = 0;                          // + 1
  std::uint32_t acquired_tick = 0;
  std::uint16_t acquired_by = 0;
};

// Which threads of the block did something between two of its barriers.
struct Phase {
  std::uint32_t barrier_tick = 0;
  std::uint16_t thread = 0;                          // + 1; the first that did
  bool several = false;
  void note(std::uint32_t now, std::uint16_t who) {
    if (barrier_tick != now) *this = {now, who, false};
    else several = several || thread != who;
  }
  bool others_than(std::uint32_t now, std::uint16_t who) const { return barrier_tick == now && (several || thread != who); }
};

struct Block {
  static constexpr std::size_t kSharedMax = 227 << 10;

  std::uint32_t launch = 0, number = 0;
  Index index{0, 0, 0}, threads_per_block{1, 1, 1}, grid{1, 1, 1};
  std::vector<Thread> threads;
  std::vector<std::list<Meeting>> meetings;          // per warp
  std::vector<std::uint32_t> warp_tick;              // per warp, of its last warp barrier or the block's
  std::uint32_t tick = 1, barrier_tick = 1;

  std::unique_ptr<unsigned char, void (*)(void*)> shared{
      static_cast<unsigned char*>(std::aligned_alloc(4096, (kSharedMax + 4095) / 4096 * 4096)), std::free};
  std::size_t shared_bytes = 0;
  std::vector<SharedCell> cells = std::vector<SharedCell>(kSharedMax);

  // Order between blocks of one launch: a block that fenced and then did an atomic operation releases what it wrote; one
  // that did an atomic operation later may read it.
  std::uint32_t atomic_tick = 0, acquired = 0;       // acquired: of the running block
  std::vector<std::uint32_t> released;               // per block, the tick of its last release; 0: none
  std::vector<Release> from_cards;                   // of other grids' blocks, what this block has waited for
  Phase wrote, told;                                 // global memory; a flag
};

Block* running_block();                              // null: no kernel is running
bool grid_runs(std::uint32_t launch);                // begun and not ended: it waits for a flag while another runs
void tell_flags();                                   // one was stored
void wait_at_flag();                                 // the thread, as its fields say; returns when there is something to look at
Thread& running_thread();
bool on_a_stack(std::uintptr_t address);
[[noreturn]] void fault_with(const std::string& why);

}  // namespace tokenworks::emulator
