#include "grammar/program.hpp"

#include <algorithm>
#include <cstring>
#include <span>

#include "tokenworks/base/crypto.hpp"

namespace tokenworks::grammar {
namespace {

constexpr std::size_t kPlacesMax = 20'000, kDepthMax = 2000;   // see Linker::refuse_ambiguity

std::uint64_t mix(std::uint64_t h, std::uint64_t x) {
  h ^= x + 0x9E3779B97F4A7C15ull + (h << 6) + (h >> 2);
  h *= 0xBF58476D1CE4E5B9ull;
  return h ^ h >> 29;
}

// Equal automata get equal hashes whatever grammar they are in; 0 for one with calls, or large. What is learnt under such a
// hash serves every tenant's grammars: nobody must be able to write another automaton with the hash of JSON's string.
std::uint64_t automaton_hash(const Dfa& dfa) {
  if (dfa.states.size() > 64) return 0;
  std::vector<std::uint64_t> words;
  for (const Dfa::State& s : dfa.states) {
    if (!s.calls.empty()) return 0;
    words.push_back(s.final ? 3 : 2);
    for (const ByteEdge& e : s.bytes)
      words.push_back(static_cast<std::uint64_t>(e.target) << 18 | static_cast<std::uint64_t>(e.high) << 10 | static_cast<std::uint64_t>(e.low) << 2 | 1);
  }
  Sha256 hash;
  hash.update(std::as_bytes(std::span(words)));
  const Digest digest = hash.finish();
  std::uint64_t h = 0;
  std::memcpy(&h, digest.data(), sizeof h);
  return h == 0 ? 1 : h;
}

class Linker {
 public:
  Linker(const std::vector<Dfa>& rules, const std::vector<std::string>& names, Budget& budget)
      : rules_(rules), names_(names), budget_(budget) {
    std::uint32_t base = 0;
    for (const Dfa& rule : rules) {
      bases_.push_back(base);
      base += static_cast<std::uint32_t>(rule.states.size());
    }
    productive_.assign(base, false);
    nullable_.assign(base, false);
  }

  Program run(RuleId start) {
    spread(productive_, [&](const Dfa::State& s, std::uint32_t base) {
      if (s.final) return true;
      for (const ByteEdge& e : s.bytes) {
        if (productive_[base + e.target]) return true;
      }
      for (const CallEdge& c : s.calls) {
        if (productive_[bases_[c.rule]] && productive_[base + c.target]) return true;
      }
      return false;
    });
    spread(nullable_, [&](const Dfa::State& s, std::uint32_t base) {
      if (s.final) return true;
      for (const CallEdge& c : s.calls) {
        if (nullable_[bases_[c.rule]] && nullable_[base + c.target]) return true;
      }
      return false;
    });
    Program program;
    if (!budget_.ok()) return program;
    if (!productive_[bases_[start]]) {
      budget_.fail("nothing can satisfy it");
      return program;
    }
    refuse_left_recursion();
    refuse_ambiguity();
    emit(program);
    program.start = bases_[start];
    find_first(program);
    return program;
  }

 private:
  // Marks states until nothing changes; targets mostly have higher numbers, so each pass goes backwards.
  template <class Rule>
  void spread(std::vector<bool>& mark, Rule rule) {
    for (bool changed = true; changed && budget_.ok();) {
      changed = false;
      for (std::size_t r = rules_.size(); r-- > 0;) {
        const auto& states = rules_[r].states;
        budget_.step(states.size());
        for (std::size_t s = states.size(); s-- > 0;) {
          const std::size_t at = bases_[r] + s;
          if (!mark[at] && rule(states[s], bases_[r])) mark[at] = changed = true;
        }
      }
    }
  }

  // A cycle of rules that call each other before reading anything would expand without end.
  void refuse_left_recursion() {
    std::vector<std::vector<RuleId>> calls(rules_.size());
    for (RuleId r = 0; r < rules_.size(); ++r) {
      std::vector<bool> seen(rules_[r].states.size(), false);
      std::vector<std::uint32_t> open{0};
      seen[0] = true;
      while (!open.empty() && budget_.step()) {
        const Dfa::State& s = rules_[r].states[open.back()];
        open.pop_back();
        for (const CallEdge& c : s.calls) {
          if (!productive_[bases_[c.rule]] || !productive_[bases_[r] + c.target]) continue;
          calls[r].push_back(c.rule);
          if (nullable_[bases_[c.rule]] && !seen[c.target]) seen[c.target] = true, open.push_back(c.target);
        }
      }
    }
    enum : std::uint8_t { fresh, open, done };
    std::vector<std::uint8_t> state(rules_.size(), fresh);
    for (RuleId root = 0; root < rules_.size(); ++root) {
      if (state[root] != fresh) continue;
      std::vector<std::pair<RuleId, std::size_t>> path{{root, 0}};
      state[root] = open;
      while (!path.empty() && budget_.step()) {
        auto& [rule, next] = path.back();
        if (next == calls[rule].size()) {
          state[rule] = done;
          callees_first_.push_back(rule);
          path.pop_back();
          continue;
        }
        const RuleId callee = calls[rule][next++];
        if (state[callee] == open)
          return budget_.fail(names_[callee] + " refers to itself before anything was read (left recursion)");
        if (state[callee] == fresh) {
          state[callee] = open;
          path.emplace_back(callee, 0);
        }
      }
    }
  }

