#include "gpu/synthetic.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "backend/cuda/narrow.hpp"
#include "model/architecture.hpp"
#include "model/memory.hpp"
#include "model/transformer.hpp"

namespace tokenworks::gpu {

using namespace backend::cuda;
using kernels::cuda::Element;

namespace {

constexpr std::size_t kPattern = std::size_t{1} << 20;

// `to` filled with copies of `from`, doubling on the device.
Result<> fill(Device& device, const Memory& to, std::span<const std::byte> from) {
  auto pinned = Pinned::make(device, from.size(), "a pattern");
  if (!pinned) return pinned.error();
  std::memcpy(pinned->data(), from.data(), from.size());
  std::size_t done = std::min(from.size(), to.bytes());
  device.copy_to_device(to.data(), pinned->data(), done, device.stream());
  while (done < to.bytes()) {
    const std::size_t n = std::min(done, to.bytes() - done);
    device.copy_on_device(to.data() + done, to.data(), n, device.stream());
    done += n;
  }
  return device.synchronise(device.stream());
}

std::vector<std::byte> pattern(Element element) {
  std::vector<std::byte> bytes(kPattern);
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, element == Element::fp8 ? 60.0f : 0.02f);
  const std::size_t size = kernels::cuda::bytes_of(element);
  for (std::size_t at = 0; at + size <= bytes.size(); at += size) {
    const float v = normal(random);
    if (element == Element::fp8) {
      bytes[at] = static_cast<std::byte>(narrow_fp8(std::clamp(v, -448.0f, 448.0f)));
    } else {
      const std::uint16_t bits = element == Element::f16 ? narrow_f16(v) : narrow_bf16(v);
      std::memcpy(&bytes[at], &bits, 2);
    }
  }
  return bytes;
}

std::unique_ptr<backend::Weight> constant_vector(Device& device, std::int32_t n, float value) {
  const std::vector<float> values(static_cast<std::size_t>(n), value);
  auto memory = Memory::make(device, values.size() * sizeof(float), "a vector");
  if (!memory || !fill(device, *memory, std::as_bytes(std::span(values)))) return nullptr;
  auto weight = std::make_unique<CudaWeight>();
  weight->vector = std::move(*memory);
  return weight;
}

}  // namespace

formats::ModelConfig shape_8b() {
  formats::ModelConfig c;
  c.architecture = "llama";
  c.layers = 32, c.hidden = 4096, c.ffn = 14336, c.q_heads = 32, c.kv_heads = 8, c.head_dim = 128, c.vocab = 128256;
  c.context = 131072;
  c.rope_base = 500000;
  c.rope_dims = 128;
  return c;
}

formats::ModelConfig shape_tiny() {
  formats::ModelConfig c = shape_8b();
  c.layers = 2, c.hidden = 64, c.ffn = 128, c.q_heads = 4, c.kv_heads = 2, c.head_dim = 16, c.vocab = 256, c.rope_dims = 16;
  return c;
}

std::unique_ptr<backend::Weight> random_linear(CudaBackend& backend, Element element, std::int32_t n, std::int32_t k) {
  Device& device = backend.device();
  static const std::vector<std::byte> patterns[] = {{}, pattern(Element::bf16), pattern(Element::f16), pattern(Element::fp8)};
  auto matrix = std::make_shared<Matrix>();
  matrix->view.element = element;
  matrix->view.n = n;
  matrix->view.k = k;
  matrix->view.stride = CudaActivations::stride_of(k);
  const std::size_t elements = static_cast<std::size_t>(n) * static_cast<std::size_t>(matrix->view.stride);
  auto data = Memory::make(device, elements * kernels::cuda::bytes_of(element), "random weights");
  if (!data || !fill(device, *data, patterns[static_cast<int>(element)])) return nullptr;
  matrix->data = std::move(*data);
  matrix->view.data = matrix->data.data();
  if (element == Element::fp8) {
    const std::vector<float> scale(1024, 0.02f / 60);
    auto scales = Memory::make(device, static_cast<std::size_t>(n) * sizeof(float), "random scales");
    if (!scales || !fill(device, *scales, std::as_bytes(std::span(scale)))) return nullptr;
    matrix->scales = std::move(*scales);
    matrix->view.scales = matrix->scales.floats();
  }
  auto weight = std::make_unique<CudaWeight>();
  weight->matrix = std::move(matrix);
  backend.know(weight->matrix);
  return weight;
}

Result<Model> random_model(std::unique_ptr<Device> device, const CudaOptions& options, const formats::ModelConfig& c,
                           const model::LoadOptions& load) {
  Device& d = *device;
  auto backend = std::make_unique<CudaBackend>(std::move(device), options);
  Model m;
  m.backend = backend.get();
  model::Weights w;
  const auto linear = [&](std::int32_t n, std::int32_t k) {
    auto made = random_linear(*m.backend, options.compute, n, k);
    if (made) w.bytes += made->bytes();
    return made;
  };
  bool complete = true;
  for (std::int32_t i = 0; i < c.layers; ++i) {
    model::LayerWeights& l = w.layers.emplace_back();
    l.attention_norm = constant_vector(d, c.hidden, 1);
    l.ffn_norm = constant_vector(d, c.hidden, 1);
    l.qkv = linear((c.q_heads + 2 * c.kv_heads) * c.head_dim, c.hidden);
    l.output = linear(c.hidden, c.q_heads * c.head_dim);
    l.gate_up = linear(2 * c.ffn, c.hidden);
    l.down = linear(c.hidden, c.ffn);
    complete = complete && l.attention_norm && l.ffn_norm && l.qkv && l.output && l.gate_up && l.down;
  }
  w.embedding = linear(c.vocab, c.hidden);
  w.head = linear(c.vocab, c.hidden);
  w.final_norm = constant_vector(d, c.hidden, 1);
  backend::RopeSpec rope{.dims = c.rope_dims};
  for (std::int32_t i = 0; i < c.rope_dims / 2; ++i)
    rope.inverse_frequency.push_back(static_cast<float>(std::pow(c.rope_base, -2.0 * i / c.rope_dims)));
  auto table = backend->make_rope(rope, load.context_tokens);
  if (!table) return table.error();
  w.rope = std::move(*table);
  if (!complete || !w.embedding || !w.head || !w.final_norm)
    return error(Errc::internal, "the weights do not fit, or the device failed while they were made");
  const model::Workspace workspace = model::workspace_of(c, load);
  const std::size_t block = backend->kv_block_bytes(model::kv_shape(c));
  model::RunnerInfo info;
  info.vocab = c.vocab;
  info.context_tokens = load.context_tokens;
  info.kv_blocks = static_cast<std::int32_t>(load.kv_cache_bytes / block);
  info.rows_max = load.rows_max;
  info.sequences_max = load.sequences_max;
  info.weight_bytes = w.bytes;
  info.kv_bytes = block * static_cast<std::size_t>(info.kv_blocks);
  model::Transformer::Parts parts{.backend = std::move(backend), .config = c, .attention = model::attention_spec(c),
                                  .gate = backend::GateKind::silu, .weights = std::move(w), .info = info,
                                  .workspace = workspace};
  auto runner = model::Transformer::make(std::move(parts));
  if (!runner) return runner.error();
  m.runner = std::move(*runner);
  return m;
}

}  // namespace tokenworks::gpu
