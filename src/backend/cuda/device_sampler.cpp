#include "backend/cuda/device_sampler.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace tokenworks::backend::cuda {

using kernels::cuda::SampleSpec;
using kernels::cuda::TopLogprob;

namespace {

constexpr std::size_t kSpecWords = sizeof(SampleSpec) / sizeof(std::int32_t);

bool penalised(const SampleRow& row) {
  const SamplingParams& p = *row.params;
  return !row.seen.empty() && (p.repetition_penalty != 1.0f || p.presence_penalty != 0.0f || p.frequency_penalty != 0.0f);
}

void split(std::uint64_t v, std::uint32_t (&words)[2]) {
  words[0] = static_cast<std::uint32_t>(v);
  words[1] = static_cast<std::uint32_t>(v >> 32);
}

std::size_t result_bytes(std::size_t rows, std::int32_t top_max) {
  return rows * (8 + static_cast<std::size_t>(top_max) * sizeof(TopLogprob));
}

}  // namespace

void DeviceSampler::pack(std::span<const SampleRow> rows, std::int32_t vocab) {
  words_.assign(rows.size() * kSpecWords, 0);
  changed_rows_ = top_max_ = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const SampleRow& row = rows[i];
    const SamplingParams& p = *row.params;
    const float inverse = 1.0f / p.temperature;
    SampleSpec spec{};
    spec.greedy = !(p.temperature > 0) || !std::isfinite(inverse);
    spec.inverse_temperature = inverse;
    spec.top_p = p.top_p;
    spec.min_p = p.min_p;
    spec.repetition = p.repetition_penalty;
    spec.presence = p.presence_penalty;
    spec.frequency = p.frequency_penalty;
    spec.top_k = p.top_k;
    spec.top_logprobs = p.top_logprobs;
    split(p.seed, spec.seed);
    split(static_cast<std::uint64_t>(row.position), spec.position);
    spec.choice = row.choice;
    const auto here = [&] { return static_cast<std::int32_t>(words_.size() - rows.size() * kSpecWords); };
    spec.mask = -1;
    if (row.mask != nullptr) {
      spec.mask = here();
      const std::size_t at = words_.size(), n = (static_cast<std::size_t>(vocab) + 31) / 32;
      words_.resize(at + n);
      std::memcpy(words_.data() + at, row.mask, n * sizeof(std::uint32_t));
    }
    spec.bias = here();
    spec.bias_count = static_cast<std::int32_t>(row.bias.size());
    for (const TokenBias& b : row.bias) {
      words_.push_back(b.token);
      words_.push_back(std::bit_cast<std::int32_t>(b.bias));
    }
    spec.seen = here();
    if (penalised(row)) {
      spec.seen_count = static_cast<std::int32_t>(row.seen.size());
      for (const TokenCount& s : row.seen) {
        words_.push_back(s.token);
        words_.push_back(s.in_output);
      }
    }
    spec.rules = spec.mask >= 0 || spec.bias_count > 0 || spec.seen_count > 0;
    if (spec.rules != 0) spec.changed_row = changed_rows_++;
    spec.draft = row.draft;
    top_max_ = std::max(top_max_, std::min(p.top_logprobs, vocab));
    std::memcpy(words_.data() + i * kSpecWords, &spec, sizeof spec);
  }
}

Result<> DeviceSampler::reserve(Device& device, std::size_t rows, std::size_t vocab, Pinned& pinned) {
  const std::size_t bytes = result_bytes(rows, top_max_);
  if (bytes > results_.bytes()) {
    const std::size_t room = std::max({bytes, 2 * results_.bytes(), std::size_t{4096}});
    auto memory = Memory::make(device, room, "sampled tokens");
    if (!memory) return memory.error();
    if (results_.bytes() > 0)                        // a draw before this one may still write
      if (auto idle = device.synchronise(device.stream()); !idle) return idle;
    results_ = std::move(*memory);
  }
  if (bytes > pinned.bytes()) {                      // nothing of this slot is under way: it was read
    auto made = Pinned::make(device, results_.bytes(), "sampled tokens");
    if (!made) return made.error();
    pinned = std::move(*made);
  }
  // Less than was asked for will do, down to a row: no request's rules are worth the others' lives.
  for (auto want = static_cast<std::size_t>(changed_rows_); want > 0; want /= 2) {
    if (want * vocab * sizeof(float) <= changed_.bytes()) break;
    auto changed = Memory::make(device, want * vocab * sizeof(float), "logits under rules");
    if (changed) {
      changed_ = std::move(*changed);
      break;
    }
    if (want == 1) return changed.error();
  }
  return {};
}

