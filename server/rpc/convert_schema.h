// Schemas and what CollectionService says of collections, between the wire and the engine.
//
// Errors of FromWire: InvalidArgument for what is missing or unknown, Unimplemented for what the
// contract has and the server does not serve yet; messages start with the place within the request.
// Thread safety: free functions.
#pragma once

#include "azimuth/v1/collections.pb.h"
#include "engine/database.h"
#include "engine/schema.h"
#include "server/rpc/convert_values.h"

#include "absl/status/statusor.h"

namespace azimuth::server {

// Fills in the contract's defaults. Names, dimensions, options and default values are not checked:
// engine::ValidateSchema does. Ids are not read: replies only.
absl::StatusOr<engine::Schema> FromWire(const pb::CollectionSchema& schema);

void ToWire(engine::Schema&& schema, pb::CollectionSchema& out);
void ToWire(engine::CollectionInfo&& info, pb::DescribeCollectionResponse& out);
void ToWire(engine::CollectionStats&& stats, pb::CollectionStatsResponse& out);
void ToWire(const engine::OptimizeProgress& progress, pb::OptimizeResponse& out);

}  // namespace azimuth::server
