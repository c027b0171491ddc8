#pragma once
// How an answer becomes bytes, whatever the protocol: a codec implements these two, and src/http/generate.cpp carries them
// between the gateway and the socket. Used on the connection's thread.
#include <string>
#include <vector>

#include "tokenworks/base/error.hpp"
#include "tokenworks/gateway/service.hpp"
#include "tokenworks/gateway/types.hpp"

namespace tokenworks::http {

// Appends what is to be sent for each event of a streamed answer.
class StreamEncoder {
 public:
  virtual ~StreamEncoder() = default;
  virtual const char* content_type() const = 0;
  virtual std::string ping() const = 0;
  virtual void begin(const gateway::AnswerStart& start, std::string& out) = 0;
  virtual void chunk(const gateway::AnswerChunk& chunk, std::string& out) = 0;
  virtual void end(const gateway::Receipt& receipt, std::string& out) = 0;
  virtual void fail(const Error& error, std::string& out) = 0;
};

// Gathers an answer that is sent whole.
class WholeEncoder {
 public:
  virtual ~WholeEncoder() = default;
  virtual void begin(const gateway::AnswerStart& start) = 0;
  virtual void chunk(gateway::AnswerChunk&& chunk) = 0;
  virtual std::string end(const gateway::Receipt& receipt) = 0;
};

}  // namespace tokenworks::http
