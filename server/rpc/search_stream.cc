#include "server/rpc/search_stream.h"

#include "base/logging.h"
#include "base/status.h"
#include "server/rpc/call.h"
#include "server/rpc/convert_search.h"
#include "server/rpc/unserved.h"

#include "grpcpp/impl/codegen/proto_utils.h"

#include <algorithm>
#include <bit>
#include <new>
#include <thread>
#include <utility>

namespace azimuth::server {
namespace {

// Messages of one stream that run at a time.
size_t SideBySide() {
  static const size_t cores = std::clamp(std::thread::hardware_concurrency(), 1U, 8U);
  return cores;
}

// It is a fault of one message, or one that passes: the next message may do better. All else ends
// the stream.
bool IsOfOneMessage(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAborted:
      return true;
    default:
      return false;
  }
}

}  // namespace

void SearchStream::Message::Run() {
  try {
    failure = stream_.Answer(*this);
  } catch (...) {
    failure = CurrentExceptionToStatus();
  }
  stream_.Completed(*this);
}

SearchStream::SearchStream(Private, HotShared& shared)
    : shared_(shared),
      stream_(&context_),
      on_arrived_(*this),
      on_read_(*this),
      on_written_(*this),
      on_finished_(*this),
      on_done_(*this) {}

void SearchStream::Post(HotShared& shared) {
  SearchStream* stream = std::make_unique<SearchStream>(Private(), shared).release();
  shared.queue.Hold();
  stream->context_.AsyncNotifyWhenDone(stream->on_done_.tag());
  grpc::ServerCompletionQueue& queue = shared.queue.queue();
  shared.service.RequestSearchStream(&stream->context_, &stream->stream_, &queue, &queue,
                                     stream->on_arrived_.tag());
}

void SearchStream::Arrived(bool ok) {
  if (!ok) {
    Delete();
    return;
  }
  try {
    Post(shared_);
  } catch (const std::bad_alloc&) {
    LogError("out of memory: one stream of searches less is waited for");
  }
  cancel_ = CancelToken(ToSteady(context_.deadline(), std::chrono::system_clock::now(),
                                 std::chrono::steady_clock::now()),
                        [this] { return cancelled_.load(std::memory_order_relaxed); });
  const absl::Status entered = shared_.Enter();
  entered_ = entered.ok();
  bool ending = false;
  {
    MutexLock lock(shared_.mu);
    shared_.streams.insert(this);
    ending = shared_.ending;
  }
  MutexLock lock(mu_);
  ending_ = ending_ || ending;
  if (!entered.ok()) Finish(entered);
  Advance();
}

void SearchStream::Read(bool ok) {
  bool is_over = false;
  {
    MutexLock lock(mu_);
    reading_ = false;
    if (!ok) {
      half_closed_ = true;
    } else if (!finishing_) {
      auto message = std::make_unique<Message>(*this);
      message->bytes = incoming_.Length();
      message->payload.Swap(&incoming_);
      bytes_ += message->bytes;
      messages_.push_back(std::move(message));
    }
    Advance();
    is_over = over();
  }
  if (is_over) Delete();
}

void SearchStream::Written(bool ok) {
  bool is_over = false;
  {
    MutexLock lock(mu_);
    writing_ = false;
    if (!finishing_) {
      bytes_ -= messages_.front()->bytes;
      messages_.pop_front();
      if (!ok) Finish(absl::CancelledError("the client does not read any more"));
    }
    Advance();
    is_over = over();
  }
  if (is_over) Delete();
}

void SearchStream::Finished(bool) {
  bool is_over = false;
  {
    MutexLock lock(mu_);
    finished_ = true;
    is_over = over();
  }
  if (is_over) Delete();
}

void SearchStream::Done(bool) {
  bool is_over = false;
  {
    MutexLock lock(mu_);
    done_ = true;
    if (context_.IsCancelled()) {
      cancelled_.store(true, std::memory_order_relaxed);
      // Nobody hears it, but gRPC wants to be told.
      const absl::Status status = cancel_.Check();
      Finish(status.ok() ? absl::CancelledError("cancelled by the client") : status);
    }
    is_over = over();
  }
  if (is_over) Delete();
}

void SearchStream::EndSoon() {
  MutexLock lock(mu_);
  ending_ = true;
  Advance();
}

void SearchStream::Completed(Message& message) {
  bool is_over = false;
  {
    MutexLock lock(mu_);
    --running_;
    message.done = true;
    message.payload.Clear();
    bytes_ -= message.bytes;
    message.bytes = message.answer.has_value() ? message.answer->Length() : 0;
    bytes_ += message.bytes;
    if (message.failure.ok()) opened_ = true;
    Advance();
    is_over = over();
  }
  if (is_over) Delete();
}

