// The searches, whose cost outside of the search itself counts: served from a completion queue of
// our own, beside the synchronous services on the same server.
//
// Who owns what: HotCalls owns the service, the queue with its threads (hot_queue.h) and the slots.
// A slot is a place for one call: its context, and an arena for request and reply, which is used
// again for the next one. A slot that waits for a call belongs to gRPC, one with a call to its job
// and then, until the reply is on its way, to gRPC again. Streams (search_stream.h) own themselves
// until they end.
//
// Where a call runs: one that is expected to be short on a thread of the queue, a longer one and
// one that may wait for a commit on threads of their own. What is expected are the times of calls
// of the same kind (handler_times.h); of a new kind, that it is long. More than `calls_max` calls
// at a time, those that wait for a thread included, are refused: ResourceExhausted.
//
// Thread safety: one thread constructs, starts and stops.
#pragma once

#include "engine/database.h"

#include "absl/status/status.h"
#include "grpcpp/server_builder.h"

#include <cstddef>
#include <memory>

namespace azimuth::server {

class HotCalls final {
 public:
  // Registers the service and the queue with `builder`. `database` must outlive this, and this must
  // outlive the server.
  HotCalls(const engine::Database& database, size_t calls_max, grpc::ServerBuilder& builder);
  ~HotCalls();  // As Stop.
  HotCalls(const HotCalls&) = delete;
  HotCalls& operator=(const HotCalls&) = delete;

  // Serves calls, once the server is up. ResourceExhausted if a thread cannot be made.
  absl::Status Start();
  // Streams end when they have answered what was read, with Unavailable; calls go on.
  void EndStreams();
  // After the shutdown of the server: returns when nothing runs any more. Idempotent.
  void Stop();

 private:
  struct Rep;
  const std::unique_ptr<Rep> rep_;
};

}  // namespace azimuth::server
