#pragma once
// Slices: a rank's part of every tensor of a model, cut on the host. Rows are spans of the file; columns are copied, and live
// until the slices do. Used once, at load.
#include <deque>
#include <vector>

#include "model/tensors.hpp"

namespace tokenworks::model {

struct Rank {
  std::int32_t index = 0, size = 1;
};

// bad_config when the model's heads or feed-forward do not divide by `size`; says which sizes would do.
Result<> check_split(const formats::ModelFile& file, std::int32_t size);

// A rank's numbers: its heads, its feed-forward, its rows of the head (the last rank may have fewer).
formats::ModelConfig slice_config(const formats::ModelConfig& config, Rank rank);
std::int32_t head_rows(std::int32_t vocab, Rank rank);
std::int32_t head_rows_most(std::int32_t vocab, Rank rank);  // of any rank

class Slices {
 public:
  // bad_config when the vocabulary leaves a rank nothing. A matrix whose quantised blocks stand across a cut is widened to fp32.
  static Result<Slices> make(const ModelTensors& tensors, const formats::ModelConfig& config, Rank rank);
  const ModelTensors& tensors() const { return tensors_; }
  Slices(Slices&&) = default;

 private:
  explicit Slices(const ModelTensors& tensors) : tensors_(tensors) {}
  Result<> cut(const formats::ModelConfig& config, Rank rank);
  void columns(LinearParts& linear, Rank rank);
  void widen(TensorView& part, Rank rank);

  ModelTensors tensors_;
  std::deque<std::vector<std::byte>> copies_;
  std::deque<TensorView> views_;
  bool told_ = false;
};

}  // namespace tokenworks::model
