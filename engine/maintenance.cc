#include "engine/maintenance.h"

#include "base/failpoint.h"
#include "engine/segment/build_job.h"
#include "engine/write/ddl_commit.h"
#include "engine/write/delete_commit.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

// Records that one commit of the sweeper retires.
constexpr size_t kSweepRows = 4096;
// Between two sweeps of a collection, each of which looks at all its rows that may end.
constexpr int64_t kSweepIntervalMicros = 1000000;

void LowerTo(std::atomic<int64_t>& value, int64_t bound) {
  int64_t seen = value.load(std::memory_order_relaxed);
  while (bound < seen && !value.compare_exchange_weak(seen, bound, std::memory_order_relaxed)) {
  }
}

struct ExpiredRecords {
  std::vector<Key> keys;
  std::vector<RowId> rows;
  int64_t earliest_left = INT64_MAX;  // When the next one ends.
};

// Up to kSweepRows records whose time has passed; if there are more, earliest_left is `now`.
ExpiredRecords FindExpired(const Core& core, const Collection& collection, int64_t now) {
  ExpiredRecords found;
  const ViewRegistry::Pin pin = core.views.PinNow();
  for (const auto& segment : collection.segments().segments) {
    if (segment->earliest_expiry() > now) {
      found.earliest_left = std::min(found.earliest_left, segment->earliest_expiry());
      continue;
    }
    for (uint32_t position = 0, n = segment->size(); position < n; ++position) {
      if ((segment->RetiredWord(position / 64) >> (position % 64) & 1) != 0) continue;
      const int64_t expires = segment->expires_at_unix_us(position);
      if (expires == 0) continue;
      if (expires > now) {
        found.earliest_left = std::min(found.earliest_left, expires);
      } else if (found.keys.size() == kSweepRows) {
        found.earliest_left = now;
        return found;
      } else {
        found.keys.push_back(segment->key(position).ToKey());
        found.rows.push_back(segment->row_id(position));
      }
    }
  }
  return found;
}

// Retires records whose time has passed.
void Sweep(Core& core, const std::shared_ptr<Collection>& collection) {
  const int64_t now = core.NowUnixMicros();
  // Rows that come meanwhile lower it again.
  if (collection->next_sweep_us.exchange(INT64_MAX) > now) return;
  ExpiredRecords found = FindExpired(core, *collection, now);
  const bool more = found.keys.size() == kSweepRows;
  if (found.earliest_left != INT64_MAX && !more) {
    found.earliest_left = std::max(found.earliest_left, now + kSweepIntervalMicros);
  }
  LowerTo(collection->next_sweep_us, found.earliest_left);
  if (found.keys.empty()) return;
  AZ_FAILPOINT_VISIT(kSweepAfterChoose);
  DeleteCommit commit(core, collection, std::move(found.keys), std::move(found.rows),
                      DeleteCommit::Which::kExpired, {}, now);
  const absl::Status status = core.queue.Run(commit, CancelToken()).status();
  if (!status.ok()) LowerTo(collection->next_sweep_us, now);  // Tried again.
}

// Bytes of the growing segment; 0 if there is none, or none with rows.
uint64_t GrowingBytes(const Core& core, const Collection& collection) {
  const ViewRegistry::Pin pin = core.views.PinNow();
  const auto& segments = collection.segments().segments;
  if (segments.empty() || segments.back()->state() != SegmentState::kGrowing) return 0;
  return segments.back()->size() == 0 ? 0 : segments.back()->memory_bytes();
}

// Many small growing segments may fill the memory although none of them is worth a graph. Then the
// largest is built all the same.
void CloseLargestGrowing(Core& core) {
  std::shared_ptr<Collection> largest;
  uint64_t bytes = 0;
  for (auto& collection : core.AllCollections()) {
    const uint64_t growing = GrowingBytes(core, *collection);
    if (growing <= bytes) continue;
    bytes = growing;
    largest = std::move(collection);
  }
  if (largest == nullptr) return;
  CloseGrowingCommit commit(core, largest);
  static_cast<void>(core.queue.Run(commit, CancelToken()));
}

bool HasIdleGrowing(const Core& core, const Collection& collection, bool& waits) {
  const ViewRegistry::Pin pin = core.views.PinNow();
  const auto& segments = collection.segments().segments;
  if (segments.empty() || segments.back()->state() != SegmentState::kGrowing ||
      segments.back()->size() < core.options.graph_rows_min) {
    return false;
  }
  waits = true;
  return core.SteadyMillis() - collection.last_append_ms.load() >= core.options.growing_idle_ms;
}

// False if the collection is at rest: nothing will happen before the next write.
bool Maintain(Core& core, const std::shared_ptr<Collection>& collection) {
  if (collection->dropped.load()) return false;
  if (collection->next_sweep_us.load() <= core.NowUnixMicros()) Sweep(core, collection);
  bool waits = false;
  if (HasIdleGrowing(core, *collection, waits)) {
    CloseGrowingCommit commit(core, collection);
    static_cast<void>(core.queue.Run(commit, CancelToken()));
  }
  const PendingWork work = FindWork(core, *collection);
  if (work == PendingWork::kNow) ScheduleBuild(core, collection);
  return waits || work != PendingWork::kNone || collection->next_sweep_us.load() != INT64_MAX;
}

}  // namespace

void NoteActive(Core& core, const std::shared_ptr<Collection>& collection,
                int64_t earliest_expiry) {
  LowerTo(collection->next_sweep_us, earliest_expiry);
  if (collection->active.exchange(true)) return;
  MutexLock lock(core.active_mu);
  core.active.push_back(collection);
}

void RunMaintenance(Core& core) {
  core.views.Collect();  // What the last commit left, if a reader was in the way.
  if (core.backpressure.MemoryTight()) CloseLargestGrowing(core);
  std::vector<std::shared_ptr<Collection>> active;
  {
    MutexLock lock(core.active_mu);
    active.swap(core.active);
  }
  for (const auto& collection : active) {
    // First off the list: a write that comes from here on puts it back.
    collection->active.store(false);
    if (Maintain(core, collection)) NoteActive(core, collection, INT64_MAX);
  }
}

}  // namespace azimuth::engine
