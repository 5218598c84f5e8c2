// Column form: many records or hits as one column for each field (FieldColumn, VectorColumn).
//
// In: FromWire of RecordColumns, declared in convert_records.h. Out: the columns of hits.
// Thread safety: free functions.
#pragma once

#include "azimuth/v1/search.pb.h"
#include "engine/query/request.h"
#include "server/rpc/convert_values.h"

#include "absl/status/status.h"

#include <cstddef>
#include <vector>

namespace azimuth::server {

// InvalidArgument unless 1 <= `records` <= kBatchRecordsMax.
absl::Status CheckBatchSize(size_t records);

// Adds to `out` the keys, distances, scores, fields and vectors of the hits. There is one column
// for each field that at least one hit has, in order of name: a typed one if all values present are
// of one kind (bool, int64, double, string), else one of Values. Vectors of hits that lack one are
// zero. REQUIRES: within a vector field all have the same length.
void HitsToColumns(std::vector<engine::SearchHit>&& hits, pb::HitColumns& out);

}  // namespace azimuth::server
