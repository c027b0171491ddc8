// Who multiplies what: a library of host bodies behind MatrixLibrary, a clock that knows what each way costs, files that are
// and are not ours.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/narrow.hpp"
#include "backend/cuda/tuned_products.hpp"
#include "checks.hpp"
#include "model/golden.hpp"
#include "model/steps.hpp"
#include "tokenworks/formats/tensor.hpp"

namespace tokenworks::emulator {
namespace {

using namespace kernels::cuda;
using backend::cuda::Matrix;
using backend::cuda::MatrixLibrary;
using backend::cuda::TunedProducts;
using backend::cuda::Way;

// Three ways, the second the fastest; the third refuses at the last moment. Its work is enqueued on the device's stream as
// cuBLASLt's would be, so a graph captures it.
class HostLibrary final : public MatrixLibrary {
 public:
  explicit HostLibrary(std::string version = "host-1") : version_(std::move(version)) {}
  const std::string& version() const override { return version_; }
  std::vector<Way> ways(const LinearArgs& a, int most) override {
    asked.insert({a.weights.n, a.weights.k, a.rows});
    if (a.weights.n % 2 != 0) return {};             // not for these
    std::vector<Way> all{{30, 0xABCDEF0123456789u}, {10}, {1}};
    if (offers_wrong_way) all.insert(all.begin(), Way{kWrongWay});
    all.resize(std::min<std::size_t>(all.size(), static_cast<std::size_t>(most)));
    return all;
  }
  bool multiply(const LinearArgs& a, const Way& way, Stream stream) override {
    if (way[0] == 1 || refuses) return false;
    ++done;
    done_wrong_way += way[0] == kWrongWay;
    cost += static_cast<std::int64_t>(way[0]) * a.rows;
    auto& queue = *static_cast<EmulatedDevice::Queue*>(stream);
    queue.device->enqueue(queue, [a, wrong = way[0] == kWrongWay ? wrong : Wrong::nothing]() -> std::string {
      const auto stride = static_cast<std::size_t>(a.weights.stride), n = static_cast<std::size_t>(a.weights.n);
      for (std::size_t r = 0; r < static_cast<std::size_t>(a.rows); ++r)
        for (std::size_t j = 0; j < n; ++j) {
          double sum = a.weights.bias != nullptr ? a.weights.bias[j] : 0;
          for (std::size_t i = 0; i < static_cast<std::size_t>(a.weights.k) - (wrong == Wrong::depth && r % 3 == 0 ? 2 : 0); ++i)
            sum += value(a.in.data, a.in.element, r * stride + i) * value(a.weights.data, a.weights.element, j * stride + i);
          float& to = a.out[r * n + j];
          if (wrong == Wrong::last_row && r + 1 == static_cast<std::size_t>(a.rows)) sum = 0;
          if (wrong == Wrong::unwritten && j + 1 == n) continue;
          to = static_cast<float>(a.accumulate != (wrong == Wrong::always_adds && r == 0) ? to + sum : sum);
        }
      return {};
    });
    return true;
  }

  // What the way numbered kWrongWay, the fastest of all, does wrong.
  enum class Wrong { nothing, depth, last_row, unwritten, always_adds };
  static constexpr std::uint64_t kWrongWay = 2;
  Wrong wrong = Wrong::nothing;
  bool offers_wrong_way = false;
  int done_wrong_way = 0;
  std::set<std::array<int, 3>> asked;
  std::int64_t cost = 0;
  int done = 0;
  bool refuses = false;

 private:
  static double value(const void* data, Element e, std::size_t at) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, static_cast<const std::byte*>(data) + at * bytes_of(e), bytes_of(e));
    return decode(e, bits);
  }
  std::string version_;
};

struct Machine {
  std::unique_ptr<EmulatedDevice> device = std::make_unique<EmulatedDevice>();
  HostLibrary* library;
  explicit Machine(const std::string& version = "host-1") {
    auto made = std::make_unique<HostLibrary>(version);
    library = made.get();
    device->set_products(std::move(made));
  }
  // An own kernel costs 500 whatever the rows: cheaper than the library's from 64 rows on, dearer below.
  std::int64_t now() const { return library->cost + 500 * static_cast<std::int64_t>(device->counts().launches); }
};

