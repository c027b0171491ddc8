#include "tokenizer/merger.hpp"

#include <algorithm>
#include <array>

namespace tokenworks::tokenizer {
namespace {
constexpr std::size_t kShort = 48;  // below this a scan per merge beats a heap
}

void Merger::merge(std::vector<Symbol>& symbols) const {
  if (symbols.size() < 2) return;
  if (symbols.size() <= kShort) {
    merge_short(symbols);
  } else {
    merge_long(symbols);
  }
}

void Merger::merge_short(std::vector<Symbol>& symbols) const {
  std::array<Merge, kShort> next;  // next[i]: what symbols i and i + 1 would become
  std::size_t n = symbols.size();
  for (std::size_t i = 0; i + 1 < n; ++i) next[i] = best(symbols[i], symbols[i + 1]);
  while (n > 1) {
    std::size_t at = 0;
    for (std::size_t i = 1; i + 1 < n; ++i) {
      if (next[i].priority < next[at].priority) at = i;
    }
    if (next[at].priority == kNone) break;
    symbols[at] = next[at].result;
    for (std::size_t i = at + 1; i + 1 < n; ++i) {
      symbols[i] = symbols[i + 1];
      if (i + 2 < n) next[i] = next[i + 1];
    }
    --n;
    if (at + 1 < n) next[at] = best(symbols[at], symbols[at + 1]);
    if (at > 0) next[at - 1] = best(symbols[at - 1], symbols[at]);
  }
  symbols.resize(n);
}

void Merger::merge_long(std::vector<Symbol>& symbols) const {
  struct Node {
    std::int32_t previous, next;  // -1: none
    Symbol pending;               // what this and the next would become; kGone: no such pair
  };
  struct Candidate {
    std::uint32_t priority;
    std::int32_t at;
    Symbol result;
    bool operator<(const Candidate& other) const {  // std heaps keep the largest on top
      return priority != other.priority ? priority > other.priority : at > other.at;
    }
  };
  constexpr Symbol kGone = -2;
  const auto n = static_cast<std::int32_t>(symbols.size());
  std::vector<Node> nodes(symbols.size());
  std::vector<Candidate> heap;
  heap.reserve(symbols.size());
  const auto consider = [&](std::int32_t at) {
    Node& node = nodes[static_cast<std::size_t>(at)];
    node.pending = kGone;
    if (node.next < 0) return false;
    const Merge merge = best(symbols[static_cast<std::size_t>(at)], symbols[static_cast<std::size_t>(node.next)]);
    if (merge.priority == kNone) return false;
    node.pending = merge.result;
    heap.push_back({merge.priority, at, merge.result});
    return true;
  };
  for (std::int32_t i = 0; i < n; ++i) {
    nodes[static_cast<std::size_t>(i)] = {i - 1, i + 1 < n ? i + 1 : -1, kGone};
    consider(i);
  }
  std::make_heap(heap.begin(), heap.end());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate top = heap.back();
    heap.pop_back();
    Node& node = nodes[static_cast<std::size_t>(top.at)];
    if (node.pending != top.result) continue;  // out of date: one of the two was merged since
    Node& eaten = nodes[static_cast<std::size_t>(node.next)];
    symbols[static_cast<std::size_t>(top.at)] = top.result;
    eaten.pending = kGone;
    symbols[static_cast<std::size_t>(node.next)] = kGone;
    node.next = eaten.next;
    if (node.next >= 0) nodes[static_cast<std::size_t>(node.next)].previous = top.at;
    if (consider(top.at)) std::push_heap(heap.begin(), heap.end());
    if (node.previous >= 0 && consider(node.previous)) std::push_heap(heap.begin(), heap.end());
  }
  std::erase(symbols, kGone);
}

}  // namespace tokenworks::tokenizer
