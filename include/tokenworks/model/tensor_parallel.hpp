#pragma once
// One model over several ranks of a host: each holds a slice of every matrix (rows of Q, K, V, gate, up and the head; columns
// of O and down) and its own heads' part of the cache. Two sums over ranks a layer, one gathering of logits a step. Each rank
// has a backend and a thread of its own; the engine drives them as one Runner and never hears of ranks.
#include <memory>
#include <vector>

#include "tokenworks/backend/backend.hpp"
#include "tokenworks/model/runner.hpp"

namespace tokenworks::model {

// As `load`, over backends.size() ranks. options.kv_cache_bytes is of each rank. bad_config when heads or the feed-forward
// cannot be divided: says by what they can. A rank that fails fails the step for good.
Result<std::unique_ptr<Runner>> load_tensor_parallel(std::shared_ptr<const formats::ModelFile> file,
                                                     std::vector<std::unique_ptr<backend::Backend>> backends,
                                                     const LoadOptions& options);

}  // namespace tokenworks::model
