// Every load and store of a kernel comes here: is it inside what was allocated, was it written, and does a barrier order
// it after what other threads did. Compiled without instrumentation.
#include <fmt/format.h>

#include <link.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "execute.hpp"
#include "state.hpp"

namespace tokenworks::emulator {
namespace {

enum class Kind : std::uint8_t { read, write, atomic };
const char* verb(Kind k) { return k == Kind::read ? "read" : k == Kind::write ? "write" : "atomic operation"; }

// Constants and tables of the program itself, which a kernel may read as it may read constant memory.
bool in_the_program(std::uintptr_t address) {
  struct Range {
    std::uintptr_t begin = 0, end = 0;
  };
  static const Range program = [] {
    Range r;
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* out) {
          auto& range = *static_cast<Range*>(out);
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
            const std::uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            range.begin = range.begin == 0 ? begin : std::min<std::uintptr_t>(range.begin, begin);
            range.end = std::max<std::uintptr_t>(range.end, begin + info->dlpi_phdr[i].p_memsz);
          }
          return 1;                                  // the first object is the executable
        },
        &r);
    return r;
  }();
  return address >= program.begin && address < program.end;
}

// `other` is a thread + 1. By a barrier of the block, or of the warp both belong to, or because it was the same thread.
bool ordered_after(const Block& b, const Thread& t, std::uint16_t other, std::uint32_t tick) {
  return tick < b.barrier_tick || other == t.index + 1 ||
         ((other - 1u) / 32 == t.index / 32 && tick < b.warp_tick[t.index / 32]);
}
// By barriers alone, all reads that a cell remembers.
bool readers_ordered(const Block& b, const Thread& t, const SharedCell& c) {
  if (c.reader == 0 || c.read_tick < b.barrier_tick) return true;
  return (c.flags & SharedCell::kManyWarps) == 0 && (c.reader - 1u) / 32 == t.index / 32 &&
         c.read_tick < b.warp_tick[t.index / 32];
}

[[noreturn]] void race(const char* memory, std::size_t offset, const char* what, Kind kind, std::uint32_t other) {
  fault_with(fmt::format("race in {} memory at byte {}: {} of thread {} and {} of thread {} with no barrier between",
                         memory, offset, what, other, verb(kind), running_thread().index));
}

void check_shared(Block& b, std::size_t offset, std::size_t bytes, Kind kind) {
  using C = SharedCell;
  if (offset + bytes > b.shared_bytes)
    fault_with(fmt::format("out of bounds: {} of {} bytes at shared memory byte {} of {}", verb(kind), bytes, offset,
                           b.shared_bytes));
  const Thread& t = running_thread();
  const auto me = static_cast<std::uint16_t>(t.index + 1);
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    C& c = b.cells[i];
    if ((c.flags & C::kInFlight) != 0)
      fault_with(fmt::format("{} of shared memory byte {} while cp.async of thread {} into it is in flight", verb(kind), i,
                             c.writer - 1));
    if (kind == Kind::read && (c.flags & C::kWritten) == 0)
      fault_with(fmt::format("read of shared memory byte {} that no thread has written", i));
    const bool both_atomic = kind == Kind::atomic && (c.flags & C::kAtomic) != 0;
    if (c.writer != 0 && !both_atomic && !ordered_after(b, t, c.writer, c.write_tick))
      race("shared", i, "write", kind, c.writer - 1u);
    const bool readers_before = readers_ordered(b, t, c);
    if (kind == Kind::read) {
      // Of several readers with nothing between them only that there were several is kept.
      const bool alone = c.reader == 0 || readers_before || (c.reader == me && (c.flags & C::kManyReaders) == 0);
      if (alone) {
        c.flags &= static_cast<std::uint8_t>(~(C::kManyReaders | C::kManyWarps));
      } else {
        c.flags |= C::kManyReaders;
        if ((c.reader - 1u) / 32 != t.index / 32) c.flags |= C::kManyWarps;
      }
      c.reader = me;
      c.read_tick = b.tick;
      continue;
    }
    if (c.reader != 0 && !readers_before && !both_atomic && !(c.reader == me && (c.flags & C::kManyReaders) == 0))
      race("shared", i, "read", kind, c.reader - 1u);
    c.writer = me;
    c.write_tick = b.tick;
    c.flags = static_cast<std::uint8_t>(C::kWritten | (kind == Kind::atomic ? C::kAtomic : 0));
    c.reader = 0;
  }
}

// Of accesses to one word of global memory in one launch: threads of one block are ordered by its barriers, blocks by
// fence and atomic operation (state.hpp).
bool global_ordered(const Block& b, const Thread& t, std::uint32_t block, std::uint16_t thread, std::uint32_t tick) {
  if (block == b.number) return ordered_after(b, t, thread, tick);
  return b.released[block] != 0 && b.released[block] <= b.acquired;
}

