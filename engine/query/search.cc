#include "engine/query/search.h"

#include "base/status.h"
#include "engine/limits.h"
#include "engine/query/fetch.h"
#include "engine/query/matches.h"
#include "engine/query/plan.h"
#include "engine/query/query_turns.h"
#include "engine/query/search_scratch.h"
#include "engine/segment/metric.h"
#include "engine/write/validate.h"
#include "index/distance/distance.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

// Hits whose fields are read from the store at a time.
constexpr size_t kFetchRows = 1000;
// So long a batch runs on its own thread, to see what a query takes.
constexpr std::chrono::nanoseconds kTrialTime = std::chrono::microseconds(100);

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

// Returns how many queries there are.
absl::StatusOr<size_t> CheckQueries(const VectorFieldDef& field, std::span<const float> queries,
                                    uint32_t limit) {
  if (queries.empty() || queries.size() % field.dim != 0) {
    return InvalidArgument("query: %d floats; expected %d dimensions%s", queries.size(), field.dim,
                           queries.size() > field.dim ? " for each query" : "");
  }
  const size_t count = queries.size() / field.dim;
  if (count == 1) {
    AZ_RETURN_IF_ERROR(CheckVector(field, queries, "query"));
    return count;
  }
  if (count > kQueriesMax || count * limit > kQueriesTimesLimitMax) {
    return InvalidArgument(
        "queries: %d with limit %d; allowed are %d queries, and %d queries x limit", count, limit,
        kQueriesMax, kQueriesTimesLimitMax);
  }
  for (size_t i = 0; i < count; ++i) {
    const auto query = queries.subspan(i * field.dim, field.dim);
    if (absl::Status status = CheckVector(field, query, ""); !status.ok()) {
      return absl::Status(status.code(), absl::StrFormat("queries[%d]%s", i, status.message()));
    }
  }
  return count;
}

// The segments into `order`: those with a graph of the field first, the largest of them first: what
// they give bounds the others. Returns how many vectors they have.
uint64_t PutInOrder(const SegmentSet& set, size_t slot, std::vector<SegmentRows>& order) {
  order.clear();
  uint64_t vectors_all = 0;
  for (const auto& segment : set.segments) {
    order.push_back({segment.get(), segment->VectorCount(slot), order.size()});
    vectors_all += order.back().vectors;
  }
  std::sort(order.begin(), order.end(), [&](const SegmentRows& a, const SegmentRows& b) {
    const bool a_graph = a.segment->HasGraph(slot);
    if (a_graph != b.segment->HasGraph(slot)) return a_graph;
    return a.vectors != b.vectors ? a.vectors > b.vectors : a.place < b.place;
  });
  return vectors_all;
}

// Search of one vector field of one view, by one thread.
class Searcher final {
 public:
  Searcher(size_t slot, const SearchSpec& spec, const CancelToken& cancel, SearchScratch& scratch)
      : slot_(slot),
        spec_(spec),
        recall_(spec.recall.value_or(kRecallDefault)),
        exact_(spec.exact || recall_ >= 1),
        cancel_(cancel),
        top_(scratch.top),
        merged_(scratch.merged),
        scratch_(&scratch.graph) {}

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
    const std::vector<index::Neighbor>& neighbors = top_.Sorted();
    merged_.clear();
    size_t kept = 0;  // Of `found`, which are in order as well.
    for (const index::Neighbor& neighbor : neighbors) {
      // Only a damaged file leads past the end; it is found and set aside by its checksums.
      if (neighbor.position >= segment.size()) {
        return DataLoss("segment %d: a node leads to position %d of %d", Raw(segment.id()),
                        neighbor.position, segment.size());
      }
      const Candidate candidate{neighbor.distance, {&segment, neighbor.position}};
      while (kept < found.size() && !CandidateBefore(candidate, found[kept])) {
        merged_.push_back(found[kept++]);
      }
      merged_.push_back(candidate);
    }
    merged_.insert(merged_.end(), found.begin() + static_cast<std::ptrdiff_t>(kept), found.end());
    if (merged_.size() > spec_.limit) merged_.resize(spec_.limit);
    found.swap(merged_);
    return absl::OkStatus();
  }

  const size_t slot_;
  const SearchSpec& spec_;
  const double recall_;
  const bool exact_;
  const CancelToken& cancel_;
  index::TopK& top_;
  std::vector<Candidate>& merged_;
  index::GraphScratch* const scratch_;
};

