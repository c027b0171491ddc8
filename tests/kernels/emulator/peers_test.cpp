// Ranks on cards that reach each other: the kernels over several cards' memory, the communicator made of them beside the one
// through the host, and what crosses to the host in a step of a model over two cards.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <numeric>
#include <thread>

#include "backend/cuda/card_communicator.hpp"
#include "backend/cuda/cuda_backend.hpp"
#include "checks.hpp"
#include "model/golden.hpp"
#include "model/steps.hpp"
#include "tokenworks/model/tensor_parallel.hpp"

namespace tokenworks::emulator {
namespace {

using backend::cuda::CudaBackend;
using backend::cuda::CudaOptions;
using kernels::cuda::GatherOnceArgs;
using kernels::cuda::ShareIdsArgs;
using kernels::cuda::SumOnceArgs;

// Ranks with mailboxes, each on a thread of its own that begins when those before it have ended or wait for a flag: nobody
// finds the others' parts by luck.
class OnceRanks {
 public:
  explicit OnceRanks(std::size_t ranks, std::uint32_t epoch = 0) {
    for (std::size_t r = 0; r < ranks; ++r) {
      devices_.push_back(std::make_unique<EmulatedDevice>());
      EmulatedDevice& d = *devices_.back();
      mailboxes_.push_back(std::make_unique<DeviceArray<float>>(d, kernels::cuda::kMailboxFloats));
      flags_.push_back(std::make_unique<DeviceArray<std::uint32_t>>(d, std::vector<std::uint32_t>(kernels::cuda::kFlagWords, epoch)));
      epochs_.push_back(std::make_unique<DeviceArray<std::uint32_t>>(d, std::vector<std::uint32_t>(kernels::cuda::kOnceBlocks, epoch)));
      column_epochs_.push_back(std::make_unique<DeviceArray<std::uint32_t>>(d, std::vector<std::uint32_t>(kernels::cuda::kOnceBlocks, epoch)));
      column_flags_.push_back(std::make_unique<DeviceArray<std::uint32_t>>(d, std::vector<std::uint32_t>(kernels::cuda::kFlagWords, epoch)));
      id_flags_.push_back(std::make_unique<DeviceArray<std::uint32_t>>(d, std::vector<std::uint32_t>(1, epoch)));
      ids_.push_back(std::make_unique<DeviceArray<std::int32_t>>(d, std::size_t{kernels::cuda::kSharedIds}));
    }
  }
  EmulatedDevice& device(std::size_t rank) { return *devices_[rank]; }
  void enqueue(std::size_t rank, float* values, std::size_t count) {
    SumOnceArgs a{.values = values, .count = count, .epochs = *epochs_[rank], .left = &left_, .rank = static_cast<std::int32_t>(rank),
                  .ranks = static_cast<std::int32_t>(devices_.size())};
    for (std::size_t r = 0; r < devices_.size(); ++r) a.mailboxes[r] = *mailboxes_[r], a.flags[r] = *flags_[r];
    device(rank).peer_ops().sum_once(device(rank).stream(), a);
  }
  void gather(std::size_t rank, const float* mine, const std::vector<std::int32_t>& widths, std::int32_t rows, float* out) {
    GatherOnceArgs a{.mine = mine, .out = out, .flags = *column_flags_[0], .epochs = *column_epochs_[rank], .left = &left_,
                     .rank = static_cast<std::int32_t>(rank), .ranks = static_cast<std::int32_t>(devices_.size()), .rows = rows};
    a.from = std::accumulate(widths.begin(), widths.begin() + static_cast<std::ptrdiff_t>(rank), 0);
    a.width = widths[rank];
    a.total = std::accumulate(widths.begin(), widths.end(), 0);
    a.stretches = kernels::cuda::gather_stretches(*std::ranges::max_element(widths));
    device(rank).peer_ops().gather_once(device(rank).stream(), a);
  }
  void share(std::size_t rank, const std::int32_t* drawn, std::int32_t count, std::uint32_t told) {
    ShareIdsArgs a{.drawn = drawn, .left = &left_, .told = told, .rank = static_cast<std::int32_t>(rank),
                   .ranks = static_cast<std::int32_t>(devices_.size()), .count = count};
    for (std::size_t r = 0; r < devices_.size(); ++r) a.ids[r] = *ids_[r], a.flags[r] = *id_flags_[r];
    device(rank).peer_ops().share_ids(device(rank).stream(), a);
  }
  const std::int32_t* ids(std::size_t rank) const { return *ids_[rank]; }
  // What `work` enqueues for each rank; the first fault. `present`: the ranks that come at all. The last one first, if asked.
  std::string run(const std::function<void(std::size_t)>& work, std::size_t present, bool last_first = false) {
    std::vector<std::string> faults(present);
    std::vector<std::thread> threads;
    std::atomic<std::size_t> over{0};
    for (std::size_t begun = 0; begun < present; ++begun) {
      const std::size_t r = last_first ? present - 1 - begun : begun;
      threads.emplace_back([&, r] {
        work(r);
        faults[r] = run_all(device(r));
        if (!faults[r].empty()) std::atomic_ref(left_).store(1);         // nobody waits for what will not come
        ++over;
      });
      for (bool settled = false; !settled; std::this_thread::yield()) {
        const Guard guard;                           // no grid runs while we look: those that have begun wait
        settled = grids_begun() + over == begun + 1;
      }
    }
    if (present < devices_.size()) std::atomic_ref(left_).store(1);
    for (auto& thread : threads) thread.join();
    std::ranges::stable_sort(faults, {}, [](const std::string& f) { return f.find("no other card told") != f.npos; });   // a consequence
    for (const std::string& fault : faults)
      if (!fault.empty()) return fault;
    return {};
  }

