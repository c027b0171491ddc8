#include "backend/cuda/tuned_products.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "backend/cuda/narrow.hpp"
#include "tokenworks/base/log.hpp"

namespace tokenworks::backend::cuda {

using kernels::cuda::Element;
using kernels::cuda::LinearArgs;
using kernels::cuda::Weights;

namespace {

constexpr int kWays = 8, kRepetitions = 6;
constexpr std::size_t kScratchMost = std::size_t{1} << 30;   // a bucket whose result is larger is not timed
constexpr const char* kOwn = "own";
constexpr std::size_t kSampleBytes = std::size_t{4} << 20;   // of a result, compared on the host
constexpr std::size_t kPatternBytes = std::size_t{1} << 20;

// Of the root mean square of a product. Both sum the same products in fp32, in another order; Hopper's fp8 units keep fewer bits.
double tolerance(Element element) { return element == Element::fp8 ? 1e-2 : 1e-3; }
constexpr double kWorst = 16;                        // a single element may differ by so many times that

// Values like activations: zeros would hide a wrong result and are multiplied faster than anything else.
void fill_pattern(std::span<std::byte> to, Element element) {
  std::uint32_t state = 12345;
  const auto next = [&] { return state = state * 1664525u + 1013904223u, static_cast<float>(state >> 8) * 0x1p-23f - 1.0f; };
  const std::size_t size = kernels::cuda::bytes_of(element);
  for (std::size_t at = 0; at + size <= to.size(); at += size) {
    const float v = next() + next() + next();
    if (element == Element::fp8) {
      to[at] = static_cast<std::byte>(narrow_fp8(v * 100));
    } else {
      const std::uint16_t bits = element == Element::f16 ? narrow_f16(v) : narrow_bf16(v);
      std::memcpy(&to[at], &bits, 2);
    }
  }
}

// Empty: the same within the tolerance.
std::string difference(std::span<const float> expected, std::span<const float> found, Element element) {
  double squares = 0, errors = 0, worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double e = static_cast<double>(found[i]) - static_cast<double>(expected[i]);
    if (!std::isfinite(e)) return "not a number";
    squares += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
    errors += e * e;
    worst = std::max(worst, std::abs(e));
  }
  const double n = static_cast<double>(std::max<std::size_t>(expected.size(), 1)), size = std::sqrt(squares / n), off = std::sqrt(errors / n);
  if (off <= tolerance(element) * size && worst <= kWorst * tolerance(element) * size) return "";
  return fmt::format("off by {:.3g} of its size, {:.3g} at worst", off / size, worst / size);
}

std::string spelled(const Way& way) {
  std::string text;
  for (const std::uint64_t word : way) text += fmt::format("{:016x}", word);
  return text;
}

std::optional<Way> parsed(const std::string& text) {
  Way way{};
  if (text.size() != 16 * way.size() || text.find_first_not_of("0123456789abcdef") != std::string::npos) return std::nullopt;
  for (std::size_t i = 0; i < way.size(); ++i) way[i] = std::stoull(text.substr(16 * i, 16), nullptr, 16);
  return way;
}

}  // namespace

TunedProducts::TunedProducts(Device& device, std::string file, std::function<std::int64_t()> now_ns)
    : device_(device), library_(device.products()), file_(std::move(file)), now_ns_(std::move(now_ns)) {
  if (library_ != nullptr) read();
}

std::int32_t TunedProducts::bucket_of(std::int32_t rows) {
  return static_cast<std::int32_t>(std::bit_ceil(static_cast<std::uint32_t>(std::max(rows, 1))));
}

TunedProducts::Product TunedProducts::key_of(const Weights& w, std::int32_t bucket) {
  return {static_cast<std::int32_t>(w.element), w.n, w.k, w.bias != nullptr, bucket};
}

void TunedProducts::own(const LinearArgs& args) {
  args.rows <= kSmallRows ? device_.ops().linear_small(device_.stream(), args) : device_.ops().linear(device_.stream(), args);
}

void TunedProducts::multiply(const LinearArgs& args, bool may_time) {
  if (library_ == nullptr || args.rows == 0) return own(args);
  const std::int32_t bucket = bucket_of(args.rows);
  const Product key = key_of(args.weights, bucket);
  auto found = best_.find(key);
  if (found == best_.end() && may_time) {
    time({&args.weights, 1}, args, bucket);
    write();
    release();
    found = best_.find(key);
  }
  if (found == best_.end() || !found->second || !library_->multiply(args, *found->second, device_.stream())) own(args);
}

