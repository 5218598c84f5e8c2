#include "server/rpc/hot_calls.h"

#include "base/deadline.h"
#include "base/logging.h"
#include "base/status.h"
#include "server/rpc/call.h"
#include "server/rpc/hot_call.h"
#include "server/rpc/search_service.h"
#include "server/rpc/search_stream.h"

#include "google/protobuf/arena.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/async_unary_call.h"

#include <array>
#include <atomic>
#include <new>
#include <optional>
#include <utility>
#include <vector>

namespace azimuth::server {
namespace {

// Slots of a method that wait for a call. A burst of more waits in gRPC for a moment.
constexpr size_t kPosted = 64;
constexpr size_t kPostedLeast = 16;
// Slots that are kept for the next burst.
constexpr size_t kSpareMost = 256;
// Request and reply of most searches fit.
constexpr size_t kArenaBytes = size_t{8} << 10;
constexpr int kStreamsPosted = 8;

using Responder = grpc::ServerAsyncResponseWriter<grpc::ByteBuffer>;

struct SearchMethod {
  using Request = pb::SearchRequest;
  using Reply = pb::SearchResponse;
  static constexpr auto kAsk = &HotSearchService::RequestSearch;
  static constexpr auto kHandle = &HandleSearch;
};

struct SearchBatchMethod {
  using Request = pb::SearchBatchRequest;
  using Reply = pb::SearchBatchResponse;
  static constexpr auto kAsk = &HotSearchService::RequestSearchBatch;
  static constexpr auto kHandle = &HandleSearchBatch;
};

template <typename Method>
class Slots;

// A slot. Its fields are of one thread at a time: that which listens, until the job is submitted,
// the job's, until the call is finished, and again that which listens.
template <typename Method>
class Slot final : public Job {
 public:
  Slot(HotShared& shared, Slots<Method>& slots)
      : shared_(shared),
        slots_(slots),
        block_(std::make_unique<std::array<char, kArenaBytes>>()),
        arena_(block_->data(), block_->size()),
        arrived_(*this),
        finished_(*this),
        done_(*this) {}

  // Asks gRPC for a call.
  void Post() {
    request_ = nullptr;
    cancelled_.store(false, std::memory_order_relaxed);
    responder_.reset();
    context_.reset();
    context_.emplace();
    responder_.emplace(&*context_);
    context_->AsyncNotifyWhenDone(done_.tag());
    (shared_.service.*Method::kAsk)(&*context_, &payload_, &*responder_, &shared_.queue.queue(),
                                    &shared_.queue.queue(), arrived_.tag());
  }

  void Run() override {
    grpc::Status status;
    grpc::ByteBuffer answer;
    try {
      if (request_ == nullptr) {
        status = Parse();
        // It was too long to be looked at before.
        if (status.ok() && kind_.may_wait && shared_.queue.Submit(*this, Expected())) return;
      }
      if (status.ok()) status = Handle(answer);
    } catch (...) {
      status = ToGrpc(CurrentExceptionToStatus());
    }
    arena_.Reset();
    Finish(status, answer);
  }

 private:
  using Request = typename Method::Request;
  using Reply = typename Method::Reply;

  void Arrived(bool ok) {
    slots_.Arrived();
    if (!ok) {
      slots_.Drop(*this);
      return;
    }
    events_left_ = 2;
    absl::Status entered = shared_.Enter();
    entered_ = entered.ok();
    if (!entered_) {
      Finish(ToGrpc(entered), {});
      return;
    }
    grpc::Status status;
    HotQueue::Expectation expected{.time = kUnknownTime};
    try {
      if (payload_.Length() <= kParseAtOnceBytes) {
        status = Parse();
        if (status.ok()) expected = Expected();
      }
    } catch (...) {
      status = ToGrpc(CurrentExceptionToStatus());
    }
    if (status.ok() && !shared_.queue.Submit(*this, expected)) {
      status = ToGrpc(ResourceExhausted("no thread can be made for this call; try again later"));
    }
    if (status.ok()) return;
    arena_.Reset();
    Finish(status, {});
  }

  grpc::Status Parse() {
    auto* request = google::protobuf::Arena::CreateMessage<Request>(&arena_);
    grpc::Status status = grpc::SerializationTraits<Request>::Deserialize(&payload_, request);
    if (!status.ok()) return status;
    request_ = request;
    kind_ = KindOf(*request);
    return status;
  }

  HotQueue::Expectation Expected() const {
    return {.time = shared_.times.Expected(kind_.hash, kUnknownTime), .may_wait = kind_.may_wait};
  }

  grpc::Status Handle(grpc::ByteBuffer& answer) {
    const CancelToken cancel(ToSteady(context_->deadline(), std::chrono::system_clock::now(),
                                      std::chrono::steady_clock::now()),
                             [this] { return cancelled_.load(std::memory_order_relaxed); });
    return HandleCall(cancel, request_->database(), [&](const CancelToken& token) {
      auto& reply = *google::protobuf::Arena::CreateMessage<Reply>(&arena_);
      absl::Status status = Timed(shared_.times, kind_.hash, [&] {
        return Method::kHandle(shared_.database, *request_, token, reply);
      });
      if (status.ok()) answer = ToBuffer(reply);
      return status;
    });
  }

