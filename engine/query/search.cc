#include "engine/query/search.h"

#include "base/status.h"
#include "engine/limits.h"
#include "engine/query/fetch.h"
#include "engine/query/matches.h"
#include "engine/query/plan.h"
#include "engine/segment/metric.h"
#include "engine/write/validate.h"
#include "index/distance/distance.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

// A hit before its fields are fetched.
struct Candidate {
  float distance;
  RowRef row;
};

bool CandidateBefore(const Candidate& a, const Candidate& b) {
  if (a.distance != b.distance) return a.distance < b.distance;
  return a.row.segment->key(a.row.position) < b.row.segment->key(b.row.position);
}

absl::Status CheckSpec(const SearchSpec& spec) {
  if (spec.limit < 1 || spec.limit > kLimitMax) {
    return InvalidArgument("limit: %d; allowed are 1 to %d", spec.limit, kLimitMax);
  }
  if (spec.ef.has_value() && (*spec.ef < 1 || *spec.ef > kEfMax)) {
    return InvalidArgument("ef: %d; allowed are 1 to %d", *spec.ef, kEfMax);
  }
  if (spec.recall.has_value() && !(*spec.recall > 0 && *spec.recall <= 1)) {
    return InvalidArgument("recall: %g; allowed is more than 0, up to 1", *spec.recall);
  }
  if (int{spec.recall.has_value()} + int{spec.ef.has_value()} + int{spec.exact} > 1) {
    return absl::InvalidArgumentError("recall, ef and exact: at most one of them is allowed");
  }
  return absl::OkStatus();
}

// The queries as vectors of the field, of unit length for cosine.
absl::StatusOr<std::vector<std::vector<float>>> PrepareQueries(const VectorFieldDef& field,
                                                               std::span<const float> queries,
                                                               uint32_t limit) {
  if (queries.empty() || queries.size() % field.dim != 0) {
    return InvalidArgument("query: %d floats; expected %d dimensions%s", queries.size(), field.dim,
                           queries.size() > field.dim ? " for each query" : "");
  }
  const size_t count = queries.size() / field.dim;
  if (count > kQueriesMax || count * limit > kQueriesTimesLimitMax) {
    return InvalidArgument(
        "queries: %d with limit %d; allowed are %d queries, and %d queries x limit", count, limit,
        kQueriesMax, kQueriesTimesLimitMax);
  }
  std::vector<std::vector<float>> prepared(count);
  for (size_t i = 0; i < count; ++i) {
    const auto query = queries.subspan(i * field.dim, field.dim);
    AZ_RETURN_IF_ERROR(
        CheckVector(field, query, count == 1 ? "query" : absl::StrFormat("queries[%d]", i)));
    prepared[i].assign(query.begin(), query.end());
    if (field.metric == Metric::kCosine) index::NormalizeL2(prepared[i]);
  }
  return prepared;
}

// A segment and its rows with a vector of the field; more may come meanwhile.
struct SegmentRows {
  const Segment* segment;
  uint64_t vectors;
};

// Those with a graph of the field first, the largest of them first: what they give bounds the
// others.
std::vector<SegmentRows> InOrderOfSearch(const SegmentSet& set, size_t slot) {
  std::vector<SegmentRows> order;
  order.reserve(set.segments.size());
  for (const auto& segment : set.segments) {
    order.push_back({segment.get(), segment->VectorCount(slot)});
  }
  std::stable_sort(order.begin(), order.end(), [&](const SegmentRows& a, const SegmentRows& b) {
    const bool a_graph = a.segment->HasGraph(slot);
    return a_graph != b.segment->HasGraph(slot) ? a_graph : a.vectors > b.vectors;
  });
  return order;
}

// Search of one vector field of one view for one or more queries.
class Searcher final {
 public:
  Searcher(Core& core, size_t slot, const SearchSpec& spec, const CancelToken& cancel)
      : core_(core),
        slot_(slot),
        spec_(spec),
        recall_(spec.recall.value_or(kRecallDefault)),
        exact_(spec.exact || recall_ >= 1),
        cancel_(cancel),
        scratch_(core.scratch.Take()) {}
  ~Searcher() { core_.scratch.Give(std::move(scratch_)); }
  Searcher(const Searcher&) = delete;
  Searcher& operator=(const Searcher&) = delete;

