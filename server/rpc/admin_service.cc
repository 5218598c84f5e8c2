#include "server/rpc/admin_service.h"

#include "azimuth/v1/admin.grpc.pb.h"
#include "base/ids.h"
#include "base/status.h"
#include "engine/limits.h"
#include "server/config.h"
#include "server/rpc/call.h"
#include "server/rpc/convert_snapshots.h"
#include "server/rpc/convert_values.h"
#include "server/rpc/convert_verify.h"

#include <string>
#include <string_view>
#include <utility>

namespace azimuth::server {

static_assert(std::string_view(pb::AdminService::service_full_name()) == kAdminServiceName);

namespace {

void ToWire(const ConfiguredLimits& limits, pb::ServerLimits& out) {
  out.set_message_bytes(limits.message_bytes);
  out.set_batch_records(engine::kBatchRecordsMax);
  out.set_record_bytes(engine::kRecordBytesMax);
  out.set_dimension(engine::kDimensionMax);
  out.set_limit(engine::kLimitMax);
  out.set_ef(engine::kEfMax);
  out.set_filter_bytes(engine::kFilterBytesMax);
  out.set_delete_rows(engine::kDeleteRowsMax);
  out.set_unindexed_rows(limits.unindexed_rows);
  out.set_request_memory_us(static_cast<uint64_t>(engine::kRequestMemoryMicros));
}

void ToWire(const engine::MemoryInfo& memory, pb::MemoryUse& out) {
  out.set_budget_bytes(memory.budget_bytes);
  out.set_rocks_bytes(memory.rocks_bytes);
  out.set_growing_bytes(memory.growing_bytes);
  out.set_build_bytes(memory.build_bytes);
  out.set_scratch_bytes(memory.scratch_bytes);
  out.set_resident_bytes(memory.resident_bytes);
}

pb::StoreState ToWire(engine::StoreState state) {
  switch (state) {
    case engine::StoreState::kWritable:
      return pb::STORE_STATE_WRITABLE;
    case engine::StoreState::kDiskLow:
      return pb::STORE_STATE_DISK_LOW;
    case engine::StoreState::kFailed:
      return pb::STORE_STATE_FAILED;
    case engine::StoreState::kDataLoss:
      return pb::STORE_STATE_DATA_LOSS;
  }
  return pb::STORE_STATE_UNSPECIFIED;
}

void ToWire(const engine::StoreInfo& store, pb::StoreHealth& out) {
  out.set_state(ToWire(store.state));
  out.set_reason(store.reason);
  out.set_synced_seq(Raw(store.synced));
  out.set_watermark_seq(Raw(store.watermark));
  out.set_disk_capacity_bytes(store.disk_capacity_bytes);
  out.set_disk_free_bytes(store.disk_free_bytes);
  out.set_disk_floor_bytes(store.disk_floor_bytes);
  out.set_ballast_bytes(store.ballast_bytes);
  out.set_damaged_rows(store.damaged_rows);
  out.set_segments_set_aside(store.segments_set_aside);
}

class AdminServiceImpl final : public pb::AdminService::Service {
 public:
  AdminServiceImpl(engine::Database& database, const ConfiguredLimits& limits,
                   std::function<void()> on_failed_write)
      : database_(database), limits_(limits), on_failed_write_(std::move(on_failed_write)) {}

  grpc::Status ServerInfo(grpc::ServerContext* context, const pb::ServerInfoRequest*,
                          pb::ServerInfoResponse* reply) override {
    return HandleCall(*context, /*database=*/"", [&](const CancelToken&) {
      const engine::DatabaseInfo info = database_.GetInfo();
      reply->set_version(std::string(Version()));
      ToWire(limits_, *reply->mutable_limits());
      ToWire(info.memory, *reply->mutable_memory());
      ToWire(info.store, *reply->mutable_store());
      reply->set_unindexed_rows(info.unindexed_rows);
      reply->set_incarnation(info.incarnation);
      reply->set_as_of(Raw(info.as_of));
      return absl::OkStatus();
    });
  }

  grpc::Status Verify(grpc::ServerContext* context, const pb::VerifyRequest* request,
                      pb::VerifyResponse* reply) override {
    return HandleCall(
        *context, request->database(), [&](const CancelToken& cancel) -> absl::Status {
          AZ_ASSIGN_OR_RETURN(const engine::VerifyReport report,
                              database_.Verify(request->collection(), request->deep(), cancel));
          server::ToWire(report, *reply);
          return absl::OkStatus();
        });
  }

  grpc::Status CreateSnapshot(grpc::ServerContext* context,
                              const pb::CreateSnapshotRequest* request,
                              pb::CreateSnapshotResponse* reply) override {
    return HandleWrite(*context, request->database(), on_failed_write_,
                       [&](const CancelToken& cancel) -> absl::Status {
                         AZ_ASSIGN_OR_RETURN(const engine::SnapshotInfo info,
                                             database_.CreateSnapshot(request->collection(),
                                                                      request->name(), cancel));
                         server::ToWire(info, *reply->mutable_snapshot());
                         return absl::OkStatus();
                       });
  }

  grpc::Status ListSnapshots(grpc::ServerContext* context, const pb::ListSnapshotsRequest* request,
                             pb::ListSnapshotsResponse* reply) override {
    return HandleCall(*context, request->database(), [&](const CancelToken&) -> absl::Status {
      AZ_ASSIGN_OR_RETURN(const auto infos, database_.ListSnapshots(request->collection()));
      for (const engine::SnapshotInfo& info : infos) server::ToWire(info, *reply->add_snapshots());
      return CheckReplySize(*reply);
    });
  }

  grpc::Status VerifySnapshot(grpc::ServerContext* context,
                              const pb::VerifySnapshotRequest* request,
                              pb::VerifySnapshotResponse* reply) override {
    return HandleCall(*context, request->database(),
                      [&](const CancelToken& cancel) -> absl::Status {
                        AZ_ASSIGN_OR_RETURN(const engine::SnapshotReport report,
                                            database_.VerifySnapshot(request->snapshot(), cancel));
                        server::ToWire(report, *reply);
                        return CheckReplySize(*reply);
                      });
  }

  grpc::Status RestoreSnapshot(grpc::ServerContext* context,
                               const pb::RestoreSnapshotRequest* request,
                               pb::RestoreSnapshotResponse* reply) override {
    return HandleWrite(*context, request->database(), on_failed_write_,
                       [&](const CancelToken& cancel) -> absl::Status {
                         AZ_ASSIGN_OR_RETURN(const engine::RestoreResult result,
                                             database_.RestoreSnapshot(FromWire(*request), cancel));
                         server::ToWire(result, *reply);
                         return CheckReplySize(*reply);
                       });
  }

  grpc::Status DeleteSnapshot(grpc::ServerContext* context,
                              const pb::DeleteSnapshotRequest* request,
                              pb::DeleteSnapshotResponse*) override {
    return HandleCall(*context, request->database(), [&](const CancelToken&) {
      return database_.DeleteSnapshot(request->snapshot());
    });
  }

 private:
  engine::Database& database_;
  const ConfiguredLimits limits_;
  const std::function<void()> on_failed_write_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdminService(engine::Database& database,
                                                const ConfiguredLimits& limits,
                                                std::function<void()> on_failed_write) {
  return std::make_unique<AdminServiceImpl>(database, limits, std::move(on_failed_write));
}

}  // namespace azimuth::server
