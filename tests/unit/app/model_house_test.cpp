// Models that come and go under requests: a request keeps what it began with, a mistake changes nothing, counters never
// fall, and an engine is taken down when the last request of it has ended, not before and not on the request's thread.
#include "app/model_house.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tokenworks/base/log.hpp"
#include "unit/engine/collector.hpp"

namespace tokenworks::app {
namespace {

using engine::Collector;
using engine::endless;
using engine::request_id;
using gateway::ModelOrder;
using Controls = test::FakeRunner::Controls;

class Watched final : public model::Runner {        // counts itself, and where it ended
 public:
  Watched(std::shared_ptr<Controls> controls, std::atomic<int>& alive, std::atomic<std::thread::id>& ended_on)
      : runner_({}, std::move(controls)), alive_(alive), ended_on_(ended_on) {
    ++alive_;
  }
  ~Watched() override {
    ended_on_ = std::this_thread::get_id();
    --alive_;
  }
  const model::RunnerInfo& info() const override { return runner_.info(); }
  Result<> run(const model::Step& step, std::span<backend::Sampled> sampled) override { return runner_.run(step, sampled); }
  void zero_blocks(std::span<const std::int32_t> blocks) override { runner_.zero_blocks(blocks); }

 private:
  test::FakeRunner runner_;
  std::atomic<int>& alive_;
  std::atomic<std::thread::id>& ended_on_;
};

class ModelHouseTest : public testing::Test {
 protected:
  ModelHouseTest() {
    log::configure(log::Level::warn, true);
    std::ofstream(file_) << "weights";
    house_.open({spec("a", {"default"}), spec("later", {}, false)}, {served(spec("a", {"default"}))});
  }
  ~ModelHouseTest() override { std::filesystem::remove(file_); }

