// AdminService over engine::Database: what the server says of itself, the check of its data, and
// snapshots.
//
// Thread safety: gRPC calls the service from many threads at a time; it has no state of its own.
// Ownership: `database` must outlive the service.
#pragma once

#include "engine/database.h"

#include "grpcpp/impl/codegen/service_type.h"

#include <cstdint>
#include <functional>
#include <memory>

namespace azimuth::server {

inline constexpr char kAdminServiceName[] = "azimuth.v1.AdminService";

// Limits that the configuration sets; the others are in engine/limits.h.
struct ConfiguredLimits {
  uint64_t message_bytes = 0;
  uint64_t unindexed_rows = 0;
};

// `on_failed_write` hears of a failed restore or snapshot, which may have made the store read-only.
std::unique_ptr<grpc::Service> MakeAdminService(engine::Database& database,
                                                const ConfiguredLimits& limits,
                                                std::function<void()> on_failed_write);

}  // namespace azimuth::server
