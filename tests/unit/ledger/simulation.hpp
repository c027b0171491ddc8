#pragma once
// A simulated life of a ledger over a faulty disk, and a plain model of what it must hold. Several epochs; each appends
// random records (some of which must be refused) and progress, meets faults, and ends by a clean close, a kill or a
// power cut. After each reopening everything is compared: what was acknowledged is there, what is there is an unbroken
// prefix of what was appended, every hold ended once and as its last progress allows, and the sums are the model's.
#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "ledger/service.hpp"
#include "support/fault_vfs.hpp"

namespace tokenworks::ledger::test {

struct SimulationPlan {
  std::uint64_t seed = 1;
  int epochs = 1;
  int operations = 40;                               // per epoch
  std::int64_t cut_at_sync = 0, cut_at_write = 0;    // in the first epoch, counted from its opening
  bool random_ends = false;                          // each epoch ends by chance: close, kill, cut
  bool transient_faults = false;                     // failing syncs, a full disk, read errors that pass
  Planted planted = {};
  ProgressMode mode = ProgressMode::step;
};

class Simulation {
 public:
  explicit Simulation(const SimulationPlan& plan);
  // "" when the books are right, else what is wrong.
  std::string run();
  bool reached_the_cut() const { return cut_; }      // false: the workload ended before the n-th sync
  std::int64_t entries() const { return static_cast<std::int64_t>(booked_.size()); }
  std::int64_t recovered() const { return recovered_; }
  std::int64_t failures() const { return failures_; }

 private:
  struct Ack {
    std::atomic<int> state{0};                       // 0 nothing, 1 durable, 2 refused or given up
  };
  struct Operation {
    Record record;
    bool must_be_refused = false;
    std::shared_ptr<Ack> ack = std::make_shared<Ack>();
  };
  struct Reported {
    Progress progress;
    std::shared_ptr<Ack> ack;
  };
  struct Hold {
    Record opened;
    std::int64_t held = 0;
    std::vector<Reported> progress;
  };
  struct Sums {
    std::int64_t balance = 0, cost = 0, requests = 0, input = 0, output = 0;
    bool prepaid = false;
    bool operator==(const Sums&) const = default;
  };

  std::string epoch(bool first);
  std::string open();
  void work();
  void one_operation();
  void submit(Record record, bool must_be_refused);
  void report_progress(const RequestId& request);
  void wait_for_acks();
  void stir();
  void apply(std::map<RequestId, Hold>& open, const Record& record) const;
  std::string check_chain();
  std::string check_recovery(const std::string& writer_id);
  std::string check_sums();
  std::string check_credits();

  RequestId new_id();
  Record base_record(const RequestId& request);
  std::int64_t chance(std::int64_t n) { return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(n)); }

  const SimulationPlan plan_;
  std::mt19937_64 random_;
  tokenworks::test::FaultVfs disk_;
  ManualClock clock_;
  std::unique_ptr<Service> ledger_;
  bool cut_ = false;
  std::int64_t recovered_ = 0, failures_ = 0;
  int ids_ = 0;

  std::vector<Record> booked_;                       // what the store must hold, in order, over all epochs
  std::map<RequestId, Hold> stored_open_;            // open after booked_
  std::vector<Operation> operations_;                // of the running epoch, in order
  std::map<RequestId, Hold> open_;                   // open after operations_
  std::vector<std::shared_ptr<Ack>> progress_acks_;
  std::map<RequestId, std::vector<Reported>> reported_;   // of the running epoch
};

}  // namespace tokenworks::ledger::test
