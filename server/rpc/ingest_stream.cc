#include "server/rpc/ingest_stream.h"

#include "azimuth/v1/records.grpc.pb.h"
#include "base/failpoint.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "base/status.h"
#include "server/rpc/call.h"
#include "server/rpc/convert_records.h"
#include "server/rpc/unserved.h"

#include "absl/random/random.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace azimuth::server {
namespace {

// Read but not yet being applied; and as much is being applied meanwhile.
constexpr size_t kReadAheadBytes = size_t{16} << 20;
constexpr uint32_t kBatchesInFlight = 256;
// What a batch should have: many of them make a group, and one is little to send again.
constexpr uint64_t kGoodBatchBytes = uint64_t{2} << 20;
constexpr uint32_t kRetryAfterMs = 1000;
// About what backpressure holds a batch back at full pressure.
constexpr double kWaitMaxMs = 1000;
// A client that was told to go away has so long to do it.
constexpr std::chrono::seconds kCloseWait{5};
constexpr std::chrono::milliseconds kLookForStop{50};

using Request = std::unique_ptr<pb::IngestRequest>;

// The client can do something about it, or wait; all else ends the stream.
bool IsRefusal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnimplemented:
      return true;
    default:
      return false;
  }
}

absl::StatusOr<RecordInputs> RecordsOfBatch(const pb::IngestBatch& batch) {
  if (!batch.skip()) return RecordsOf(batch);
  if (batch.records_case() == pb::IngestBatch::RECORDS_NOT_SET) return RecordInputs{};
  return absl::InvalidArgumentError("skip: allowed without records only");
}

std::string NewLoadName() {
  absl::BitGen random;
  return absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(random),
                         absl::Uniform<uint64_t>(random));
}

class IngestStream final {
 public:
  IngestStream(engine::Database& database, IngestStreams& streams, grpc::ServerContext& context,
               IngestReaderWriter& stream, const std::function<void()>& on_failed_write)
      : database_(database),
        streams_(streams),
        context_(context),
        stream_(stream),
        on_failed_write_(on_failed_write),
        cancel_(MakeCancelToken(context)) {}

  absl::Status Run() {
    AZ_RETURN_IF_ERROR(Open());
    std::thread reader([this] { ReadAll(); });
    absl::Status status;
    try {
      status = ApplyAll();
    } catch (...) {
      status = CurrentExceptionToStatus();
    }
    Close(status);
    reader.join();
    return status;
  }

 private:
  absl::Status Open();
  // The reader's thread.
  void ReadAll();
  absl::Status ApplyAll();
  // Waits for batches. Empty: the client sends no more, or the server stops.
  std::vector<Request> TakeGroup();
  absl::Status ApplyGroup(const std::vector<Request>& group);
  // Applies the batches from `at` on up to one that is refused, and moves on past it.
  absl::Status ApplyFrom(const std::vector<Request>& group, size_t& at);
  // Answers the batches up to one that is refused, and returns whether there was one. An error ends
  // the stream.
  absl::StatusOr<bool> Answer(const std::vector<engine::IngestBatch>& batches,
                              const std::vector<absl::StatusOr<engine::WriteResult>>& results);
  absl::Status Refuse(const absl::Status& status);
  absl::Status TellPace();
  void FillPace(pb::IngestPace& pace) const;
  absl::Status Send(const pb::IngestResponse& response);
  // Tells the client, unless it knows, and waits for it to close its side.
  void Close(const absl::Status& status);

  engine::Database& database_;
  IngestStreams& streams_;
  grpc::ServerContext& context_;
  IngestReaderWriter& stream_;
  const std::function<void()>& on_failed_write_;
  const CancelToken cancel_;
  engine::IngestSpec spec_;
  // Of the thread that applies.
  uint64_t next_ = 1;     // The batch that comes next.
  uint64_t refused_ = 0;  // The client knows that it has to go on with this number.
  double pressure_ = 0;   // As it was told.
  uint32_t batch_records_ = 0;
  uint64_t records_seen_ = 0;
  uint64_t bytes_seen_ = 0;

  Mutex mu_;
  CondVar changed_;
  std::deque<Request> waiting_ AZ_GUARDED_BY(mu_);
  size_t waiting_bytes_ AZ_GUARDED_BY(mu_) = 0;
  bool ended_ AZ_GUARDED_BY(mu_) = false;    // The client sends no more.
  bool closing_ AZ_GUARDED_BY(mu_) = false;  // What it sends is dropped.
  absl::Status read_failure_ AZ_GUARDED_BY(mu_);
};

absl::Status IngestStream::Send(const pb::IngestResponse& response) {
  if (stream_.Write(response)) return absl::OkStatus();
  return absl::CancelledError("the client does not read any more; it can resume the load");
}