  // Puts the nearest rows of one segment into `found`, which keeps the nearest `limit` of all in
  // order; adds what it cost to `work`. `vectors_all` are those of all segments.
  absl::Status SearchSegment(const SegmentRows& rows, const Matches& matches, const float* query,
                             uint64_t vectors_all, std::vector<Candidate>& found,
                             SearchWork& work) {
    const Segment& segment = *rows.segment;
    const uint64_t vectors = rows.vectors;
    const WalkEffort effort = EffortFor(segment, matches);
    const uint64_t ef = effort.ef;
    const SegmentPlan plan = PlanSegment({.rows = vectors,
                                          .matches = std::min(matches.count, vectors),
                                          .ef = ef,
                                          .has_graph = segment.HasGraph(slot_),
                                          .exact = exact_});
    bool by_graph = plan.by_graph;
    if (by_graph) {
      NarrowWalk narrow;
      if (found.size() == spec_.limit) {
        narrow = NarrowFor(ef, spec_.limit, vectors, vectors_all);
      }
      auto walked = Walked::kNotAll;
      if (narrow.ef > 0 && narrow.ef < ef) {
        AZ_ASSIGN_OR_RETURN(
            walked, WalkNarrow(segment, matches, plan, narrow, query, found.back().distance, work));
      }
      if (walked == Walked::kNotAll) {
        AZ_ASSIGN_OR_RETURN(walked, WalkWide(segment, matches, plan, effort, query, work));
      }
      by_graph = walked == Walked::kAll;
    }
    if (!by_graph) {
      // What is farther than all that is known already is of no use.
      const float bound = found.size() == spec_.limit ? found.back().distance : kNoBound;
      top_.Reset(spec_.limit, &segment, bound);
      AZ_ASSIGN_OR_RETURN(const uint64_t computed, segment.Scan(slot_, query, matches.limit,
                                                                matches.admitted(), top_, cancel_));
      work.distances_computed += computed;
    }
    ++(by_graph ? work.segments_by_graph : work.segments_by_scan);
    return Merge(segment, found);
  }

 private:
  static constexpr float kNoBound = std::numeric_limits<float>::infinity();

  // What a walk found: as good as all that is near; perhaps not; or it cost more than a scan would.
  // What is not all a wider walk finds or, after the widest, a scan.
  enum class Walked : uint8_t { kAll, kNotAll, kAbandoned };

  WalkEffort EffortFor(const Segment& segment, const Matches& matches) const {
    if (spec_.ef.has_value()) return {.ef = std::max(spec_.limit, *spec_.ef)};
    if (!segment.HasGraph(slot_)) return {.ef = spec_.limit};
    WalkEffort effort = segment.EffortFor(slot_, recall_, spec_.limit);
    // Where few rows are admitted, what is nearest of them is far from any query.
    effort.may_widen = 2 * matches.count >= segment.VectorCount(slot_);
    return effort;
  }

  absl::StatusOr<Walked> WalkWide(const Segment& segment, const Matches& matches,
                                  const SegmentPlan& plan, const WalkEffort& effort,
                                  const float* query, SearchWork& work) {
    top_.Reset(spec_.limit, &segment);
    AZ_ASSIGN_OR_RETURN(const index::GraphSearchResult walked,
                        segment.Walk(slot_, query, effort, plan.distances_max, matches.admitted(),
                                     top_, *scratch_, cancel_));
    work.distances_computed += walked.distances_computed;
    // A graph need not reach every row; as many hits as rows match are promised.
    const uint64_t owed =
        std::min<uint64_t>({spec_.limit, matches.count, uint64_t{segment.VectorCount(slot_)}});
    if (walked.abandoned) return Walked::kAbandoned;
    return top_.size() >= owed ? Walked::kAll : Walked::kNotAll;
  }

  absl::StatusOr<Walked> WalkNarrow(const Segment& segment, const Matches& matches,
                                    const SegmentPlan& plan, const NarrowWalk& walk,
                                    const float* query, float bound, SearchWork& work) {
    top_.Reset(std::min<uint64_t>(spec_.limit, walk.ef), &segment, bound);
    AZ_ASSIGN_OR_RETURN(const index::GraphSearchResult walked,
                        segment.Walk(slot_, query, {.ef = walk.ef}, plan.distances_max,
                                     matches.admitted(), top_, *scratch_, cancel_));
    work.distances_computed += walked.distances_computed;
    if (walked.abandoned) return Walked::kAbandoned;
    return top_.size() < walk.hits_max ? Walked::kAll : Walked::kNotAll;
  }

  // Merges what the segment gave (top_) into `found`.
  absl::Status Merge(const Segment& segment, std::vector<Candidate>& found) {
    const auto before = static_cast<std::ptrdiff_t>(found.size());
    for (const index::Neighbor& neighbor : top_.Sorted()) {
      // Only a damaged file leads past the end; it is found and set aside by its checksums.
      if (neighbor.position >= segment.size()) {
        return DataLoss("segment %d: a node leads to position %d of %d", Raw(segment.id()),
                        neighbor.position, segment.size());
      }
      found.push_back({neighbor.distance, {&segment, neighbor.position}});
    }
    // Each of the two parts is in order.
    std::inplace_merge(found.begin(), found.begin() + before, found.end(), CandidateBefore);
    if (found.size() > spec_.limit) found.erase(found.begin() + spec_.limit, found.end());
    return absl::OkStatus();
  }

