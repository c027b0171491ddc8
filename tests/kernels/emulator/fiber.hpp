#pragma once
// Fiber: a stack to run a function on and come back from, so that a thousand CUDA threads of a block are a thousand of
// these on one thread of the host. The switch is a few instructions on x86-64 and ucontext elsewhere. Kernels hold no
// objects with destructors, so a fiber that faulted is simply never resumed.
#include <cstddef>
#include <cstdint>
#include <memory>

namespace tokenworks::emulator {

// All stacks of a block in one mapping; fiber i may be started again once it ended or was abandoned.
class Fibers {
 public:
  static constexpr std::size_t kStackBytes = 64 << 10;

  explicit Fibers(int count);
  ~Fibers();
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  void start(int fiber, void (*entry)());            // the next resume enters `entry`, which must end in `yield` for good
  void resume(int fiber);                            // from the host's stack; returns at the fiber's next yield
  void yield();                                      // from a fiber, back to resume
  int running() const { return running_; }           // -1: the host's stack
  bool holds(std::uintptr_t address) const { return address - base_ < bytes_; }

 private:
  struct Contexts;
  std::uintptr_t base_ = 0;
  std::size_t bytes_ = 0;
  int running_ = -1;
  std::unique_ptr<Contexts> contexts_;
};

}  // namespace tokenworks::emulator
