// SearchService over engine::Database.
//
// Thread safety: gRPC calls the service from many threads at a time; it has no state of its own.
// Ownership: `database` must outlive the service.
#pragma once

#include "engine/database.h"

#include "grpcpp/impl/codegen/service_type.h"

#include <memory>

namespace azimuth::server {

inline constexpr char kSearchServiceName[] = "azimuth.v1.SearchService";

std::unique_ptr<grpc::Service> MakeSearchService(const engine::Database& database);

}  // namespace azimuth::server
