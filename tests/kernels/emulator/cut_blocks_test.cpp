// Columns of GGUF matrices cut among ranks: where a share is whole blocks they stay packed, where the cut goes through a block
// (K-quants over many cards) the share is widened; either way every rank's product is that of the values the blocks mean.
#include <cmath>
#include <cstring>

#include "backend/cuda/cuda_backend.hpp"
#include "harness.hpp"
#include "model/slices.hpp"
#include "rows.hpp"

namespace tokenworks::emulator {
namespace {

using backend::cuda::CudaBackend;
using formats::TensorType;
using formats::TensorView;
using kernels::cuda::Element;

constexpr std::int32_t kRanks = 4, kOut = 24, kColumns = 512, kShare = kColumns / kRanks;

struct Stored {
  std::vector<std::byte> bytes;
  std::vector<float> values;                         // [kOut, kColumns]
  TensorView view;
};

Stored random_blocks(TensorType type) {
  Stored s;
  const auto block = static_cast<std::size_t>(formats::block_bytes(type));
  s.bytes.resize(static_cast<std::size_t>(kOut * kColumns / formats::block_elements(type)) * block);
  std::mt19937 random(static_cast<unsigned>(block));
  for (std::byte& b : s.bytes) b = static_cast<std::byte>(random());
  const bool two_scales = type == TensorType::q4_1 || type == TensorType::q4_k;
  for (std::size_t at = 0; at < s.bytes.size(); at += block)
    for (std::size_t half = 0; half < (two_scales ? 2u : 1u); ++half) {
      const std::uint32_t scale = encode(Element::f16, 0.001 * static_cast<double>(random() % 40) + 0.001);
      std::memcpy(&s.bytes[at + 2 * half], &scale, 2);
    }
  s.values.resize(static_cast<std::size_t>(kOut) * kColumns);
  formats::dequantize(type, s.bytes, s.values);
  s.view = {.name = "down", .type = type, .shape = {kOut, kColumns}, .bytes = s.bytes};
  return s;
}

// A rank's share of the columns times rows of its own; the first element that is wrong.
std::string check_share(const TensorView& share, const Stored& whole, std::int32_t rank, std::int32_t rows, std::size_t* weight_bytes) {
  CudaBackend backend(std::make_unique<EmulatedDevice>(), {});
  auto weight = backend.make_linear({.parts = {share}});
  if (!weight) return weight.error().message;
  *weight_bytes = (*weight)->bytes();
  const auto x = normal(static_cast<std::size_t>(rows * kShare), 7u + static_cast<unsigned>(rank));
  const std::vector<float> ones(kShare, 1.0f);
  auto hidden = backend.allocate(x.size() * sizeof(float)), out = backend.allocate(static_cast<std::size_t>(rows * kOut) * sizeof(float));
  auto in = backend.make_activations(rows, kShare);
  auto norm = backend.make_vector({.name = "ones", .shape = {kShare}, .bytes = std::as_bytes(std::span(ones))});
  if (!hidden || !out || !in || !norm) return "no memory";
  backend.upload(**hidden, 0, std::as_bytes(std::span(x)));
  backend.norm(**hidden, **norm, 0, rows, kShare, **in);
  backend.linear(**in, **weight, rows, **out, false);
  std::vector<float> found(static_cast<std::size_t>(rows * kOut));
  backend.download(**out, 0, std::as_writable_bytes(std::span(found)));
  if (auto done = backend.check(); !done) return done.error().message;
  for (std::int32_t r = 0; r < rows; ++r) {
    double squares = 0;
    for (std::int32_t c = 0; c < kShare; ++c) squares += std::pow(static_cast<double>(x[static_cast<std::size_t>(r * kShare + c)]), 2);
    for (std::int32_t j = 0; j < kOut; ++j) {
      double sum = 0, size = 0;
      for (std::int32_t c = 0; c < kShare; ++c) {
        const double product = x[static_cast<std::size_t>(r * kShare + c)] / std::sqrt(squares / kShare) *
                               static_cast<double>(whole.values[static_cast<std::size_t>(j * kColumns + rank * kShare + c)]);
        sum += product;
        size += std::abs(product);
      }
      const double is = found[static_cast<std::size_t>(r * kOut + j)];
      if (!(std::abs(is - sum) <= 0x1p-8 * size))    // both factors rounded to bf16
        return "element [" + std::to_string(r) + ", " + std::to_string(j) + "] is " + std::to_string(is) + ", not " + std::to_string(sum);
    }
  }
  return {};
}

TEST(EmulatorCutBlocks, EveryRanksProductIsThatOfItsColumnsWhereverTheCutFalls) {
  for (const TensorType type : {TensorType::q4_k, TensorType::q8_0, TensorType::q4_0, TensorType::q4_1}) {
    const Stored stored = random_blocks(type);
    model::ModelTensors tensors;
    tensors.layers.resize(1);
    tensors.layers[0].down.parts = {stored.view};
    tensors.head = &stored.view;                     // somebody has to be: rows of it are cut
    formats::ModelConfig config;
    config.vocab = kOut;
    for (std::int32_t rank = 0; rank < kRanks; ++rank) {
      const auto slices = model::Slices::make(tensors, config, {rank, kRanks});
      ASSERT_TRUE(slices) << slices.error().message;
      const TensorView& share = slices->tensors().layers[0].down.parts[0];
      const bool cut = kShare % formats::block_elements(type) != 0;
      EXPECT_EQ(cut, type == TensorType::q4_k);
      EXPECT_EQ(share.type, cut ? TensorType::f32 : type);
      for (const std::int32_t rows : {3, 20}) {      // packed: in registers, and unpacked first
        std::size_t bytes = 0;
        EXPECT_EQ(check_share(share, stored, rank, rows, &bytes), "") << formats::name(type) << " rank " << rank << " rows " << rows;
        EXPECT_EQ(bytes, cut ? kOut * kShare * 2 : stored.bytes.size() / kRanks);
      }
    }
  }
}

}  // namespace
}  // namespace tokenworks::emulator
