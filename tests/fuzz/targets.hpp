#pragma once
// Targets: what reads bytes from outside, each as one function of bytes that must return whatever they are: no crash, no
// leak, in bounded time and memory. A target also aborts where a promise of its room is broken (a head read in pieces is the
// same head). libfuzzer.cpp drives them with coverage (clang), fuzz_test.cpp over the corpus with fixed mutations.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

namespace tokenworks::fuzz {

void http_head(std::string_view input);
void json_bodies(std::string_view input);
void grammar(std::string_view input);
void chat_template(std::string_view input);
void gguf(std::string_view input);
void safetensors(std::string_view input);
void tokenizer_json(std::string_view input);
void config_yaml(std::string_view input);
void answers(std::string_view input);

struct Target {
  const char* name;                                  // its folder in corpus/
  void (*run)(std::string_view input);
  std::size_t bytes_max;
};
inline constexpr Target kTargets[] = {
    {"http_head", http_head, 8192},       {"json_bodies", json_bodies, 8192}, {"grammar", grammar, 2048},
    {"chat_template", chat_template, 4096}, {"gguf", gguf, 8192},             {"safetensors", safetensors, 2048},
    {"tokenizer_json", tokenizer_json, 8192}, {"config_yaml", config_yaml, 6144}, {"answers", answers, 2048},
};

// Several texts in one input stand between lines of this.
inline constexpr std::string_view kBetween = "\n=====\n";
inline std::string_view next_part(std::string_view& rest) {
  const std::size_t at = rest.find(kBetween);
  const std::string_view part = rest.substr(0, at);
  rest = at == std::string_view::npos ? std::string_view() : rest.substr(at + kBetween.size());
  return part;
}

inline void must(bool promise, const char* what) {
  if (promise) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

}  // namespace tokenworks::fuzz
