#pragma once
// ModelDesk: models loaded, unloaded, replaced and renamed while the plant serves. A change is prepared first (files are
// read, weights loaded, everything that can fail), then committed, which cannot fail and is one exchange of the ModelSet:
// no request ever meets half of it. What ran on a model that left goes on to its end there; then its memory goes back.
// The plant keeps no order over a restart: tokenworks.yaml says what it starts with.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tokenworks/base/result.hpp"
#include "tokenworks/config/config.hpp"

namespace tokenworks::gateway {

struct ModelOrder {
  enum class Kind : std::uint8_t { load, replace, unload, alias } kind = Kind::load;
  std::string id;                                    // the model; of an alias: where it points, "" takes it away
  std::string alias;
  std::string spec;                                  // load, replace: an object with keys of `models`, over what the file says
};
const char* action_name(ModelOrder::Kind kind);      // of the audit row: "model.load"

struct ModelState {
  std::string id, path, state;                       // serving; draining: it left, but requests of it run; not_loaded
  std::string digest, fingerprint, format;           // "" where it is not loaded
  std::vector<std::string> aliases, data_classes;
  std::int64_t context_tokens = 0, running = 0, waiting = 0;
};

// A change that is ready. Dropped without commit() it leaves nothing behind.
class ModelChange {
 public:
  virtual ~ModelChange() = default;
  virtual std::string before() const = 0;            // the models in words, for the hashes of the audit row
  virtual std::string after() const = 0;
  virtual void commit() = 0;
};

class ModelDesk {
 public:
  virtual ~ModelDesk() = default;
  virtual std::vector<std::string> configured() const = 0;   // ids in the files as last taken over, loaded or not
  virtual std::vector<ModelState> models() const = 0;
  // Blocks while weights load. One change at a time: the caller sees to it that the one before is committed or gone.
  virtual Result<std::unique_ptr<ModelChange>> prepare(const ModelOrder& order) = 0;
  // What differs between the files as last taken over and `fresh`; models that stand there as they did stay as they are,
  // also when an order has changed them.
  virtual Result<std::unique_ptr<ModelChange>> prepare(const config::Config& fresh) = 0;
};

}  // namespace tokenworks::gateway
