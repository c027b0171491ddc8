#pragma once
// Places: where `models[].backend` puts a model: on the card or processor of its kind, on a card by number, or over several.
#include <memory>
#include <string>
#include <vector>

#include "tokenworks/backend/backend.hpp"

namespace tokenworks::backend {

// One backend for `auto`, `cpu`, `cuda` and `cuda:1`; one a rank for `cuda:0+1` (and `cpu:0+1`, whose numbers mean nothing: for
// trying out). bad_config as make_backend, also for a card that is not there.
Result<std::vector<std::unique_ptr<Backend>>> make_backends(const BackendChoice& choice);

// Why `backend: auto` puts a model of that `compute` on the processor, in words for the log and `doctor`; empty: it does not. A
// card that the driver lists and that could not be had is known here once it has been asked for (make_backend).
std::string why_no_card(const std::string& compute);

// What kernels for cards this binary has ("sm_80, sm_90a, sm_100"; empty: none), and which of the cards here they do not run on
// and why, a line each. For `doctor`.
std::string built_in_kernels();
std::vector<std::string> cards_without_kernels();

// What the driver says of confidential computing, in words for `doctor`; without a driver, that nothing is known.
std::string confidential_computing();

}  // namespace tokenworks::backend
