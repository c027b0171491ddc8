#pragma once
// Loading one rank's part of a model; the whole of it with a rank of one.
#include <memory>

#include "model/slices.hpp"
#include "tokenworks/backend/communicator.hpp"
#include "tokenworks/model/runner.hpp"

namespace tokenworks::model {

// The communicator outlives the runner; null for a rank of one.
Result<std::unique_ptr<Runner>> load_rank(const formats::ModelFile& file, std::unique_ptr<backend::Backend> backend,
                                          const LoadOptions& options, Rank rank, backend::Communicator* communicator);

}  // namespace tokenworks::model
