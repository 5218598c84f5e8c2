// What the contract has and the server does not serve yet: refused when set, never ignored.
//
// Unimplemented names the field and what to do instead; InvalidArgument an enum number that the
// contract does not have. Fields of a schema and of a record are refused where they are converted.
// Thread safety: free functions.
#pragma once

#include "azimuth/v1/records.pb.h"
#include "azimuth/v1/search.pb.h"
#include "server/rpc/convert_values.h"

#include "absl/status/status.h"

namespace azimuth::server {

absl::Status CheckServed(const pb::InsertRequest& request);
absl::Status CheckServed(const pb::UpsertRequest& request);
absl::Status CheckServed(const pb::UpdateRequest& request);
absl::Status CheckServed(const pb::DeleteRequest& request);
absl::Status CheckServed(const pb::IngestStart& start);
absl::Status CheckServed(const pb::QueryRequest& request);
absl::Status CheckServed(const pb::CountRequest& request);
absl::Status CheckServed(const pb::SearchOptions& options);
absl::Status CheckServed(const pb::SearchRequest& request);
absl::Status CheckServed(const pb::SearchBatchRequest& request);

}  // namespace azimuth::server