void TunedProducts::tune(std::span<const std::shared_ptr<const Matrix>> matrices, std::int32_t rows) {
  if (library_ == nullptr) return;
  std::map<Product, std::vector<Weights>> shapes;
  for (const auto& m : matrices) {
    if (m->view.quant != kernels::cuda::Quant::none) continue;
    shapes[key_of(m->view, 0)].push_back(m->view);
  }
  const std::size_t before = best_.size();
  const std::int64_t began = now_ns_();
  for (const auto& [name, weights] : shapes) {
    LinearArgs args;
    args.weights = weights[0];
    args.in = {nullptr, nullptr, weights[0].element, weights[0].k, weights[0].stride};
    for (std::int32_t bucket = 1; bucket <= bucket_of(rows); bucket *= 2)
      if (!best_.contains(key_of(args.weights, bucket))) time(weights, args, bucket);
  }
  release();
  if (best_.size() == before) return;
  log::info("products_timed", {{"library", library_->version()}, {"products", static_cast<std::int64_t>(best_.size() - before)},
                               {"ms", (now_ns_() - began) / 1'000'000}});
  write();
}

void TunedProducts::release() {
  for (Memory* memory : {&in_, &scales_, &out_}) *memory = Memory();
  pinned_ = Pinned();
}

bool TunedProducts::reserve(const LinearArgs& args, std::int32_t bucket) {
  const auto rows = static_cast<std::size_t>(bucket);
  const std::size_t in = rows * static_cast<std::size_t>(args.weights.stride) * kernels::cuda::bytes_of(args.weights.element);
  const std::size_t out = rows * static_cast<std::size_t>(args.weights.n) * sizeof(float);
  if (std::max(in, out) > kScratchMost || in + out > device_.free_bytes() / 2) return false;
  for (const auto& [memory, bytes] : {std::pair{&in_, in}, {&scales_, rows * sizeof(float)}, {&out_, out}}) {
    if (memory->bytes() >= bytes) continue;
    *memory = Memory();                              // before the larger one is asked for
    auto made = Memory::make(device_, bytes, "room to time products");
    if (!made) return false;
    *memory = std::move(*made);
  }
  if (pinned_.bytes() == 0) {
    auto made = Pinned::make(device_, kSampleBytes, "room to compare products");
    if (!made) return false;
    pinned_ = std::move(*made);
  }
  return write_pattern(in_, in, args.weights.element) && write_scales(rows);
}

// Copies of one pattern, doubled on the device.
bool TunedProducts::write_pattern(const Memory& to, std::size_t bytes, Element element) {
  std::size_t done = std::min(kPatternBytes, bytes);
  fill_pattern({pinned_.data(), done}, element);
  device_.copy_to_device(to.data(), pinned_.data(), done, device_.stream());
  while (done < bytes) {
    const std::size_t n = std::min(done, bytes - done);
    device_.copy_on_device(to.data() + done, to.data(), n, device_.stream());
    done += n;
  }
  return static_cast<bool>(device_.synchronise(device_.stream()));
}

bool TunedProducts::write_scales(std::size_t rows) {
  const std::size_t n = std::min(rows, kSampleBytes / sizeof(float));
  for (std::size_t r = 0; r < n; ++r) pinned_.floats()[r] = 0.01f + 0.0001f * static_cast<float>(r % 97);
  device_.copy_to_device(scales_.data(), pinned_.data(), n * sizeof(float), device_.stream());
  return static_cast<bool>(device_.synchronise(device_.stream()));
}

// Rows from the result's begin, its end and between, into `rows`.
bool TunedProducts::sample(const LinearArgs& args, std::vector<float>& rows) {
  const std::size_t bytes = static_cast<std::size_t>(args.weights.n) * sizeof(float), all = static_cast<std::size_t>(args.rows);
  const std::size_t most = std::clamp<std::size_t>(kSampleBytes / bytes, 1, all);
  if (bytes > kSampleBytes) return false;
  rows.resize(most * static_cast<std::size_t>(args.weights.n));
  for (std::size_t i = 0; i < most; ++i) {
    const std::size_t row = most == 1 ? all - 1 : i * (all - 1) / (most - 1);
    device_.copy_to_host(pinned_.data() + i * bytes, out_.data() + row * bytes, bytes, device_.stream());
  }
  if (!device_.synchronise(device_.stream())) return false;
  std::memcpy(rows.data(), pinned_.data(), most * bytes);
  return true;
}

