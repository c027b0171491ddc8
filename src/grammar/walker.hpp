#pragma once
// Walker: where an answer can be in a Program: a few configurations, each a state and the stack of places to go back
// to. Stacks share their lower frames. Made for small sets: JSON has one or two configurations nearly always.
#include <cstdint>
#include <vector>

#include "grammar/program.hpp"

namespace tokenworks::grammar {

struct Frame {
  std::uint32_t parent;
  std::uint32_t state;      // to go on from
  std::uint64_t hash;       // of the whole stack
  std::uint64_t twin_hash;  // of the stack with every state replaced by its twin
};
struct Configuration {
  std::uint32_t state;
  std::uint32_t stack;  // index of a frame; kBottom: nothing to go back to
};
inline constexpr std::uint32_t kBottom = 0;
inline constexpr std::size_t kConfigurationsMax =
    512;                                        // more arise only in wildly ambiguous grammars: the rest is dropped
inline constexpr std::size_t kDepthMax = 2000;  // of calls that begin at one byte

struct Position {
  std::vector<Configuration> at;  // every place that can read a byte
  bool complete = false;          // the bottom rule may end here
  bool dead() const { return at.empty() && !complete; }
};

class Walker {
 public:
  explicit Walker(const Program& program) : program_(&program) { frames_.push_back({kBottom, 0, 1, 1}); }

  Position start() {
    Position p;
    add(p, {program_->start, kBottom});
    return p;
  }
  // The place of a single state whose rule's end counts as complete: `state` itself is not ended here.
  Position alone(std::uint32_t state) { return {{{state, kBottom}}, false}; }
  // Where the answer goes on when the rule of a configuration with this stack ends.
  Position after(std::uint32_t stack) {
    Position p;
    add(p, {frames_[stack].state, frames_[stack].parent});
    return p;
  }

  void step(const Position& from, std::uint8_t byte, Position& to) {
    to.at.clear();
    to.complete = false;
    for (const Configuration& c : from.at) advance(c.state, c.stack, byte, to, 0);
  }

  const Frame& frame(std::uint32_t stack) const { return frames_[stack]; }
  std::size_t frames() const { return frames_.size(); }
  void truncate(std::size_t frames) { frames_.resize(frames); }  // forgets newer frames
  void compact(Position& position);  // forgets all frames but those of `position`, which it renumbers

 private:
  static std::uint64_t mix(std::uint64_t h, std::uint64_t x) {
    h = (h ^ x) * 0xBF58476D1CE4E5B9ull;
    h ^= h >> 31;
    h *= 0x94D049BB133111EBull;
    return h ^ h >> 29;
  }
  std::uint32_t push(std::uint32_t stack, std::uint32_t state) {
    if (program_->states[state].last) return stack;  // nothing to come back for: the caller's caller is next
    const Frame& below = frames_[stack];
    const Frame fresh{stack, state, mix(below.hash, state + 1ull),
                      mix(below.twin_hash, program_->states[state].twin + 1ull)};
    frames_.push_back(fresh);
    return static_cast<std::uint32_t>(frames_.size() - 1);
  }
  void advance(std::uint32_t state, std::uint32_t stack, std::uint8_t byte, Position& to, std::size_t depth) {
    const Program::State& s = program_->states[state];
    if (!s.first.has(byte) || depth > kDepthMax) return;
    for (std::uint32_t e = s.byte_begin; e < s.byte_end; ++e) {
      const ByteEdge& edge = program_->byte_edges[e];
      if (byte < edge.low) break;
      if (byte <= edge.high) {
        add(to, {edge.target, stack});
        break;
      }
    }
    for (std::uint32_t c = s.call_begin; c < s.call_end; ++c) {
      const Program::Call& call = program_->calls[c];
      const Program::State& callee = program_->states[call.start];
      if (callee.first.has(byte)) advance(call.start, push(stack, call.back), byte, to, depth + 1);
      if (callee.nullable) advance(call.back, stack, byte, to, depth + 1);
    }
  }
  // Adds a place and, where its rule may end, the places after it.
  void add(Position& to, Configuration c) {
    for (;;) {
      const Program::State& s = program_->states[c.state];
      if (!s.first.empty()) {
        for (const Configuration& known : to.at) {
          if (known.state == c.state && frames_[known.stack].hash == frames_[c.stack].hash) return;
        }
        if (to.at.size() >= kConfigurationsMax) return;
        to.at.push_back(c);
      }
      if (!s.nullable) return;
      if (c.stack == kBottom) {
        to.complete = true;
        return;
      }
      c = {frames_[c.stack].state, frames_[c.stack].parent};
    }
  }

  const Program* program_;
  std::vector<Frame> frames_;
};

}  // namespace tokenworks::grammar
