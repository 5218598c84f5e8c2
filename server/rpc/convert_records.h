// Records between the wire and the engine: row form and column form in, row form out.
//
// Errors: InvalidArgument, Unimplemented; messages start with the place within the request.
// Thread safety: free functions.
#pragma once

#include "azimuth/v1/records.pb.h"
#include "engine/record.h"
#include "server/rpc/convert_values.h"

#include "absl/status/statusor.h"

#include <vector>

namespace azimuth::server {

// Records to write. Names and floats are views into the request or into `floats`: both must live
// until the engine is done with them.
struct RecordInputs {
  std::vector<engine::RecordInput> records;
  FloatStore floats;
};

// Records without a key pass: whether there may be some is for the engine to say.
// Refuses an empty batch, and one of more than kBatchRecordsMax records before it converts any.
absl::StatusOr<RecordInputs> FromWire(const pb::RecordList& rows);
absl::StatusOr<RecordInputs> FromWire(const pb::RecordColumns& columns);
// Whichever form the request (InsertRequest, UpsertRequest, UpdateRequest, IngestBatch) has.
absl::StatusOr<RecordInputs> RecordsOf(const pb::InsertRequest& request);
absl::StatusOr<RecordInputs> RecordsOf(const pb::UpsertRequest& request);
absl::StatusOr<RecordInputs> RecordsOf(const pb::UpdateRequest& request);
absl::StatusOr<RecordInputs> RecordsOf(const pb::IngestBatch& batch);

// One by one. REQUIRES: made.count > 0.
void ToWire(const engine::MadeKeys& made, pb::KeyList& out);
void ToWire(engine::RecordOutput&& record, pb::Record& out);

}  // namespace azimuth::server
