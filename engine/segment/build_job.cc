#include "engine/segment/build_job.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/logging.h"
#include "base/status.h"
#include "engine/maintenance.h"
#include "engine/recover.h"
#include "engine/segment/merge_policy.h"
#include "engine/segment/replace_commit.h"
#include "engine/segment/segment_builder.h"
#include "engine/write/ddl_commit.h"
#include "storage/file.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <span>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr int64_t kRetryAfterMs = 5000;

// A collection is at rest when no write came for so many times growing_idle_ms.
constexpr int64_t kAtRestIdleTimes = 6;
constexpr std::chrono::milliseconds kReportInterval{100};

MergeLimits LimitsOf(const Core& core, const Collection& collection) {
  MergeLimits limits{.segment_rows_max = core.options.segment_rows_max,
                     .vacuum_rows_min = core.options.graph_rows_min};
  const int64_t idle_ms = core.SteadyMillis() - collection.last_append_ms.load();
  if (idle_ms >= kAtRestIdleTimes * core.options.growing_idle_ms) {
    limits.mode = MergeMode::kAtRest;
  }
  return limits;
}

// The rows that Optimize was asked for; none if it was not.
RowId OptimizeEnd(Collection& collection) {
  MutexLock lock(collection.build_mu);
  return collection.optimizing > 0 ? collection.optimize_end : RowId{};
}

uint64_t CountDroppable(const Segment& segment, const RetiredMap& retired, Seq horizon) {
  uint64_t count = 0;
  for (uint32_t position = 0, n = segment.size(); position < n; ++position) {
    if (retired.RetiredAt(segment.row_id(position)) <= horizon) ++count;
  }
  return count;
}

struct Work {
  std::vector<std::shared_ptr<Segment>> inputs;  // To build next; empty if there is nothing to do.
  bool for_optimize = false;                     // Of what Optimize was asked for.
  bool later = false;                            // Time alone may bring some.
  OptimizeProgress progress;
};

// Rows that were retired up to here can be dropped.
Seq DropHorizon(const Core& core) {
  return core.options.keep_rows ? kSeqZero : core.views.OldestPinned();
}

// The segments of `set` as the policy sees them; rows that some reader may still see cannot be
// dropped yet.
std::vector<MergeCandidate> CandidatesOf(const Core& core, const Collection& collection,
                                         const SegmentSet& set, Seq horizon,
                                         const MergeLimits& limits, bool& later) {
  std::vector<MergeCandidate> candidates;
  for (const auto& segment : set.segments) {
    MergeCandidate candidate{.state = segment->state(),
                             .rows = segment->size(),
                             .retired_rows = segment->retired_count()};
    if (LacksGraph(*segment, collection.schema, core.options.graph_rows_min)) {
      candidate.state = SegmentState::kBuilding;
      candidate.has_file = true;
    }
    if (WantsVacuum(candidate, limits)) {
      candidate.retired_rows = CountDroppable(*segment, collection.retired, horizon);
      later = later || !WantsVacuum(candidate, limits);
    }
    candidates.push_back(candidate);
  }
  return candidates;
}

Work ChooseWork(const Core& core, Collection& collection) {
  MergeLimits limits = LimitsOf(core, collection);
  const RowId optimize_end = OptimizeEnd(collection);
  const Seq horizon = DropHorizon(core);
  const ViewRegistry::Pin pin = core.views.PinNow();
  const SegmentSet& set = collection.segments();
  Work work;
  size_t sealed = 0;
  size_t asked = 0;  // Segments at the front that Optimize was asked for.
  for (const auto& segment : set.segments) {
    sealed += segment->state() == SegmentState::kSealed ? 1 : 0;
    asked += segment->rows().end <= optimize_end ? 1 : 0;
    work.progress.rows += segment->size();
  }
  work.progress.segments = static_cast<uint32_t>(set.segments.size());
  work.progress.as_of = pin.seq();
  work.later = limits.mode == MergeMode::kWriting && sealed > 1;
  std::optional<MergeChoice> choice;
  if (asked > 0) {
    const MergeMode mode = std::exchange(limits.mode, MergeMode::kOptimize);
    const auto candidates = CandidatesOf(core, collection, set, horizon, limits, work.later);
    choice = ChooseMerge(std::span(candidates).first(asked), limits);
    work.for_optimize = choice.has_value();
    limits.mode = mode;
  }
  if (!choice.has_value()) {
    choice = ChooseMerge(CandidatesOf(core, collection, set, horizon, limits, work.later), limits);
  }
  if (!choice.has_value()) return work;
  for (size_t i = choice->begin; i < choice->end; ++i) {
    work.inputs.push_back(set.segments[i]);
    work.progress.rows_waiting += set.segments[i]->size();
  }
  return work;
}

