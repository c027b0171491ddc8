#pragma once
// What every backend asks of a tensor before it packs it. Pure.
#include <string>
#include <vector>

#include "tokenworks/backend/backend.hpp"

namespace tokenworks::backend {

std::size_t row_bytes(const formats::TensorView& t);         // of whole blocks, as the file stores them

// Parts that make one matrix: as many bytes as their shapes say, the same columns, a bias for each or for none. bad_file.
Result<> check_parts(const Backend::LinearParts& parts);
Result<std::vector<float>> as_floats(const formats::TensorView& t);

// What a tensor is: name, place, type, shape, and a sample of its bytes, so that memory used again is not mistaken for it.
std::string identity(const formats::TensorView& t);

}  // namespace tokenworks::backend
