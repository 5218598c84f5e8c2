#include "server/rpc/records_service.h"

#include "azimuth/v1/records.grpc.pb.h"
#include "base/ids.h"
#include "base/status.h"
#include "server/rpc/call.h"
#include "server/rpc/convert_records.h"
#include "server/rpc/request_digest.h"
#include "server/rpc/unserved.h"

#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::server {

static_assert(std::string_view(pb::RecordService::service_full_name()) == kRecordServiceName);

namespace {

absl::StatusOr<std::vector<Key>> KeysOf(const pb::KeyList& keys) {
  absl::StatusOr<std::vector<Key>> converted = FromWire(keys);
  if (!converted.ok()) return AtPlace("keys", converted.status());
  return converted;
}

absl::StatusOr<engine::FilterText> FilterOf(const pb::Filter& filter) {
  absl::StatusOr<engine::FilterText> converted = FromWire(filter);
  if (!converted.ok()) return AtPlace("filter", converted.status());
  return converted;
}

template <typename Request>
engine::Projection ProjectionOf(const Request& request) {
  return ToProjection(request.has_output_fields() ? &request.output_fields() : nullptr,
                      request.output_vectors());
}

// REQUIRES: `rpc` is the name of the method that `request` came with.
template <typename Request>
absl::StatusOr<engine::WriteOptions> WriteOptionsOf(std::string_view rpc, const Request& request) {
  engine::WriteOptions options;
  if constexpr (requires { request.has_if_version(); }) {
    if (request.has_if_version()) options.if_version = Seq{request.if_version()};
  }
  options.relaxed = request.durability() == pb::DURABILITY_RELAXED;
  if (request.request_id().empty()) return options;
  options.request_id = request.request_id();
  AZ_ASSIGN_OR_RETURN(options.request_digest, RequestDigest(rpc, request));
  return options;
}

pb::Durability DurabilityOf(const engine::WriteResult& result) {
  return result.synced ? pb::DURABILITY_SYNCED : pb::DURABILITY_RELAXED;
}

template <typename Request>
engine::ReadOptions ReadOptionsOf(const Request& request) {
  return {.min_seq = Seq{request.min_seq()}};
}

template <typename Reply>
void RecordsToWire(std::vector<engine::RecordOutput>&& records, Reply& reply) {
  reply.mutable_records()->Reserve(static_cast<int>(records.size()));
  for (engine::RecordOutput& record : records) ToWire(std::move(record), *reply.add_records());
}

class RecordServiceImpl final : public pb::RecordService::Service {
 public:
  RecordServiceImpl(engine::Database& database, IngestStreams& streams,
                    std::function<void()> on_failed_write)
      : database_(database), streams_(streams), on_failed_write_(std::move(on_failed_write)) {}

  grpc::Status Insert(grpc::ServerContext* context, const pb::InsertRequest* request,
                      pb::InsertResponse* reply) override {
    const auto work = [&](const CancelToken& cancel) -> absl::Status {
      AZ_RETURN_IF_ERROR(CheckServed(*request));
      AZ_ASSIGN_OR_RETURN(RecordInputs inputs, RecordsOf(*request));
      AZ_ASSIGN_OR_RETURN(const engine::WriteOptions options, WriteOptionsOf("Insert", *request));
      AZ_ASSIGN_OR_RETURN(
          const engine::WriteResult result,
          database_.Insert(request->collection(), std::move(inputs.records), cancel, options));
      reply->set_inserted(result.inserted);
      reply->set_as_of(Raw(result.as_of));
      reply->set_replayed(result.repeated);
      reply->set_durability(DurabilityOf(result));
      if (result.made.count > 0) ToWire(result.made, *reply->mutable_keys());
      return absl::OkStatus();
    };
    return HandleWrite(*context, request->database(), on_failed_write_, work);
  }

  grpc::Status Upsert(grpc::ServerContext* context, const pb::UpsertRequest* request,
                      pb::UpsertResponse* reply) override {
    const auto work = [&](const CancelToken& cancel) -> absl::Status {
      AZ_RETURN_IF_ERROR(CheckServed(*request));
      AZ_ASSIGN_OR_RETURN(RecordInputs inputs, RecordsOf(*request));
      AZ_ASSIGN_OR_RETURN(const engine::WriteOptions options, WriteOptionsOf("Upsert", *request));
      AZ_ASSIGN_OR_RETURN(
          const engine::WriteResult result,
          database_.Upsert(request->collection(), std::move(inputs.records), cancel, options));
      reply->set_inserted(result.inserted);
      reply->set_replaced(result.replaced);
      reply->set_as_of(Raw(result.as_of));
      reply->set_replayed(result.repeated);
      reply->set_durability(DurabilityOf(result));
      if (result.made.count > 0) ToWire(result.made, *reply->mutable_keys());
      return absl::OkStatus();
    };
    return HandleWrite(*context, request->database(), on_failed_write_, work);
  }

  grpc::Status Update(grpc::ServerContext* context, const pb::UpdateRequest* request,
                      pb::UpdateResponse* reply) override {
    const auto work = [&](const CancelToken& cancel) -> absl::Status {
      AZ_RETURN_IF_ERROR(CheckServed(*request));
      AZ_ASSIGN_OR_RETURN(RecordInputs inputs, RecordsOf(*request));
      AZ_ASSIGN_OR_RETURN(const engine::WriteOptions options, WriteOptionsOf("Update", *request));
      const engine::MissingKeys missing =
          request->skip_missing() ? engine::MissingKeys::kSkip : engine::MissingKeys::kRefuse;
      AZ_ASSIGN_OR_RETURN(const engine::WriteResult result,
                          database_.Update(request->collection(), std::move(inputs.records),
                                           missing, cancel, options));
      reply->set_updated(result.updated);
      reply->set_missing(result.missing);
      reply->set_as_of(Raw(result.as_of));
      reply->set_replayed(result.repeated);
      reply->set_durability(DurabilityOf(result));
      return absl::OkStatus();
    };
    return HandleWrite(*context, request->database(), on_failed_write_, work);
  }