  // How many places a byte may be looked for in, from one state: its own, those behind calls that may be empty, and those of
  // every rule called there, as often as they are called. A rule that calls two others that call two others grows fast.
  void refuse_ambiguity() {
    std::vector<std::size_t> places(rules_.size(), 0), depth(rules_.size(), 0);   // from each rule's start
    for (const RuleId r : callees_first_) {
      if (!budget_.ok()) return;
      places[r] = places_from(r, 0, places, depth);
      if (places[r] > kPlacesMax || depth[r] > kDepthMax) return budget_.fail(names_[r] + " is too ambiguous: it can be read in too many ways");
    }
    for (RuleId r = 0; r < rules_.size(); ++r) {
      for (std::uint32_t s = 1; s < rules_[r].states.size() && budget_.ok(); ++s) {
        if (rules_[r].states[s].calls.empty() || !productive_[bases_[r] + s]) continue;
        if (places_from(r, s, places, depth) > kPlacesMax) return budget_.fail(names_[r] + " is too ambiguous: it can be read in too many ways");
      }
    }
  }

  std::size_t places_from(RuleId r, std::uint32_t from, const std::vector<std::size_t>& places, std::vector<std::size_t>& depth) {
    std::size_t sum = 0;
    std::vector<std::uint32_t> reached{from};
    for (std::size_t i = 0; i < reached.size() && sum <= kPlacesMax && budget_.step(); ++i) {
      ++sum;
      for (const CallEdge& c : rules_[r].states[reached[i]].calls) {
        if (!productive_[bases_[c.rule]] || !productive_[bases_[r] + c.target]) continue;
        sum += places[c.rule];
        if (from == 0) depth[r] = std::max(depth[r], depth[c.rule] + 1);
        if (nullable_[bases_[c.rule]] && std::find(reached.begin(), reached.end(), c.target) == reached.end()) reached.push_back(c.target);
      }
    }
    return sum;
  }

  void emit(Program& program) {
    for (std::size_t r = 0; r < rules_.size() && budget_.ok(); ++r) {
      const std::uint32_t base = bases_[r];
      const std::uint64_t hash = automaton_hash(rules_[r]);
      const bool plain =
          std::all_of(rules_[r].states.begin(), rules_[r].states.end(), [](const auto& s) { return s.calls.empty(); });
      for (std::size_t i = 0; i < rules_[r].states.size(); ++i) {
        const Dfa::State& s = rules_[r].states[i];
        Program::State out{};
        out.byte_begin = static_cast<std::uint32_t>(program.byte_edges.size());
        for (const ByteEdge& e : s.bytes) {
          if (productive_[base + e.target]) program.byte_edges.push_back({e.low, e.high, base + e.target});
        }
        out.byte_end = static_cast<std::uint32_t>(program.byte_edges.size());
        out.call_begin = static_cast<std::uint32_t>(program.calls.size());
        for (const CallEdge& c : s.calls) {
          if (productive_[bases_[c.rule]] && productive_[base + c.target])
            program.calls.push_back({bases_[c.rule], base + c.target});
        }
        out.call_end = static_cast<std::uint32_t>(program.calls.size());
        out.twin = base + s.twin;
        out.final = s.final;
        out.nullable = nullable_[base + i];
        out.last = s.final && out.byte_begin == out.byte_end && out.call_begin == out.call_end;
        out.plain = plain;
        out.shared_key = hash == 0 ? 0 : mix(hash, i) | 1;
        program.states.push_back(out);
        budget_.step(1 + s.bytes.size() + s.calls.size());
      }
    }
  }

  void find_first(Program& program) {
    for (Program::State& s : program.states) {
      for (std::uint32_t e = s.byte_begin; e < s.byte_end; ++e)
        s.first |= ByteSet::range(program.byte_edges[e].low, program.byte_edges[e].high);
    }
    for (bool changed = true; changed && budget_.ok();) {
      changed = false;
      budget_.step(program.states.size());
      for (std::size_t i = program.states.size(); i-- > 0;) {
        Program::State& s = program.states[i];
        const ByteSet before = s.first;
        for (std::uint32_t c = s.call_begin; c < s.call_end; ++c) {
          const Program::Call& call = program.calls[c];
          s.first |= program.states[call.start].first;
          if (program.states[call.start].nullable) s.first |= program.states[call.back].first;
        }
        changed = changed || !(s.first == before);
      }
    }
  }

  const std::vector<Dfa>& rules_;
  const std::vector<std::string>& names_;
  Budget& budget_;
  std::vector<std::uint32_t> bases_;
  std::vector<bool> productive_, nullable_;
  std::vector<RuleId> callees_first_;                // every rule, behind those that it may begin with
};

}  // namespace

Program link(const std::vector<Dfa>& rules, const std::vector<std::string>& names, RuleId start, Budget& budget) {
  return Linker(rules, names, budget).run(start);
}

}  // namespace tokenworks::grammar
