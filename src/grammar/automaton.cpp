#include "grammar/automaton.hpp"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace tokenworks::grammar {
namespace {

constexpr std::uint32_t kNowhere = ~0u;
constexpr std::size_t kNfaStatesMax = 1'000'000;  // of one rule; some 150 bytes each while it is built

// ---- Thompson's construction ----
struct Nfa {
  struct State {
    std::vector<std::uint32_t> silent;
    std::vector<ByteEdge> bytes;
    std::vector<CallEdge> calls;
  };
  std::vector<State> states;
};

struct Fragment {
  std::uint32_t begin, end;
};

class NfaBuilder {
 public:
  explicit NfaBuilder(Budget& budget) : budget_(budget) {}

  Fragment add(const Expr& e) {
    const std::uint32_t begin = fresh();
    if (!budget_.step() || !budget_.ok()) return {begin, begin};
    switch (e->kind) {
      case Node::Kind::nothing:
        return {begin, fresh()};
      case Node::Kind::empty:
        return {begin, begin};
      case Node::Kind::bytes: {
        std::uint32_t at = begin;
        for (const char c : e->bytes) {
          const auto b = static_cast<std::uint8_t>(c);
          const std::uint32_t next = fresh();
          nfa.states[at].bytes.push_back({b, b, next});
          at = next;
        }
        return {begin, at};
      }
      case Node::Kind::set: {
        const std::uint32_t end = fresh();
        for (unsigned low = 0; low < 256; ++low) {
          if (!e->set.has(low)) continue;
          unsigned high = low;
          while (high < 255 && e->set.has(high + 1)) ++high;
          nfa.states[begin].bytes.push_back({static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high), end});
          low = high;
        }
        return {begin, end};
      }
      case Node::Kind::sequence: {
        std::uint32_t at = begin;
        for (const Expr& part : e->parts) at = append(at, part);
        return {begin, at};
      }
      case Node::Kind::choice: {
        const std::uint32_t end = fresh();
        for (const Expr& part : e->parts) {
          const Fragment f = add(part);
          join(begin, f.begin);
          join(f.end, end);
        }
        return {begin, end};
      }
      case Node::Kind::repeat:
        return repeat(e, begin);
      case Node::Kind::call: {
        const std::uint32_t end = fresh();
        nfa.states[begin].calls.push_back({e->rule, end});
        return {begin, end};
      }
      case Node::Kind::automaton:
        return embed(*e->dfa, begin);
    }
    return {begin, begin};
  }

  Nfa nfa;

 private:
  std::uint32_t fresh() {
    budget_.step();
    if (nfa.states.size() >= kNfaStatesMax) budget_.fail("the grammar repeats something too often to compile");
    if (budget_.ok()) nfa.states.emplace_back();
    return nfa.states.empty() ? 0 : static_cast<std::uint32_t>(nfa.states.size() - 1);
  }
  void join(std::uint32_t from, std::uint32_t to) {
    if (budget_.ok()) nfa.states[from].silent.push_back(to);
  }
  std::uint32_t append(std::uint32_t at, const Expr& part) {
    const Fragment f = add(part);
    join(at, f.begin);
    return f.end;
  }

  Fragment repeat(const Expr& e, std::uint32_t begin) {
    const Expr& what = e->parts[0];
    std::uint32_t at = begin;
    for (std::int64_t i = 0; i < e->min && budget_.ok(); ++i) at = append(at, what);
    if (e->max < 0) {  // loop: a fresh state keeps the way in apart from the body
      const std::uint32_t loop = fresh();
      join(at, loop);
      const Fragment f = add(what);
      join(loop, f.begin);
      join(f.end, loop);
      return {begin, loop};
    }
    const std::uint32_t end = fresh();
    join(at, end);
    for (std::int64_t i = e->min; i < e->max && budget_.ok(); ++i) {
      at = append(at, what);
      join(at, end);
    }
    return {begin, end};
  }

  Fragment embed(const Dfa& dfa, std::uint32_t begin) {
    const std::uint32_t end = fresh();
    std::vector<std::uint32_t> at;
    for (std::size_t i = 0; i < dfa.states.size() && budget_.ok(); ++i) at.push_back(i == 0 ? fresh() : fresh());
    if (!budget_.ok()) return {begin, end};
    join(begin, at[0]);
    for (std::size_t i = 0; i < dfa.states.size(); ++i) {
      for (const ByteEdge& edge : dfa.states[i].bytes)
        nfa.states[at[i]].bytes.push_back({edge.low, edge.high, at[edge.target]});
      if (dfa.states[i].final) join(at[i], end);
      budget_.step(1 + dfa.states[i].bytes.size());
    }
    return {begin, end};
  }

  Budget& budget_;
};

