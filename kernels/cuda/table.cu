// The table of launchers of this build: nvcc's, or the emulator's.
#include "kernels/cuda/launch.cuh"

namespace tokenworks::kernels::cuda {
namespace TW_TARGET {

void norm(Stream, const NormArgs&);
void gate(Stream, const GateArgs&);
void quantize(Stream, const QuantizeArgs&);
void embed(Stream, const EmbedArgs&);
void gather(Stream, const GatherArgs&);
void scatter(Stream, const ScatterArgs&);
void zero_blocks(Stream, const ZeroBlocksArgs&);
void rope_and_store(Stream, const RopeArgs&);
void linear(Stream, const LinearArgs&);
void linear_small(Stream, const LinearArgs&);
void linear_quant(Stream, const LinearArgs&);
void unpack(Stream, const UnpackArgs&);
void attend_plain(Stream, const AttendArgs&);
void attend_plan(Stream, const AttendPlanArgs&);
void attend_decode(Stream, const AttendTiledArgs&);
void attend_prefill(Stream, const AttendTiledArgs&);
void sample(Stream, const SampleArgs&);
void pool(Stream, const PoolArgs&);
void add_positions(Stream, const AddPositionsArgs&);
void layer_norm(Stream, const LayerNormArgs&);
void activate(Stream, const ActivateArgs&);
void attend_all(Stream, const AttendAllArgs&);
void verify(Stream, const VerifyArgs&);
void probe_read(Stream, const ProbeArgs&);

}  // namespace TW_TARGET

#if defined(TW_EMULATE)
const CudaOps* emulated_ops() {
  static const CudaOps ops{"emulator",
#else
const CudaOps* device_ops() {
  static const CudaOps ops{"device",
#endif
                           TW_TARGET::norm,
                           TW_TARGET::gate,
                           TW_TARGET::quantize,
                           TW_TARGET::embed,
                           TW_TARGET::gather,
                           TW_TARGET::scatter,
                           TW_TARGET::zero_blocks,
                           TW_TARGET::rope_and_store,
                           TW_TARGET::linear,
                           TW_TARGET::linear_small,
                           TW_TARGET::linear_quant,
                           TW_TARGET::unpack,
                           TW_TARGET::attend_plain,
                           TW_TARGET::attend_plan,
                           TW_TARGET::attend_decode,
                           TW_TARGET::attend_prefill,
                           TW_TARGET::sample,
                           TW_TARGET::pool,
                           TW_TARGET::add_positions,
                           TW_TARGET::layer_norm,
                           TW_TARGET::activate,
                           TW_TARGET::attend_all,
                           TW_TARGET::verify,
                           TW_TARGET::probe_read};
  return &ops;
}

}  // namespace tokenworks::kernels::cuda