 private:
  std::uint32_t left_ = 0;
  std::vector<std::unique_ptr<EmulatedDevice>> devices_;
  std::vector<std::unique_ptr<DeviceArray<float>>> mailboxes_;
  std::vector<std::unique_ptr<DeviceArray<std::uint32_t>>> flags_, epochs_, column_flags_, column_epochs_, id_flags_;
  std::vector<std::unique_ptr<DeviceArray<std::int32_t>>> ids_;
};

// Sums of these sizes one after another, three times: launched, or replayed from a graph.
std::string check_once(std::size_t ranks, const std::vector<std::size_t>& counts, bool graph = false, std::uint32_t epoch = 0) {
  OnceRanks all(ranks, epoch);
  constexpr int kTimes = 3;
  std::vector<std::vector<std::unique_ptr<DeviceArray<float>>>> values(ranks);
  std::vector<std::vector<float>> expected;          // [call]
  for (std::size_t c = 0; c < counts.size(); ++c) {
    std::vector<std::vector<float>> parts;
    for (std::size_t r = 0; r < ranks; ++r) {
      parts.push_back(normal(counts[c], 10 + static_cast<unsigned>(c * ranks + r)));
      values[r].push_back(std::make_unique<DeviceArray<float>>(all.device(r), parts.back()));
    }
    for (int i = 0; i < kTimes; ++i) {               // in place: the sum is everybody's next part
      std::vector<float> sum(counts[c], 0.0f);
      for (const auto& part : parts)
        for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += part[j];
      parts.assign(ranks, sum);
    }
    expected.push_back(parts[0]);
  }
  std::vector<std::unique_ptr<backend::cuda::Graph>> graphs(ranks);
  const std::string fault = all.run([&](std::size_t r) {
    EmulatedDevice& d = all.device(r);
    const auto once = [&] {
      for (std::size_t c = 0; c < counts.size(); ++c) all.enqueue(r, *values[r][c], counts[c]);
    };
    if (graph) {
      d.begin_capture(d.stream());
      once();
      graphs[r] = std::move(*d.end_capture(d.stream()));
    }
    for (int i = 0; i < kTimes; ++i) graph ? d.launch(*graphs[r], d.stream()) : once();
  }, ranks);
  if (!fault.empty()) return fault;
  for (std::size_t r = 0; r < ranks; ++r)
    for (std::size_t c = 0; c < counts.size(); ++c)
      if (values[r][c]->values() != expected[c]) return "another sum, or in another order";
  return {};
}

// Columns of every rank on the first, twice with other values and a sum between, as in a step; looked at in order with the stream.
std::string check_gather(const std::vector<std::int32_t>& widths, std::int32_t rows, std::uint32_t epoch = 0) {
  const std::size_t ranks = widths.size();
  OnceRanks all(ranks, epoch);
  std::int32_t columns = 0;
  for (const std::int32_t w : widths) columns += w;
  const auto size = static_cast<std::size_t>(rows * columns);
  std::vector<std::vector<std::unique_ptr<DeviceArray<float>>>> parts(2);
  std::vector<std::unique_ptr<DeviceArray<float>>> sums, seen;
  for (std::size_t r = 0; r < ranks; ++r) {
    for (unsigned turn = 0; turn < 2; ++turn)
      parts[turn].push_back(std::make_unique<DeviceArray<float>>(all.device(r), normal(static_cast<std::size_t>(rows * widths[r]), 3 + 10 * turn + static_cast<unsigned>(r))));
    sums.push_back(std::make_unique<DeviceArray<float>>(all.device(r), normal(10, 1)));
  }
  DeviceArray<float> out(all.device(0), std::vector<float>(size, -1.0f));
  for (int turn = 0; turn < 2; ++turn) seen.push_back(std::make_unique<DeviceArray<float>>(all.device(0), std::vector<float>(size, -2.0f)));
  const std::string fault = all.run([&](std::size_t r) {
    for (std::size_t turn = 0; turn < 2; ++turn) {
      all.gather(r, *parts[turn][r], widths, rows, out);
      if (r == 0 && size > 0) all.device(0).copy_on_device(seen[turn]->get(), out, size * sizeof(float), all.device(0).stream());
      all.enqueue(r, *sums[r], 10);
    }
  }, ranks);
  if (!fault.empty()) return fault;
  for (std::size_t turn = 0; turn < 2; ++turn)
    for (std::int32_t row = 0; row < rows; ++row)
      for (std::int32_t r = 0, c = 0; r < static_cast<std::int32_t>(ranks); ++r)
        for (std::int32_t own = 0; own < widths[static_cast<std::size_t>(r)]; ++own, ++c)
          if (seen[turn]->get()[row * columns + c] != parts[turn][static_cast<std::size_t>(r)]->get()[row * widths[static_cast<std::size_t>(r)] + own])
            return "another column";
  return {};
}

// Ids of the first rank on all others, twice with a sum between.
std::string check_ids(std::size_t ranks, std::int32_t count) {
  OnceRanks all(ranks);
  std::vector<std::int32_t> drawn[2];
  for (std::int32_t i = 0; i < count; ++i) drawn[0].push_back(7 * i), drawn[1].push_back(1000 - i);
  const auto n = static_cast<std::size_t>(count);
  const DeviceArray<std::int32_t> first(all.device(0), drawn[0]), second(all.device(0), drawn[1]);
  std::vector<std::unique_ptr<DeviceArray<float>>> sums;
  std::vector<std::unique_ptr<DeviceArray<std::int32_t>>> seen[2];
  for (std::size_t r = 0; r < ranks; ++r) {
    sums.push_back(std::make_unique<DeviceArray<float>>(all.device(r), normal(10, 1)));
    for (auto& s : seen) s.push_back(std::make_unique<DeviceArray<std::int32_t>>(all.device(r), std::vector<std::int32_t>(n, -1)));
  }
  const std::string fault = all.run([&](std::size_t r) {
    for (std::uint32_t turn = 0; turn < 2; ++turn) {
      all.share(r, turn == 0 ? first : second, count, turn + 1);
      if (r > 0 && n > 0) all.device(r).copy_on_device(seen[turn][r]->get(), all.ids(r), n * sizeof(std::int32_t), all.device(r).stream());
      all.enqueue(r, *sums[r], 10);
    }
  }, ranks, true);
  if (!fault.empty()) return fault;
  for (std::size_t r = 1; r < ranks; ++r)
    for (int turn = 0; turn < 2; ++turn)
      if (seen[turn][r]->values() != drawn[turn]) return "other ids";
  return {};
}

TEST(EmulatorPeers, SumsWithoutAMeetingHaveTheSameBitsOnEveryRankInAnyOrderOfThreads) {
  for (const std::size_t ranks : {std::size_t{1}, std::size_t{2}, std::size_t{4}})
    for (const std::uint64_t seed : {1, 2, 3}) {
      const Planted nothing(0, seed);
      EXPECT_EQ(check_once(ranks, {1, 255, 1024, 1025, 0, 4097, 3}), "") << ranks << " ranks, seed " << seed;
      EXPECT_EQ(check_once(ranks, {300, 2100}, true), "") << "as a graph, " << ranks << " ranks, seed " << seed;
    }
  EXPECT_EQ(check_once(2, {std::size_t{kernels::cuda::kOnceBlocks} * kernels::cuda::kOnceValues + 1500, 7}), "") << "more than the mailboxes hold at once";
  EXPECT_EQ(check_once(2, {1500, 1500}, false, 0xFFFFFFFDu), "") << "flags wrap around";
}

TEST(EmulatorPeers, ARankThatHasGoneEndsTheWaiting) {
  OnceRanks all(3);
  std::vector<std::unique_ptr<DeviceArray<float>>> values;
  for (std::size_t r = 0; r < 3; ++r) values.push_back(std::make_unique<DeviceArray<float>>(all.device(r), normal(3000, 1)));
  EXPECT_EQ(all.run([&](std::size_t r) { all.enqueue(r, *values[r], 3000), all.enqueue(r, *values[r], 10); }, 2), "");
}

TEST(EmulatorPeers, GatheredColumnsAreExact) {
  for (const auto& widths : std::vector<std::vector<std::int32_t>>{{1, 1}, {151, 150}, {73, 73, 73, 70}, {5, 0}, {300, 300, 2}, {4096, 4000}})
    for (const std::int32_t rows : {0, 1, 5}) EXPECT_EQ(check_gather(widths, rows), "") << widths.size() << ", " << rows;
  EXPECT_EQ(check_gather({20, 13}, 130), "") << "more rows than blocks";
  EXPECT_EQ(check_gather({20, 13}, 3, 0xFFFFFFFFu), "") << "flags wrap around";
}

TEST(EmulatorPeers, EveryRankHasTheFirstOnesIds) {
  for (const std::size_t ranks : {std::size_t{2}, std::size_t{4}})
    for (const std::int32_t count : {0, 1, 3, 256, 700}) EXPECT_EQ(check_ids(ranks, count), "") << ranks << " ranks, " << count;
}

TEST(EmulatorPeers, PlantedBugsAreFound) {
  const struct {
    int number;
    const char* what;
  } bugs[] = {{120, "a rank is left out"}, {122, "nobody waits for the flags"}, {123, "a flag is stored before the block has written its part"},
              {124, "one mailbox for all turns"}, {125, "the flag of the turn before is enough"}};
  // Whose grid goes on first is the host's choice: one of these orders shows a bug, not each of them.
  for (const auto& bug : bugs) {
    std::string words;
    for (int again = 0; words.empty() && again < 20; ++again)
      for (const std::uint64_t seed : {1, 2, 3})
        for (const std::size_t ranks : {std::size_t{2}, std::size_t{4}}) {
          const Planted planted(bug.number, seed);
          if (words.empty()) words = check_once(ranks, {1500, 300, 300, 300});
        }
    EXPECT_NE(words, "") << bug.what;
    std::printf("[ planted %3d ] %s: %s\n", bug.number, bug.what, words.c_str());
  }
  for (const std::uint64_t seed : {1, 2, 3}) {
    {
      const Planted planted(121, seed);
      EXPECT_NE(check_gather({4, 6}, 2), "") << "one column too many";
    }
    {
      const Planted planted(126, seed);
      EXPECT_NE(check_gather({4, 6}, 2), "") << "the first rank does not wait for the others' columns";
    }
    {
      const Planted planted(127, seed);
      EXPECT_NE(check_ids(3, 5), "") << "nobody waits for the ids";
    }
    {
      const Planted planted(129, seed);
      EXPECT_NE(check_gather({4, 6}, 2).find("race between cards"), std::string::npos) << "told before the columns lie there";
    }
    {
      const Planted planted(130, seed);
      EXPECT_NE(check_ids(2, 5).find("race between cards"), std::string::npos) << "told before the ids lie there";
    }
    const Planted planted(128, seed);
    EXPECT_NE(check_ids(2, 5), "") << "other ids";
  }
}

// Both forms between the same buffers, each rank on its thread: the same bits on every rank.
TEST(EmulatorPeers, TheKernelsSumIsTheHostsBitForBit) {
  constexpr std::int32_t kRanks = 3, kRows = 5, kColumns = 37;
  std::vector<std::vector<float>> found[2];
  for (const bool reaches : {false, true}) {
    std::vector<std::unique_ptr<CudaBackend>> backends;
    std::vector<backend::Backend*> each;
    for (int r = 0; r < kRanks; ++r) {
      auto device = std::make_unique<EmulatedDevice>();
      device->set_reaches(reaches);
      backends.push_back(std::make_unique<CudaBackend>(std::move(device), CudaOptions{}));
      each.push_back(backends.back().get());
    }
    auto communicators = backend::make_communicators(each);
    found[reaches].resize(kRanks);
    std::vector<std::thread> threads;
    for (int r = 0; r < kRanks; ++r)
      threads.emplace_back([&, r] {
        const auto values = normal(kRows * kColumns, 20 + static_cast<unsigned>(r));
        auto buffer = backends[static_cast<std::size_t>(r)]->allocate(values.size() * sizeof(float));
        ASSERT_TRUE(buffer);
        backends[static_cast<std::size_t>(r)]->upload(**buffer, 0, std::as_bytes(std::span(values)));
        for (int again = 0; again < 2; ++again) {
          const auto summed = communicators[static_cast<std::size_t>(r)]->all_reduce(*each[static_cast<std::size_t>(r)], **buffer, kRows, kColumns);
          ASSERT_TRUE(summed) << summed.error().message;
        }
        auto& mine = found[reaches][static_cast<std::size_t>(r)];
        mine.resize(values.size());
        backends[static_cast<std::size_t>(r)]->download(**buffer, 0, std::as_writable_bytes(std::span(mine)));
      });
    for (auto& t : threads) t.join();
    EXPECT_EQ(found[reaches][0], found[reaches][1]);
    EXPECT_EQ(found[reaches][0], found[reaches][2]);
    communicators.clear();
  }
  EXPECT_EQ(found[0], found[1]);
}

// Sums that stand in the stream, as NCCL's do: part of the step's graph, over the padded rows.
class StreamSums final : public backend::cuda::DeviceSums {
 public:
  bool sum(float* values, std::size_t count, kernels::cuda::Stream stream) override {
    auto& queue = *static_cast<EmulatedDevice::Queue*>(stream);
    queue.device->enqueue(queue, [this, values, count]() -> std::string {
      (void)values;
      ++done;
      last = count;
      return {};
    });
    return !refuses;
  }
  int done = 0;
  std::size_t last = 0;
  bool refuses = false;
};

TEST(EmulatorPeers, SumsOnTheStreamArePartOfTheStepAndTheirFailureIsTheEngines) {
  CudaBackend backend(std::make_unique<EmulatedDevice>(), {});
  std::vector<CudaBackend*> each{&backend};
  auto sums = std::make_unique<StreamSums>();
  StreamSums* const stream = sums.get();
  std::vector<std::unique_ptr<backend::cuda::DeviceSums>> all;
  all.push_back(std::move(sums));
  auto communicators = backend::cuda::make_card_communicators(each, std::move(all));
  constexpr std::int32_t kColumns = 70'000;          // two rows are too much for one kernel
  auto buffer = backend.allocate(8 * kColumns * sizeof(float));
  ASSERT_TRUE(buffer && communicators.size() == 1);
  (void)backend.make_activations(8, 64);
  const std::vector<TokenId> tokens{1, 2, 3};
  const std::vector<std::int32_t> positions{0, 0, 0}, tables{0, 1, 2};
  const std::vector<backend::SequenceRows> sequences{{0, 1, 1, 0}, {1, 1, 1, 1}, {2, 1, 1, 2}};
  const auto step = [&] {
    backend.begin_step({tokens, positions, sequences, tables});
    const auto enqueued = communicators[0]->all_reduce(backend, **buffer, 3, kColumns);
    EXPECT_TRUE(enqueued);
    return backend.check();
  };
  for (int i = 1; i <= 4; ++i) {
    ASSERT_TRUE(step());
    EXPECT_EQ(stream->done, i);
    EXPECT_EQ(stream->last, std::size_t{4} * kColumns) << "of a bucket of four rows";
  }
  auto& device = static_cast<EmulatedDevice&>(backend.device());
  EXPECT_EQ(device.counts().graph_launches, 3u);
  stream->refuses = true;
  backend.begin_step({std::span(tokens).first(1), std::span(positions).first(1), std::span(sequences).first(1), tables});
  EXPECT_TRUE(communicators[0]->all_reduce(backend, **buffer, 1, 4)) << "a small one is not its business";
  EXPECT_TRUE(backend.check());
  backend.begin_step({std::span(tokens).first(2), std::span(positions).first(2), std::span(sequences).first(2), tables});
  EXPECT_TRUE(communicators[0]->all_reduce(backend, **buffer, 2, kColumns));
  const auto failed = backend.check();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Errc::engine_failed);
}

TEST(EmulatorPeers, AModelOverTwoCardsBringsOnlyIdsToTheHost) {
  using namespace model;
  const auto file = formats::ModelFile::open(tokenworks::test::golden_path("tiny_models") + "/llama/model.gguf");
  ASSERT_TRUE(file);
  std::vector<std::unique_ptr<backend::Backend>> backends;
  std::vector<EmulatedDevice*> devices;
  for (int r = 0; r < 2; ++r) {
    auto device = std::make_unique<EmulatedDevice>();
    devices.push_back(device.get());
    backends.push_back(std::make_unique<CudaBackend>(std::move(device), CudaOptions{}));
  }
  const auto many = load_tensor_parallel(*file, std::move(backends), {.context_tokens = 256, .kv_cache_bytes = 2 << 20, .sequences_max = 8, .rows_max = 64});
  ASSERT_TRUE(many) << many.error().message;
  const std::vector<TokenId> tokens{5, 9, 100, 7};
  const std::vector<std::int32_t> positions{0, 1, 2, 3}, tables{3}, last{3};
  const std::vector<backend::SequenceRows> sequences{{0, 4, 4, 0}};
  const backend::SamplingParams greedy{.temperature = 0};
  const std::vector<backend::SampleRow> asked{{.params = &greedy}};
  std::vector<backend::Sampled> sampled(1);
  const auto before = devices[0]->counts(), other = devices[1]->counts();
  const auto ran = (*many)->run({{tokens, positions, sequences, tables}, last, asked}, sampled);
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_GE(sampled[0].token, 0);
  EXPECT_EQ(devices[0]->counts().bytes_to_host - before.bytes_to_host, 4u);
  EXPECT_EQ(devices[1]->counts().bytes_to_host, other.bytes_to_host);
  // Freeing would wait for the other card, which may be waiting for this one.
  for (EmulatedDevice* device : devices) {
    const std::uint64_t freed = device->counts().frees;
    EXPECT_TRUE(backend::cuda::Memory::make(*device, 4096, "grown out of"));
    EXPECT_EQ(device->counts().frees, freed);
  }
}

}  // namespace
}  // namespace tokenworks::emulator
