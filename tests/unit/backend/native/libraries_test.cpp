// NVIDIA's own libraries, where deploy/fetch-cuda-libraries brought them and the build found their headers: every function that
// is asked for by name is there. What they then do needs a card.
#include <gtest/gtest.h>

#include <cstdlib>

#include "backend/cuda/native/cublas_lt.hpp"
#include "backend/cuda/native/nccl.hpp"

namespace tokenworks::backend::cuda {
namespace {

void expect_whole(const std::string& why) {
  EXPECT_EQ(why.find("was not found"), std::string::npos) << why;
  EXPECT_EQ(why.find("lacks functions"), std::string::npos) << why;
}

TEST(CudaLibraries, HaveEveryFunctionThatIsLookedFor) {
  const char* const folder = std::getenv("TOKENWORKS_CUDA_LIBRARIES");
  if (folder == nullptr || *folder == '\0') GTEST_SKIP() << "cuBLASLt and NCCL were not fetched";
  if (const auto products = open_cublas_lt(); !products) expect_whole(products.error().message);
  const std::int32_t first[] = {0};
  if (const auto sums = open_nccl(first); !sums) expect_whole(sums.error().message);
}

TEST(CudaLibraries, AnAbsentOneIsAReasonAndNoFailure) {
  const char* const folder = std::getenv("TOKENWORKS_CUDA_LIBRARIES");
  const std::string before = folder != nullptr ? folder : "";
  ::setenv("TOKENWORKS_CUDA_LIBRARIES", "/no/such/folder::/neither", 1);
  const auto products = open_cublas_lt();
  if (before.empty()) ::unsetenv("TOKENWORKS_CUDA_LIBRARIES");
  else ::setenv("TOKENWORKS_CUDA_LIBRARIES", before.c_str(), 1);
  EXPECT_TRUE(products || !products.error().message.empty());          // the loader may know one by itself
}

}  // namespace
}  // namespace tokenworks::backend::cuda
