#include "engine/segment/build_job.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/logging.h"
#include "base/status.h"
#include "engine/recover.h"
#include "engine/segment/merge_policy.h"
#include "engine/segment/replace_commit.h"
#include "engine/segment/segment_builder.h"
#include "storage/file.h"

#include <algorithm>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr int64_t kRetryAfterMs = 5000;

MergeLimits LimitsOf(const Core& core) {
  return {.segment_rows_max = core.options.segment_rows_max,
          .vacuum_rows_min = core.options.graph_rows_min};
}

uint64_t CountDroppable(const Segment& segment, const RetiredMap& retired, Seq horizon) {
  uint64_t count = 0;
  for (uint32_t position = 0, n = segment.size(); position < n; ++position) {
    if (retired.RetiredAt(segment.row_id(position)) <= horizon) ++count;
  }
  return count;
}

// The segments to build next; empty if there is nothing to do.
std::vector<std::shared_ptr<Segment>> ChooseInputs(Core& core, const Collection& collection) {
  const Seq horizon = core.views.OldestPinned();
  const ViewRegistry::Pin pin = core.views.PinNow();
  const SegmentSet& set = collection.segments();
  const MergeLimits limits = LimitsOf(core);
  std::vector<MergeCandidate> candidates;
  for (const auto& segment : set.segments) {
    MergeCandidate candidate{segment->state(), segment->size(), segment->retired_count()};
    // Rows that some reader may still see cannot be dropped yet.
    if (WantsVacuum(candidate, limits)) {
      candidate.retired_rows = CountDroppable(*segment, collection.retired, horizon);
    }
    candidates.push_back(candidate);
  }
  const auto choice = ChooseMerge(candidates, limits);
  if (!choice.has_value()) return {};
  return {set.segments.begin() + static_cast<std::ptrdiff_t>(choice->begin),
          set.segments.begin() + static_cast<std::ptrdiff_t>(choice->end)};
}

absl::Status BuildAndPublish(Core& core, const std::shared_ptr<Collection>& collection,
                             std::vector<std::shared_ptr<Segment>> inputs) {
  SegmentId id{core.next_segment.fetch_add(1)};
  SegmentBuildInput input{.segments = inputs,
                          .retired = collection->retired,
                          .horizon = core.views.OldestPinned(),
                          .schema = collection->schema,
                          .graph_rows_min = core.options.graph_rows_min,
                          .id = id,
                          .row_store = collection->row_store,
                          .incarnation = core.dir.incarnation(),
                          .path = core.dir.segment_path(id)};
  const index::ParallelFor parallel = [&core](size_t count,
                                              const std::function<void(size_t)>& body) {
    core.pool->RunParallel(count, body);
  };
  const CancelToken cancel(CancelToken::TimePoint::max(), [&core, collection] {
    return core.closing.load() || collection->dropped.load();
  });
  AZ_ASSIGN_OR_RETURN(SegmentBuildOutput output, BuildSegment(input, parallel, cancel));
  std::vector<std::shared_ptr<Segment>> replacements;
  if (output.entry.has_value()) {
    absl::StatusOr<std::shared_ptr<SealedSegment>> sealed =
        SealedSegment::Open(input.path, collection->schema, *output.entry, core.dir.incarnation());
    if (!sealed.ok()) {
      static_cast<void>(storage::RemoveFile(input.path));
      return sealed.status();
    }
    replacements.push_back(*std::move(sealed));
  }
  ReplaceCommit publish(core, collection, std::move(inputs), std::move(replacements),
                        std::move(output));
  const absl::Status status = publish.Publish();
  // Not published for certain unless the outcome is unknown: then a start decides by the catalog.
  if (!status.ok() && status.code() != absl::StatusCode::kUnavailable &&
      !publish.replacements().empty()) {
    static_cast<void>(storage::RemoveFile(input.path));
  }
  return status;
}

// True if something was built: there may be more.
bool BuildOnce(Core& core, const std::shared_ptr<Collection>& collection) {
  std::vector<std::shared_ptr<Segment>> inputs = ChooseInputs(core, *collection);
  if (inputs.empty() || core.closing.load() || collection->dropped.load()) return false;
  const absl::Status status = BuildAndPublish(core, collection, inputs);
  if (core.closing.load() || collection->dropped.load()) return false;
  if (status.code() == absl::StatusCode::kDataLoss) {
    // A file went bad after its check at the start: its rows are read again and built then.
    for (const auto& input : inputs) {
      if (input->state() == SegmentState::kSealed) VerifyOrRepair(core, collection, input);
    }
  }
  MutexLock lock(collection->build_mu);
  collection->index_error = status.ok() ? "" : std::string(status.message());
  if (!status.ok()) {
    collection->retry_at_ms = SteadyMillis() + kRetryAfterMs;
    LogError("collection %d: building a segment failed, tried again in %d ms: %s",
             Raw(collection->id), kRetryAfterMs, std::string(status.message()));
  }
  return status.ok();
}

}  // namespace

bool HasWork(const Core& core, const Collection& collection) {
  const ViewRegistry::Pin pin = core.views.PinNow();
  for (const auto& segment : collection.segments().segments) {
    const MergeCandidate candidate{segment->state(), segment->size(), segment->retired_count()};
    if (candidate.state == SegmentState::kBuilding || WantsVacuum(candidate, LimitsOf(core))) {
      return true;
    }
  }
  return false;
}

void ScheduleBuild(Core& core, const std::shared_ptr<Collection>& collection) {
  {
    MutexLock lock(collection->build_mu);
    if (collection->building || SteadyMillis() < collection->retry_at_ms) return;
    collection->building = true;
  }
  core.pool->Submit([&core, collection] {
    const bool again = BuildOnce(core, collection);
    {
      MutexLock lock(collection->build_mu);
      collection->building = false;
    }
    // Through the line again, so that collections take turns.
    if (again) ScheduleBuild(core, collection);
  });
}

}  // namespace azimuth::engine
