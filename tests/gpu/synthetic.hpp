#pragma once
// A model of a given shape with random weights made on the device: a pattern of a mebibyte is copied over and doubled there, so
// that sixteen gigabytes take milliseconds and nothing travels. For measuring; what it says is noise.
#include <memory>

#include "backend/cuda/cuda_backend.hpp"
#include "tokenworks/formats/model_file.hpp"
#include "tokenworks/model/runner.hpp"

namespace tokenworks::gpu {

formats::ModelConfig shape_8b();                     // Llama-3.1-8B
formats::ModelConfig shape_tiny();                   // what the emulator can run

std::unique_ptr<backend::Weight> random_linear(backend::cuda::CudaBackend& backend, kernels::cuda::Element element, std::int32_t n,
                                               std::int32_t k);

struct Model {
  std::unique_ptr<model::Runner> runner;
  backend::cuda::CudaBackend* backend = nullptr;     // the runner's
};
Result<Model> random_model(std::unique_ptr<backend::cuda::Device> device, const backend::cuda::CudaOptions& options,
                           const formats::ModelConfig& shape, const model::LoadOptions& load);

// A card with nvcc, the emulator without: each build of this folder has one.
Result<std::unique_ptr<backend::cuda::Device>> make_device();

}  // namespace tokenworks::gpu