  Core& core_;
  const size_t slot_;
  const SearchSpec& spec_;
  const double recall_;
  const bool exact_;
  const CancelToken& cancel_;
  index::TopK top_;
  std::unique_ptr<index::GraphScratch> scratch_;
};

SearchPath PathOf(const SearchWork& work) {
  if (work.segments_by_graph == 0 && work.segments_by_scan == 0) return SearchPath::kNothing;
  if (work.segments_by_graph == 0) return SearchPath::kScan;
  return work.segments_by_scan == 0 ? SearchPath::kGraph : SearchPath::kMixed;
}

absl::Status FetchHits(const Core& core, const Collection& collection, const View& view,
                       const SearchSpec& spec, Metric metric,
                       const std::vector<std::vector<Candidate>>& found, SearchResult& result) {
  std::vector<RowRef> rows;
  for (const auto& candidates : found) {
    for (const Candidate& candidate : candidates) rows.push_back(candidate.row);
  }
  AZ_ASSIGN_OR_RETURN(auto records, FetchRows(core, collection, view, rows, spec.projection));
  size_t next = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    QueryHits& query = result.queries[i];
    query.work.path = PathOf(query.work);
    for (const Candidate& candidate : found[i]) {
      query.hits.push_back(
          {candidate.distance, ScoreOf(metric, candidate.distance), std::move(records[next++])});
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<const VectorFieldDef*> ChooseVectorField(const Schema& schema,
                                                        std::string_view name) {
  if (name.empty()) {
    if (schema.vectors.size() == 1) return &schema.vectors.front();
    return InvalidArgument("vector_field: must be named, the collection has %d vector fields",
                           schema.vectors.size());
  }
  const VectorFieldDef* field = schema.FindVector(name);
  if (field == nullptr) {
    const auto closest = ClosestFieldName(schema, name);
    return InvalidArgument(
        "vector_field: there is no vector field %s%s", Quoted(name),
        closest ? absl::StrFormat(" (did you mean %s?)", Quoted(*closest)) : std::string());
  }
  return field;
}

absl::StatusOr<SearchResult> Search(Core& core, std::string_view name,
                                    std::span<const float> queries, const SearchSpec& spec,
                                    const ReadOptions& options, const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(const View view, OpenView(core, options, cancel));
  AZ_ASSIGN_OR_RETURN(const Collection* collection, core.FindPinned(name, view.pin));
  const Schema& schema = collection->schema;
  AZ_ASSIGN_OR_RETURN(const VectorFieldDef* field, ChooseVectorField(schema, spec.vector_field));
  AZ_RETURN_IF_ERROR(CheckSpec(spec));
  AZ_RETURN_IF_ERROR(CheckProjection(schema, spec.projection));
  AZ_ASSIGN_OR_RETURN(const auto prepared, PrepareQueries(*field, queries, spec.limit));
  AZ_ASSIGN_OR_RETURN(RequestFilter filter,
                      RequestFilter::Compile(schema, spec.filter.text, spec.filter.parameters));
  SearchResult result;
  result.as_of = view.seq();
  result.queries.resize(prepared.size());
  std::vector<std::vector<Candidate>> found(prepared.size());
  const auto slot = static_cast<size_t>(field - schema.vectors.data());
  {
    Searcher searcher(core, slot, spec, cancel);
    const std::vector<SegmentRows> order = InOrderOfSearch(collection->segments(), slot);
    uint64_t vectors_all = 0;
    for (const SegmentRows& each : order) vectors_all += each.vectors;
    for (const SegmentRows& each : order) {
      AZ_RETURN_IF_ERROR(cancel.Check());
      AZ_ASSIGN_OR_RETURN(const Matches matches,
                          filter.Match(*each.segment, view.point(), collection->retired, cancel));
      if (matches.count == 0) continue;
      for (size_t i = 0; i < prepared.size(); ++i) {
        SearchWork& work = result.queries[i].work;
        if (!filter.always_true()) work.rows_matching += matches.count;
        AZ_RETURN_IF_ERROR(
            searcher.SearchSegment(each, matches, prepared[i].data(), vectors_all, found[i], work));
      }
    }
  }
  AZ_RETURN_IF_ERROR(FetchHits(core, *collection, view, spec, field->metric, found, result));
  result.warnings = filter.Warnings(schema);
  return result;
}

}  // namespace azimuth::engine