std::shared_ptr<const Matrix> matrix(EmulatedDevice& device, std::int32_t n, std::int32_t k) {
  auto m = std::make_shared<Matrix>();
  m->view = {.element = Element::bf16, .n = n, .k = k, .stride = padded(k)};
  const std::size_t bytes = static_cast<std::size_t>(n) * static_cast<std::size_t>(padded(k)) * 2;
  m->data = std::move(*backend::cuda::Memory::make(device, bytes, "weights"));
  std::memset(m->data.data(), 0, bytes);
  const auto values = normal(static_cast<std::size_t>(n) * static_cast<std::size_t>(k), 77);
  for (std::size_t r = 0; r < static_cast<std::size_t>(n); ++r)
    for (std::size_t c = 0; c < static_cast<std::size_t>(k); ++c) {
      const std::uint16_t bits = backend::cuda::narrow_bf16(values[r * static_cast<std::size_t>(k) + c]);
      std::memcpy(m->data.data() + (r * static_cast<std::size_t>(padded(k)) + c) * 2, &bits, 2);
    }
  m->view.data = m->data.data();
  return m;
}

std::string fresh_file(const char* name) {
  const std::string path = testing::TempDir() + "products-" + name + "-" + std::to_string(::getpid()) + ".txt";
  std::filesystem::remove(path);
  return path;
}

TEST(EmulatorProducts, TheFastestWayOfEachShapeAndBucketIsTakenAndKeptInAFile) {
  const std::string file = fresh_file("kept");
  for (const bool again : {false, true}) {
    const Machine m;
    const auto even = matrix(*m.device, 32, 48), odd = matrix(*m.device, 33, 48);
    TunedProducts products(*m.device, file, [&] { return m.now(); });
    products.tune(std::vector{even, odd, even}, 128);
    EXPECT_EQ(products.known(), 2 * 8u);             // 1, 2, 4 .. 128 rows of each
    EXPECT_EQ(m.library->asked.empty(), again) << "known from the file: nothing is asked or timed";
    EXPECT_GT(m.library->done, 0) << "but compared with the own kernel, also when it comes from the file";
    const InRows in(*m.device, Element::bf16, normal(128 * 48, 1), 128, 48);
    DeviceArray<float> out(*m.device, std::size_t{128} * 33);
    const auto by_library = [&](const Matrix& of, std::int32_t rows) {
      const int before = m.library->done;
      products.multiply({in.view(), of.view, rows, out, false}, true);
      return m.library->done > before;
    };
    EXPECT_TRUE(by_library(*even, 3));               // 10 a row against 500
    EXPECT_TRUE(by_library(*even, 32));
    EXPECT_FALSE(by_library(*even, 100));            // 1280 against 500
    EXPECT_FALSE(by_library(*odd, 3)) << "the library has no way for it";
    m.library->refuses = true;
    EXPECT_FALSE(by_library(*even, 3)) << "and the own kernel does what it refuses";
    EXPECT_EQ(run_all(*m.device), "");
  }
  std::filesystem::remove(file);
}

TEST(EmulatorProducts, AFileOfAnotherVersionOrHalfWrittenIsTimedAnew) {
  const std::string file = fresh_file("void");
  const auto timed = [&](const std::string& version, const std::string& driver = "") {
    const Machine m(version);
    m.device->set_driver(driver);
    TunedProducts products(*m.device, file, [&] { return m.now(); });
    products.tune(std::vector{matrix(*m.device, 32, 48)}, 4);
    EXPECT_EQ(products.known(), 3u);
    return m.library->asked.size();
  };
  EXPECT_GT(timed("host-1"), 0u);
  EXPECT_EQ(timed("host-1"), 0u);
  EXPECT_GT(timed("host-2"), 0u);
  EXPECT_EQ(timed("host-2"), 0u);
  EXPECT_GT(timed("host-2", "13000/580.1"), 0u) << "another driver";
  EXPECT_EQ(timed("host-2", "13000/580.1"), 0u);
  EXPECT_GT(timed("host-2"), 0u);
  std::string text;
  {
    std::ifstream in(file);
    text.assign(std::istreambuf_iterator<char>(in), {});
  }
  for (const std::size_t cut : {std::size_t{0}, std::size_t{10}, text.find('\n') + 1, text.size() - 40, text.find('\n') + 4}) {
    std::ofstream(file, std::ios::trunc) << text.substr(0, cut);
    EXPECT_GT(timed("host-2"), 0u) << cut;
  }
  std::ofstream(file, std::ios::trunc) << text.substr(0, text.find('\n') + 1) << "1 32 48 0 zz own\n\n1 32 48 0 4 not-hex\nrubbish " << std::string(5000, 'f') << "\n";
  EXPECT_GT(timed("host-2"), 0u);
  std::filesystem::remove(file);
}