// Rows with rules share the scratch there is, by turns; the rows up to the first that finds no place in it are one launch.
std::vector<std::size_t> DeviceSampler::share_changed(std::size_t rows, std::size_t vocab) {
  const auto room = static_cast<std::int32_t>(std::min(changed_.bytes() / (vocab * sizeof(float)), static_cast<std::size_t>(changed_rows_)));
  std::vector<std::size_t> ends;
  for (std::size_t i = 0; i < rows && changed_rows_ > room; ++i) {
    SampleSpec spec;
    std::memcpy(&spec, words_.data() + i * kSpecWords, sizeof spec);
    if (spec.rules == 0) continue;
    if (spec.changed_row > 0 && spec.changed_row % room == 0) ends.push_back(i);
    spec.changed_row %= room;
    std::memcpy(words_.data() + i * kSpecWords, &spec, sizeof spec);
  }
  ends.push_back(rows);
  return ends;
}

Result<> DeviceSampler::enqueue(Device& device, StepState& state, const float* logits, std::int32_t vocab,
                                std::span<const SampleRow> rows, std::size_t slot) {
  pack(rows, vocab);
  Slot& to = slots_[slot];
  to.top_max = top_max_;
  to.wanted.clear();
  for (const SampleRow& row : rows) to.wanted.push_back(row.params->top_logprobs);
  if (rows.empty()) return {};
  const auto width = static_cast<std::size_t>(vocab);
  if (auto ok = reserve(device, rows.size(), width, to.results); !ok) return ok;
  const std::vector<std::size_t> ends = share_changed(rows.size(), width);
  const auto sent = state.send(words_);
  if (!sent) return sent.error();
  const std::size_t n = rows.size();
  kernels::cuda::SampleArgs args;
  args.logits = logits;
  args.changed = changed_.floats();
  args.specs = reinterpret_cast<const SampleSpec*>(*sent);
  args.lists = reinterpret_cast<const std::uint32_t*>(*sent) + n * kSpecWords;
  args.rows = static_cast<std::int32_t>(n);
  args.vocab = vocab;
  args.top_max = top_max_;
  args.tokens = reinterpret_cast<std::int32_t*>(results_.data());
  args.logprobs = results_.floats() + n;
  args.top = reinterpret_cast<TopLogprob*>(results_.data() + n * 8);
  for (std::size_t begin = 0; const std::size_t end : ends) {
    kernels::cuda::SampleArgs part = args;
    part.logits += begin * width;
    part.specs += begin;
    part.tokens += begin;
    part.logprobs += begin;
    part.top += begin * static_cast<std::size_t>(top_max_);
    part.rows = static_cast<std::int32_t>(end - begin);
    device.ops().sample(device.stream(), part);
    begin = end;
  }
  if (std::ranges::any_of(rows, [](const SampleRow& r) { return r.draft >= 0; }))
    device.ops().verify(device.stream(), {args.specs, args.rows, args.top_max, args.tokens, args.logprobs, args.top});
  const bool logprobs = std::ranges::any_of(rows, [](const SampleRow& r) { return r.params->top_logprobs >= 0; });
  device.copy_to_host(to.results.data(), results_.data(), logprobs ? result_bytes(n, top_max_) : n * sizeof(std::int32_t),
                      device.stream());
  return {};
}

void DeviceSampler::read(std::size_t slot, std::span<Sampled> out) const {
  const Slot& from = slots_[slot];
  const std::size_t n = from.wanted.size();
  const auto* const tokens = reinterpret_cast<const std::int32_t*>(from.results.data());
  const float* const logprobs = from.results.floats() + n;
  const auto* const top = reinterpret_cast<const TopLogprob*>(from.results.data() + n * 8);
  for (std::size_t i = 0; i < std::min(n, out.size()); ++i) {
    out[i] = {.token = tokens[i]};
    const std::int32_t wanted = from.wanted[i];
    if (out[i].token < 0 || wanted < 0) continue;
    out[i].logprob = logprobs[i];
    const TopLogprob* const mine = top + i * static_cast<std::size_t>(from.top_max);
    for (std::int32_t k = 0; k < std::min(wanted, from.top_max) && mine[k].token >= 0; ++k)
      out[i].top.push_back({mine[k].token, mine[k].logprob});
  }
}

}  // namespace tokenworks::backend::cuda
