// The server's side of an Ingest stream: reads batches ahead, has them applied in groups, answers
// each, and tells the client its pace.
//
// Two threads serve a stream: that of the call applies and answers, one of its own reads and waits
// while enough has been read. How the two sides behave is told in azimuth/v1/records.proto.
#pragma once

#include "azimuth/v1/records.pb.h"
#include "engine/database.h"

#include "absl/status/status.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/sync_stream.h"

#include <atomic>
#include <functional>

namespace azimuth::server {

namespace pb = ::azimuth::v1;

// All streams of a server. Thread safety: any number of threads.
class IngestStreams final {
 public:
  static constexpr int kMax = 32;

  // Streams that run end soon, with a word to their clients; others are refused.
  void Stop() { stopping_.store(true); }
  bool stopping() const { return stopping_.load(); }

  // A place among the streams that run.
  class Place final {
   public:
    explicit Place(IngestStreams& streams)
        : streams_(streams), had_(streams.running_.fetch_add(1)) {}
    ~Place() { streams_.running_.fetch_sub(1); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    // ResourceExhausted if too many run, Unavailable if the server stops.
    absl::Status Check() const;

   private:
    IngestStreams& streams_;
    const int had_;
  };

 private:
  std::atomic<bool> stopping_{false};
  std::atomic<int> running_{0};
};

using IngestReaderWriter = grpc::ServerReaderWriter<pb::IngestResponse, pb::IngestRequest>;

// Serves one stream to its end. `on_failed_write` hears of each write that may have made the store
// read-only.
absl::Status ServeIngest(engine::Database& database, IngestStreams& streams,
                         grpc::ServerContext& context, IngestReaderWriter& stream,
                         const std::function<void()>& on_failed_write);

}  // namespace azimuth::server
