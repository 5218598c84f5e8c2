// AdminService over engine::Database: what the server says of itself, and the check of its data.
//
// Thread safety: gRPC calls the service from many threads at a time; it has no state of its own.
// Ownership: `database` must outlive the service.
#pragma once

#include "engine/database.h"

#include "grpcpp/impl/codegen/service_type.h"

#include <cstdint>
#include <memory>

namespace azimuth::server {

inline constexpr char kAdminServiceName[] = "azimuth.v1.AdminService";

// Limits that the configuration sets; the others are in engine/limits.h.
struct ConfiguredLimits {
  uint64_t message_bytes = 0;
  uint64_t unindexed_rows = 0;
};

std::unique_ptr<grpc::Service> MakeAdminService(const engine::Database& database,
                                                const ConfiguredLimits& limits);

}  // namespace azimuth::server