void SearchStream::Advance() {
  if (finishing_) return;
  StartJobs();
  WriteNext();
  ReadNext();
  if (finishing_ || writing_ || !messages_.empty()) return;
  if (half_closed_) {
    Finish(opened_
               ? absl::OkStatus()
               : absl::InvalidArgumentError("start: the first message of the stream must have it"));
  } else if (ending_) {
    Finish(absl::UnavailableError("the server stops"));
  }
}

void SearchStream::StartJobs() {
  // Until the first message has said what is searched, no other one can run.
  const size_t most = opened_ ? SideBySide() : 1;
  for (const auto& message : messages_) {
    if (running_ >= most) return;
    if (message->started) continue;
    if (!opened_ && message != messages_.front()) return;
    message->started = true;
    const uint64_t kind = kind_.hash + static_cast<uint64_t>(std::bit_width(message->bytes));
    const HotQueue::Expectation expected = {
        .time = opened_ ? shared_.times.Expected(kind, kUnknownTime) : kUnknownTime,
        .may_wait = opened_ && kind_.may_wait};
    if (shared_.queue.Submit(*message, expected)) {
      ++running_;
    } else {
      message->failure = ResourceExhausted("no thread can be made for this call; try again later");
      message->done = true;
    }
  }
}

void SearchStream::WriteNext() {
  while (!writing_ && !messages_.empty() && messages_.front()->done) {
    Message& first = *messages_.front();
    if (!first.failure.ok()) {
      Finish(first.failure);
      return;
    }
    if (first.answer.has_value()) {
      writing_ = true;
      stream_.Write(*first.answer, on_written_.tag());
    } else {
      bytes_ -= first.bytes;
      messages_.pop_front();
    }
  }
}

void SearchStream::ReadNext() {
  if (finishing_ || reading_ || half_closed_ || ending_) return;
  if (messages_.size() >= kMessagesAhead || (bytes_ >= kBytesAhead && !messages_.empty())) return;
  reading_ = true;
  stream_.Read(&incoming_, on_read_.tag());
}

void SearchStream::Finish(const absl::Status& status) {
  if (finishing_) return;
  finishing_ = true;
  cancelled_.store(true, std::memory_order_relaxed);  // Whatever runs, runs in vain.
  stream_.Finish(ToGrpc(status), on_finished_.tag());
}

void SearchStream::Delete() {
  {
    MutexLock lock(shared_.mu);
    shared_.streams.erase(this);
  }
  if (entered_) shared_.Leave();
  HotQueue& queue = shared_.queue;
  std::unique_ptr<SearchStream>(this).reset();
  queue.Release();
}

absl::Status SearchStream::Open(const pb::SearchStreamStart& start) {
  if (absl::Status status = CheckDatabase(start.database()); !status.ok()) {
    return AtPlace("start", status);
  }
  if (absl::Status status = CheckServed(start.options()); !status.ok()) {
    return AtPlace("start", status);
  }
  absl::StatusOr<engine::SearchSpec> spec = FromWire(start.options());
  if (!spec.ok()) return AtPlace("start", spec.status());
  // Says at once when there is no such collection or field.
  AZ_RETURN_IF_ERROR(
      shared_.database.QueryDimension(start.collection(), spec->vector_field).status());
  start_ = start;
  spec_ = *std::move(spec);
  kind_ = KindOf(start);
  return absl::OkStatus();
}

absl::Status SearchStream::Answer(Message& message) {
  AZ_RETURN_IF_ERROR(cancel_.Check());
  pb::SearchStreamRequest request;
  const size_t bytes = message.payload.Length();
  const grpc::Status parsed =
      grpc::SerializationTraits<pb::SearchStreamRequest>::Deserialize(&message.payload, &request);
  if (!parsed.ok()) return absl::InternalError("a message of the stream cannot be parsed");
  bool opened = false;
  {
    MutexLock lock(mu_);
    opened = opened_;
  }
  if (opened && request.has_start()) {
    return absl::InvalidArgumentError("start: only the first message of a stream has it");
  }
  if (!opened) {
    if (!request.has_start()) {
      return absl::InvalidArgumentError("start: the first message of the stream must have it");
    }
    AZ_RETURN_IF_ERROR(Open(request.start()));
    if (request.queries_f32().empty()) return absl::OkStatus();
  }
  pb::SearchStreamResponse reply;
  const uint64_t kind = kind_.hash + static_cast<uint64_t>(std::bit_width(bytes));
  absl::Status status = Timed(shared_.times, kind, [&] {
    return HandleStreamQueries(shared_.database, start_, spec_, request.queries_f32(), cancel_,
                               reply);
  });
  if (!status.ok()) {
    if (!IsOfOneMessage(status)) return status;
    const grpc::Status wire = ToGrpc(status);
    reply.Clear();
    reply.set_code(wire.error_code());
    reply.set_message(wire.error_message());
    static_cast<void>(reply.ByteSizeLong());
  }
  message.answer = ToBuffer(reply);
  return absl::OkStatus();
}

}  // namespace azimuth::server