SearchPath PathOf(const SearchWork& work) {
  if (work.segments_by_graph == 0 && work.segments_by_scan == 0) return SearchPath::kNothing;
  if (work.segments_by_graph == 0) return SearchPath::kScan;
  return work.segments_by_scan == 0 ? SearchPath::kGraph : SearchPath::kMixed;
}

// One search, checked: what its threads share. They write each its own queries of `result`.
class Searching final {
 public:
  struct Parts {
    Core& core;
    const Collection& collection;
    const View& view;
    const VectorFieldDef& field;
    const SearchSpec& spec;
    std::span<const float> queries;
    const CancelToken& cancel;
  };

  Searching(const Parts& parts, RequestFilter& filter, SearchResult& result)
      : parts_(parts),
        slot_(static_cast<size_t>(&parts.field - parts.collection.schema.vectors.data())),
        filter_(filter),
        result_(result) {}

  absl::Status RunOne() {
    const ScratchPool::Loan scratch(parts_.core.scratch, parts_.spec.limit);
    const uint64_t vectors_all = PutInOrder(parts_.collection.segments(), slot_, scratch->order);
    Searcher searcher(slot_, parts_.spec, parts_.cancel, *scratch);
    const float* const query = Prepare(0, *scratch);
    scratch->Begin();
    for (const SegmentRows& each : scratch->order) {
      AZ_RETURN_IF_ERROR(Match(each, scratch->matches));
      scratch->matches_bytes_most = std::max<uint64_t>(scratch->matches_bytes_most,
                                                       scratch->matches.bits.words().size_bytes());
      AZ_RETURN_IF_ERROR(
          SearchSegment(searcher, each, scratch->matches, vectors_all, query, 0, scratch->found));
    }
    PutHits(0, *scratch);
    return Fetch(*scratch);
  }

  // The filter is evaluated once for all queries; each then is searched for as if it was alone.
  absl::Status RunBatch() {
    vectors_all_ = PutInOrder(parts_.collection.segments(), slot_, order_);
    matches_.resize(order_.size());
    for (size_t i = 0; i < order_.size(); ++i) AZ_RETURN_IF_ERROR(Match(order_[i], matches_[i]));
    const size_t count = result_.queries.size();
    Workers& workers = *parts_.core.workers;
    const size_t companions = workers.companions();
    // Of the threads that there are for requests, some search now.
    const size_t busy = parts_.core.scratch.lent();
    const size_t idle = companions > busy ? companions - busy : 0;
    size_t done = 0;
    BatchPlan plan;
    if (idle > 0) {
      const auto start = std::chrono::steady_clock::now();
      std::chrono::nanoseconds took{};
      while (done < count && took < kTrialTime) {
        AZ_RETURN_IF_ERROR(Run({done, done + 1}));
        ++done;
        took = std::chrono::steady_clock::now() - start;
      }
      plan = PlanBatch(count - done, took / done, idle);
    }
    if (plan.companions == 0) return Run({done, count});
    QueryTurns turns(done, count, plan.run);
    workers.RunBeside(plan.companions, [&] {
      while (const std::optional<QueryTurns::Run> run = turns.Take()) {
        if (absl::Status status = Run(*run); !status.ok()) turns.Fail(*run, std::move(status));
      }
    });
    return turns.status();
  }

