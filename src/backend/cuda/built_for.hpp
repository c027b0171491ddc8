#pragma once
// BuiltFor: what cards the kernels in this binary run on. Machine code only: no card but these takes it. A card runs code of its
// own major capability and of no higher minor one; an "a" after the number names that capability alone. Pure.
#include <span>
#include <string>
#include <vector>

namespace tokenworks::backend::cuda {

struct BuiltFor {
  std::vector<std::string> architectures;            // "80", "90a", "100"; empty: built without nvcc
  int runtime = 0;                                   // 13000: the CUDA runtime linked in, whose major version a driver must have

  bool runs_on(int major, int minor) const;
  bool runs_with(int driver_version) const { return driver_version / 1000 >= runtime / 1000; }
  std::string names() const;                         // "sm_80, sm_90a, sm_100"
};
const BuiltFor& built_for();                         // this binary

}  // namespace tokenworks::backend::cuda