  config::ModelSpec spec(const std::string& id, std::vector<std::string> aliases = {}, bool load = true) const {
    config::ModelSpec s;
    s.id = id;
    s.path = file_;
    s.aliases = std::move(aliases);
    s.load = load;
    return s;
  }
  Served served(const config::ModelSpec& s) {
    auto model = std::make_shared<gateway::ServedModel>();
    model->spec = s;
    model->card.id = s.id;
    model->card.digest = model->model_digest = "digest " + std::to_string(++loads_);
    model->engine = engine::make_engine(std::make_unique<Watched>(controls_, alive_, ended_on_), {}, clock_);
    return model;
  }
  config::Config files(std::vector<config::ModelSpec> models) const {
    config::Config c;
    c.plant.models = std::move(models);
    return c;
  }
  Result<> order(ModelOrder o) {
    auto change = house_.prepare(o);
    if (!change) return change.error();
    (*change)->commit();
    return {};
  }
  Result<> reload(const config::Config& c) {
    auto change = house_.prepare(c);
    if (!change) return change.error();
    (*change)->commit();
    return {};
  }
  Served find(const std::string& name) const {
    const auto set = house_.served().get();
    const auto* entry = set->find(name);
    return entry == nullptr ? nullptr : entry->model;
  }
  std::string digest_of(const std::string& name) const {
    const Served found = find(name);
    return found == nullptr ? "none" : found->model_digest;
  }
  void until_alive(int engines) const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (alive_ != engines) {
      ASSERT_LT(std::chrono::steady_clock::now(), end) << alive_ << " engines are there, not " << engines;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  const std::string file_ = testing::TempDir() + "front-house-" + std::to_string(::getpid());
  std::shared_ptr<Controls> controls_ = std::make_shared<Controls>();
  std::atomic<int> alive_{0}, loads_{0};
  std::atomic<std::thread::id> ended_on_{};
  std::atomic<bool> fails_{false}, throws_{false};
  ManualClock clock_{1'700'000'000'000'000'000};
  std::mutex names_mutex_;
  std::vector<std::string> names_;
  ModelHouse house_{{"/nowhere/tokenworks.yaml",
                     [this](const config::ModelSpec& s) -> Result<Served> {
                       if (throws_) throw std::bad_alloc();
                       if (fails_) return error(Errc::bad_config, "no memory for " + s.id, "kv_cache");
                       return served(s);
                     },
                     [this](const std::vector<std::string>& ids) {
                       std::lock_guard lock(names_mutex_);
                       names_ = ids;
                     }}};
};

TEST_F(ModelHouseTest, ARequestEndsOnTheEngineItBeganOnAndThenItsMemoryGoesBack) {
  controls_->hold(true);                             // no step ends while it is exchanged
  Collector collector;
  {
    const Served model = find("default");
    ASSERT_TRUE(model->engine->submit(TicketForTest::make(request_id(1)), endless({1, 2, 3}), collector.stream()));
    controls_->wait_inside();
    ASSERT_TRUE(order({ModelOrder::Kind::replace, "a", "", "{}"}));
    EXPECT_EQ(digest_of("default"), "digest 2") << "new requests find the new one";
    EXPECT_EQ(alive_, 2);
    const auto states = house_.models();
    ASSERT_EQ(states.size(), 3u);
    EXPECT_EQ(states[0].state, "serving");
    EXPECT_EQ(states[1].state, "draining");
    EXPECT_EQ(states[1].digest, "digest 1");
    EXPECT_EQ(states[2].state, "not_loaded");
    controls_->hold(false);
    collector.wait();
    EXPECT_EQ(collector.finish(), engine::Finish::length);
    EXPECT_EQ(collector.tokens(), test::expected_output({1, 2, 3}, 900, 0, 0, true)) << "not a token lost";
    EXPECT_EQ(alive_, 2) << "its request still holds it";
  }
  until_alive(1);
  EXPECT_NE(ended_on_.load(), std::this_thread::get_id()) << "the house takes engines down, not the last request";
}

TEST_F(ModelHouseTest, OrdersLoadUnloadAndPointNames) {
  EXPECT_EQ(digest_of("later"), "none");
  ASSERT_TRUE(order({ModelOrder::Kind::load, "later", "", R"({"id": "later", "aliases": ["soon", "default"], "kv_cache": "64MiB"})"}));
  EXPECT_EQ(digest_of("soon"), "digest 2");
  EXPECT_EQ(digest_of("default"), "digest 2") << "a name points to one model: the last that was given it";
  EXPECT_EQ(find("later")->spec.kv_cache_bytes, 64 << 20);
  ASSERT_TRUE(order({ModelOrder::Kind::alias, "a", "soon", ""}));
  EXPECT_EQ(digest_of("soon"), "digest 1");
  EXPECT_EQ(house_.served().get()->find("a")->card().aliases, (std::vector<std::string>{"soon"}));
  ASSERT_TRUE(order({ModelOrder::Kind::alias, "", "soon", ""}));
  EXPECT_EQ(digest_of("soon"), "none");
  ASSERT_TRUE(order({ModelOrder::Kind::unload, "a", "", ""}));
  EXPECT_EQ(digest_of("a"), "none");
  until_alive(1);
  std::lock_guard lock(names_mutex_);
  EXPECT_EQ(house_.configured(), (std::vector<std::string>{"a", "later"}));
}

TEST_F(ModelHouseTest, AMistakeChangesNothing) {
  const auto before = house_.served().get();
  const auto refused = [&](ModelOrder o, Errc code, const char* param) {
    const auto done = order(std::move(o));
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, code) << done.error().message;
    EXPECT_EQ(done.error().param, param) << done.error().message;
    EXPECT_EQ(house_.served().get(), before) << "not even a new picture of the same";
  };
  refused({ModelOrder::Kind::load, "a", "", "{}"}, Errc::invalid_request, "id");
  refused({ModelOrder::Kind::load, "unknown", "", "{}"}, Errc::invalid_request, "id");
  refused({ModelOrder::Kind::replace, "later", "", "{}"}, Errc::not_found, "id");
  refused({ModelOrder::Kind::unload, "later", "", ""}, Errc::not_found, "id");
  refused({ModelOrder::Kind::alias, "later", "x", ""}, Errc::not_found, "model");
  refused({ModelOrder::Kind::alias, "a", "later", ""}, Errc::invalid_request, "alias");
  refused({ModelOrder::Kind::alias, "", "none", ""}, Errc::not_found, "alias");
  refused({ModelOrder::Kind::load, "later", "", R"({"kv_cash": "1GiB"})"}, Errc::invalid_request, "kv_cash");
  refused({ModelOrder::Kind::load, "later", "", R"({"kv_cache": "lots"})"}, Errc::invalid_request, "kv_cache");
  refused({ModelOrder::Kind::load, "later", "", R"({"path": "gone.gguf"})"}, Errc::invalid_request, "path");
  refused({ModelOrder::Kind::load, "later", "", R"({"id": "other"})"}, Errc::invalid_request, "id");
  refused({ModelOrder::Kind::load, "later", "", R"({"aliases": ["a"]})"}, Errc::invalid_request, "aliases");
  refused({ModelOrder::Kind::load, "later", "", "{nothing"}, Errc::invalid_request, "");
  fails_ = true;
  refused({ModelOrder::Kind::load, "later", "", "{}"}, Errc::bad_config, "kv_cache");
  refused({ModelOrder::Kind::replace, "a", "", "{}"}, Errc::bad_config, "kv_cache");
  EXPECT_FALSE(reload(files({spec("a"), spec("b")})));
  fails_ = false, throws_ = true;
  refused({ModelOrder::Kind::load, "later", "", "{}"}, Errc::bad_config, "");
  EXPECT_FALSE(reload(files({spec("b")})));
  EXPECT_EQ(house_.served().get(), before);
  throws_ = false;
  { auto dropped = house_.prepare(ModelOrder{ModelOrder::Kind::load, "later", "", "{}"}); ASSERT_TRUE(dropped); }
  EXPECT_EQ(house_.served().get(), before);
  until_alive(1);
}

TEST_F(ModelHouseTest, AReloadDoesWhatChangedInTheFileAndLeavesTheRest) {
  ASSERT_TRUE(order({ModelOrder::Kind::load, "later", "", "{}"}));
  ASSERT_TRUE(order({ModelOrder::Kind::replace, "a", "", R"({"max_sequences": 8})"}));
  const auto kept = find("a"), later = find("later");
  ASSERT_TRUE(reload(files({spec("a", {"default"}), spec("later", {}, false), spec("b", {"best"})})));
  EXPECT_EQ(find("a"), kept) << "it stands in the file as it did: what the order made of it stays";
  EXPECT_EQ(find("later"), later);
  EXPECT_EQ(digest_of("best"), "digest 4");
  const auto b = find("b");
  ASSERT_TRUE(reload(files({spec("a", {"old"}), spec("later", {}, false), spec("b", {"default"})})));
  EXPECT_EQ(find("b"), b) << "names alone need no new engine";
  EXPECT_EQ(find("default"), b);
  EXPECT_NE(find("a"), kept) << "its description changed: it is as the file says";
  EXPECT_EQ(find("old")->spec.max_sequences, 64);
  EXPECT_EQ(find("best"), nullptr);
  auto smaller = spec("b", {"default"});
  smaller.max_sequences = 2;
  ASSERT_TRUE(reload(files({smaller})));
  EXPECT_NE(find("b"), b);
  EXPECT_EQ(find("a"), nullptr);
  EXPECT_EQ(find("later"), nullptr);
  EXPECT_EQ(house_.models().front().id, "b");
  ASSERT_TRUE(reload(files({smaller})));
  EXPECT_EQ(loads_, 6) << "the same again loads nothing";
}

TEST_F(ModelHouseTest, CountersOfAModelNeverFallWhenItsEngineGoes) {
  const auto hits = [&] { return house_.statuses().at(0).second.prefix_hit_tokens; };
  const std::vector<TokenId> prompt = engine::prompt_of(3, 200);
  for (std::uint64_t n = 1; n <= 2; ++n) {
    Collector collector;
    ASSERT_TRUE(find("a")->engine->submit(TicketForTest::make(request_id(n)), engine::sequence(prompt, 1), collector.stream()));
    collector.wait();
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (hits() == 0 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  const std::int64_t before = hits();
  ASSERT_GT(before, 0);
  ASSERT_TRUE(order({ModelOrder::Kind::replace, "a", "", "{}"}));
  EXPECT_EQ(hits(), before);
  until_alive(1);
  EXPECT_EQ(hits(), before);
  ASSERT_TRUE(order({ModelOrder::Kind::unload, "a", "", ""}));
  until_alive(0);
  EXPECT_TRUE(house_.statuses().empty());
  ASSERT_TRUE(order({ModelOrder::Kind::load, "a", "", "{}"}));
  EXPECT_EQ(hits(), before) << "also over a time in which it was not there";
}

TEST_F(ModelHouseTest, NoRequestOfManyThreadsIsLostWhileModelsChange) {
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> number{100};
  std::atomic<int> answered{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < 3; ++t) {
    clients.emplace_back([&] {
      while (!done) {
        const Served model = find("default");
        ASSERT_NE(model, nullptr);
        const std::uint64_t n = ++number;
        Collector collector;
        auto accepted = model->engine->submit(TicketForTest::make(request_id(n)), engine::sequence({1, static_cast<TokenId>(10 + n % 900)}, 5, n), collector.stream());
        ASSERT_TRUE(accepted) << accepted.error().message;
        collector.wait();
        ASSERT_EQ(collector.tokens(), test::expected_output({1, static_cast<TokenId>(10 + n % 900)}, 5, n));
        ++answered;
      }
    });
  }
  for (int i = 0; i < 60; ++i) {
    ASSERT_TRUE(order({ModelOrder::Kind::replace, "a", "", "{}"}));
    if (i % 3 == 0) {
      ASSERT_TRUE(order({ModelOrder::Kind::load, "later", "", R"({"aliases": ["default"]})"}));
      ASSERT_TRUE(order({ModelOrder::Kind::alias, "a", "default", ""}));
      ASSERT_TRUE(order({ModelOrder::Kind::unload, "later", "", ""}));
    }
    (void)house_.statuses();
    house_.watch();
  }
  done = true;
  for (std::thread& client : clients) client.join();
  EXPECT_GT(answered, 0);
  until_alive(1);
}

}  // namespace
}  // namespace tokenworks::app
