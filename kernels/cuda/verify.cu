// Sample and match: a sequence's drafts stand in the rows behind its last token, and every row draws what it would have drawn
// without them. As long as a row draws the draft in the row behind it, that row is what a step of its own would have been;
// from the first that does not, nothing counts. A thread takes a run of rows, of which there are few.
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 64;
constexpr std::int32_t kNotReached = -2;             // backend::kNotReached

__global__ void __launch_bounds__(kThreads) verify_kernel(VerifyArgs a) {
  const auto first = static_cast<std::int32_t>(blockIdx.x * kThreads + threadIdx.x);
  if (first >= a.rows) return;
  if (!TW_PLANT(209) && first > 0 && a.specs[first - 1].draft >= 0) return;   // within somebody's run
  for (std::int32_t row = first; row + 1 < a.rows && a.specs[row].draft >= 0; ++row) {
    if (a.tokens[row] == a.specs[TW_PLANT(208) ? row + 1 : row].draft) continue;
    const std::int32_t next = TW_PLANT(210) ? row : row + 1;
    a.tokens[next] = kNotReached;
    a.logprobs[next] = 0;
    if (a.top_max > 0) a.top[static_cast<std::size_t>(next) * static_cast<std::size_t>(a.top_max)] = {-1, 0};
  }
}

}  // namespace

void verify(Stream stream, const VerifyArgs& a) {
  if (a.rows == 0) return;
  launch(Launch(stream, {divide_up(a.rows, kThreads)}, kThreads), verify_kernel, a);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
