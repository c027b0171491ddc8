// The rows of a step on the device: changed by differences, they are what the step says, whatever came before; a steady decode
// step sends a few words a row, however long its contexts are.
#include <random>

#include "backend/cuda/step_state.hpp"
#include "harness.hpp"
#include "model/steps.hpp"

namespace tokenworks::backend::cuda {
namespace {

using emulator::EmulatedDevice;
using model::test::Sequence;
using model::test::StepStorage;

// What the kernels would read, against the step; empty when it is right.
std::string compare(const StepState& state, const StepRows& step, std::int32_t bucket) {
  for (std::size_t row = 0; row < step.tokens.size(); ++row)
    if (state.tokens()[row] != step.tokens[row] || state.positions()[row] != step.positions[row]) return "row " + std::to_string(row);
  for (std::size_t s = 0; s < step.sequences.size(); ++s) {
    const SequenceRows& q = step.sequences[s];
    const auto& on_device = state.sequences()[s];
    if (on_device.row != q.row || on_device.rows != q.rows || on_device.context != q.context) return "sequence " + std::to_string(s);
    for (std::int32_t b = 0; b < TablePlaces::blocks_of(q); ++b)
      if (state.tables()[on_device.table + b] != step.block_tables[static_cast<std::size_t>(q.table + b)]) return "table " + std::to_string(s);
    for (std::int32_t i = 0; i < q.rows; ++i) {
      const std::int32_t row = q.row + i, at = q.context - q.rows + i;
      if (state.row_sequence()[row] != static_cast<std::int32_t>(s)) return "sequence of row " + std::to_string(row);
      if (state.slots()[row] != step.block_tables[static_cast<std::size_t>(q.table + at / 16)] * 16 + at % 16) return "slot " + std::to_string(row);
    }
  }
  for (auto row = static_cast<std::int32_t>(step.tokens.size()); row < bucket; ++row)
    if (state.tokens()[row] != -1 || state.slots()[row] != -1 || state.row_sequence()[row] != -1 || state.sequences()[row].context != 0)
      return "padding row " + std::to_string(row);
  return {};
}

struct Batch {
  std::vector<Sequence> sequences;
  std::int32_t next_block = 0;

  void add(std::int32_t done) {
    sequences.push_back({});
    sequences.back().done = done;
  }
  StepStorage step(const std::vector<std::int32_t>& rows) {
    StepStorage storage;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      Sequence& q = sequences[i];
      const std::int32_t context = q.done + rows[i];
      while (static_cast<std::int32_t>(q.blocks.size()) * 16 < context) q.blocks.push_back(next_block++ % 5000);
      q.tokens.resize(static_cast<std::size_t>(context));
      for (std::int32_t t = q.done; t < context; ++t) q.tokens[static_cast<std::size_t>(t)] = t * 31 % 997;
      if (rows[i] > 0) storage.add(q, rows[i]);
      q.done = context;
    }
    return storage;
  }
};

// Returns the bytes the step cost, or fails the test.
std::uint64_t send(EmulatedDevice& device, StepState& state, const StepStorage& storage, std::int32_t bucket) {
  bool moved = false;
  const auto before = device.counts();
  const auto staged = state.stage(storage.rows(), bucket, &moved);
  EXPECT_TRUE(staged);
  EXPECT_TRUE(state.send_changes());
  EXPECT_EQ(emulator::run_all(device), "");
  EXPECT_EQ(compare(state, storage.rows(), bucket), "");
  const auto after = device.counts();
  EXPECT_EQ(after.copies_to_device - before.copies_to_device, 1u);
  state.release();
  return after.bytes_to_device - before.bytes_to_device;
}

TEST(EmulatorStepState, WhateverCameBeforeTheDeviceHasWhatTheStepSays) {
  std::mt19937 random(11);
  EmulatedDevice device;
  StepState state(device);
  Batch batch;
  for (int step = 0; step < 300; ++step) {
    while (batch.sequences.size() < 12 && random() % 3 != 0) batch.add(0);
    if (!batch.sequences.empty() && random() % 6 == 0)
      batch.sequences.erase(batch.sequences.begin() + static_cast<std::ptrdiff_t>(random() % batch.sequences.size()));
    std::vector<std::int32_t> rows;
    const bool decode = random() % 2 == 0;
    for (std::size_t i = 0; i < batch.sequences.size(); ++i)
      rows.push_back(decode ? 1 : static_cast<std::int32_t>(random() % (random() % 9 == 0 ? 200 : 4)));
    const StepStorage storage = batch.step(rows);
    if (storage.tokens.empty()) continue;
    send(device, state, storage, decode ? (static_cast<std::int32_t>(storage.tokens.size()) + 7) / 8 * 8 : 0);
    if (HasFailure()) FAIL() << "step " << step;
  }
}

// Four words of a row change, as pairs 32 bytes; a block now and then is a pair more.
TEST(EmulatorStepState, ASteadyStepSendsAFewWordsARowHoweverLongTheContext) {
  std::uint64_t bytes[2] = {};
  for (const std::int32_t context : {20, 3000}) {
    EmulatedDevice device;
    StepState state(device);
    Batch batch;
    for (int s = 0; s < 32; ++s) batch.add(context + s);
    const std::vector<std::int32_t> ones(32, 1);
    for (int i = 0; i < 2; ++i) send(device, state, batch.step(ones), 32);
    const auto before = device.counts();
    for (int i = 0; i < 64; ++i) {
      const std::uint64_t step = send(device, state, batch.step(ones), 32);
      EXPECT_LE(step, 32u * 32 + 8u * 32);
      bytes[context > 100] += step;
    }
    EXPECT_EQ(device.counts().allocations, before.allocations);
  }
  EXPECT_EQ(bytes[0], 64u * 32 * 32 + 32u * 4 * 8);  // each got four blocks meanwhile
  EXPECT_EQ(bytes[1], bytes[0]);
}

// One of 32 leaves: rows move up, tables stay where they are.
TEST(EmulatorStepState, WhoLeavesDoesNotMakeTheOthersTablesTravel) {
  EmulatedDevice device;
  StepState state(device);
  Batch batch;
  for (int s = 0; s < 32; ++s) batch.add(3000 + s);
  for (int i = 0; i < 2; ++i) send(device, state, batch.step(std::vector<std::int32_t>(32, 1)), 32);
  batch.sequences.erase(batch.sequences.begin() + 3);
  EXPECT_LE(send(device, state, batch.step(std::vector<std::int32_t>(31, 1)), 32), 32u * 9 * 8 + 32u * 8);
}

}  // namespace
}  // namespace tokenworks::backend::cuda
