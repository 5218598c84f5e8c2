// RecordService over engine::Database.
//
// Thread safety: gRPC calls the service from many threads at a time; it has no state of its own.
// Ownership: `database` and `streams` must outlive the service.
#pragma once

#include "engine/database.h"
#include "server/rpc/ingest_stream.h"

#include "grpcpp/impl/codegen/service_type.h"

#include <functional>
#include <memory>

namespace azimuth::server {

inline constexpr char kRecordServiceName[] = "azimuth.v1.RecordService";

// `on_failed_write` is called, on the call's thread, after each call that failed to change the
// database.
std::unique_ptr<grpc::Service> MakeRecordService(engine::Database& database, IngestStreams& streams,
                                                 std::function<void()> on_failed_write);

}  // namespace azimuth::server
