// make_communicators: how the ranks of a model speak to each other, by what their backends are.
#include <string>

#include "backend/cuda/card_communicator.hpp"
#include "backend/cuda/cuda_backend.hpp"
#include "tokenworks/base/log.hpp"
#if defined(TOKENWORKS_WITH_NCCL)
#include "backend/cuda/native/nccl.hpp"
#endif

namespace tokenworks::backend {
namespace {

std::vector<std::unique_ptr<cuda::DeviceSums>> card_sums(std::span<cuda::CudaBackend* const> cards) {
#if defined(TOKENWORKS_WITH_NCCL)
  std::vector<std::int32_t> ordinals;
  for (cuda::CudaBackend* card : cards) ordinals.push_back(card->device().info().ordinal);
  auto sums = cuda::open_nccl(ordinals);
  if (sums) return std::move(*sums);
  log::warn("no_nccl", {{"why", sums.error().message}, {"instead", "a kernel over the cards' memory does large sums as well"}});
#endif
  (void)cards;
  return {};
}

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_communicators(std::span<Backend* const> backends) {
  std::vector<cuda::CudaBackend*> cards;
  for (Backend* b : backends)
    if (auto* card = dynamic_cast<cuda::CudaBackend*>(b)) cards.push_back(card);
  std::vector<std::unique_ptr<Communicator>> all;
  std::string form = "host memory";
  if (!cards.empty() && cards.size() == backends.size()) {
    auto sums = card_sums(cards);
    const bool nccl = !sums.empty();
    all = cuda::make_card_communicators(cards, std::move(sums));
    if (!all.empty()) form = nccl ? "a kernel over the cards' memory, large ones NCCL" : "a kernel over the cards' memory";
  }
  if (all.empty()) all = make_thread_communicators(static_cast<std::int32_t>(backends.size()));
  log::info("ranks", {{"count", backends.size()}, {"sums", form}});
  return all;
}

}  // namespace tokenworks::backend