uint64_t RowsOf(const std::vector<std::shared_ptr<Segment>>& segments) {
  uint64_t rows = 0;
  for (const auto& segment : segments) rows += segment->size();
  return rows;
}

absl::Status BuildAndPublish(Core& core, const std::shared_ptr<Collection>& collection,
                             std::vector<std::shared_ptr<Segment>> inputs) {
  const CancelToken cancel(CancelToken::TimePoint::max(), [&core, collection] {
    return core.closing.load() || collection->dropped.load();
  });
  AZ_ASSIGN_OR_RETURN(
      const MemoryBudget::Reservation memory,
      core.memory.ReserveForBuild(EstimateBuildBytes(collection->schema, RowsOf(inputs)), cancel));
  SegmentId id{core.next_segment.fetch_add(1)};
  SegmentBuildInput input{.segments = inputs,
                          .retired = collection->retired,
                          .horizon = DropHorizon(core),
                          .schema = collection->schema,
                          .graph_rows_min = core.options.graph_rows_min,
                          .id = id,
                          .row_store = collection->row_store,
                          .incarnation = core.dir.instance(),
                          .path = core.dir.segment_path(id),
                          .files = core.files()};
  const index::ParallelFor parallel = [&core](size_t count,
                                              const std::function<void(size_t)>& body) {
    core.workers->RunParallel(count, body);
  };
  AZ_ASSIGN_OR_RETURN(SegmentBuildOutput output, BuildSegment(input, parallel, cancel));
  std::vector<std::shared_ptr<Segment>> replacements;
  std::vector<storage::SegmentEntry> entries;
  if (output.entry.has_value()) {
    absl::StatusOr<std::shared_ptr<SealedSegment>> sealed = SealedSegment::Open(
        input.path, collection->schema, *output.entry, core.dir.instance(), core.files());
    if (!sealed.ok()) {
      static_cast<void>(storage::RemoveFile(input.path, core.files()));
      return sealed.status();
    }
    replacements.push_back(*std::move(sealed));
    entries.push_back(*output.entry);
  }
  ReplaceCommit publish(core, collection, std::move(inputs), std::move(replacements),
                        std::move(entries), std::move(output.dropped));
  const absl::Status status = publish.Publish();
  if (status.ok()) {
    for (const auto& made : publish.replacements()) core.scrubber.Add(collection, made);
  }
  // Unavailable: nobody knows whether it is published, and a start decides by the catalog. (On a
  // full disk nobody knows either, but room is what is needed, and the file can be made again.)
  if (!status.ok() && status.code() != absl::StatusCode::kUnavailable &&
      !publish.replacements().empty()) {
    static_cast<void>(storage::RemoveFile(input.path, core.files()));
  }
  return status;
}

// Whether all of them are still segments of the collection.
bool AreListed(const Core& core, const Collection& collection,
               const std::vector<std::shared_ptr<Segment>>& segments) {
  const ViewRegistry::Pin pin = core.views.PinNow();
  const auto& listed = collection.segments().segments;
  return std::all_of(segments.begin(), segments.end(), [&](const auto& segment) {
    return std::find(listed.begin(), listed.end(), segment) != listed.end();
  });
}

