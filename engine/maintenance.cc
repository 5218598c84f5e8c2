#include "engine/maintenance.h"

#include "base/failpoint.h"
#include "engine/segment/build_job.h"
#include "engine/snapshot/restore_snapshot.h"
#include "engine/write/ddl_commit.h"
#include "engine/write/delete_commit.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

// Records that one commit of the sweeper retires.
constexpr size_t kSweepRows = 4096;
// Commits of one round, so that other collections have their turn.
constexpr int kSweepBatches = 16;
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
  bool more = false;                  // There are some beyond kSweepRows.
  int64_t earliest_left = INT64_MAX;  // When the next one ends, if there are no more.
  // Segments in which no record is left that has ended, and when the next one of theirs ends.
  std::vector<std::pair<std::shared_ptr<Segment>, int64_t>> clean;
};

// Up to kSweepRows records of one segment whose time has passed. Adds to `found`.
void FindExpiredIn(const std::shared_ptr<Segment>& segment, int64_t now, ExpiredRecords& found) {
  int64_t left = INT64_MAX;
  const uint32_t size = segment->size();
  for (uint32_t first = 0; first < size; first += 64) {
    uint64_t live = ~segment->RetiredWord(first / 64);
    for (; live != 0; live &= live - 1) {
      const uint32_t position = first + static_cast<uint32_t>(std::countr_zero(live));
      if (position >= size) break;
      const int64_t expires = segment->expires_at_unix_us(position);
      if (expires == 0) continue;
      if (expires > now) {
        left = std::min(left, expires);
      } else if (found.keys.size() == kSweepRows) {
        found.more = true;
        return;
      } else {
        found.keys.push_back(segment->key(position).ToKey());
        found.rows.push_back(segment->row_id(position));
      }
    }
  }
  found.earliest_left = std::min(found.earliest_left, left);
  found.clean.emplace_back(segment, left);
}

ExpiredRecords FindExpired(const Core& core, const Collection& collection, int64_t now) {
  ExpiredRecords found;
  const ViewRegistry::Pin pin = core.views.PinNow();
  for (const auto& segment : collection.segments().segments) {
    if (found.more) break;
    if (segment->earliest_expiry() <= now) {
      FindExpiredIn(segment, now, found);
    } else {
      found.earliest_left = std::min(found.earliest_left, segment->earliest_expiry());
    }
  }
  return found;
}

// Retires records that ended by `now`, some at a time. What is left is due later.
void Sweep(Core& core, const std::shared_ptr<Collection>& collection, int64_t now) {
  // Rows that come meanwhile lower it again.
  collection->next_sweep_us.store(INT64_MAX);
  for (int batch = 0; batch < kSweepBatches; ++batch) {
    ExpiredRecords found = FindExpired(core, *collection, now);
    AZ_FAILPOINT_VISIT(kSweepAfterChoose);
    if (!found.keys.empty() || !found.clean.empty()) {
      // Also without keys: once it had its turn, all retirements that were seen are published.
      DeleteCommit commit(core, collection, std::move(found.keys), std::move(found.rows),
                          collection->row_store, DeleteCommit::Which::kExpired, {}, now);
      if (!core.queue.Run(commit, CancelToken()).ok()) {
        return LowerTo(collection->next_sweep_us, now + kSweepIntervalMicros);
      }
    }
    // Who pinned before that still needs to look at the ends of records.
    for (auto& [segment, left] : found.clean) {
      core.views.Retire(
          [swept = std::move(segment), bound = left] { swept->RaiseEarliestExpiry(bound); });
    }
    if (found.more) continue;
    if (found.earliest_left != INT64_MAX) {
      LowerTo(collection->next_sweep_us, std::max(found.earliest_left, now + kSweepIntervalMicros));
    }
    return;
  }
  LowerTo(collection->next_sweep_us, now);  // In the next round.
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

// True if the growing segment is to be closed: no write came for a while, or writes are held up and
// only a build can help. `waits` is set if that may come without another write.
bool WantsClose(const Core& core, const Collection& collection, bool& waits) {
  const ViewRegistry::Pin pin = core.views.PinNow();
  const auto& segments = collection.segments().segments;
  if (segments.empty() || segments.back()->state() != SegmentState::kGrowing) return false;
  const uint32_t rows = segments.back()->size();
  if (rows > 0 && collection.unindexed_rows.load() >= core.options.unindexed_rows_slow) return true;
  if (rows < core.options.graph_rows_min) return false;
  waits = true;
  return core.SteadyMillis() - collection.last_append_ms.load() >= core.options.growing_idle_ms;
}

// False if the collection is at rest: nothing will happen before the next write.
bool Maintain(Core& core, const std::shared_ptr<Collection>& collection) {
  if (collection->dropped.load()) return false;
  const int64_t now = core.NowUnixMicros();
  const bool due = !core.options.keep_rows && collection->next_sweep_us.load() <= now;
  if (due) Sweep(core, collection, now);
  // Cleared first: what comes from here on is looked at again.
  bool waits = false;
  if (collection->unsettled.exchange(false) || due) {
    if (WantsClose(core, *collection, waits)) {
      CloseGrowingCommit commit(core, collection);
      static_cast<void>(core.queue.Run(commit, CancelToken()));
    }
    const PendingWork work = FindWork(core, *collection);
    if (work == PendingWork::kNow) ScheduleBuild(core, collection);
    waits = waits || work != PendingWork::kNone;
    if (waits) collection->unsettled.store(true);
  }
  return waits || collection->next_sweep_us.load() != INT64_MAX;
}

// What RocksDB takes beyond its reservation.
void CountRocks(Core& core) {
  const uint64_t now = core.store->memory_past_bound();
  const uint64_t before = std::exchange(core.rocks_past_bound, now);
  core.memory.Add(MemoryPart::kRocks, static_cast<int64_t>(now) - static_cast<int64_t>(before));
}

void PutOnList(Core& core, const std::shared_ptr<Collection>& collection) {
  if (collection->active.exchange(true)) return;
  MutexLock lock(core.active_mu);
  core.active.push_back(collection);
}

}  // namespace

void NoteActive(Core& core, const std::shared_ptr<Collection>& collection,
                int64_t earliest_expiry) {
  LowerTo(collection->next_sweep_us, earliest_expiry);
  collection->unsettled.store(true);
  PutOnList(core, collection);
}

void RunMaintenance(Core& core) {
  core.disk->Refresh();
  core.durability->Tick(*core.store, core.SteadyMillis());
  core.scrubber.Tick(core);
  CountRocks(core);
  core.views.Collect();  // What the last commit left, if a reader was in the way.
  if (!core.durability->CheckWritable().ok()) return;  // Nothing that follows could be written.
  ClearUpRestores(core);
  if (core.backpressure.MemoryTight()) CloseLargestGrowing(core);
  std::vector<std::shared_ptr<Collection>> active;
  {
    MutexLock lock(core.active_mu);
    active.swap(core.active);
  }
  for (const auto& collection : active) {
    // First off the list: a write that comes from here on puts it back. (exchange: sees what the
    // writer did that found it on the list.)
    collection->active.exchange(false);
    if (Maintain(core, collection)) PutOnList(core, collection);
  }
}

}  // namespace azimuth::engine
