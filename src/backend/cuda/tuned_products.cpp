#include "backend/cuda/tuned_products.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "tokenworks/base/log.hpp"

namespace tokenworks::backend::cuda {

using kernels::cuda::Element;
using kernels::cuda::LinearArgs;
using kernels::cuda::Weights;

namespace {

constexpr int kWays = 8, kRepetitions = 6;
constexpr std::size_t kScratchMost = std::size_t{1} << 30;   // a bucket whose result is larger is not timed
constexpr const char* kOwn = "own";

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
    device_.fill(memory->data(), 0, bytes, device_.stream());
  }
  return true;
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
  std::vector<Best> candidates{std::nullopt};
  for (const Way& way : library_->ways(args, kWays)) candidates.emplace_back(way);
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
  return fmt::format("tokenworks products 1, {}, {}, {}", device_.info().name, device_.info().architecture, library_->version());
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
    if (how == kOwn) best_[key] = std::nullopt;
    else if (const auto way = parsed(how)) best_[key] = way;
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