// The fastest way is wrong in one or another place: it is never taken, neither when it is offered nor from a file that names it.
TEST(EmulatorProducts, AWayWhoseResultIsNotTheOwnKernelsIsNeverTaken) {
  using Wrong = HostLibrary::Wrong;
  for (const Wrong wrong : {Wrong::depth, Wrong::last_row, Wrong::unwritten, Wrong::always_adds}) {
    const std::string file = fresh_file("wrong");
    const auto run = [&](bool wrong_now, int* by_wrong_way) {
      const Machine m;
      m.library->offers_wrong_way = true;
      m.library->wrong = wrong_now ? wrong : Wrong::nothing;
      const auto even = matrix(*m.device, 32, 48);
      TunedProducts products(*m.device, file, [&] { return m.now(); });
      products.tune(std::vector{even}, 128);
      EXPECT_EQ(products.known(), 8u);
      const InRows in(*m.device, Element::bf16, normal(128 * 48, 1), 128, 48);
      DeviceArray<float> out(*m.device, std::size_t{128} * 32);
      m.library->done_wrong_way = 0;
      for (const std::int32_t rows : {1, 3, 32, 100}) products.multiply({in.view(), even->view, rows, out, false}, true);
      *by_wrong_way = m.library->done_wrong_way;
      EXPECT_EQ(run_all(*m.device), "");
    };
    int taken = 0;
    run(true, &taken);
    EXPECT_EQ(taken, 0) << "offered, " << static_cast<int>(wrong);
    std::filesystem::remove(file);
    run(false, &taken);
    EXPECT_EQ(taken, 4) << "right, it is the fastest of all: the case proves something";
    run(true, &taken);
    EXPECT_EQ(taken, 0) << "named by the file, " << static_cast<int>(wrong);
    std::filesystem::remove(file);
  }
}

TEST(EmulatorProducts, AFolderThatCannotBeWrittenCostsOnlyTheTiming) {
  const Machine m;
  TunedProducts products(*m.device, "/proc/no/such/products.txt", [&] { return m.now(); });
  products.tune(std::vector{matrix(*m.device, 32, 48)}, 4);
  EXPECT_EQ(products.known(), 3u);
}

// A whole model with the library: its products in eager steps and in captured graphs, the logits those of the own kernels within
// rounding, and a decode step that neither times nor waits more than without it.
TEST(EmulatorProducts, AModelMultipliedByTheLibraryGivesTheLogitsOfTheOwnKernels) {
  using namespace model;
  using namespace model::test;
  const std::string path = golden_path("tiny_models") + "/llama/model.gguf";
  const auto file = formats::ModelFile::open(path);
  ASSERT_TRUE(file);
  const LoadOptions options{.context_tokens = 256, .kv_cache_bytes = 2 << 20, .sequences_max = 8, .rows_max = 16};
  Machine m;
  HostLibrary* const library = m.library;
  EmulatedDevice* const device = m.device.get();
  backend::cuda::CudaOptions how;
  how.now_ns = [library, device] { return library->cost / 100 + 500 * static_cast<std::int64_t>(device->counts().launches); };
  auto backend = std::make_unique<backend::cuda::CudaBackend>(std::move(m.device), how);
  EXPECT_NE(backend->info().numerics.find("host-1"), std::string::npos);
  const auto with = load(*file, std::move(backend), options);
  ASSERT_TRUE(with) << with.error().message;
  EXPECT_FALSE(library->asked.empty()) << "timed at start";
  const auto without = load(*file, std::make_unique<backend::cuda::CudaBackend>(std::make_unique<EmulatedDevice>(), backend::cuda::CudaOptions{}), options);
  ASSERT_TRUE(without);
  const auto vocab = static_cast<std::size_t>((*with)->info().vocab);
  std::vector<std::vector<float>> rows[2];
  for (const bool library_one : {false, true}) {
    Runner& runner = library_one ? **with : **without;
    BlockDealer dealer(runner, 3);
    std::vector<Sequence> sequences(1);
    for (int i = 0; i < 30; ++i) sequences[0].tokens.push_back(3 + i * 7 % 290);
    sequences[0].blocks = dealer.deal(sequences[0].tokens.size());
    rows[library_one].resize(1);
    for (int chunk = 0; chunk < 2; ++chunk) ASSERT_NO_FATAL_FAILURE(advance(runner, sequences, {12}, rows[library_one]));
    const int before = library->done;
    const std::size_t asked = library->asked.size();
    for (int step = 0; step < 6; ++step) ASSERT_NO_FATAL_FAILURE(advance(runner, sequences, {1}, rows[library_one]));
    EXPECT_EQ(library->done > before, library_one);
    EXPECT_EQ(library->asked.size(), asked) << "nothing is timed in a step";
  }
  ASSERT_EQ(rows[0][0].size(), rows[1][0].size());
  ASSERT_EQ(rows[0][0].size(), 30 * vocab);
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < rows[0][0].size(); ++i) {
    difference += std::pow(rows[0][0][i] - rows[1][0][i], 2.0);
    size += std::pow(rows[0][0][i], 2.0);
  }
  EXPECT_LE(std::sqrt(difference / size), 0.008);
  EXPECT_GT(difference, 0) << "the sums were made by somebody else";
}

}  // namespace
}  // namespace tokenworks::emulator
