#include "backend/cuda/native/cublas_lt.hpp"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "backend/cuda/native/find_library.hpp"

namespace tokenworks::backend::cuda {
namespace {

using kernels::cuda::Element;
using kernels::cuda::LinearArgs;

constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;   // what NVIDIA recommends for Hopper

static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(Way), "an algorithm can be kept as a Way");

struct Functions {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtGetVersion) version;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;

  bool find(void* library) {
    const auto get = [&](const char* name, auto& function) { return look_up(library, name, function); };
    return get("cublasLtCreate", create) && get("cublasLtDestroy", destroy) && get("cublasLtGetVersion", version) &&
           get("cublasLtMatmul", matmul) && get("cublasLtMatmulAlgoGetHeuristic", heuristic) &&
           get("cublasLtMatmulDescCreate", desc_create) && get("cublasLtMatmulDescDestroy", desc_destroy) &&
           get("cublasLtMatmulDescSetAttribute", desc_set) && get("cublasLtMatrixLayoutCreate", layout_create) &&
           get("cublasLtMatrixLayoutDestroy", layout_destroy) && get("cublasLtMatmulPreferenceCreate", preference_create) &&
           get("cublasLtMatmulPreferenceDestroy", preference_destroy) && get("cublasLtMatmulPreferenceSetAttribute", preference_set);
  }
};

// One product in the library's terms. Its matrices are columns first, so ours are its transposes: with W [n, k] and in [rows, k]
// it computes out^T [n, rows] = W * in^T, the first operand transposed, the second as it lies. Columns beyond k are zero in both
// and are multiplied as well, for the alignment's sake.
class Problem {
 public:
  Problem(const Functions& f, const LinearArgs& a) : f_(f) {
    const cudaDataType_t type = a.weights.element == Element::fp8 ? CUDA_R_8F_E4M3 : a.weights.element == Element::f16 ? CUDA_R_16F : CUDA_R_16BF;
    const auto k = static_cast<std::uint64_t>(a.weights.stride), n = static_cast<std::uint64_t>(a.weights.n), rows = static_cast<std::uint64_t>(a.rows);
    good_ = f_.desc_create(&desc_, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
            f_.layout_create(&weights_, type, k, n, a.weights.stride) == CUBLAS_STATUS_SUCCESS &&
            f_.layout_create(&in_, type, k, rows, a.in.stride) == CUBLAS_STATUS_SUCCESS &&
            f_.layout_create(&out_, CUDA_R_32F, n, rows, a.weights.n) == CUBLAS_STATUS_SUCCESS;
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
    if (a.weights.element == Element::fp8) {         // a scale per row of each
      set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
      set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
      set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, static_cast<const void*>(a.weights.scales));
      set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, static_cast<const void*>(a.in.scales));
    }
    if (a.weights.bias != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(a.weights.bias));
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
    }
  }
  ~Problem() {
    if (out_ != nullptr) (void)f_.layout_destroy(out_);
    if (in_ != nullptr) (void)f_.layout_destroy(in_);
    if (weights_ != nullptr) (void)f_.layout_destroy(weights_);
    if (desc_ != nullptr) (void)f_.desc_destroy(desc_);
  }
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  bool good() const { return good_; }
  cublasLtMatmulDesc_t desc() const { return desc_; }
  cublasLtMatrixLayout_t weights() const { return weights_; }
  cublasLtMatrixLayout_t in() const { return in_; }
  cublasLtMatrixLayout_t out() const { return out_; }

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t what, T value) {
    good_ = good_ && f_.desc_set(desc_, what, &value, sizeof value) == CUBLAS_STATUS_SUCCESS;
  }

  const Functions& f_;
  bool good_ = false;
  cublasLtMatmulDesc_t desc_ = nullptr;
  cublasLtMatrixLayout_t weights_ = nullptr, in_ = nullptr, out_ = nullptr;
};

class CublasLt final : public MatrixLibrary {
 public:
  Result<> open() {
    library_ = find_library("libcublasLt.so.13");
    if (library_ == nullptr) library_ = find_library("libcublasLt.so.12");   // what is used of it is the same
    if (library_ == nullptr) return error(Errc::engine_failed, "libcublasLt.so.13 was not found; TOKENWORKS_CUDA_LIBRARIES can name its folder");
    if (!f_.find(library_)) return error(Errc::engine_failed, "libcublasLt lacks functions");
    if (f_.create(&handle_) != CUBLAS_STATUS_SUCCESS) return error(Errc::engine_failed, "cuBLASLt does not start");
    if (cudaMalloc(&workspace_, kWorkspaceBytes) != cudaSuccess) {
      (void)cudaGetLastError();
      return error(Errc::engine_failed, "cuBLASLt's workspace does not fit the card");
    }
    version_ = fmt::format("cublasLt-{}", f_.version());
    return {};
  }
  ~CublasLt() override {                             // the library itself stays: it unloads badly
    if (workspace_ != nullptr) (void)cudaFree(workspace_);
    if (handle_ != nullptr) (void)f_.destroy(handle_);
  }

  const std::string& version() const override { return version_; }

  std::vector<Way> ways(const LinearArgs& args, int most) override {
    if (args.weights.element == Element::fp8 && args.weights.bias != nullptr) return {};   // it wants a bias of 16 bits there
    const Problem p(f_, args);
    cublasLtMatmulPreference_t preference = nullptr;
    if (!p.good() || f_.preference_create(&preference) != CUBLAS_STATUS_SUCCESS) return {};
    std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<std::size_t>(most));
    int count = 0;
    if (f_.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes, sizeof kWorkspaceBytes) != CUBLAS_STATUS_SUCCESS ||
        f_.heuristic(handle_, p.desc(), p.weights(), p.in(), p.out(), p.out(), preference, most, found.data(), &count) != CUBLAS_STATUS_SUCCESS)
      count = 0;
    (void)f_.preference_destroy(preference);
    std::vector<Way> all;
    for (int i = 0; i < count; ++i) {
      const cublasLtMatmulHeuristicResult_t& one = found[static_cast<std::size_t>(i)];
      if (one.state != CUBLAS_STATUS_SUCCESS || one.workspaceSize > kWorkspaceBytes) continue;
      std::memcpy(all.emplace_back().data(), &one.algo, sizeof one.algo);
    }
    return all;
  }

  bool multiply(const LinearArgs& args, const Way& way, kernels::cuda::Stream stream) override {
    const Problem p(f_, args);
    if (!p.good()) return false;
    cublasLtMatmulAlgo_t algorithm;
    std::memcpy(&algorithm, way.data(), sizeof algorithm);
    const float one = 1, onto = args.accumulate ? 1.0f : 0.0f;
    return f_.matmul(handle_, p.desc(), &one, args.weights.data, p.weights(), args.in.data, p.in(), &onto, args.out, p.out(), args.out,
                     p.out(), &algorithm, workspace_, kWorkspaceBytes, static_cast<cudaStream_t>(stream)) == CUBLAS_STATUS_SUCCESS;
  }

 private:
  void* library_ = nullptr;
  Functions f_{};
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::string version_;
};

}  // namespace

Result<std::unique_ptr<MatrixLibrary>> open_cublas_lt() {
  auto library = std::make_unique<CublasLt>();
  if (auto opened = library->open(); !opened) return opened.error();
  return std::unique_ptr<MatrixLibrary>(std::move(library));
}

}  // namespace tokenworks::backend::cuda
