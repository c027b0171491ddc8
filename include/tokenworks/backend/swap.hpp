#pragma once
// SwapSpace: page-locked host memory for the KV blocks of preempted sequences, in slots of one block each. Copies are enqueued
// in order with the backend's ops: what a step reads was copied in before it, what is zeroed or written over was copied out
// before that; no call waits. Content never outlives its use: freed slots are zeroed in the same order, all of them at the
// end. The engine's thread; destroyed before the cache it was made for.
#include <cstdint>
#include <span>

namespace tokenworks::backend {

class SwapSpace {
 public:
  virtual ~SwapSpace() = default;
  virtual std::int32_t slots() const = 0;
  virtual double move_ns() const = 0;                // what one block takes one way: timed when the space was made
  // blocks[i] of the cache to slots[i], and back. As many of each.
  virtual void out(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) = 0;
  virtual void in(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) = 0;
  virtual void zero(std::span<const std::int32_t> slots) = 0;
};

}  // namespace tokenworks::backend
