// Core: the parts of an open database that the write path, the life of segments and the query path
// share. Database owns one; nothing else makes one.
//
// Thread safety: each part says its own. Lock order: build_mu of a collection, the queue's, that of
// the durability, that of the views; active_mu, repair_mu of a collection and that of the turns of
// snapshots are taken alone.
#pragma once

#include "base/mutex.h"
#include "engine/collection.h"
#include "engine/database.h"
#include "engine/disk_guard.h"
#include "engine/durability.h"
#include "engine/limits.h"
#include "engine/memory_budget.h"
#include "engine/scratch_pool.h"
#include "engine/scrubber.h"
#include "engine/snapshot/snapshot_turn.h"
#include "engine/views.h"
#include "engine/worker_pool.h"
#include "engine/write/backpressure.h"
#include "engine/write/commit_queue.h"
#include "engine/write/request_memory.h"
#include "storage/data_dir.h"
#include "storage/snapshot_folder.h"
#include "storage/store.h"

#include "absl/status/statusor.h"

#include <atomic>
#include <memory>
#include <string_view>
#include <vector>

namespace azimuth::engine {

struct Core {
  static constexpr int kWriteDelayMaxMs = 1000;  // By backpressure, of one batch.

  // `applied` is the position that the store is at; `state` listens to it.
  Core(DatabaseOptions database_options, storage::DataDir data_dir,
       std::unique_ptr<DiskGuard> disk_guard, std::unique_ptr<Durability> state,
       std::unique_ptr<storage::Store> open_store, Seq applied)
      : options(std::move(database_options)),
        dir(std::move(data_dir)),
        snapshots(dir.snapshots_path(), dir.files()),
        disk(std::move(disk_guard)),
        durability(std::move(state)),
        store(std::move(open_store)),
        memory(options.memory_bytes > 0 ? options.memory_bytes : MemoryBudget::DefaultTotal()),
        views(applied, store->TakeSnapshot()),
        queue(*store, views, *durability, *options.clock, applied, options.bulk_commit_bytes),
        // Workers that a caller makes do not run while a write waits.
        backpressure(
            memory,
            {.rows_slow = options.unindexed_rows_slow,
             .rows_max = options.unindexed_rows_max,
             .delay_max = std::chrono::milliseconds(options.make_workers ? 0 : kWriteDelayMaxMs)}),
        scratch(memory),
        collections_(std::make_unique<CollectionMap>().release()) {}
  ~Core() { std::unique_ptr<const CollectionMap>(collections_.load()).reset(); }

  const DatabaseOptions options;
  const storage::DataDir dir;
  const storage::SnapshotFolders snapshots;
  // They outlive the store, which calls them.
  const std::unique_ptr<DiskGuard> disk;
  const std::unique_ptr<Durability> durability;
  const std::unique_ptr<storage::Store> store;
  MemoryBudget memory;  // Before the views: what they keep alive counts in it.
  ViewRegistry views;
  CommitQueue queue;
  Backpressure backpressure;
  ScratchPool scratch;
  Scrubber scrubber;
  SnapshotTurns snapshot_turns;
  std::unique_ptr<Workers> workers;  // Set before the first request; stopped before all else.
  // Touched by the commit leader only (and by recovery).
  storage::NextIds next_ids;
  RequestMemory requests{kRequestMemoryMicros, kRequestsMax};
  RequestMemory loads{kLoadMemoryMicros, kLoadsMax};
  // Segment ids are taken by builds at any time, and written with the publishing commit.
  std::atomic<uint64_t> next_segment{1};
  std::atomic<bool> closing{false};
  std::atomic<uint64_t> segments_set_aside{0};  // Since the start.
  uint64_t rocks_past_bound = 0;                // As it counts in the budget; of maintenance only.

  // Collections that maintenance must look at: they have growing rows that may become idle, closed
  // segments, rows that will end. Each stands there once (Collection::active).
  Mutex active_mu;
  std::vector<std::shared_ptr<Collection>> active AZ_GUARDED_BY(active_mu);

  storage::Files& files() const { return dir.files(); }
  int64_t NowUnixMicros() const { return options.clock->NowUnixMicros(); }
  int64_t SteadyMillis() const { return options.clock->SteadyMillis(); }

  // The current map; valid while the caller is pinned, or is the commit leader.
  const CollectionMap& collections() const { return *collections_.load(std::memory_order_seq_cst); }
  void SetCollections(CollectionMap next) {
    const CollectionMap* old =
        collections_.exchange(std::make_unique<CollectionMap>(std::move(next)).release());
    views.Retire([old] { std::unique_ptr<const CollectionMap>(old).reset(); });
  }

  // All collections, kept alive by the result.
  std::vector<std::shared_ptr<Collection>> AllCollections() const;
  // The collection, kept alive by the result. NotFound names it, and a name that is close.
  absl::StatusOr<std::shared_ptr<Collection>> FindCollection(std::string_view name) const;
  // The same as the pinned reader sees it, borrowed while it stays pinned.
  absl::StatusOr<const Collection*> FindPinned(std::string_view name,
                                               const ViewRegistry::Pin& pin) const;

 private:
  std::atomic<const CollectionMap*> collections_;
};

// A growing segment of `collection` for rows from `first` on, of as many rows as are scanned in
// about half a millisecond.
std::shared_ptr<GrowingSegment> MakeGrowingSegment(Core& core, const Collection& collection,
                                                   RowId first);

}  // namespace azimuth::engine