absl::Status IngestStream::Open() {
  pb::IngestRequest first;
  if (!stream_.Read(&first) || !first.has_start()) {
    return absl::InvalidArgumentError("start: the first message of the stream must have it");
  }
  const pb::IngestStart& start = first.start();
  if (absl::Status status = CheckDatabase(start.database()); !status.ok()) {
    return AtPlace("start", status);
  }
  AZ_RETURN_IF_ERROR(CheckServed(start));
  spec_.collection = start.collection();
  spec_.insert = start.mode() == pb::INGEST_MODE_INSERT;
  spec_.load = start.load().empty() ? NewLoadName() : start.load();
  spec_.relaxed = start.durability() == pb::DURABILITY_RELAXED;
  AZ_ASSIGN_OR_RETURN(const engine::IngestState state, database_.OpenIngest(spec_, cancel_));
  next_ = state.last_batch + 1;
  pb::IngestResponse response;
  pb::IngestStarted& started = *response.mutable_started();
  started.set_load(spec_.load);
  started.set_last_batch(state.last_batch);
  started.set_inserted(state.inserted);
  started.set_replaced(state.replaced);
  started.set_as_of(Raw(state.as_of));
  pressure_ = database_.WritePressure(spec_.collection).value_or(0);
  FillPace(*started.mutable_pace());
  return Send(response);
}

void IngestStream::ReadAll() {
  absl::Status failure;
  try {
    while (true) {
      auto request = std::make_unique<pb::IngestRequest>();
      if (!stream_.Read(request.get())) break;
      const size_t bytes = request->ByteSizeLong();
      MutexLock lock(mu_);
      while (!closing_ && !waiting_.empty() && waiting_bytes_ + bytes > kReadAheadBytes) {
        changed_.Wait(mu_);
      }
      if (closing_) continue;
      waiting_bytes_ += bytes;
      waiting_.push_back(std::move(request));
      changed_.NotifyAll();
    }
  } catch (...) {
    failure = CurrentExceptionToStatus();
  }
  MutexLock lock(mu_);
  ended_ = true;
  read_failure_ = failure;
  changed_.NotifyAll();
}

std::vector<Request> IngestStream::TakeGroup() {
  std::vector<Request> group;
  MutexLock lock(mu_);
  while (waiting_.empty() && !ended_ && !streams_.stopping()) {
    changed_.WaitUntil(mu_, std::chrono::steady_clock::now() + kLookForStop);
  }
  if (streams_.stopping()) return group;
  group.assign(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(waiting_.end()));
  waiting_.clear();
  bytes_seen_ += waiting_bytes_;
  waiting_bytes_ = 0;
  changed_.NotifyAll();
  return group;
}

absl::Status IngestStream::ApplyAll() {
  while (true) {
    const std::vector<Request> group = TakeGroup();
    if (!group.empty()) {
      AZ_RETURN_IF_ERROR(ApplyGroup(group));
      AZ_RETURN_IF_ERROR(TellPace());
      continue;
    }
    MutexLock lock(mu_);
    if (ended_ && waiting_.empty()) return read_failure_;
    return absl::UnavailableError("the server stops; resume the load with its next start");
  }
}

absl::Status IngestStream::ApplyGroup(const std::vector<Request>& group) {
  for (size_t at = 0; at < group.size();) AZ_RETURN_IF_ERROR(ApplyFrom(group, at));
  return absl::OkStatus();
}

absl::Status IngestStream::ApplyFrom(const std::vector<Request>& group, size_t& at) {
  // Views into the requests and into `floats`.
  std::vector<engine::IngestBatch> batches;
  std::vector<FloatStore> floats;
  absl::Status refusal;
  uint64_t expected = next_;
  // One at a time while each is held back, so that their acknowledgements do not wait for all.
  const bool held_back = database_.WritePressure(spec_.collection).value_or(0) > 0;
  while (at < group.size() && refusal.ok() && !(held_back && !batches.empty())) {
    const Request& request = group[at++];
    if (!request->has_batch() || request->batch().number() == 0) {
      return absl::InvalidArgumentError(
          "batch: after `start` each message has a batch, with a number from 1 on");
    }
    const pb::IngestBatch& batch = request->batch();
    if (batch.number() > expected) {
      if (refused_ == expected) continue;  // On its way when the client heard of it.
      refusal = FailedPrecondition("batch %d came, and batch %d is next", batch.number(), expected);
      continue;
    }
    absl::StatusOr<RecordInputs> inputs = RecordsOfBatch(batch);
    if (!inputs.ok()) {
      refusal = inputs.status();
      continue;
    }
    records_seen_ += inputs->records.size();
    batches.push_back({batch.number(), std::move(inputs->records), batch.skip()});
    floats.push_back(std::move(inputs->floats));
    if (batch.number() == expected) ++expected;
  }
  if (!batches.empty()) {
    std::vector<engine::IngestBatch> numbers;
    for (const engine::IngestBatch& batch : batches) numbers.push_back({.number = batch.number});
    const auto results = database_.Ingest(spec_, std::move(batches), cancel_);
    AZ_FAILPOINT_VISIT(kIngestBeforeAck);
    AZ_ASSIGN_OR_RETURN(const bool refused, Answer(numbers, results));
    // The client goes on with that one: a word about a later one would set it on a wrong way.
    if (refused) return absl::OkStatus();
  }
  if (refusal.ok()) return absl::OkStatus();
  return Refuse(refusal);
}

