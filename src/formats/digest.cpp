#include <algorithm>
#include <atomic>
#include <bit>
#include <cassert>
#include <thread>

#include "tokenworks/formats/model_file.hpp"

namespace tokenworks::formats {
namespace {

constexpr std::uint64_t kChunkBytes = 8 << 20;

struct Chunk {
  const ByteSource* source;
  std::uint64_t offset, size;
};

Digest leaf(const Chunk& chunk, std::vector<std::byte>& buffer) {
  static constexpr std::byte kLeaf[] = {std::byte{0}};
  Sha256 hash;
  hash.update(kLeaf);
  if (chunk.source->data() != nullptr) {
    hash.update(std::span(chunk.source->data() + chunk.offset, chunk.size));
  } else {
    buffer.resize(chunk.size);
    const auto read = chunk.source->read(chunk.offset, buffer);
    assert(read);                                    // the range is inside the source; `read` never comes back short
    hash.update(buffer);
  }
  return hash.finish();
}

Digest root(std::span<const Digest> leaves) {        // RFC 6962, section 2.1
  if (leaves.empty()) return sha256(std::string_view());
  if (leaves.size() == 1) return leaves.front();
  const std::size_t split = std::bit_floor(leaves.size() - 1);
  const Digest left = root(leaves.first(split)), right = root(leaves.subspan(split));
  static constexpr std::byte kNode[] = {std::byte{1}};
  Sha256 hash;
  hash.update(kNode);
  hash.update(std::as_bytes(std::span(left)));
  hash.update(std::as_bytes(std::span(right)));
  return hash.finish();
}

}  // namespace

Digest model_digest(const ModelFile& file, int threads) {
  std::vector<Chunk> chunks;
  for (const auto& source : file.sources()) {
    for (std::uint64_t at = 0; at < source->size(); at += kChunkBytes) {
      chunks.push_back({source.get(), at, std::min(kChunkBytes, source->size() - at)});
    }
  }
  std::vector<Digest> leaves(chunks.size());
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    std::vector<std::byte> buffer;
    for (std::size_t i = next++; i < chunks.size(); i = next++) leaves[i] = leaf(chunks[i], buffer);
  };
  const std::size_t wanted =
      threads > 0 ? static_cast<std::size_t>(threads) : std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::thread> helpers;
  for (std::size_t i = 1; i < std::min(wanted, chunks.size()); ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  return root(leaves);
}

}  // namespace tokenworks::formats