  grpc::Status Delete(grpc::ServerContext* context, const pb::DeleteRequest* request,
                      pb::DeleteResponse* reply) override {
    const auto work = [&](const CancelToken& cancel) -> absl::Status {
      AZ_RETURN_IF_ERROR(CheckServed(*request));
      AZ_ASSIGN_OR_RETURN(const engine::WriteResult result, DeleteWhatIsAsked(*request, cancel));
      reply->set_deleted(result.deleted);
      reply->set_commits(result.commits);
      reply->set_as_of(Raw(result.as_of));
      reply->set_replayed(result.repeated);
      reply->set_durability(DurabilityOf(result));
      return absl::OkStatus();
    };
    return HandleWrite(*context, request->database(), on_failed_write_, work);
  }

  grpc::Status Ingest(grpc::ServerContext* context, IngestReaderWriter* stream) override {
    return HandleCall(*context, /*database=*/"", [&](const CancelToken&) {
      return ServeIngest(database_, streams_, *context, *stream, on_failed_write_);
    });
  }

  grpc::Status Get(grpc::ServerContext* context, const pb::GetRequest* request,
                   pb::GetResponse* reply) override {
    const auto work = [&](const CancelToken& cancel) -> absl::Status {
      AZ_ASSIGN_OR_RETURN(const std::vector<Key> keys, KeysOf(request->keys()));
      AZ_ASSIGN_OR_RETURN(engine::GetResult result,
                          database_.Get(request->collection(), keys, ProjectionOf(*request), cancel,
                                        ReadOptionsOf(*request)));
      RecordsToWire(std::move(result.records), *reply);
      ToWire(result.missing, *reply->mutable_missing());
      reply->set_as_of(Raw(result.as_of));
      return CheckReplySize(*reply);
    };
    return HandleCall(*context, request->database(), work);
  }

  grpc::Status Query(grpc::ServerContext* context, const pb::QueryRequest* request,
                     pb::QueryResponse* reply) override {
    const auto work = [&](const CancelToken& cancel) -> absl::Status {
      AZ_RETURN_IF_ERROR(CheckServed(*request));
      AZ_ASSIGN_OR_RETURN(const engine::FilterText filter, FilterOf(request->filter()));
      AZ_ASSIGN_OR_RETURN(engine::QueryResult result,
                          database_.Query(request->collection(), filter, request->limit(),
                                          ProjectionOf(*request), cancel, ReadOptionsOf(*request)));
      RecordsToWire(std::move(result.records), *reply);
      reply->set_as_of(Raw(result.as_of));
      for (std::string& warning : result.warnings) reply->add_warnings(std::move(warning));
      return CheckReplySize(*reply);
    };
    return HandleCall(*context, request->database(), work);
  }

  grpc::Status Count(grpc::ServerContext* context, const pb::CountRequest* request,
                     pb::CountResponse* reply) override {
    const auto work = [&](const CancelToken& cancel) -> absl::Status {
      AZ_RETURN_IF_ERROR(CheckServed(*request));
      AZ_ASSIGN_OR_RETURN(const engine::FilterText filter, FilterOf(request->filter()));
      AZ_ASSIGN_OR_RETURN(
          engine::CountResult result,
          database_.Count(request->collection(), filter, cancel, ReadOptionsOf(*request)));
      reply->set_count(result.count);
      reply->set_as_of(Raw(result.as_of));
      for (std::string& warning : result.warnings) reply->add_warnings(std::move(warning));
      return absl::OkStatus();
    };
    return HandleCall(*context, request->database(), work);
  }

 private:
  absl::StatusOr<engine::WriteResult> DeleteWhatIsAsked(const pb::DeleteRequest& request,
                                                        const CancelToken& cancel) {
    const int asked =
        int{request.has_keys()} + int{request.has_filter()} + int{request.delete_all()};
    if (asked != 1) {
      return InvalidArgument("%d of keys, filter and delete_all are set; set exactly one", asked);
    }
    AZ_ASSIGN_OR_RETURN(const engine::WriteOptions options, WriteOptionsOf("Delete", request));
    if (request.has_keys()) {
      if (request.dry_run()) {
        return absl::InvalidArgumentError("dry_run: allowed with filter or delete_all only");
      }
      AZ_ASSIGN_OR_RETURN(std::vector<Key> keys, KeysOf(request.keys()));
      return database_.DeleteKeys(request.collection(), std::move(keys), cancel, options);
    }
    AZ_ASSIGN_OR_RETURN(const engine::FilterText filter, FilterOf(request.filter()));
    return database_.DeleteMatching(request.collection(), filter, request.delete_all(), cancel,
                                    options, request.dry_run());
  }

  engine::Database& database_;
  IngestStreams& streams_;
  const std::function<void()> on_failed_write_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeRecordService(engine::Database& database, IngestStreams& streams,
                                                 std::function<void()> on_failed_write) {
  return std::make_unique<RecordServiceImpl>(database, streams, std::move(on_failed_write));
}

}  // namespace azimuth::server
