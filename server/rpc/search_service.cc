#include "server/rpc/search_service.h"

#include "azimuth/v1/search.grpc.pb.h"
#include "base/ids.h"
#include "base/status.h"
#include "server/rpc/call.h"
#include "server/rpc/convert_search.h"
#include "server/rpc/unserved.h"

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

class SearchServiceImpl final : public pb::SearchService::Service {
 public:
  explicit SearchServiceImpl(const engine::Database& database) : database_(database) {}

  grpc::Status Search(grpc::ServerContext* context, const pb::SearchRequest* request,
                      pb::SearchResponse* reply) override {
    const auto work = [&](const CancelToken& cancel) -> absl::Status {
      AZ_RETURN_IF_ERROR(CheckServed(*request));
      AZ_ASSIGN_OR_RETURN(const engine::SearchSpec spec, FromWire(request->options()));
      AZ_ASSIGN_OR_RETURN(const uint32_t dimension,
                          database_.QueryDimension(request->collection(), spec.vector_field));
      FloatStore store;
      AZ_ASSIGN_OR_RETURN(const std::span<const float> query, QueryOf(*request, dimension, store));
      AZ_ASSIGN_OR_RETURN(engine::SearchResult result,
                          database_.Search(request->collection(), query, spec, cancel,
                                           {.min_seq = Seq{request->options().min_seq()}}));
      AZ_RETURN_IF_ERROR(CheckAnswers(result.queries.size(), 1));
      engine::QueryHits& found = result.queries[0];
      reply->mutable_hits()->Reserve(static_cast<int>(found.hits.size()));
      for (engine::SearchHit& hit : found.hits) ToWire(std::move(hit), *reply->add_hits());
      ToWire(found.work, *reply->mutable_work());
      return Finish(std::move(result), *reply);
    };
    return HandleCall(*context, request->database(), work);
  }

  grpc::Status SearchBatch(grpc::ServerContext* context, const pb::SearchBatchRequest* request,
                           pb::SearchBatchResponse* reply) override {
    const auto work = [&](const CancelToken& cancel) -> absl::Status {
      AZ_RETURN_IF_ERROR(CheckServed(*request));
      AZ_ASSIGN_OR_RETURN(const engine::SearchSpec spec, FromWire(request->options()));
      AZ_ASSIGN_OR_RETURN(const uint32_t dimension,
                          database_.QueryDimension(request->collection(), spec.vector_field));
      FloatStore store;
      AZ_ASSIGN_OR_RETURN(const std::span<const float> queries,
                          QueriesOf(*request, dimension, store));
      AZ_ASSIGN_OR_RETURN(engine::SearchResult result,
                          database_.Search(request->collection(), queries, spec, cancel,
                                           {.min_seq = Seq{request->options().min_seq()}}));
      AZ_RETURN_IF_ERROR(CheckAnswers(result.queries.size(), queries.size() / dimension));
      reply->mutable_results()->Reserve(static_cast<int>(result.queries.size()));
      for (engine::QueryHits& hits : result.queries) ToWire(std::move(hits), *reply->add_results());
      return Finish(std::move(result), *reply);
    };
    return HandleCall(*context, request->database(), work);
  }

 private:
  template <typename Reply>
  static absl::Status Finish(engine::SearchResult&& result, Reply& reply) {
    reply.set_as_of(Raw(result.as_of));
    for (std::string& warning : result.warnings) reply.add_warnings(std::move(warning));
    return CheckReplySize(reply);
  }

  const engine::Database& database_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeSearchService(const engine::Database& database) {
  return std::make_unique<SearchServiceImpl>(database);
}

}  // namespace azimuth::server
