// Searches between the wire and the engine.
//
// Errors of the conversions in: InvalidArgument; messages start with the place within the request.
// What is not served yet must have been refused before (unserved.h). Limits are the engine's to
// check.
// Thread safety: free functions.
#pragma once

#include "azimuth/v1/search.pb.h"
#include "engine/query/request.h"
#include "server/rpc/convert_values.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <span>
#include <string_view>

namespace azimuth::server {

absl::StatusOr<engine::SearchSpec> FromWire(const pb::SearchOptions& options);

// The one query of a Search, which must have `dimension` floats.
absl::StatusOr<std::span<const float>> QueryOf(const pb::SearchRequest& request, uint32_t dimension,
                                               FloatStore& store);
// Of a field queries_f32: one or more queries of `dimension` floats each. REQUIRES: dimension > 0.
absl::StatusOr<std::span<const float>> QueriesOf(std::string_view queries_f32, uint32_t dimension,
                                                 FloatStore& store);

void ToWire(const engine::SearchWork& work, pb::SearchWork& out);
void ToWire(engine::SearchHit&& hit, pb::Hit& out);
void ToWire(engine::QueryHits&& hits, pb::HitColumns& out);

}  // namespace azimuth::server
