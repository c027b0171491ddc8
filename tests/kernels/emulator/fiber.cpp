#include "fiber.hpp"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace tokenworks::emulator {

#if defined(__x86_64__)

// Saves the callee-saved registers on the present stack, its pointer in *from, and continues on the stack of `to`.
extern "C" void tw_emulator_switch(void** from, void* to);
__asm__(
    ".text\n"
    ".globl tw_emulator_switch\n"
    ".type tw_emulator_switch,@function\n"
    "tw_emulator_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size tw_emulator_switch,.-tw_emulator_switch\n");

struct Fibers::Contexts {
  explicit Contexts(int count) : fibers(static_cast<std::size_t>(count)) {}
  std::vector<void*> fibers;
  void* host = nullptr;
};

void Fibers::start(int fiber, void (*entry)()) {
  auto* top = reinterpret_cast<void**>(base_ + static_cast<std::size_t>(fiber + 1) * kStackBytes);
  *--top = nullptr;                                  // the return address of `entry`, never used; keeps 16-byte alignment
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  contexts_->fibers[static_cast<std::size_t>(fiber)] = top;
}

void Fibers::resume(int fiber) {
  running_ = fiber;
  tw_emulator_switch(&contexts_->host, contexts_->fibers[static_cast<std::size_t>(fiber)]);
  running_ = -1;
}

void Fibers::yield() {
  tw_emulator_switch(&contexts_->fibers[static_cast<std::size_t>(running_)], contexts_->host);
}

#else

struct Fibers::Contexts {
  explicit Contexts(int count) : fibers(static_cast<std::size_t>(count)) {}
  std::vector<ucontext_t> fibers;
  ucontext_t host;
};

void Fibers::start(int fiber, void (*entry)()) {
  ucontext_t& c = contexts_->fibers[static_cast<std::size_t>(fiber)];
  getcontext(&c);
  c.uc_stack.ss_sp = reinterpret_cast<void*>(base_ + static_cast<std::size_t>(fiber) * kStackBytes);
  c.uc_stack.ss_size = kStackBytes;
  c.uc_link = nullptr;
  makecontext(&c, entry, 0);
}

void Fibers::resume(int fiber) {
  running_ = fiber;
  swapcontext(&contexts_->host, &contexts_->fibers[static_cast<std::size_t>(fiber)]);
  running_ = -1;
}

void Fibers::yield() { swapcontext(&contexts_->fibers[static_cast<std::size_t>(running_)], &contexts_->host); }

#endif

Fibers::Fibers(int count) : bytes_(static_cast<std::size_t>(count) * kStackBytes) {
  void* at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    std::perror("emulator: stacks");
    std::abort();
  }
  base_ = reinterpret_cast<std::uintptr_t>(at);
  contexts_ = std::make_unique<Contexts>(count);
}

Fibers::~Fibers() { munmap(reinterpret_cast<void*>(base_), bytes_); }

}  // namespace tokenworks::emulator
