// Time of a grammar's masks on the demo model's 49,152 tokens, along answers under real schemas: what the engine's thread
// pays per step of a sequence (the mask, and taking the token), for an answer of a grammar that nobody has used yet and for
// one that has answered before; and what compiling costs, on a worker.
//   tests/bench/run --masks         prints the rows with their limit and ends with 1 when the median misses it
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "unit/grammar/vocabulary.hpp"

namespace tokenworks::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;
constexpr double kMedianLimitUs = 50;

double us(Clock::duration d) { return std::chrono::duration<double, std::micro>(d).count(); }

double percentile(std::vector<double>& values, double p) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<std::size_t>(p * static_cast<double>(values.size())))];
}

std::string row(const std::string& what, std::vector<double>& values, bool limited) {
  const double median = percentile(values, 0.5);
  const std::string limit = !limited ? "" : fmt::format("<= {:.0f} {}", kMedianLimitUs, median <= kMedianLimitUs ? "ok" : "MISSED");
  return fmt::format("| {:<46} | {:>8} | {:>8.2f} | {:>8.1f} | {:>8.1f} | {:>8.0f} | {} |\n", what, values.size(), median, percentile(values, 0.9),
                     percentile(values, 0.99), values.back(), limit);
}

// A plausible answer: the valid instances of the schemas, and free strings of some length where the schema lets them be.
std::vector<std::vector<TokenId>> answers_of(const Json& valid) {
  std::vector<std::vector<TokenId>> answers;
  for (std::size_t i = 0; i < valid.size() && answers.size() < 24; i += 1 + valid.size() / 24) {
    answers.push_back(grammar::test::demo_tokenizer()->encode(valid[i].get<std::string>()));
  }
  return answers;
}

int run() {
  std::ifstream file(tokenworks::test::golden_path("grammars") + "/schemas.json");
  if (!file) {
    std::fprintf(stderr, "build/golden/grammars/schemas.json is missing: tests/run makes it\n");
    return 2;
  }
  Json cases = Json::parse(file);
  const std::string prose = "The plant turns capacity into tokens, and every token is counted where it is made. ";
  cases.push_back({{"schema", Json::parse(R"({"type":"object","properties":{"title":{"type":"string"},"body":{"type":"string","maxLength":2000},"tags":{"type":"array","items":{"type":"string"}}},"required":["title","body","tags"],"additionalProperties":false})")},
                   {"valid", {Json{{"title", prose}, {"body", prose + prose + prose + prose}, {"tags", {"a", "plant", "b c"}}}.dump()}}});
  grammar::test::demo_trie();
  std::vector<double> compile_ms, first, again;
  for (const auto& c : cases) {
    const auto answers = answers_of(c.at("valid"));
    const auto begin = Clock::now();
    const auto compiled = grammar::compile(grammar::Kind::json_schema, c.at("schema").dump(), grammar::test::demo_trie());
    compile_ms.push_back(us(Clock::now() - begin));
    if (!compiled) {
      std::fprintf(stderr, "%s\n", compiled.error().message.c_str());
      return 2;
    }
    for (auto* times : {&first, &again}) {
      for (const auto& answer : answers) {
        const auto matcher = (*compiled)->matcher();
        for (const TokenId id : answer) {
          const auto at = Clock::now();
          matcher->mask();
          const bool taken = matcher->accept(id);
          times->push_back(us(Clock::now() - at));
          if (!taken) break;
        }
      }
    }
  }
  std::string out = fmt::format("| {:<46} | {:>8} | {:>8} | {:>8} | {:>8} | {:>8} | limit on the median |\n|{:-<48}|{:->10}|{:->10}|{:->10}|{:->10}|{:->10}|---|\n",
                                "microseconds, 49,152 tokens, JSON schemas", "times", "median", "p90", "p99", "worst", "", "", "", "", "", "");
  out += row("mask and token of a grammar's first answers", first, true);
  out += row("the same answers again", again, true);
  out += row("compiling a schema (on a worker)", compile_ms, false);
  std::fputs(out.c_str(), stdout);
  return percentile(first, 0.5) <= kMedianLimitUs && percentile(again, 0.5) <= kMedianLimitUs ? 0 : 1;
}

}  // namespace
}  // namespace tokenworks::bench

int main() { return tokenworks::bench::run(); }
