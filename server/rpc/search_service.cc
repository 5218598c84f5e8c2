#include "server/rpc/search_service.h"

#include "azimuth/v1/search.grpc.pb.h"
#include "base/ids.h"
#include "base/status.h"
#include "server/rpc/call.h"
#include "server/rpc/convert_search.h"
#include "server/rpc/unserved.h"

#include "absl/hash/hash.h"

#include <bit>
#include <string_view>
#include <utility>

namespace azimuth::server {

static_assert(std::string_view(pb::SearchService::service_full_name()) == kSearchServiceName);

namespace {

// The dimension is asked for before the search, and between the two the collection can be dropped
// and made again with another one: the same floats are then another number of queries.
absl::Status CheckAnswers(size_t answers, size_t queries) {
  if (answers == queries) return absl::OkStatus();
  return absl::AbortedError("the collection was replaced during the search; repeat it");
}

template <typename Reply>
absl::Status Finish(engine::SearchResult&& result, Reply& reply) {
  reply.set_as_of(Raw(result.as_of));
  for (std::string& warning : result.warnings) reply.add_warnings(std::move(warning));
  return CheckReplySize(reply);
}

// The answers to one or more queries in column form.
template <typename Reply>
absl::Status SearchColumns(const engine::Database& database, std::string_view collection,
                           const engine::SearchSpec& spec, uint64_t min_seq,
                           std::string_view queries_f32, const CancelToken& cancel, Reply& reply) {
  AZ_ASSIGN_OR_RETURN(const uint32_t dimension,
                      database.QueryDimension(collection, spec.vector_field));
  FloatStore store;
  AZ_ASSIGN_OR_RETURN(const std::span<const float> queries,
                      QueriesOf(queries_f32, dimension, store));
  AZ_ASSIGN_OR_RETURN(
      engine::SearchResult result,
      database.Search(collection, queries, spec, cancel, {.min_seq = Seq{min_seq}}));
  AZ_RETURN_IF_ERROR(CheckAnswers(result.queries.size(), queries.size() / dimension));
  reply.mutable_results()->Reserve(static_cast<int>(result.queries.size()));
  for (engine::QueryHits& hits : result.queries) ToWire(std::move(hits), *reply.add_results());
  return Finish(std::move(result), reply);
}

CallKind KindOf(std::string_view collection, const pb::SearchOptions& options, uint64_t queries) {
  const pb::SearchParams& params = options.params();
  const bool all_fields = !options.has_output_fields();
  const size_t hash =
      absl::HashOf(collection, std::string_view(options.vector_field()),
                   std::string_view(options.filter().expression()), params.exact(), params.recall(),
                   std::bit_width(params.ef()), std::bit_width(options.limit()), all_fields,
                   options.output_fields().names_size(), options.output_vectors_size(), queries);
  return {.hash = hash, .may_wait = options.min_seq() != 0};
}

}  // namespace

absl::Status HandleSearch(const engine::Database& database, const pb::SearchRequest& request,
                          const CancelToken& cancel, pb::SearchResponse& reply) {
  AZ_RETURN_IF_ERROR(CheckServed(request));
  AZ_ASSIGN_OR_RETURN(const engine::SearchSpec spec, FromWire(request.options()));
  AZ_ASSIGN_OR_RETURN(const uint32_t dimension,
                      database.QueryDimension(request.collection(), spec.vector_field));
  FloatStore store;
  AZ_ASSIGN_OR_RETURN(const std::span<const float> query, QueryOf(request, dimension, store));
  AZ_ASSIGN_OR_RETURN(engine::SearchResult result,
                      database.Search(request.collection(), query, spec, cancel,
                                      {.min_seq = Seq{request.options().min_seq()}}));
  AZ_RETURN_IF_ERROR(CheckAnswers(result.queries.size(), 1));
  engine::QueryHits& found = result.queries[0];
  reply.mutable_hits()->Reserve(static_cast<int>(found.hits.size()));
  for (engine::SearchHit& hit : found.hits) ToWire(std::move(hit), *reply.add_hits());
  ToWire(found.work, *reply.mutable_work());
  return Finish(std::move(result), reply);
}

absl::Status HandleSearchBatch(const engine::Database& database,
                               const pb::SearchBatchRequest& request, const CancelToken& cancel,
                               pb::SearchBatchResponse& reply) {
  AZ_RETURN_IF_ERROR(CheckServed(request));
  AZ_ASSIGN_OR_RETURN(const engine::SearchSpec spec, FromWire(request.options()));
  return SearchColumns(database, request.collection(), spec, request.options().min_seq(),
                       request.queries_f32(), cancel, reply);
}

absl::Status HandleStreamQueries(const engine::Database& database,
                                 const pb::SearchStreamStart& start, const engine::SearchSpec& spec,
                                 std::string_view queries_f32, const CancelToken& cancel,
                                 pb::SearchStreamResponse& reply) {
  return SearchColumns(database, start.collection(), spec, start.options().min_seq(), queries_f32,
                       cancel, reply);
}

CallKind KindOf(const pb::SearchRequest& request) {
  return KindOf(request.collection(), request.options(), 0);
}

CallKind KindOf(const pb::SearchBatchRequest& request) {
  return KindOf(request.collection(), request.options(),
                static_cast<uint64_t>(std::bit_width(request.queries_f32().size())));
}

CallKind KindOf(const pb::SearchStreamStart& start) {
  return KindOf(start.collection(), start.options(), uint64_t{1} << 32);
}

}  // namespace azimuth::server
