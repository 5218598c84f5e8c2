#include "server/rpc/collections_service.h"

#include "azimuth/v1/collections.grpc.pb.h"
#include "base/ids.h"
#include "base/status.h"
#include "server/rpc/call.h"
#include "server/rpc/convert_schema.h"

#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::server {

static_assert(std::string_view(pb::CollectionService::service_full_name()) ==
              kCollectionServiceName);

namespace {

class CollectionServiceImpl final : public pb::CollectionService::Service {
 public:
  CollectionServiceImpl(engine::Database& database, std::function<void()> on_failed_write)
      : database_(database), on_failed_write_(std::move(on_failed_write)) {}

  grpc::Status Create(grpc::ServerContext* context, const pb::CreateCollectionRequest* request,
                      pb::CreateCollectionResponse* reply) override {
    const auto work = [&](const CancelToken& cancel) -> absl::Status {
      if (!request->has_schema()) return absl::InvalidArgumentError("schema: missing");
      AZ_ASSIGN_OR_RETURN(const engine::Schema schema, FromWire(request->schema()));
      AZ_ASSIGN_OR_RETURN(const engine::CreateResult result,
                          database_.CreateCollection(request->collection(), schema,
                                                     request->if_not_exists(), cancel));
      reply->set_collection_id(Raw(result.id));
      reply->set_created(result.created);
      reply->set_as_of(Raw(result.as_of));
      return absl::OkStatus();
    };
    return HandleWrite(*context, request->database(), on_failed_write_, work);
  }

  grpc::Status Drop(grpc::ServerContext* context, const pb::DropCollectionRequest* request,
                    pb::DropCollectionResponse* reply) override {
    const auto work = [&](const CancelToken& cancel) -> absl::Status {
      AZ_ASSIGN_OR_RETURN(
          const engine::DropResult result,
          database_.DropCollection(request->collection(), request->if_exists(), cancel));
      reply->set_dropped(result.dropped);
      reply->set_as_of(Raw(result.as_of));
      return absl::OkStatus();
    };
    return HandleWrite(*context, request->database(), on_failed_write_, work);
  }

  grpc::Status Describe(grpc::ServerContext* context, const pb::DescribeCollectionRequest* request,
                        pb::DescribeCollectionResponse* reply) override {
    return HandleCall(*context, request->database(), [&](const CancelToken&) -> absl::Status {
      AZ_ASSIGN_OR_RETURN(engine::CollectionInfo info,
                          database_.DescribeCollection(request->collection()));
      ToWire(std::move(info), *reply);
      return absl::OkStatus();
    });
  }

  grpc::Status List(grpc::ServerContext* context, const pb::ListCollectionsRequest* request,
                    pb::ListCollectionsResponse* reply) override {
    return HandleCall(*context, request->database(), [&](const CancelToken&) -> absl::Status {
      for (engine::CollectionSummary& summary : database_.ListCollections()) {
        pb::CollectionSummary& entry = *reply->add_collections();
        entry.set_collection(std::move(summary.name));
        entry.set_collection_id(Raw(summary.id));
        entry.set_row_count(summary.row_count);
      }
      return absl::OkStatus();
    });
  }

  grpc::Status Truncate(grpc::ServerContext* context, const pb::TruncateCollectionRequest* request,
                        pb::TruncateCollectionResponse* reply) override {
    const auto work = [&](const CancelToken& cancel) -> absl::Status {
      AZ_ASSIGN_OR_RETURN(const engine::TruncateResult result,
                          database_.TruncateCollection(request->collection(), cancel));
      reply->set_removed(result.removed);
      reply->set_as_of(Raw(result.as_of));
      return absl::OkStatus();
    };
    return HandleWrite(*context, request->database(), on_failed_write_, work);
  }

  grpc::Status Optimize(grpc::ServerContext* context, const pb::OptimizeRequest* request,
                        grpc::ServerWriter<pb::OptimizeResponse>* writer) override {
    return HandleCall(*context, request->database(), [&](const CancelToken& cancel) {
      const auto report = [&](const engine::OptimizeProgress& progress) -> absl::Status {
        pb::OptimizeResponse message;
        ToWire(progress, message);
        if (writer->Write(message)) return cancel.Check();
        return absl::CancelledError("the client does not read the progress any more");
      };
      return database_.Optimize(request->collection(), report, cancel);
    });
  }

  grpc::Status Stats(grpc::ServerContext* context, const pb::CollectionStatsRequest* request,
                     pb::CollectionStatsResponse* reply) override {
    return HandleCall(*context, request->database(), [&](const CancelToken&) -> absl::Status {
      AZ_ASSIGN_OR_RETURN(engine::CollectionStats stats, database_.GetStats(request->collection()));
      ToWire(std::move(stats), *reply);
      return absl::OkStatus();
    });
  }

 private:
  engine::Database& database_;
  const std::function<void()> on_failed_write_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeCollectionService(engine::Database& database,
                                                     std::function<void()> on_failed_write) {
  return std::make_unique<CollectionServiceImpl>(database, std::move(on_failed_write));
}

}  // namespace azimuth::server