// ---- subset construction ----
struct SetHash {
  std::size_t operator()(const std::vector<std::uint32_t>& v) const {
    std::size_t h = 1469598103934665603ull;
    for (const std::uint32_t x : v) h = (h ^ x) * 1099511628211ull;
    return h;
  }
};

class Determinizer {
 public:
  Determinizer(const Nfa& nfa, std::uint32_t end, Budget& budget)
      : nfa_(nfa), end_(end), budget_(budget), mark_(nfa.states.size(), 0) {}

  Dfa run(std::uint32_t begin) {
    number({begin});
    for (std::size_t i = 0; i < sets_.size() && budget_.ok(); ++i) expand(i);
    if (dfa_.states.empty()) dfa_.states.emplace_back();
    return std::move(dfa_);
  }

 private:
  std::uint32_t number(std::vector<std::uint32_t> seeds) {
    close(seeds);
    const auto [at, fresh] = numbers_.try_emplace(seeds, static_cast<std::uint32_t>(sets_.size()));
    if (fresh && budget_.state()) {
      sets_.push_back(&at->first);
      Dfa::State state;
      state.final = std::binary_search(seeds.begin(), seeds.end(), end_);
      state.twin = at->second;
      dfa_.states.push_back(std::move(state));
    }
    return budget_.ok() ? at->second : 0;
  }

  void close(std::vector<std::uint32_t>& set) {
    ++generation_;
    std::vector<std::uint32_t> open;
    open.swap(set);
    for (const std::uint32_t s : open) mark_[s] = generation_;
    while (!open.empty() && budget_.step()) {
      const std::uint32_t s = open.back();
      open.pop_back();
      set.push_back(s);
      for (const std::uint32_t t : nfa_.states[s].silent) {
        if (mark_[t] == generation_) continue;
        mark_[t] = generation_;
        open.push_back(t);
      }
    }
    // States that only lead silently elsewhere say nothing; without them equal places are seen to be equal.
    std::erase_if(set, [&](std::uint32_t s) {
      return s != end_ && nfa_.states[s].bytes.empty() && nfa_.states[s].calls.empty();
    });
    std::sort(set.begin(), set.end());
  }

  void expand(std::size_t i) {
    const std::vector<std::uint32_t>& set = *sets_[i];
    std::vector<ByteEdge> edges;
    std::map<RuleId, std::vector<std::uint32_t>> calls;
    std::vector<unsigned> cuts{0};
    for (const std::uint32_t s : set) {
      for (const ByteEdge& e : nfa_.states[s].bytes) {
        edges.push_back(e);
        cuts.push_back(e.low);
        cuts.push_back(e.high + 1u);
      }
      for (const CallEdge& c : nfa_.states[s].calls) calls[c.rule].push_back(c.target);
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    budget_.step(edges.size() + cuts.size());
    for (std::size_t c = 0; c < cuts.size() && cuts[c] < 256 && budget_.ok(); ++c) {
      const unsigned low = cuts[c], high = c + 1 < cuts.size() ? cuts[c + 1] - 1 : 255;
      std::vector<std::uint32_t> targets;
      for (const ByteEdge& e : edges) {
        if (e.low <= low && low <= e.high) targets.push_back(e.target);
      }
      budget_.step(edges.size());
      if (targets.empty()) continue;
      std::sort(targets.begin(), targets.end());
      targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
      const std::uint32_t target = number(std::move(targets));
      if (!budget_.ok()) return;
      std::vector<ByteEdge>& out = dfa_.states[i].bytes;
      if (!out.empty() && out.back().target == target && out.back().high + 1u == low) {
        out.back().high = static_cast<std::uint8_t>(high);
      } else {
        out.push_back({static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high), target});
      }
    }
    for (auto& [rule, targets] : calls) {
      const std::uint32_t target = number(std::move(targets));
      if (!budget_.ok()) return;
      dfa_.states[i].calls.push_back({rule, target});
    }
  }

  const Nfa& nfa_;
  const std::uint32_t end_;
  Budget& budget_;
  std::vector<std::uint32_t> mark_;
  std::uint32_t generation_ = 0;
  std::unordered_map<std::vector<std::uint32_t>, std::uint32_t, SetHash> numbers_;
  std::vector<const std::vector<std::uint32_t>*> sets_;  // keys of numbers_, which stay where they are
  Dfa dfa_;
};

