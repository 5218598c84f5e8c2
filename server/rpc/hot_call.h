// What the calls of a HotQueue have in common. Of hot_calls.cc and search_stream.cc alone.
//
// Thread safety: as told at each; the functions are free.
#pragma once

#include "azimuth/v1/search.grpc.pb.h"
#include "base/mutex.h"
#include "engine/database.h"
#include "server/rpc/handler_times.h"
#include "server/rpc/hot_queue.h"

#include "absl/status/status.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/support/byte_buffer.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <utility>

namespace azimuth::server {

namespace pb = ::azimuth::v1;

class SearchStream;

// Raw: the bytes of a message are parsed into the arena of its slot, and written in one piece.
using HotSearchService =
    pb::SearchService::WithRawMethod_Search<pb::SearchService::WithRawMethod_SearchBatch<
        pb::SearchService::WithRawMethod_SearchStream<pb::SearchService::Service>>>;

// Of all calls of one server. Thread safety: any number of threads.
struct HotShared {
  HotShared(const engine::Database& served, size_t calls_most,
            std::unique_ptr<grpc::ServerCompletionQueue> events)
      : database(served), calls_max(calls_most), queue(std::move(events), calls_most) {}

  const engine::Database& database;
  const size_t calls_max;
  HotSearchService service;
  HotQueue queue;
  HandlerTimes times;
  std::atomic<size_t> calls{0};
  Mutex mu;
  std::set<SearchStream*> streams AZ_GUARDED_BY(mu);  // Those that run.
  bool ending AZ_GUARDED_BY(mu) = false;

  // A place among the calls that run or wait, given back by Leave: OK or ResourceExhausted.
  absl::Status Enter();
  void Leave() { calls.fetch_sub(1); }
};

// What is expected of calls of a kind that is not known: that they are long.
inline constexpr std::chrono::nanoseconds kUnknownTime = 2 * HotQueue::kShort;
// A longer message is parsed by a job, not by the thread that listens.
inline constexpr size_t kParseAtOnceBytes = size_t{256} << 10;

// Runs `work` and tells the time that it took to `times`, if it came to a good end.
template <typename Work>
absl::Status Timed(HandlerTimes& times, uint64_t kind, const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  absl::Status status = work();
  if (status.ok()) times.Note(kind, std::chrono::steady_clock::now() - start);
  return status;
}

// REQUIRES: the length of `message` was asked for after its last change.
grpc::ByteBuffer ToBuffer(const google::protobuf::MessageLite& message);

}  // namespace azimuth::server
