#pragma once
// What a Service is made of: the served models and the parts of the plant around them. The composition root (src/app)
// builds these top to bottom; all of them outlive the Service.
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tokenworks/base/clock.hpp"
#include "tokenworks/base/snapshot.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/engine/engine.hpp"
#include "tokenworks/gateway/admission.hpp"
#include "tokenworks/gateway/service.hpp"
#include "tokenworks/gateway/style.hpp"
#include "tokenworks/grammar/grammar.hpp"
#include "tokenworks/tenancy/directory.hpp"
#include "tokenworks/tenancy/identity.hpp"
#include "tokenworks/tokenizer/chat_template.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::gateway {

struct ServedModel {
  config::ModelSpec spec;
  ModelCard card;
  std::string model_digest, tokenizer_digest;        // hex
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  std::shared_ptr<const tokenizer::ChatTemplate> chat_template;
  std::map<std::string, std::string> special;        // what the template sees as bos_token, ...
  AnswerStyle style;                                 // how this model writes calls and reasoning; see answer_style()
  std::size_t longest_token_bytes = 1;               // a text longer than context x this cannot fit: refused unencoded
  std::unique_ptr<engine::Engine> engine;
  std::unique_ptr<grammar::Cache> grammars = std::make_unique<grammar::Cache>();

  // Built when the first structured answer is asked for: start-up does not wait for it. Any thread.
  std::shared_ptr<const grammar::VocabularyTrie> vocabulary() const {
    std::call_once(vocabulary_once_, [this] { vocabulary_ = grammar::VocabularyTrie::build(*tokenizer); });
    return vocabulary_;
  }

 private:
  mutable std::once_flag vocabulary_once_;
  mutable std::shared_ptr<const grammar::VocabularyTrie> vocabulary_;
};

struct ModelSet;                                     // model_set.hpp

struct ServiceParts {
  const Clock& clock;
  Admission& admission;
  const Snapshot<tenancy::Directory>& directory;
  const Snapshot<ModelSet>& models;
  std::string jurisdiction;
  bool progress_step = false;                        // ledger.progress: step
  boost::asio::thread_pool& workers;                 // long prompts are encoded and grammars compiled here
  int worker_count = 1;                              // how many threads it has
  std::int64_t embedding_tokens_max = 300'000;       // of all inputs of a request
  std::function<void(const Outcome&)> on_done;
  std::function<void(std::string_view model, double seconds, int tokens)> on_inter_token;
  const tenancy::Identity* identity = nullptr;       // bearer tokens beside keys; null: keys only
};

class ServiceControl : public Service {
 public:
  static std::unique_ptr<ServiceControl> make(ServiceParts parts);
  virtual void drain() = 0;                          // new requests are answered server_draining
};

}  // namespace tokenworks::gateway