// Chains state -> call R -> state -> call R ...: where both ends of the chain are out of reach of any token, all the
// same. A state of the chain has exactly one call edge; its byte edges and finality must equal those of its successor.
void find_twins(Dfa& dfa, std::size_t horizon) {
  const std::size_t n = dfa.states.size();
  std::vector<std::uint32_t> ahead(n, 0);  // how many equal successors follow along the chain
  std::vector<bool> has_previous(n, false);
  const auto alike = [&](std::uint32_t a, std::uint32_t b) {
    const Dfa::State &x = dfa.states[a], &y = dfa.states[b];
    return a != b && x.calls.size() == 1 && y.calls.size() == 1 && x.calls[0].rule == y.calls[0].rule &&
           x.final == y.final && x.bytes == y.bytes;
  };
  for (std::uint32_t s = 0; s < n; ++s) {
    if (dfa.states[s].calls.size() == 1 && alike(s, dfa.states[s].calls[0].target))
      has_previous[dfa.states[s].calls[0].target] = true;
  }
  for (std::uint32_t s = 0; s < n; ++s) {
    if (has_previous[s] || dfa.states[s].calls.size() != 1) continue;
    std::vector<std::uint32_t> chain{s};
    while (chain.size() <= n && dfa.states[chain.back()].calls.size() == 1 &&
           alike(chain.back(), dfa.states[chain.back()].calls[0].target)) {
      chain.push_back(dfa.states[chain.back()].calls[0].target);
    }
    // From chain[i] a token of `horizon` bytes gets at most to chain[i + horizon].
    for (std::size_t i = 1; i + horizon + 1 < chain.size(); ++i) dfa.states[chain[i]].twin = chain[0];
  }
}

// ---- products ----
template <class Keep>
Dfa product(const Dfa& a, const Dfa& b, bool b_may_die, Keep keep, Budget& budget) {
  Dfa out;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> numbers;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs;
  const auto number = [&](std::uint32_t x, std::uint32_t y) {
    const auto [at, fresh] = numbers.try_emplace({x, y}, static_cast<std::uint32_t>(pairs.size()));
    if (fresh && budget.state()) {
      pairs.emplace_back(x, y);
      Dfa::State state;
      state.final = keep(a.states[x].final, y != kNowhere && b.states[y].final);
      state.twin = at->second;
      out.states.push_back(std::move(state));
    }
    return at->second;
  };
  number(0, 0);
  for (std::size_t i = 0; i < pairs.size() && budget.ok(); ++i) {
    const auto [x, y] = pairs[i];
    for (const ByteEdge& e : a.states[x].bytes) {
      unsigned low = e.low;
      const auto put = [&](unsigned high, std::uint32_t other) {
        if (other == kNowhere && !b_may_die) return;
        const std::uint32_t target = number(e.target, other);
        if (budget.step())
          out.states[i].bytes.push_back({static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high), target});
      };
      if (y != kNowhere) {
        for (const ByteEdge& f : b.states[y].bytes) {
          if (f.high < low || f.low > e.high || !budget.step()) continue;
          if (f.low > low) put(f.low - 1u, kNowhere);
          low = std::max<unsigned>(low, f.low);
          const unsigned high = std::min(e.high, f.high);
          put(high, f.target);
          low = high + 1;
          if (low > e.high) break;
        }
      }
      if (low <= e.high) put(e.high, kNowhere);
      if (!budget.ok()) return out;
    }
  }
  return out;
}

}  // namespace

Dfa build(const Expr& expression, std::size_t horizon, Budget& budget) {
  NfaBuilder builder(budget);
  const Fragment whole = builder.add(expression);
  Dfa dfa;
  if (budget.ok()) dfa = Determinizer(builder.nfa, whole.end, budget).run(whole.begin);
  if (dfa.states.empty() || !budget.ok()) dfa.states.assign(1, {});
  find_twins(dfa, horizon);
  return dfa;
}

Dfa intersect(const Dfa& a, const Dfa& b, Budget& budget) {
  return product(a, b, false, [](bool x, bool y) { return x && y; }, budget);
}

Dfa subtract(const Dfa& a, const Dfa& b, Budget& budget) {
  return product(a, b, true, [](bool x, bool y) { return x && !y; }, budget);
}

bool accepts(const Dfa& dfa, std::string_view bytes) {
  std::uint32_t at = 0;
  for (const char c : bytes) {
    const auto b = static_cast<std::uint8_t>(c);
    const auto& edges = dfa.states[at].bytes;
    const auto edge =
        std::find_if(edges.begin(), edges.end(), [&](const ByteEdge& e) { return e.low <= b && b <= e.high; });
    if (edge == edges.end()) return false;
    at = edge->target;
  }
  return dfa.states[at].final;
}

bool accepts_nothing(const Dfa& dfa) {
  std::vector<bool> seen(dfa.states.size(), false);
  std::vector<std::uint32_t> open{0};
  seen[0] = true;
  while (!open.empty()) {
    const Dfa::State& s = dfa.states[open.back()];
    open.pop_back();
    if (s.final) return false;
    const auto go = [&](std::uint32_t t) {
      if (!seen[t]) seen[t] = true, open.push_back(t);
    };
    for (const ByteEdge& e : s.bytes) go(e.target);
    for (const CallEdge& c : s.calls) go(c.target);
  }
  return true;
}

}  // namespace tokenworks::grammar