// Of an access by a grid of another card that has begun and not ended: by a flag it stored after, that was waited for.
bool card_ordered(const Block& b, const Thread& t, std::uint32_t launch, std::uint32_t block, std::uint16_t thread, std::uint32_t tick) {
  for (const Release& r : b.from_cards) {
    if (r.launch != launch || r.block != block) continue;
    const bool before = tick < r.barrier_tick || (thread == r.thread && tick <= r.tick);
    return before && (r.acquired_by == t.index + 1 || r.acquired_tick < b.barrier_tick);
  }
  return false;
}

void check_word(Block& b, const Thread& t, GlobalCell& c, std::uint8_t mask, Kind kind, const Allocation& a,
                std::uintptr_t at) {
  const auto me = static_cast<std::uint16_t>(t.index + 1);
  if (c.launch != b.launch) {
    if (grid_runs(c.launch)) {
      const bool written = c.writer != 0 && (c.write_bytes & mask) != 0 && !(kind == Kind::atomic && c.atomic) &&
                           !card_ordered(b, t, c.launch, c.write_block, c.writer, c.write_tick);
      const bool read = kind != Kind::read && c.reader != 0 && (c.read_bytes & mask) != 0 &&
                        !card_ordered(b, t, c.launch, c.read_block, c.reader, c.read_tick);
      if (written || read)
        fault_with(fmt::format("race between cards at byte {} of {}: {} by another card's grid and {} of thread {} of block {} that no flag orders",
                               at - a.begin, a.what, written ? "write" : "read", verb(kind), t.index, b.number));
    }
    c = {};
    c.launch = b.launch;
  }
  const auto clash = [&](const char* what, std::uint32_t block, std::uint32_t thread) {
    fault_with(fmt::format("race in global memory at byte {} of {}: {} of thread {} of block {} and {} of thread {} of "
                           "block {} that nothing orders", at - a.begin, a.what, what, thread - 1, block, verb(kind),
                           t.index, b.number));
  };
  if (c.writer != 0 && (c.write_bytes & mask) != 0 && !(kind == Kind::atomic && c.atomic) &&
      !global_ordered(b, t, c.write_block, c.writer, c.write_tick))
    clash("write", c.write_block, c.writer);
  if (kind == Kind::read) {
    const bool other = c.reader != 0 && (c.read_block != b.number || c.reader != me);
    c.many_readers = c.many_readers || other;
    c.reader = me;
    c.read_block = b.number;
    c.read_tick = b.tick;
    c.read_bytes |= mask;
    return;
  }
  // A write after a read of another thread of this block in this phase, or of another block that released nothing since.
  if (c.reader != 0 && (c.read_bytes & mask) != 0 && !(c.read_block == b.number && c.reader == me && !c.many_readers) &&
      !(kind == Kind::atomic && c.atomic) && !global_ordered(b, t, c.read_block, c.reader, c.read_tick))
    clash("read", c.read_block, c.reader);
  c.write_bytes = static_cast<std::uint8_t>(c.writer == me && c.write_block == b.number ? c.write_bytes | mask : mask);
  c.writer = me;
  c.write_block = b.number;
  c.write_tick = b.tick;
  c.atomic = kind == Kind::atomic;
  c.reader = 0;
  c.read_bytes = 0;
  c.many_readers = false;
}

// A flag tells what its own thread and the block before its last barrier wrote. Whoever waits for it looks in a later grid, too,
// when ours has ended: so no other thread may write between the same two barriers, whichever comes first here.
void tells_of_others(const Block& b, const Phase& other, const Thread& t) {
  if (other.others_than(b.barrier_tick, static_cast<std::uint16_t>(t.index + 1)))
    fault_with(fmt::format("race between cards: a flag is stored and global memory written by thread {} and another with no barrier between", t.index));
}

void check_global(Block& b, std::uintptr_t at, std::size_t bytes, Kind kind) {
  Allocation* a = memory().find(at);
  if (a == nullptr) {
    if (!memory().holds(at) && kind == Kind::read && in_the_program(at)) return;
    fault_with(fmt::format("out of bounds: {} of {}", verb(kind), memory().describe(at, bytes)));
  }
  if (at + bytes > a->end)
    fault_with(fmt::format("out of bounds: {} of {} bytes at offset {} of {} ({} bytes)", verb(kind), bytes,
                           at - a->begin, a->what, a->end - a->begin));
  Thread& t = running_thread();
  if (kind != Kind::read) t.fenced = false;
  if (kind == Kind::write) {
    b.wrote.note(b.barrier_tick, static_cast<std::uint16_t>(t.index + 1));
    tells_of_others(b, b.told, t);
  }
  if (a->shadow.empty()) a->shadow.resize((a->end - a->begin + 3) / 4);
  for (std::uintptr_t word = at / 4 * 4; word < at + bytes; word += 4) {
    std::uint8_t mask = 0;
    for (std::uintptr_t i = 0; i < 4; ++i)
      if (word + i >= at && word + i < at + bytes) mask |= static_cast<std::uint8_t>(1u << i);
    check_word(b, t, a->shadow[(word - a->begin) / 4], mask, kind, *a, word);
  }
}

