#pragma once
// MarkedText: text of which every byte knows whether it may be read as a control token. Normalizers keep the marks in
// step, so that a control token whose spelling is matched after normalization still needs trusted characters only.
#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tokenworks::tokenizer {

class MarkedText {
 public:
  struct Run {
    std::size_t begin;  // up to the next run, or the end of the text
    bool trusted;
  };

  MarkedText() = default;
  MarkedText(std::string_view text, bool trusted) { append(text, trusted); }

  const std::string& text() const { return text_; }
  const std::vector<Run>& runs() const { return runs_; }
  bool uniform() const { return runs_.size() < 2; }

  void append(std::string_view text, bool trusted) {
    if (text.empty()) return;
    if (runs_.empty() || runs_.back().trusted != trusted) runs_.push_back({text_.size(), trusted});
    text_ += text;
  }
  void append(const MarkedText& from, std::size_t begin, std::size_t end) {
    from.each_run(begin, end, [&](std::string_view text, bool trusted) { append(text, trusted); });
  }
  MarkedText slice(std::size_t begin, std::size_t end) const {
    MarkedText part;
    part.append(*this, begin, end);
    return part;
  }

  bool all_trusted(std::size_t begin, std::size_t end) const { return covers(begin, end, true); }
  bool none_trusted(std::size_t begin, std::size_t end) const { return covers(begin, end, false); }

  // Calls f(text, trusted) for each run, or part of one, inside [begin, end).
  template <class F>
  void each_run(std::size_t begin, std::size_t end, F f) const {
    for (std::size_t i = run_at(begin); i < runs_.size() && runs_[i].begin < end; ++i) {
      const std::size_t from = std::max(begin, runs_[i].begin);
      const std::size_t to = std::min(end, i + 1 < runs_.size() ? runs_[i + 1].begin : text_.size());
      if (from < to) f(std::string_view(text_).substr(from, to - from), runs_[i].trusted);
    }
  }

 private:
  std::size_t run_at(std::size_t at) const {
    const auto after =
        std::upper_bound(runs_.begin(), runs_.end(), at, [](std::size_t a, const Run& r) { return a < r.begin; });
    return after == runs_.begin() ? 0 : static_cast<std::size_t>(after - runs_.begin()) - 1;
  }
  bool covers(std::size_t begin, std::size_t end, bool trusted) const {
    for (std::size_t i = run_at(begin); i < runs_.size() && runs_[i].begin < end; ++i) {
      if (runs_[i].trusted != trusted) return false;
    }
    return true;
  }

  std::string text_;
  std::vector<Run> runs_;  // neighbours differ
};

}  // namespace tokenworks::tokenizer
