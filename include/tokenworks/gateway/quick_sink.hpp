#pragma once
// QuickSink: what an AnswerSink may be as well, so that a token costs no coroutine where none has to wait. Used like the
// AnswerSink, on the connection's thread, by its one request.
#include <vector>

#include "tokenworks/gateway/types.hpp"

namespace tokenworks::gateway {

class QuickSink {
 public:
  virtual ~QuickSink() = default;
  // AnswerSink::write as far as it goes without waiting. True: all of it is on its way. False: write() must be awaited with
  // what is left in `chunks`, also when nothing is.
  virtual bool write_now(std::vector<AnswerChunk>& chunks) = 0;
  // Whether the client sees anything of an answer before its end.
  virtual bool streams() const = 0;
};

}  // namespace tokenworks::gateway
