#pragma once
// What every series is called, what it means and where its buckets lie: one table, from which the registry is built and
// against which docs/metrics.md is tested. Names follow INTERFACE "Metrics"; buckets of the latency histograms follow the
// OpenTelemetry GenAI server metrics (server.request.duration, server.time_to_first_token, server.time_per_output_token).
#include <vector>

namespace tokenworks::telemetry::series {

struct Series {
  const char* name;
  const char* help;
};

inline constexpr Series kRequests{"tokenworks_requests_total", "Requests answered, by HTTP status; 499: the client left first."};
inline constexpr Series kTokens{"tokenworks_tokens_total",
                                "Billed tokens; the classes are disjoint: input is the uncached part of the prompt, embedding the tokens of "
                                "texts that were embedded."};
inline constexpr Series kCharge{"tokenworks_charge_total", "Money charged, in units of the currency."};
inline constexpr Series kDiscarded{"tokenworks_tokens_discarded_total", "Tokens generated past a stop and never billed."};
inline constexpr Series kRunning{"tokenworks_sequences_running", "Sequences in the current batch."};
inline constexpr Series kWaiting{"tokenworks_sequences_waiting", "Sequences admitted and waiting for their first step."};
inline constexpr Series kHoldsOpen{"tokenworks_holds_open", "Requests with money set aside and not yet settled."};
inline constexpr Series kHoldAmount{"tokenworks_hold_amount", "Money set aside by open holds, in units of the currency."};
inline constexpr Series kKvBlocks{"tokenworks_kv_blocks", "KV cache blocks by state: used, cached (reusable prefix), free."};
inline constexpr Series kPrefixHits{"tokenworks_prefix_hit_tokens_total", "Prompt tokens taken from the prefix cache."};
inline constexpr Series kPreemptions{"tokenworks_preemptions_total", "Sequences that had to give up their KV blocks for a while."};
inline constexpr Series kSwapBlocks{"tokenworks_swap_blocks", "Host memory for preempted sequences, in KV blocks by state: used, free."};
inline constexpr Series kSwapped{"tokenworks_swapped_blocks_total", "KV blocks copied to host memory and back, by direction: out, in."};
inline constexpr Series kFirstToken{"tokenworks_time_to_first_token_seconds", "From the request's head to its first token written."};
inline constexpr Series kInterToken{"tokenworks_inter_token_seconds", "Time between tokens of a running answer."};
inline constexpr Series kRequestTime{"tokenworks_request_seconds", "From a request's head to the end of its answer, admitted requests only."};
inline constexpr Series kQueueTime{"tokenworks_queue_seconds", "From submission to a sequence's first step."};
inline constexpr Series kStepTime{"tokenworks_step_seconds", "Duration of a forward pass."};
inline constexpr Series kStepSequences{"tokenworks_step_sequences", "Sequences in a forward pass."};
inline constexpr Series kStepTokens{"tokenworks_step_tokens", "Tokens in a forward pass, by kind: prefill, decode."};
inline constexpr Series kCommit{"tokenworks_ledger_commit_seconds", "Duration of a ledger commit, fsync included."};
inline constexpr Series kEntries{"tokenworks_ledger_entries_total", "Ledger entries committed since the start."};
inline constexpr Series kLedgerFailures{"tokenworks_ledger_failures_total", "Ledger commits that failed; each is retried."};
inline constexpr Series kLedgerQueued{"tokenworks_ledger_queued_records", "Records waiting for their commit."};
inline constexpr Series kLedgerOldest{"tokenworks_ledger_oldest_settle_seconds", "Age of the oldest settlement without a commit; above 2 admission stops."};
inline constexpr Series kLedgerRefused{"tokenworks_ledger_refused_total", "Records that broke the books' rules and were not booked: a defect."};
inline constexpr Series kWebhookPending{"tokenworks_webhook_pending_events", "Events waiting for their webhook to take them."};
inline constexpr Series kWebhookDelivered{"tokenworks_webhook_delivered_total", "Events a webhook has taken."};
inline constexpr Series kWebhookFailed{"tokenworks_webhook_failed_total", "Attempts a webhook did not take; each is tried again."};
inline constexpr Series kWebhookGivenUp{"tokenworks_webhook_given_up_total", "Events no longer tried after three days of failures."};
inline constexpr Series kGap{"tokenworks_fairness_gap_units", "Largest weighted service gap between two backlogged tenants in the last minute, in cost units."};
inline constexpr Series kBound{"tokenworks_fairness_bound_units", "What the fairness gap may never exceed at the step budgets of that minute."};
inline constexpr Series kPredictedWait{"tokenworks_predicted_wait_seconds", "What a request submitted now would wait before its first step."};
inline constexpr Series kReloadOk{"tokenworks_config_last_reload_success", "1 when the last reload took effect, 0 when the old state was kept."};
inline constexpr Series kReloadTime{"tokenworks_config_last_reload_timestamp_seconds", "When the last reload was tried, Unix time."};
inline constexpr Series kCardTemperature{"tokenworks_gpu_temperature_celsius", "Temperature of a card."};
inline constexpr Series kCardPower{"tokenworks_gpu_power_watts", "What a card draws at this moment."};
inline constexpr Series kCardMemory{"tokenworks_gpu_memory_used_bytes", "Memory in use on a card, by every process."};
inline constexpr Series kCardEcc{"tokenworks_gpu_ecc_errors", "Uncorrected memory errors of a card since its driver was loaded."};
inline constexpr Series kCardThrottle{"tokenworks_gpu_throttle_reasons", "Why a card's clocks are held back: the bits of NVML's clocks event reasons."};
inline constexpr Series kCardEnergy{"tokenworks_gpu_energy_joules_total", "Energy of a card since its driver was loaded, by its own counter."};
inline constexpr Series kEnergy{"tokenworks_energy_joules_total", "Energy of the cards with models, by the organization it was spent on, the model and the phase (prefill, decode, idle); _idle: nobody's."};
inline constexpr Series kBuild{"tokenworks_build_info", "Always 1; the labels say what is running."};

inline const std::vector<double> kFirstTokenBuckets{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10};
inline const std::vector<double> kInterTokenBuckets{.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5};
inline const std::vector<double> kRequestBuckets{.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
inline const std::vector<double> kStepBuckets{.0005, .001, .0025, .005, .01, .015, .02, .025, .03, .04, .05, .075, .1, .25, .5, 1};
inline const std::vector<double> kCommitBuckets{.0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1.024, 2.048};
inline const std::vector<double> kCountBuckets{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};

// At most this many organizations get a label of their own; counted over the life of the process.
inline constexpr int kOrganizationsMax = 200;

}  // namespace tokenworks::telemetry::series
