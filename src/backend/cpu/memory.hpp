#pragma once
// Pages: zeroed memory for weights, caches and workspaces, in 2 MiB pages where the system gives them (up to 1.7x the read
// bandwidth on 100 MB of weights). Move-only; freed with the object; any thread.
#include <cstddef>
#include <utility>

#include "tokenworks/base/result.hpp"

namespace tokenworks::backend {

class Pages {
 public:
  // `what` names the use in the error, which says how much was asked for and how much memory is free.
  static Result<Pages> allocate(std::size_t bytes, const char* what);

  Pages() = default;
  Pages(Pages&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)),
                                  mapped_(std::exchange(other.mapped_, 0)) {}
  Pages& operator=(Pages&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(mapped_, other.mapped_);
    return *this;
  }
  ~Pages();

  std::byte* data() const { return data_; }           // aligned to 64 bytes; 2 MiB when it is that large
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t mapped_ = 0;
};

}  // namespace tokenworks::backend