absl::StatusOr<bool> IngestStream::Answer(
    const std::vector<engine::IngestBatch>& batches,
    const std::vector<absl::StatusOr<engine::WriteResult>>& results) {
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].ok()) {
      on_failed_write_();
      if (!IsRefusal(results[i].status())) return results[i].status();
      AZ_RETURN_IF_ERROR(Refuse(results[i].status()));
      return true;
    }
    const engine::WriteResult& result = *results[i];
    pb::IngestResponse response;
    pb::IngestAck& ack = *response.mutable_ack();
    ack.set_number(batches[i].number);
    if (result.repeated) {
      ack.set_load_inserted(result.inserted);
      ack.set_load_replaced(result.replaced);
    } else {
      ack.set_inserted(result.inserted);
      ack.set_replaced(result.replaced);
    }
    ack.set_as_of(Raw(result.as_of));
    ack.set_replayed(result.repeated);
    ack.set_durability(result.synced ? pb::DURABILITY_SYNCED : pb::DURABILITY_RELAXED);
    if (result.made.count > 0) ToWire(result.made, *ack.mutable_keys());
    next_ = std::max(next_, batches[i].number + 1);
    AZ_RETURN_IF_ERROR(Send(response));
  }
  return false;
}

absl::Status IngestStream::Refuse(const absl::Status& status) {
  pb::IngestResponse response;
  pb::IngestRefusal& refusal = *response.mutable_refusal();
  const grpc::Status wire = ToGrpc(status);
  refusal.set_number(next_);
  refusal.set_code(wire.error_code());
  refusal.set_message(wire.error_message());
  refusal.set_retry_after_ms(absl::IsResourceExhausted(status) ? kRetryAfterMs : 0);
  refused_ = next_;
  return Send(response);
}

void IngestStream::FillPace(pb::IngestPace& pace) const {
  // Under pressure one batch at a time is enough: each is held back.
  const double share = 1 - std::min(1.0, pressure_);
  pace.set_batches_in_flight(std::max(1U, static_cast<uint32_t>(kBatchesInFlight * share)));
  pace.set_bytes_in_flight(2 * kReadAheadBytes);
  pace.set_wait_ms(static_cast<uint32_t>(kWaitMaxMs * pressure_));
  pace.set_batch_records(batch_records_);
  if (pressure_ > 0) {
    pace.set_reason("rows come faster than their index is built, or than memory allows");
  }
}

absl::Status IngestStream::TellPace() {
  const double pressure = database_.WritePressure(spec_.collection).value_or(0);
  const uint64_t records = std::max<uint64_t>(records_seen_, 1);
  const uint64_t good = std::clamp<uint64_t>(
      kGoodBatchBytes * records / std::max<uint64_t>(bytes_seen_, 1), 1, 100000);
  const bool other_size = batch_records_ == 0 || good > 2 * uint64_t{batch_records_} ||
                          2 * good < uint64_t{batch_records_};
  constexpr double kStep = 0.1;
  const bool other_pressure =
      std::abs(pressure - pressure_) >= kStep || (pressure > 0) != (pressure_ > 0);
  if (!other_size && !other_pressure) return absl::OkStatus();
  pressure_ = pressure;
  if (other_size) batch_records_ = static_cast<uint32_t>(good);
  pb::IngestResponse response;
  FillPace(*response.mutable_pace());
  return Send(response);
}

void IngestStream::Close(const absl::Status& status) {
  if (!status.ok()) {
    const grpc::Status wire = ToGrpc(status);
    pb::IngestResponse response;
    response.mutable_stopped()->set_code(wire.error_code());
    response.mutable_stopped()->set_message(wire.error_message());
    // Whoever does not read it learns it from the call's status.
    static_cast<void>(stream_.Write(response));
  }
  MutexLock lock(mu_);
  closing_ = true;
  changed_.NotifyAll();
  const auto end = std::chrono::steady_clock::now() + kCloseWait;
  while (!ended_ && changed_.WaitUntil(mu_, end)) {
  }
  // The reader waits for a message that does not come.
  if (!ended_) context_.TryCancel();
}

}  // namespace

absl::Status IngestStreams::Place::Check() const {
  if (streams_.stopping()) return absl::UnavailableError("the server stops");
  if (had_ < kMax) return absl::OkStatus();
  return ResourceExhausted("%d streams load records already, as many as are allowed", kMax);
}

absl::Status ServeIngest(engine::Database& database, IngestStreams& streams,
                         grpc::ServerContext& context, IngestReaderWriter& stream,
                         const std::function<void()>& on_failed_write) {
  const IngestStreams::Place place(streams);
  AZ_RETURN_IF_ERROR(place.Check());
  return IngestStream(database, streams, context, stream, on_failed_write).Run();
}

}  // namespace azimuth::server
