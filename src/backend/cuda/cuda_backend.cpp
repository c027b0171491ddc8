#include "backend/cuda/cuda_backend.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cstring>

#include "backend/cuda/card_communicator.hpp"
#include "backend/cuda/op_keys.hpp"
#include "backend/cuda/swap_space.hpp"

namespace tokenworks::backend::cuda {

using kernels::cuda::Element;

namespace {

constexpr std::size_t kBounceBytes = std::size_t{4} << 20;
constexpr std::int32_t kPackedRows = 16;             // up to here GGUF blocks are multiplied as they are; above it unpacked first

const char* name(Element e) {
  return e == Element::bf16 ? "bf16" : e == Element::f16 ? "fp16" : e == Element::fp8 ? "fp8" : "fp32";
}

// Batch buckets: 1, 2, 4, 8, then every 8 to 256, then every 32.
std::int32_t bucket_of(std::int32_t rows) {
  for (const std::int32_t b : {1, 2, 4, 8})
    if (rows <= b) return b;
  return rows <= 256 ? (rows + 7) / 8 * 8 : (rows + 31) / 32 * 32;
}

std::int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

CudaBackend::CudaBackend(std::unique_ptr<Device> device, const CudaOptions& options)
    : device_(std::move(device)), options_(options), state_(*device_), graphs_(*device_),
      products_(*device_, options.products_file, options.now_ns ? options.now_ns : steady_ns) {
  info_.name = "cuda";
  info_.path = device_->info().architecture;
  info_.device = device_->info().name;
  info_.numerics = fmt::format("cuda/{}/{}/kv-{}/1", info_.path, name(options.compute), name(options.kv));
  if (MatrixLibrary* library = device_->products()) info_.numerics += "/" + library->version();
}

CudaBackend::~CudaBackend() { (void)device_->synchronise(stream()); }

Result<> CudaBackend::wait() {
  graphs_.finish();
  keep(device_->synchronise(stream()));
  state_.release();
  if (failure_) return *failure_;
  return {};
}

Result<> CudaBackend::check() { return wait(); }

bool CudaBackend::draws() const { return shared_ids_ == nullptr || shared_ids_->first(); }

std::int32_t CudaBackend::padded(std::int32_t rows, const Buffer& buffer, std::int32_t columns) const {
  if (rows != step_rows_) return rows;
  const auto fit = static_cast<std::int64_t>(buffer.bytes() / (static_cast<std::size_t>(columns) * sizeof(float)));
  return static_cast<std::int32_t>(std::min<std::int64_t>(state_.rows(), fit));
}

void CudaBackend::begin_step(const StepRows& rows) {
  step_rows_ = static_cast<std::int32_t>(rows.tokens.size());
  const bool decode = options_.graphs && rows.sequences.size() == rows.tokens.size() && step_rows_ > 0;
  const std::int32_t bucket = decode ? std::min(bucket_of(step_rows_), std::max(rows_max_, step_rows_)) : 0;
  planned_ = false;
  tiles_ = std::ranges::any_of(rows.sequences, [](const SequenceRows& s) { return s.rows > AttendMemory::kDecodeRows; });
  graphs_.finish();
  bool moved = false;
  keep(state_.stage(rows, bucket, &moved));
  if (moved) graphs_.clear();
  graphs_.begin(failure_ ? 0 : bucket, [this] {
    keep(state_.send_changes());
    state_.take_drawn(draws() ? sampler_.drawn() : shared_ids_->ids());
  });
}

void CudaBackend::embed(const Weight& table, Buffer& hidden) {
  const kernels::cuda::Weights& w = cuda(table).matrix->view;
  const kernels::cuda::EmbedArgs args{w.data, w.element, w.scales, state_.tokens(), padded(step_rows_, hidden, w.k), w.k,
                                      w.stride, w.n, cuda(hidden).floats()};
  graphs_.run({kEmbed, key(w.data), key(args.out), key(args.rows)}, [this, args] { ops().embed(stream(), args); });
}

void CudaBackend::norm(const Buffer& hidden, const Weight& weight, float epsilon, std::int32_t rows,
                       std::int32_t columns, Activations& out) {
  CudaActivations& to = cuda(out);
  to.columns = columns;
  const kernels::cuda::NormArgs args{cuda(hidden).floats(), cuda(weight).vector.floats(), epsilon,
                                     padded(rows, hidden, columns), to.view(columns)};
  assert(args.rows <= to.rows_max && args.out.stride <= to.stride_max);
  graphs_.run({kNorm, key(args.hidden), key(args.weight), key(args.out.data), key(args.rows), key(columns)},
              [this, args] { ops().norm(stream(), args); });
}

void CudaBackend::linear(const Activations& in, const Weight& weight, std::int32_t rows, Buffer& out, bool accumulate) {
  const Matrix& m = *cuda(weight).matrix;
  assert(cuda(in).columns == m.view.k);
  const kernels::cuda::LinearArgs args{cuda(in).view(m.view.k), m.view, padded(rows, out, m.view.n), cuda(out).floats(),
                                       accumulate};
  graphs_.run({kLinear, key(args.in.data), key(m.view.data), key(m.view.bias), key(args.out), key(args.rows),
               std::uint64_t{accumulate}},
              [this, args] { multiply(args); });
}

void CudaBackend::multiply(const kernels::cuda::LinearArgs& args) {
  if (args.weights.quant == kernels::cuda::Quant::none) return products_.multiply(args, graphs_.eager());
  if (args.rows <= kPackedRows) return ops().linear_quant(stream(), args);
  kernels::cuda::LinearArgs a = args;
  ops().unpack(stream(), {args.weights, unpacked_.data(), args.in.element, args.weights.stride});
  a.weights.data = unpacked_.data();
  a.weights.quant = kernels::cuda::Quant::none;
  products_.multiply(a, graphs_.eager());
}

void CudaBackend::rope_and_store(Buffer& qkv, const AttentionSpec& spec, const Weight& rope, const Weight* q_norm,
                                 const Weight* k_norm, float epsilon, KvCache& cache, std::int32_t layer) {
  const CudaWeight& table = cuda(rope);
  const kernels::cuda::HeadShape shape = head_shape(spec);
  kernels::cuda::RopeArgs args;
  args.qkv = cuda(qkv).floats();
  args.rows = padded(step_rows_, qkv, shape.row_stride());
  args.shape = shape;
  args.table = table.vector.floats();
  args.dims = table.rope_dims;
  args.interleaved = table.rope_interleaved;
  args.q_norm = q_norm != nullptr ? cuda(*q_norm).vector.floats() : nullptr;
  args.k_norm = k_norm != nullptr ? cuda(*k_norm).vector.floats() : nullptr;
  args.epsilon = epsilon;
  args.positions = state_.positions();
  args.slots = state_.slots();
  args.kv = static_cast<const CudaKvCache&>(cache).layer(layer);
  graphs_.run({kRope, key(args.qkv), key(args.rows), key(args.table), key(args.q_norm), key(args.kv.data)},
              [this, args] { ops().rope_and_store(stream(), args); });
}

// Once a step, on the device: which blocks take which pieces of which sequences. Part of the graph.
void CudaBackend::plan_attention(const kernels::cuda::HeadShape& shape) {
  if (planned_) return;
  planned_ = true;
  bool moved = false;
  keep(attend_.reserve(*device_, std::max(rows_max_, state_.rows()), shape, &moved));
  if (failure_) return;
  if (moved) graphs_.clear();
  const kernels::cuda::AttendPlanArgs args{state_.sequences(), state_.sequences_count(), shape.q_heads / shape.kv_heads,
                                           AttendMemory::kDecodeRows, AttendMemory::kChunk, attend_.plan()};
  graphs_.run({kPlan, key(args.sequences), key(args.num_sequences), key(args.group), key(args.plan.items)},
              [this, args] { ops().attend_plan(stream(), args); });
}

void CudaBackend::attention(const Buffer& qkv, const AttentionSpec& spec, const KvCache& cache, std::int32_t layer,
                            Activations& out) {
  CudaActivations& to = cuda(out);
  const std::int32_t columns = spec.q_heads * spec.head_dim;
  to.columns = columns;
  kernels::cuda::AttendArgs args;
  args.qkv = cuda(qkv).floats();
  args.shape = head_shape(spec);
  args.kv = static_cast<const CudaKvCache&>(cache).layer(layer);
  args.sequences = state_.sequences();
  args.tables = state_.tables();
  args.row_sequence = state_.row_sequence();
  args.num_sequences = state_.sequences_count();
  args.rows = padded(step_rows_, qkv, args.shape.row_stride());
  const kernels::cuda::Rows final = to.view(columns);
  args.out = final;
  const bool quantised = to.element == Element::fp8;
  if (quantised) args.out = {to.unquantised.data(), nullptr, Element::bf16, columns, final.stride};
  const bool has_tiles = kernels::cuda::attend_has_tiles(spec.head_dim);
  if (has_tiles) plan_attention(args.shape);
  if (failure_) return;
  // Two blocks of four warps run on a multiprocessor: the grid fills the card once, and blocks walk the plan.
  const std::int32_t blocks = std::max(1, 2 * device_->info().multiprocessors / spec.kv_heads);
  const kernels::cuda::AttendTiledArgs tiled{args, attend_.plan(), attend_.partials(), blocks, device_->info().shared_bytes};
  graphs_.run({kAttention, key(args.qkv), key(args.kv.data), key(args.out.data), key(args.rows), key(args.num_sequences),
               std::uint64_t{tiles_}},
              [this, tiled, final, quantised, has_tiles, tiles = tiles_] {
                const kernels::cuda::AttendArgs& a = tiled.attend;
                if (has_tiles) {
                  ops().attend_decode(stream(), tiled);
                  if (tiles) ops().attend_prefill(stream(), tiled);
                } else {
                  // The padding columns are multiplied by zero weights, and zero times anything must be zero.
                  if (a.out.stride != a.out.columns)
                    device_->fill(a.out.data, 0, static_cast<std::size_t>(a.rows) * static_cast<std::size_t>(a.out.stride) * 2,
                                  stream());
                  ops().attend_plain(stream(), a);
                }
                if (quantised) ops().quantize(stream(), {a.out, final, a.rows});
              });
}

void CudaBackend::gate(const Buffer& gate_up, GateKind kind, std::int32_t rows, std::int32_t columns, Activations& out) {
  CudaActivations& to = cuda(out);
  to.columns = columns;
  const kernels::cuda::GateArgs args{cuda(gate_up).floats(), kind == GateKind::gelu_tanh, padded(rows, gate_up, 2 * columns),
                                     to.view(columns)};
  assert(args.rows <= to.rows_max && args.out.stride <= to.stride_max);
  graphs_.run({kGate, key(args.gate_up), key(args.out.data), key(args.rows), key(columns), std::uint64_t{args.gelu}},
              [this, args] { ops().gate(stream(), args); });
}

void CudaBackend::gather(const Buffer& from, std::span<const std::int32_t> rows, std::int32_t columns, Buffer& to) {
  const auto count = static_cast<std::int32_t>(rows.size());
  kernels::cuda::GatherArgs args{cuda(from).floats(), state_.gather_rows(), count, columns, cuda(to).floats()};
  if (graphs_.eager()) {                             // the step's rows are on their way already
    const auto list = state_.send(rows);
    if (!list) return keep(list.error());
    args.rows = *list;
  } else {
    args.count = padded(count, to, columns);
    state_.stage_gather(rows, args.count);
  }
  graphs_.run({kGather, key(args.from), key(args.rows), key(args.count), key(args.to)},
              [this, args] { ops().gather(stream(), args); });
}

void CudaBackend::sum_over_ranks(Buffer& values, std::int32_t rows, std::int32_t columns, DeviceSums& sums) {
  float* const at = cuda(values).floats();
  const std::size_t count = static_cast<std::size_t>(padded(rows, values, columns)) * static_cast<std::size_t>(columns);
  graphs_.run({kSum, key(at), count}, [this, at, count, &sums] {
    if (!sums.sum(at, count, stream())) keep(error(Errc::engine_failed, "a sum over ranks failed"));
  });
}

// As wide as `all` has rows for: that is the same on every rank.
void CudaBackend::gather_over_ranks(const Buffer& mine, std::int32_t rows, std::int32_t columns, const Buffer& all, const EnqueueColumns& enqueue) {
  const float* const from = cuda(mine).floats();
  const std::int32_t n = padded(rows, all, columns);
  graphs_.run({kColumns, key(from), key(n), key(columns)}, [this, from, n, enqueue] { enqueue(from, n, stream()); });
}

void CudaBackend::zero_blocks(KvCache& cache, std::span<const std::int32_t> blocks) {
  if (blocks.empty()) return;
  graphs_.finish();
  const auto& c = static_cast<const CudaKvCache&>(cache);
  const auto list = state_.send(blocks);
  if (!list) return keep(list.error());
  ops().zero_blocks(stream(), {c.data(), c.block_bytes(), *list, static_cast<std::int32_t>(blocks.size())});
}

Result<std::unique_ptr<SwapSpace>> CudaBackend::make_swap_space(KvCache& cache, std::int32_t slots) {
  return CudaSwapSpace::make(*device_, graphs_, static_cast<const CudaKvCache&>(cache), slots,
                             options_.now_ns ? options_.now_ns : steady_ns);
}

void CudaBackend::download(const Buffer& from, std::size_t offset, std::span<std::byte> to) {
  assert(offset + to.size() <= from.bytes());
  graphs_.finish();
  for (std::size_t at = 0; at < to.size(); at += kBounceBytes) {
    const std::size_t n = std::min(kBounceBytes, to.size() - at);
    if (bounce_.bytes() == 0) {
      auto made = Pinned::make(*device_, kBounceBytes, "pinned memory");
      if (!made) return keep(made.error());
      bounce_ = std::move(*made);
    }
    device_->copy_to_host(bounce_.data(), cuda(from).data() + offset + at, n, stream());
    if (const auto done = wait(); !done) {
      std::memset(to.data() + at, 0xFF, to.size() - at);   // NaN: nobody mistakes it for a result
      return;
    }
    std::memcpy(to.data() + at, bounce_.data(), n);
  }
}

Result<> CudaBackend::sample(const Buffer& logits, std::int32_t vocab, std::span<const SampleRow> rows,
                             std::span<Sampled> out) {
  if (auto begun = begin_sample(logits, vocab, rows); !begun) return begun;
  return end_sample(out);
}

Result<> CudaBackend::begin_sample(const Buffer& logits, std::int32_t vocab, std::span<const SampleRow> rows) {
  assert(open_ < 2);
  graphs_.finish();
  const std::size_t slot = state_.slot();
  if (!failure_ && draws()) keep(sampler_.enqueue(*device_, state_, cuda(logits).floats(), vocab, rows, slot));
  if (!failure_ && shared_ids_ != nullptr) keep(shared_ids_->share(sampler_.drawn(), rows.size(), stream()));
  if (!failure_ && ends_[slot] == nullptr) {
    auto made = device_->make_event();
    if (!made) keep(made.error());
    else ends_[slot] = std::move(*made);
  }
  if (failure_) return *failure_;
  device_->record(*ends_[slot], stream());
  ++open_;
  state_.turn();
  return {};
}

Result<> CudaBackend::end_sample(std::span<Sampled> out) {
  assert(open_ > 0);
  const std::size_t slot = open_-- == 2 ? state_.slot() : state_.slot() ^ 1;   // slots take turns: the older of two is next again
  keep(device_->wait(*ends_[slot]));
  if (failure_) return *failure_;
  if (draws()) sampler_.read(slot, out);
  return {};
}

}  // namespace tokenworks::backend::cuda