void check(std::uintptr_t at, std::size_t bytes, Kind kind) {
  Block* b = running_block();
  if (b == nullptr || on_a_stack(at)) return;
  ++counts().accesses;
  if (bytes <= 16 && (bytes & (bytes - 1)) == 0 && at % bytes != 0)
    fault_with(fmt::format("misaligned: {} of {} bytes at an address that is {} past a multiple", verb(kind), bytes,
                           at % bytes));
  const std::uintptr_t shared = reinterpret_cast<std::uintptr_t>(b->shared.get());
  if (at - shared < Block::kSharedMax) return check_shared(*b, at - shared, bytes, kind);
  check_global(*b, at, bytes, kind);
}

std::uintptr_t address(const void* at) { return reinterpret_cast<std::uintptr_t>(at); }

}  // namespace

void check_read(const void* at, std::size_t bytes) { check(address(at), bytes, Kind::read); }
void check_write(void* at, std::size_t bytes) { check(address(at), bytes, Kind::write); }

void fence() { running_thread().fenced = true; }

void check_atomic(void* at, std::size_t bytes) {
  Block& b = *running_block();
  const bool fenced = running_thread().fenced;
  check(address(at), bytes, Kind::atomic);
  if (!memory().holds(address(at))) return;
  ++b.atomic_tick;
  b.acquired = b.atomic_tick;
  if (fenced) b.released[b.number] = b.atomic_tick;
}

namespace {
std::map<std::uintptr_t, Release>& releases() {      // by the flag's address
  static std::map<std::uintptr_t, Release> all;
  return all;
}
}  // namespace

void store_flag(std::uint32_t* at, std::uint32_t value) {
  Block& b = *running_block();
  const Thread& t = running_thread();
  check(address(at), 4, Kind::atomic);
  b.told.note(b.barrier_tick, static_cast<std::uint16_t>(t.index + 1));
  tells_of_others(b, b.wrote, t);
  *at = value;
  releases()[address(at)] = {.launch = b.launch, .block = b.number, .barrier_tick = b.barrier_tick, .tick = b.tick,
                             .thread = static_cast<std::uint16_t>(t.index + 1)};
  tell_flags();
}

bool wait_flag(const std::uint32_t* at, std::uint32_t least, const std::uint32_t* left) {
  Block& b = *running_block();
  Thread& t = running_thread();
  check(address(at), 4, Kind::atomic);
  t.flag = at, t.left = left, t.flag_value = least;
  while (static_cast<std::int32_t>(*t.flag - least) < 0) {
    if (*t.left != 0) return false;
    wait_at_flag();
  }
  const auto found = releases().find(address(at));
  if (found == releases().end()) return true;        // told by an earlier grid that has ended
  Release r = found->second;
  r.acquired_tick = b.tick;
  r.acquired_by = static_cast<std::uint16_t>(t.index + 1);
  std::erase_if(b.from_cards, [&](const Release& o) { return o.launch == r.launch && o.block == r.block; });
  b.from_cards.push_back(r);
  return true;
}

template <class T>
T atomic_apply(T* at, T (*f)(T old, T operand), T operand) {
  check_atomic(at, sizeof(T));
  const T old = *at;
  *at = f(old, operand);
  return old;
}
template std::uint32_t atomic_apply(std::uint32_t*, std::uint32_t (*)(std::uint32_t, std::uint32_t), std::uint32_t);
template std::int32_t atomic_apply(std::int32_t*, std::int32_t (*)(std::int32_t, std::int32_t), std::int32_t);
template float atomic_apply(float*, float (*)(float, float), float);
template double atomic_apply(double*, double (*)(double, double), double);
template unsigned long long atomic_apply(unsigned long long*,
                                         unsigned long long (*)(unsigned long long, unsigned long long),
                                         unsigned long long);
std::uint32_t atomic_swap_if(std::uint32_t* at, std::uint32_t expected, std::uint32_t value) {
  check_atomic(at, 4);
  const std::uint32_t old = *at;
  if (old == expected) *at = value;
  return old;
}

}  // namespace tokenworks::emulator
