#include "server/rpc/convert_search.h"

#include "base/ids.h"
#include "base/status.h"
#include "server/rpc/convert_columns.h"

#include <utility>

namespace azimuth::server {

absl::StatusOr<engine::SearchSpec> FromWire(const pb::SearchOptions& options) {
  engine::SearchSpec out;
  out.vector_field = options.vector_field();
  out.limit = options.limit();
  absl::StatusOr<engine::FilterText> filter = FromWire(options.filter());
  if (!filter.ok()) return AtPlace("options.filter", filter.status());
  out.filter = *std::move(filter);
  const pb::SearchParams& params = options.params();
  if (int{params.has_recall()} + int{params.has_ef()} + int{params.exact()} > 1) {
    return absl::InvalidArgumentError(
        "options.params: more than one of recall, ef and exact is set; at most one of them is "
        "allowed");
  }
  if (params.has_recall()) out.recall = params.recall();
  if (params.has_ef()) out.ef = params.ef();
  out.exact = params.exact();
  out.projection = ToProjection(options.has_output_fields() ? &options.output_fields() : nullptr,
                                options.output_vectors());
  return out;
}

absl::StatusOr<std::span<const float>> QueryOf(const pb::SearchRequest& request, uint32_t dimension,
                                               FloatStore& store) {
  absl::StatusOr<std::span<const float>> query = FromWire(request.query(), store);
  if (!query.ok()) return AtPlace("query", query.status());
  if (query->size() != dimension) {
    return InvalidArgument("query: expected %d dimensions, got %d", dimension, query->size());
  }
  return query;
}

absl::StatusOr<std::span<const float>> QueriesOf(std::string_view queries_f32, uint32_t dimension,
                                                 FloatStore& store) {
  const size_t query_bytes = dimension * sizeof(float);
  const size_t bytes = queries_f32.size();
  if (bytes == 0) return absl::InvalidArgumentError("queries_f32: no queries");
  if (bytes % query_bytes != 0) {
    return InvalidArgument(
        "queries_f32: %d bytes are not a multiple of %d, which is 4 x the dimension %d", bytes,
        query_bytes, dimension);
  }
  return FloatsOf(queries_f32, store);
}

namespace {

pb::SearchPath ToWire(engine::SearchPath path) {
  switch (path) {
    case engine::SearchPath::kNothing:
      return pb::SEARCH_PATH_UNSPECIFIED;
    case engine::SearchPath::kScan:
      return pb::SEARCH_PATH_SCAN;
    case engine::SearchPath::kGraph:
      return pb::SEARCH_PATH_GRAPH;
    case engine::SearchPath::kMixed:
      return pb::SEARCH_PATH_MIXED;
  }
  return pb::SEARCH_PATH_UNSPECIFIED;
}

}  // namespace

void ToWire(const engine::SearchWork& work, pb::SearchWork& out) {
  out.set_path(ToWire(work.path));
  out.set_distances_computed(work.distances_computed);
  out.set_segments_by_graph(work.segments_by_graph);
  out.set_segments_by_scan(work.segments_by_scan);
  out.set_rows_matching(work.rows_matching);
  out.set_complete(true);  // The engine always finds `limit` rows if as many match.
}

void ToWire(engine::SearchHit&& hit, pb::Hit& out) {
  ToWire(hit.record.key, *out.mutable_key());
  out.set_distance(hit.distance);
  out.set_score(hit.score);
  // A map that was asked for is written with more work, be it empty.
  if (!hit.record.fields.empty()) {
    auto& fields = *out.mutable_fields();
    for (auto& [name, value] : hit.record.fields) ToWire(std::move(value), fields[name]);
  }
  if (!hit.record.vectors.empty()) {
    auto& vectors = *out.mutable_vectors();
    for (const auto& [name, floats] : hit.record.vectors) {
      AppendFloats(floats, *vectors[name].mutable_dense()->mutable_f32());
    }
  }
  out.set_version(Raw(hit.record.version));
}

void ToWire(engine::QueryHits&& hits, pb::HitColumns& out) {
  HitsToColumns(std::move(hits.hits), out);
  ToWire(hits.work, *out.mutable_work());
}

}  // namespace azimuth::server
