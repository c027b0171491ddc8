#pragma once
// IndexedHeap: a 4-ary min-heap of small integers whose members can be re-keyed or removed in place. `Key` maps an id to
// something ordered; the owner calls update() after a key changed. No allocation once the ids have been seen.
#include <cassert>
#include <cstdint>
#include <vector>

namespace tokenworks::scheduler {

template <class Key>
class IndexedHeap {
 public:
  explicit IndexedHeap(Key key) : key_(std::move(key)) {}

  bool empty() const { return heap_.empty(); }
  std::size_t size() const { return heap_.size(); }
  std::uint32_t top() const { return heap_.front(); }
  bool contains(std::uint32_t id) const { return id < place_.size() && place_[id] >= 0; }

  void push(std::uint32_t id) {
    assert(!contains(id));
    if (id >= place_.size()) place_.resize(id + 1, -1);
    heap_.push_back(id);
    place_[id] = static_cast<std::int32_t>(heap_.size()) - 1;
    up(heap_.size() - 1);
  }
  void remove(std::uint32_t id) {
    assert(contains(id));
    const auto at = static_cast<std::size_t>(place_[id]);
    place_[id] = -1;
    const std::uint32_t last = heap_.back();
    heap_.pop_back();
    if (last == id) return;
    put(at, last);
    update(last);
  }
  void update(std::uint32_t id) {
    up(static_cast<std::size_t>(place_[id]));
    down(static_cast<std::size_t>(place_[id]));
  }

 private:
  void put(std::size_t at, std::uint32_t id) {
    heap_[at] = id;
    place_[id] = static_cast<std::int32_t>(at);
  }
  void up(std::size_t at) {
    const std::uint32_t id = heap_[at];
    while (at > 0 && key_(id) < key_(heap_[(at - 1) / 4])) {
      put(at, heap_[(at - 1) / 4]);
      at = (at - 1) / 4;
    }
    put(at, id);
  }
  void down(std::size_t at) {
    const std::uint32_t id = heap_[at];
    for (;;) {
      std::size_t least = at;
      for (std::size_t child = 4 * at + 1; child <= 4 * at + 4 && child < heap_.size(); ++child) {
        if (key_(heap_[child]) < key_(least == at ? id : heap_[least])) least = child;
      }
      if (least == at) break;
      put(at, heap_[least]);
      at = least;
    }
    put(at, id);
  }

  Key key_;
  std::vector<std::uint32_t> heap_;
  std::vector<std::int32_t> place_;                  // [id], -1: not inside
};

}  // namespace tokenworks::scheduler
