// The server's side of a SearchStream: many messages with queries, answered in their order.
//
// Messages are read ahead, run side by side and written one after the other: at most
// kMessagesAhead of them, and kBytesAhead bytes, are read and not answered; so a client that does
// not read its answers is not read from. How the two sides behave is told in
// azimuth/v1/search.proto.
//
// Ownership: a stream owns itself, from Post until the call that came is over; it holds the queue
// meanwhile (hot_queue.h).
// Thread safety: events and jobs come from any thread; what they share is guarded.
#pragma once

#include "base/deadline.h"
#include "base/mutex.h"
#include "engine/query/request.h"
#include "server/rpc/hot_call.h"
#include "server/rpc/search_service.h"

#include "absl/status/status.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/async_stream.h"

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>

namespace azimuth::server {

class SearchStream final {
 private:
  struct Private {};

 public:
  static constexpr size_t kMessagesAhead = 32;
  static constexpr size_t kBytesAhead = size_t{16} << 20;

  // Serves one stream, when it comes; and then asks for another one, until the server stops.
  static void Post(HotShared& shared);
  SearchStream(Private, HotShared& shared);
  ~SearchStream() = default;
  SearchStream(const SearchStream&) = delete;
  SearchStream& operator=(const SearchStream&) = delete;

  // No more messages are read; those that were read are answered.
  void EndSoon();

 private:
  // A message, from when it is read until its answer is written.
  class Message final : public Job {
   public:
    explicit Message(SearchStream& stream) : stream_(stream) {}
    void Run() override;

    grpc::ByteBuffer payload;
    size_t bytes = 0;  // Of the payload, and then of the answer.
    bool started = false;
    bool done = false;
    // With `done`: what is written, if anything, or what ends the stream.
    std::optional<grpc::ByteBuffer> answer = {};
    absl::Status failure = {};

   private:
    SearchStream& stream_;
  };

  void Arrived(bool ok);
  void Read(bool ok);
  void Written(bool ok);
  void Finished(bool ok);
  void Done(bool ok);

  // Of the job of a message; returns what ends the stream.
  absl::Status Answer(Message& message);
  absl::Status Open(const pb::SearchStreamStart& start);
  void Completed(Message& message);

  // Starts what can be started now: jobs, a write, a read, the end.
  void Advance() AZ_REQUIRES(mu_);
  void StartJobs() AZ_REQUIRES(mu_);
  void WriteNext() AZ_REQUIRES(mu_);
  void ReadNext() AZ_REQUIRES(mu_);
  void Finish(const absl::Status& status) AZ_REQUIRES(mu_);
  bool over() const AZ_REQUIRES(mu_) {
    return finished_ && done_ && !reading_ && !writing_ && running_ == 0;
  }
  // REQUIRES: over, or that no call came. Nothing of the stream is there after it.
  void Delete();

  HotShared& shared_;
  grpc::ServerContext context_;
  grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer> stream_;
  EventOf<SearchStream, &SearchStream::Arrived> on_arrived_;
  EventOf<SearchStream, &SearchStream::Read> on_read_;
  EventOf<SearchStream, &SearchStream::Written> on_written_;
  EventOf<SearchStream, &SearchStream::Finished> on_finished_;
  EventOf<SearchStream, &SearchStream::Done> on_done_;

  // Of the first message, before another one runs.
  pb::SearchStreamStart start_;
  engine::SearchSpec spec_;
  CallKind kind_;
  CancelToken cancel_;
  std::atomic<bool> cancelled_{false};
  bool entered_ = false;

  Mutex mu_;
  std::deque<std::unique_ptr<Message>> messages_ AZ_GUARDED_BY(mu_);
  grpc::ByteBuffer incoming_ AZ_GUARDED_BY(mu_);  // gRPC's while reading_.
  size_t bytes_ AZ_GUARDED_BY(mu_) = 0;           // Of messages_.
  size_t running_ AZ_GUARDED_BY(mu_) = 0;
  bool opened_ AZ_GUARDED_BY(mu_) = false;
  bool reading_ AZ_GUARDED_BY(mu_) = false;
  bool writing_ AZ_GUARDED_BY(mu_) = false;
  bool half_closed_ AZ_GUARDED_BY(mu_) = false;
  bool ending_ AZ_GUARDED_BY(mu_) = false;
  bool finishing_ AZ_GUARDED_BY(mu_) = false;
  bool finished_ AZ_GUARDED_BY(mu_) = false;
  bool done_ AZ_GUARDED_BY(mu_) = false;
};

}  // namespace azimuth::server