 private:
  absl::Status Run(const QueryTurns::Run& run) {
    const ScratchPool::Loan scratch(parts_.core.scratch, parts_.spec.limit);
    Searcher searcher(slot_, parts_.spec, parts_.cancel, *scratch);
    scratch->Begin();
    const size_t fetch_at = ReadsStore(parts_.spec.projection) ? kFetchRows : 0;
    for (size_t i = run.first; i < run.end; ++i) {
      AZ_RETURN_IF_ERROR(parts_.cancel.Check());
      const float* const query = Prepare(i, *scratch);
      scratch->found.clear();
      for (size_t s = 0; s < order_.size(); ++s) {
        AZ_RETURN_IF_ERROR(SearchSegment(searcher, order_[s], matches_[s], vectors_all_, query, i,
                                         scratch->found));
      }
      PutHits(i, *scratch);
      if (scratch->rows.size() >= fetch_at) AZ_RETURN_IF_ERROR(Fetch(*scratch));
    }
    return scratch->rows.empty() ? absl::OkStatus() : Fetch(*scratch);
  }

  // Of unit length for cosine, then in `scratch`.
  const float* Prepare(size_t i, SearchScratch& scratch) const {
    const auto query = parts_.queries.subspan(i * parts_.field.dim, parts_.field.dim);
    if (parts_.field.metric != Metric::kCosine) return query.data();
    scratch.query.assign(query.begin(), query.end());
    index::NormalizeL2(scratch.query);
    return scratch.query.data();
  }

  absl::Status Match(const SegmentRows& rows, Matches& matches) {
    AZ_RETURN_IF_ERROR(parts_.cancel.Check());
    return filter_.MatchInto(*rows.segment, parts_.view.point(), parts_.collection.retired,
                             parts_.cancel, matches);
  }

  absl::Status SearchSegment(Searcher& searcher, const SegmentRows& rows, const Matches& matches,
                             uint64_t vectors_all, const float* query, size_t i,
                             std::vector<Candidate>& found) {
    if (matches.count == 0) return absl::OkStatus();
    SearchWork& work = result_.queries[i].work;
    if (!filter_.always_true()) work.rows_matching += matches.count;
    return searcher.SearchSegment(rows, matches, query, vectors_all, found, work);
  }

  // What was found becomes the hits of query `i`, which are still to be fetched.
  void PutHits(size_t i, SearchScratch& scratch) {
    QueryHits& query = result_.queries[i];
    query.work.path = PathOf(query.work);
    query.hits.resize(scratch.found.size());
    for (size_t h = 0; h < query.hits.size(); ++h) {
      const Candidate& candidate = scratch.found[h];
      SearchHit& hit = query.hits[h];
      hit.distance = candidate.distance;
      hit.score = ScoreOf(parts_.field.metric, candidate.distance);
      scratch.rows.push_back(candidate.row);
      scratch.records.push_back(&hit.record);
    }
  }

  absl::Status Fetch(SearchScratch& scratch) {
    const absl::Status status =
        FetchRows(parts_.core, parts_.collection, parts_.view, scratch.rows, parts_.spec.projection,
                  [&](size_t i) -> RecordOutput& { return *scratch.records[i]; });
    scratch.rows.clear();
    scratch.records.clear();
    return status;
  }

  const Parts parts_;
  const size_t slot_;
  RequestFilter& filter_;
  SearchResult& result_;
  // Of a batch.
  uint64_t vectors_all_ = 0;
  std::vector<SegmentRows> order_;
  std::vector<Matches> matches_;
};

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
  AZ_ASSIGN_OR_RETURN(const size_t count, CheckQueries(*field, queries, spec.limit));
  AZ_ASSIGN_OR_RETURN(RequestFilter filter,
                      RequestFilter::Compile(schema, spec.filter.text, spec.filter.parameters));
  SearchResult result;
  result.as_of = view.seq();
  result.queries.resize(count);
  Searching searching({core, *collection, view, *field, spec, queries, cancel}, filter, result);
  AZ_RETURN_IF_ERROR(count == 1 ? searching.RunOne() : searching.RunBatch());
  result.warnings = filter.Warnings(schema);
  return result;
}

}  // namespace azimuth::engine