// True if something was built, or the inputs are other ones by now: there may be more.
bool BuildOnce(Core& core, const std::shared_ptr<Collection>& collection) {
  if (!core.durability->CheckWritable().ok()) return false;
  if (!core.disk->BuildsAllowed()) {
    MutexLock lock(collection->build_mu);
    collection->index_error = "the disk is nearly full: builds wait until there is room";
    return false;
  }
  std::vector<std::shared_ptr<Segment>> inputs = ChooseWork(core, *collection).inputs;
  if (inputs.empty()) {
    // What failed before was done in another way.
    MutexLock lock(collection->build_mu);
    collection->index_error.clear();
  }
  if (inputs.empty() || core.closing.load() || collection->dropped.load()) return false;
  const absl::Status status = BuildAndPublish(core, collection, inputs);
  if (core.closing.load() || collection->dropped.load()) return false;
  if (absl::IsDataLoss(status)) {
    // A file went bad after its check: its rows are read again and built then.
    for (const auto& input : inputs) {
      if (input->state() != SegmentState::kSealed) continue;
      if (!VerifyOrRepair(core, collection, input, CancelToken()).ok()) break;
    }
  }
  // A segment file can be made again, but a disk that fails to write it will fail the log as well.
  if (absl::IsUnavailable(status) || absl::IsPermissionDenied(status))
    core.durability->Fail(status);
  // One of them was set aside meanwhile: what came of the build says nothing about what is there.
  if (!status.ok() && !AreListed(core, *collection, inputs)) return true;
  MutexLock lock(collection->build_mu);
  collection->index_error = status.ok() ? "" : std::string(status.message());
  if (!status.ok()) {
    collection->retry_at_ms = core.SteadyMillis() + kRetryAfterMs;
    LogError("collection %d: building a segment failed, tried again in %d ms: %s",
             Raw(collection->id), kRetryAfterMs, std::string(status.message()));
  }
  return status.ok();
}

}  // namespace

PendingWork FindWork(Core& core, Collection& collection) {
  const Work work = ChooseWork(core, collection);
  if (!work.inputs.empty()) return PendingWork::kNow;
  return work.later ? PendingWork::kLater : PendingWork::kNone;
}

void ScheduleBuild(Core& core, const std::shared_ptr<Collection>& collection) {
  {
    MutexLock lock(collection->build_mu);
    if (collection->building || core.SteadyMillis() < collection->retry_at_ms) return;
    collection->building = true;
  }
  core.workers->Submit([&core, collection] {
    const bool again = BuildOnce(core, collection);
    {
      MutexLock lock(collection->build_mu);
      collection->building = false;
      collection->build_done.NotifyAll();
    }
    // Through the line again, so that collections take turns.
    if (again) {
      ScheduleBuild(core, collection);
    } else {
      // What is left waits for time to pass: for a retry, for rest, for readers to go.
      NoteActive(core, collection, INT64_MAX);
    }
  });
}

absl::Status Optimize(Core& core, std::string_view name,
                      const std::function<absl::Status(const OptimizeProgress&)>& report,
                      const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(const auto collection, core.FindCollection(name));
  CloseGrowingCommit close(core, collection);
  AZ_RETURN_IF_ERROR(core.queue.Run(close, cancel).status());
  {
    MutexLock lock(collection->build_mu);
    ++collection->optimizing;
    collection->optimize_end = std::max(collection->optimize_end, close.end());
  }
  absl::Status status;
  OptimizeProgress progress;
  while (status.ok() && !progress.done) {
    ScheduleBuild(core, collection);
    Work work = ChooseWork(core, *collection);
    progress = std::move(work.progress);
    progress.done = !work.for_optimize;
    if (progress.done) progress.rows_waiting = 0;
    {
      MutexLock lock(collection->build_mu);
      progress.error = collection->index_error;
      if (!progress.done) {
        collection->build_done.WaitUntil(collection->build_mu,
                                         std::chrono::steady_clock::now() + kReportInterval);
      }
    }
    status = report(progress);
    if (status.ok()) status = cancel.Check();
    if (status.ok() && !progress.done) status = core.durability->CheckWritable();
    if (status.ok() && collection->dropped.load()) {
      status = absl::AbortedError("the collection was dropped or truncated meanwhile");
    }
    if (status.ok() && core.closing.load()) status = absl::CancelledError("the server stops");
  }
  MutexLock lock(collection->build_mu);
  --collection->optimizing;
  return status;
}

}  // namespace azimuth::engine