// Written over NaN and added once more: what the layers ask for. `expected_` is the own kernel's.
bool TunedProducts::right(const LinearArgs& args, const Way& way) {
  LinearArgs a = args;
  device_.fill(out_.data(), 0xFF, out_.bytes(), device_.stream());
  for (const bool onto : {false, true}) {
    a.accumulate = onto;
    if (!library_->multiply(a, way, device_.stream())) return false;
  }
  if (!sample(args, found_)) return false;
  const std::string wrong = difference(expected_, found_, args.weights.element);
  if (wrong.empty()) return true;
  log::warn("product_excluded", {{"library", library_->version()}, {"n", args.weights.n}, {"k", args.weights.k}, {"rows", args.rows},
                                 {"way", spelled(way)}, {"why", wrong}, {"instead", "another way or the own kernel"}});
  return false;
}

// Into memory of its own: a sum that is added to would count every repetition.
void TunedProducts::time(std::span<const Weights> weights, LinearArgs args, std::int32_t bucket) {
  args.in.columns = args.weights.k;
  args.in.stride = args.weights.stride;
  args.rows = bucket;
  args.accumulate = false;
  const Product key = key_of(args.weights, bucket);
  if (!reserve(args, bucket)) return;
  args.in.data = in_.data();
  args.in.scales = args.weights.element == Element::fp8 ? scales_.floats() : nullptr;
  args.out = out_.floats();
  device_.fill(out_.data(), 0xFF, out_.bytes(), device_.stream());
  for (const bool onto : {false, true}) {
    LinearArgs a = args;
    a.accumulate = onto;
    own(a);
  }
  if (!sample(args, expected_)) return;
  if (const auto kept = kept_.find(key); kept != kept_.end()) {
    const Best how = kept->second;
    kept_.erase(kept);
    if (!how || right(args, *how)) {
      best_[key] = how;
      return;
    }
  }
  std::vector<Best> candidates{std::nullopt};
  for (const Way& way : library_->ways(args, kWays))
    if (right(args, way)) candidates.emplace_back(way);
  std::optional<std::int64_t> shortest;
  Best best;
  for (const Best& how : candidates) {
    const auto took = timed(weights, args, how);
    if (!took || (shortest && *took >= *shortest)) continue;
    shortest = took;
    best = how;
  }
  best_[key] = best;
}

std::optional<std::int64_t> TunedProducts::timed(std::span<const Weights> weights, LinearArgs args, const Best& how) {
  const auto once = [&](int i) {
    args.weights = weights[static_cast<std::size_t>(i) % weights.size()];
    if (how) return library_->multiply(args, *how, device_.stream());
    own(args);
    return true;
  };
  if (!once(0) || !device_.synchronise(device_.stream())) return std::nullopt;
  const std::int64_t began = now_ns_();
  for (int i = 1; i <= kRepetitions; ++i)
    if (!once(i)) return std::nullopt;
  if (!device_.synchronise(device_.stream())) return std::nullopt;
  return now_ns_() - began;
}

std::string TunedProducts::header() const {
  return fmt::format("tokenworks products 2, {}, {}, driver {}, {}", device_.info().name, device_.info().architecture, device_.info().driver,
                     library_->version());
}

// A file that is not ours, of another card or half written is as good as none.
void TunedProducts::read() {
  std::ifstream file(file_);
  std::string line;
  if (file_.empty() || !std::getline(file, line) || line != header()) return;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    Product key{};
    std::string how;
    for (std::int32_t& part : key) words >> part;
    if (!(words >> how)) continue;
    if (how == kOwn) kept_[key] = std::nullopt;
    else if (const auto way = parsed(how)) kept_[key] = way;
  }
}

void TunedProducts::write() const {
  if (file_.empty()) return;
  std::error_code failed;
  std::filesystem::create_directories(std::filesystem::path(file_).parent_path(), failed);
  const std::string fresh = file_ + ".new";
  {
    std::ofstream file(fresh, std::ios::trunc);
    file << header() << "\n";
    for (const auto& [key, best] : best_) file << fmt::format("{} {}\n", fmt::join(key, " "), best ? spelled(*best) : kOwn);
    if (!file.flush()) failed = std::make_error_code(std::errc::io_error);
  }
  if (!failed) std::filesystem::rename(fresh, file_, failed);
  if (failed) log::warn("products_not_kept", {{"file", file_}, {"why", failed.message()}});
}

}  // namespace tokenworks::backend::cuda
