#pragma once
// TunedProducts: which kernel multiplies which matrix. Per shape and bucket of rows the library's ways and the own kernels are
// timed once, at start, over as many different matrices as there are of the shape (one alone would be read from the card's L2);
// the fastest does it from then on. A way of the library is taken only if its result, written and added, is the own kernel's
// within the tolerance of its elements: one that differs is logged and never used. What was found is kept in a file, good for
// the same card, driver and version of the library; what comes from the file is compared again before its first use. Without a
// library the own kernels do everything and nothing is timed. The engine thread.
#include <array>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "backend/cuda/device.hpp"
#include "backend/cuda/objects.hpp"

namespace tokenworks::backend::cuda {

class TunedProducts {
 public:
  // `file` empty: nothing is kept. `now_ns`: a steady clock.
  TunedProducts(Device& device, std::string file, std::function<std::int64_t()> now_ns);

  // Times what is not known yet, for every bucket up to `rows`; matrices of one shape belong together. Waits for the device.
  void tune(std::span<const std::shared_ptr<const Matrix>> matrices, std::int32_t rows);
  // Enqueues the product with what was found best; with `may_time` it is found now where it was not. Not for GGUF blocks.
  void multiply(const kernels::cuda::LinearArgs& args, bool may_time);
  std::size_t known() const { return best_.size(); }

 private:
  using Best = std::optional<Way>;                   // none: the own kernels
  using Product = std::array<std::int32_t, 5>;       // element, n, k, with bias, bucket of rows

  static constexpr std::int32_t kSmallRows = 16;     // up to here the streaming kernel; above it the tiles
  static std::int32_t bucket_of(std::int32_t rows);
  static Product key_of(const kernels::cuda::Weights& weights, std::int32_t bucket);
  void own(const kernels::cuda::LinearArgs& args);
  void time(std::span<const kernels::cuda::Weights> weights, kernels::cuda::LinearArgs args, std::int32_t bucket);
  // Nanoseconds of a product done so; nothing when it cannot be.
  std::optional<std::int64_t> timed(std::span<const kernels::cuda::Weights> weights, kernels::cuda::LinearArgs args, const Best& how);
  bool right(const kernels::cuda::LinearArgs& args, const Way& way);   // its result is the own kernel's
  bool write_pattern(const Memory& to, std::size_t bytes, kernels::cuda::Element element);
  bool write_scales(std::size_t rows);
  bool sample(const kernels::cuda::LinearArgs& args, std::vector<float>& rows);
  bool reserve(const kernels::cuda::LinearArgs& args, std::int32_t bucket);
  void release();
  std::string header() const;
  void read();
  void write() const;

  Device& device_;
  MatrixLibrary* const library_;
  std::string file_;
  std::function<std::int64_t()> now_ns_;
  std::map<Product, Best> best_, kept_;              // kept_: of the file, not compared yet
  Memory in_, scales_, out_;                         // while timing
  Pinned pinned_;
  std::vector<float> expected_, found_;              // rows of a result, on the host
};

}  // namespace tokenworks::backend::cuda
