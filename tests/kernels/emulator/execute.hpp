#pragma once
// The execution half of the emulator: runs a grid block by block, each block's threads as fibers in an order drawn from a
// seed, and stops at the first fault: an access outside what was allocated, a read of shared memory that nobody wrote, two
// accesses that no barrier orders, a barrier or warp operation that not every thread reaches, a copy read before it was
// waited for. A fault is a text; the device that launched becomes unusable by it, as a card does. One grid at a time runs
// in the process: `run_grid` holds the emulator's lock, except while all its threads wait for a flag of another card.
#include <cstdint>
#include <functional>
#include <string>

#include "memory.hpp"

namespace tokenworks::emulator {

struct Grid {
  std::uint32_t blocks[3] = {1, 1, 1};
  std::uint32_t threads[3] = {1, 1, 1};
  std::size_t shared_bytes = 0;
  const char* name = "";
  bool together = false;                             // its blocks wait for those of the same number on other cards
};

struct Options {
  std::uint64_t seed = 1;                            // of the order of blocks and threads
  int planted = 0;                                   // which TW_PLANT is true; 0: none
};
Options& options();                                  // set between launches

// Runs body() once per thread. Empty: all went well.
std::string run_grid(const Grid& grid, const std::function<void()>& body);

Memory& memory();                                    // device memory of every emulated device
std::size_t grids_begun();                           // under a Guard: grids that wait for a flag, since none runs
struct Guard {                                       // the emulator's lock, for those who allocate or look into memory
  Guard();
  ~Guard();
};

// What is counted over all grids, for tests that say how much was really checked.
struct Counts {
  std::uint64_t grids = 0, blocks = 0, threads = 0, switches = 0, accesses = 0;
};
Counts& counts();

}  // namespace tokenworks::emulator
