#pragma once
// Walker: where an answer can be in a Program: a few configurations, each a state and the stack of places to go back
// to. Stacks share their lower frames. Made for small sets: JSON has one or two configurations nearly always. An ambiguous
// grammar can have ever more of them: the work of a walk is bounded (`allow`), and who walks asks whether it was enough.
#include <algorithm>
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
inline constexpr std::size_t kConfigurationsMax = 512;  // more arise only in wildly ambiguous grammars
inline constexpr std::size_t kDepthMax = 2000;          // of calls that begin at one byte
inline constexpr std::size_t kMaskWork = 4'000'000;     // places looked at for one mask or one token: some tens of milliseconds

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

  // So many places may be looked at from now on. Once they are used up nothing is found any more: what was found is less
  // than the truth, and is to be thrown away.
  void allow(std::size_t work) { work_ = work; }
  std::size_t left() const { return work_; }
  bool exhausted() const { return work_ == 0; }

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
  // The places behind `byte`, from `state` and from what is reached without a byte: past calls that may be empty, each
  // state once (a repetition of something that may be empty leads back to itself).
  void advance(std::uint32_t state, std::uint32_t stack, std::uint8_t byte, Position& to, std::size_t depth) {
    if (!program_->states[state].first.has(byte)) return;
    const std::size_t begin = reached_.size();
    reached_.push_back(state);
    for (std::size_t i = begin; i < reached_.size(); ++i) {
      if (work_ == 0 || depth > kDepthMax) {
        work_ = 0;
        break;
      }
      --work_;
      const Program::State& s = program_->states[reached_[i]];
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
        if (callee.nullable && program_->states[call.back].first.has(byte) &&
            std::find(reached_.begin() + static_cast<std::ptrdiff_t>(begin), reached_.end(), call.back) == reached_.end())
          reached_.push_back(call.back);
      }
    }
    reached_.resize(begin);
  }
  // Adds a place and, where its rule may end, the places after it.
  void add(Position& to, Configuration c) {
    for (;;) {
      const Program::State& s = program_->states[c.state];
      if (!s.first.empty()) {
        for (const Configuration& known : to.at) {
          if (known.state == c.state && frames_[known.stack].hash == frames_[c.stack].hash) return;
        }
        if (to.at.size() >= kConfigurationsMax) {
          work_ = 0;
          return;
        }
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
  std::vector<std::uint32_t> reached_;  // of advance, used as a stack
  std::size_t work_ = kMaskWork;
};

}  // namespace tokenworks::grammar
