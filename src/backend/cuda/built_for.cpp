#include "backend/cuda/built_for.hpp"

#include <cstdlib>
#include <sstream>

namespace tokenworks::backend::cuda {

bool BuiltFor::runs_on(int major, int minor) const {
  for (const std::string& a : architectures) {
    const int number = std::atoi(a.c_str());
    const bool alone = !a.empty() && (a.back() < '0' || a.back() > '9');
    if (number / 10 == major && (alone ? number % 10 == minor : number % 10 <= minor)) return true;
  }
  return false;
}

std::string BuiltFor::names() const {
  std::string all;
  for (const std::string& a : architectures) all += (all.empty() ? "sm_" : ", sm_") + a;
  return all;
}

const BuiltFor& built_for() {
  static const BuiltFor here = [] {
    BuiltFor b;
#if defined(TOKENWORKS_WITH_CUDA)
    std::istringstream list(TOKENWORKS_CUDA_BUILT_FOR);          // what nvcc was told, by the same list
    for (std::string a; std::getline(list, a, ',');) b.architectures.push_back(a);
    b.runtime = TOKENWORKS_CUDA_RUNTIME;
#endif
    return b;
  }();
  return here;
}

}  // namespace tokenworks::backend::cuda