  // Nothing of the slot is touched after it, but by the events.
  void Finish(const grpc::Status& status, const grpc::ByteBuffer& answer) {
    if (status.ok()) {
      responder_->Finish(answer, status, finished_.tag());
    } else {
      responder_->FinishWithError(status, finished_.tag());
    }
  }

  void Finished(bool) { EventCame(); }

  void Done(bool) {
    if (context_->IsCancelled()) cancelled_.store(true, std::memory_order_relaxed);
    EventCame();
  }

  void EventCame() {
    if (--events_left_ > 0) return;
    if (entered_) shared_.Leave();
    payload_.Clear();
    slots_.Ended(*this);
  }

  HotShared& shared_;
  Slots<Method>& slots_;
  const std::unique_ptr<std::array<char, kArenaBytes>> block_;
  google::protobuf::Arena arena_;
  std::optional<grpc::ServerContext> context_;
  std::optional<Responder> responder_;
  grpc::ByteBuffer payload_;
  const Request* request_ = nullptr;  // Of the arena; null before it was parsed.
  CallKind kind_;
  int events_left_ = 0;
  bool entered_ = false;
  std::atomic<bool> cancelled_{false};
  EventOf<Slot, &Slot::Arrived> arrived_;
  EventOf<Slot, &Slot::Finished> finished_;
  EventOf<Slot, &Slot::Done> done_;
};

// The slots of a method. Of the thread that listens, and before there is one of who starts.
template <typename Method>
class Slots final {
 public:
  explicit Slots(HotShared& shared) : shared_(shared) {}

  void Start() {
    while (posted_ < kPosted) PostAnother();
  }

  // The slot does not wait any more.
  void Arrived() {
    --posted_;
    if (posted_ >= kPostedLeast || dropping_) return;
    try {
      PostAnother();
    } catch (const std::bad_alloc&) {
      LogError("out of memory: a call waits until another one ends");
    }
  }

  // Its call is over.
  void Ended(Slot<Method>& slot) {
    if (posted_ < kPosted) {
      ++posted_;
      slot.Post();
      return;
    }
    std::unique_ptr<Slot<Method>> owned(&slot);
    if (spare_.size() < kSpareMost) spare_.push_back(std::move(owned));
    shared_.queue.Release();
  }

  // No call came to it: the server stops.
  void Drop(Slot<Method>& slot) {
    dropping_ = true;
    { const std::unique_ptr<Slot<Method>> owned(&slot); }
    shared_.queue.Release();
  }

 private:
  void PostAnother() {
    std::unique_ptr<Slot<Method>> slot;
    if (spare_.empty()) {
      slot = std::make_unique<Slot<Method>>(shared_, *this);
    } else {
      slot = std::move(spare_.back());
      spare_.pop_back();
    }
    shared_.queue.Hold();
    ++posted_;
    slot.release()->Post();  // It comes back by Ended or Drop.
  }

  HotShared& shared_;
  size_t posted_ = 0;
  bool dropping_ = false;
  std::vector<std::unique_ptr<Slot<Method>>> spare_;
};

}  // namespace

absl::Status HotShared::Enter() {
  if (calls.fetch_add(1) < calls_max) return absl::OkStatus();
  calls.fetch_sub(1);
  return ResourceExhausted("%d searches run or wait, as many as --rpc-threads allows; try again",
                           calls_max);
}

grpc::ByteBuffer ToBuffer(const google::protobuf::MessageLite& message) {
  grpc::Slice slice(static_cast<size_t>(message.GetCachedSize()));
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return grpc::ByteBuffer(&slice, 1);
}

struct HotCalls::Rep {
  Rep(const engine::Database& database, size_t calls_max,
      std::unique_ptr<grpc::ServerCompletionQueue> events)
      : shared(database, calls_max, std::move(events)), searches(shared), batches(shared) {}

  HotShared shared;
  Slots<SearchMethod> searches;
  Slots<SearchBatchMethod> batches;
};

HotCalls::HotCalls(const engine::Database& database, size_t calls_max, grpc::ServerBuilder& builder)
    : rep_(std::make_unique<Rep>(database, calls_max, builder.AddCompletionQueue())) {
  builder.RegisterService(&rep_->shared.service);
}

HotCalls::~HotCalls() {
  Stop();
}

absl::Status HotCalls::Start() {
  rep_->searches.Start();
  rep_->batches.Start();
  for (int i = 0; i < kStreamsPosted; ++i) SearchStream::Post(rep_->shared);
  return rep_->shared.queue.Start();
}

void HotCalls::EndStreams() {
  MutexLock lock(rep_->shared.mu);
  rep_->shared.ending = true;
  for (SearchStream* stream : rep_->shared.streams) stream->EndSoon();
}

void HotCalls::Stop() {
  rep_->shared.queue.Stop();
}

}  // namespace azimuth::server
