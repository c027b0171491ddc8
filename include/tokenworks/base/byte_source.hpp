#pragma once
// ByteSource: where weights come from: a mapped file today, a sealed container (src/trust) later. Read-only, random
// access, any thread. `data()` is non-null when the whole source is mapped, so that a reader need not copy.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "tokenworks/base/result.hpp"

namespace tokenworks {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual const std::string& name() const = 0;       // for messages: usually the path
  virtual std::uint64_t size() const = 0;
  virtual const std::byte* data() const { return nullptr; }
  // Fills `into` from `offset`; an error when the range is not inside the source. Never short.
  virtual Result<> read(std::uint64_t offset, std::span<std::byte> into) const = 0;
};

// Maps `path` read-only. The error names the path and the reason.
Result<std::shared_ptr<const ByteSource>> map_file(const std::string& path);
// Bytes owned by the source: tests, and headers that arrive over the network.
std::shared_ptr<const ByteSource> memory_source(std::string name, std::string bytes);

}  // namespace tokenworks
