#pragma once
// A shared library of the CUDA world, found at run time.
#include <dlfcn.h>

#include <cstdlib>
#include <sstream>
#include <string>

namespace tokenworks::backend::cuda {

// `name` in the folders (or their lib/) that TOKENWORKS_CUDA_LIBRARIES lists, then where the loader looks; null: nowhere.
inline void* find_library(const std::string& name) {
  if (const char* const listed = std::getenv("TOKENWORKS_CUDA_LIBRARIES")) {
    std::istringstream folders(listed);
    for (std::string folder; std::getline(folders, folder, ':');)
      for (const char* const inside : {"/", "/lib/"})
        if (void* const found = folder.empty() ? nullptr : dlopen((folder + inside + name).c_str(), RTLD_NOW | RTLD_LOCAL)) return found;
  }
  return dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
}

// The function of that name in it; false: it has none.
template <class Function>
bool look_up(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace tokenworks::backend::cuda
