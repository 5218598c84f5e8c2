// SearchService over engine::Database: what its calls do, and what tells one kind of call from
// another one. How they are served: hot_calls.h.
//
// Thread safety: free functions.
#pragma once

#include "azimuth/v1/search.pb.h"
#include "base/deadline.h"
#include "engine/database.h"
#include "engine/query/request.h"

#include "absl/status/status.h"

#include <cstdint>
#include <string_view>

namespace azimuth::server {

namespace pb = ::azimuth::v1;

inline constexpr char kSearchServiceName[] = "azimuth.v1.SearchService";

// Fill `reply`, whose length they have asked for last. Errors: those of Database::Search;
// Unimplemented for what is not served yet; Aborted, ResourceExhausted (a reply that is too long).
absl::Status HandleSearch(const engine::Database& database, const pb::SearchRequest& request,
                          const CancelToken& cancel, pb::SearchResponse& reply);
absl::Status HandleSearchBatch(const engine::Database& database,
                               const pb::SearchBatchRequest& request, const CancelToken& cancel,
                               pb::SearchBatchResponse& reply);
// One message of a stream; `spec` is that of `start`, which was checked.
absl::Status HandleStreamQueries(const engine::Database& database,
                                 const pb::SearchStreamStart& start, const engine::SearchSpec& spec,
                                 std::string_view queries_f32, const CancelToken& cancel,
                                 pb::SearchStreamResponse& reply);

struct CallKind {
  // Of what the time of a call hangs on: collection and field, filter, how hard to search, how many
  // hits and queries (as powers of two), what comes back.
  uint64_t hash = 0;
  bool may_wait = false;  // For a sequence number.
};

CallKind KindOf(const pb::SearchRequest& request);
CallKind KindOf(const pb::SearchBatchRequest& request);
// Without the number of queries.
CallKind KindOf(const pb::SearchStreamStart& start);

}  // namespace azimuth::server
