#include "tokenworks/formats/tensor.hpp"

namespace tokenworks::formats {
namespace {

struct Layout {
  const char* name;
  std::int64_t elements, bytes;
};

constexpr Layout kLayouts[] = {{"F32", 1, 4},     {"F16", 1, 2},     {"BF16", 1, 2},    {"Q8_0", 32, 34},
                               {"Q4_0", 32, 18},  {"Q4_1", 32, 20},  {"Q5_0", 32, 22},  {"Q5_1", 32, 24},
                               {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210}};
static_assert(std::size(kLayouts) == static_cast<std::size_t>(TensorType::q6_k) + 1);

const Layout& layout(TensorType type) { return kLayouts[static_cast<std::size_t>(type)]; }

}  // namespace

const char* name(TensorType type) { return layout(type).name; }
std::int64_t block_elements(TensorType type) { return layout(type).elements; }
std::int64_t block_bytes(TensorType type) { return layout(type).bytes; }

}  // namespace tokenworks::formats
