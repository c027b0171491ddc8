#pragma once
// Two hash tables built once and then only read, made for encoding speed: open addressing, power-of-two size, at most
// half full, no allocation per entry. Any thread once built.
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tokenworks::tokenizer {

inline std::uint64_t mix64(std::uint64_t x) {  // the finaliser of SplitMix64 (Steele, Lea, Flood 2014)
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ x >> 27) * 0x94D049BB133111EBull;
  return x ^ x >> 31;
}

inline std::size_t table_size(std::size_t entries) {
  std::size_t size = 16;
  while (size < entries * 2) size *= 2;
  return size;
}

// 64-bit keys, never ~0.
template <class Value>
class KeyTable {
 public:
  KeyTable() : slots_(16) {}
  void reserve(std::size_t entries) {
    std::vector<Slot> old(table_size(entries));
    old.swap(slots_);
    count_ = 0;
    for (const Slot& slot : old) {
      if (slot.key != kFree) set(slot.key, slot.value);
    }
  }
  void set(std::uint64_t key, Value value) {  // replaces
    if ((count_ + 1) * 2 > slots_.size()) reserve(slots_.size());
    Slot& slot = slots_[place(key)];
    if (slot.key == kFree) ++count_;
    slot = {key, value};
  }
  const Value* find(std::uint64_t key) const {
    const Slot& slot = slots_[place(key)];
    return slot.key == key ? &slot.value : nullptr;
  }

 private:
  static constexpr std::uint64_t kFree = ~0ull;
  struct Slot {
    std::uint64_t key = kFree;
    Value value{};
  };
  std::size_t place(std::uint64_t key) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = mix64(key) & mask;
    while (slots_[at].key != key && slots_[at].key != kFree) at = (at + 1) & mask;
    return at;
  }
  std::vector<Slot> slots_;
  std::size_t count_ = 0;
};

// Strings to ids. Keys are kept in one buffer.
class StringTable {
 public:
  StringTable() : slots_(16) {}
  void set(std::string_view key, std::int32_t id) {  // replaces
    if ((count_ + 1) * 2 > slots_.size()) grow();
    const std::uint64_t h = hash(key);
    Slot& slot = slots_[place(key, h)];
    if (slot.id < 0) {
      slot = {static_cast<std::uint32_t>(h >> 32), static_cast<std::uint32_t>(key.size()), text_.size(), id};
      text_ += key;
      ++count_;
    }
    slot.id = id;
  }
  std::int32_t find(std::string_view key) const { return slots_[place(key, hash(key))].id; }  // -1: absent

 private:
  struct Slot {
    std::uint32_t tag = 0, length = 0;
    std::size_t offset = 0;
    std::int32_t id = -1;
  };
  static std::uint64_t hash(std::string_view key) {
    std::uint64_t h = key.size() * 0x9E3779B97F4A7C15ull;
    while (key.size() >= 8) {
      std::uint64_t word;
      std::memcpy(&word, key.data(), 8);
      h = mix64(h ^ word);
      key.remove_prefix(8);
    }
    std::uint64_t rest = 0;
    if (!key.empty()) std::memcpy(&rest, key.data(), key.size());
    return mix64(h ^ rest);
  }
  std::size_t place(std::string_view key, std::uint64_t h) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = h & mask;
    for (;; at = (at + 1) & mask) {
      const Slot& slot = slots_[at];
      if (slot.id < 0) return at;
      if (slot.tag == h >> 32 && slot.length == key.size() &&
          std::memcmp(text_.data() + slot.offset, key.data(), key.size()) == 0)
        return at;
    }
  }
  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.id < 0) continue;
      const std::string_view key(text_.data() + slot.offset, slot.length);
      slots_[place(key, hash(key))] = slot;
    }
  }
  std::vector<Slot> slots_;
  std::string text_;
  std::size_t count_ = 0;
};

}  // namespace tokenworks::tokenizer
