// Collection: one collection in memory: its schema, its segments, its counters.
//
// Ownership: shared by the catalog map, by writes in the queue and by background builds; readers
// borrow it under a pin (views.h).
// Thread safety: fields in three groups, each says who may touch it.
#pragma once

#include "base/ids.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "engine/schema.h"
#include "engine/segment/growing.h"
#include "engine/segment/retired_map.h"
#include "engine/segment/segment.h"
#include "engine/views.h"
#include "storage/row.h"

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {

// Rows that a merge dropped. Their retirements are needed while readers use the list before it.
struct ForgottenRows {
  std::vector<RowId> rows;
  // Set once no such reader is left.
  std::shared_ptr<std::atomic<bool>> unused = std::make_shared<std::atomic<bool>>(false);
};

class Collection final {
 public:
  // `since_seq`: the commit that made it. A truncation makes a new one of the same id and name, a
  // restore over it one of another id.
  Collection(CollectionId collection_id, std::string collection_name, RowStoreId store,
             Schema collection_schema, int64_t created, Seq since_seq)
      : id(collection_id),
        name(std::move(collection_name)),
        row_store(store),
        schema(std::move(collection_schema)),
        created_unix_us(created),
        since(since_seq),
        segments_(std::make_unique<SegmentSet>().release()) {}
  ~Collection() { std::unique_ptr<const SegmentSet>(segments_.load()).reset(); }
  Collection(const Collection&) = delete;
  Collection& operator=(const Collection&) = delete;

  // Constant after construction.
  const CollectionId id;
  const std::string name;
  const RowStoreId row_store;
  const Schema schema;
  const int64_t created_unix_us;
  // Of a restored one set by the commit that makes it appear, before anybody else knows of it.
  Seq since;

  // Synchronise themselves.
  RetiredMap retired;
  std::atomic<bool> dropped{false};
  // Before a truncation, or a restore over it: what readers at numbers below `since` still see.
  // Null otherwise, and once there are no such readers.
  std::atomic<const Collection*> before_truncation{nullptr};
  std::atomic<uint64_t> live_rows{0};       // As of the last published commit.
  std::atomic<uint64_t> unindexed_rows{0};  // In segments that have no file.
  std::atomic<int64_t> last_append_ms{0};   // Of Clock::SteadyMillis.
  // When the sweeper looks next, wall clock; lowered by writes of records that end.
  std::atomic<int64_t> next_sweep_us{INT64_MAX};
  std::atomic<bool> unsettled{true};  // There may be something to close, build or merge.
  std::atomic<bool> active{false};    // Stands in the list of maintenance.
  // Rows that could not be read when a file of them was read again, or at the start.
  std::atomic<uint64_t> damaged_rows{0};

  // Whoever verifies a segment and puts it right sets `repairing`; the others wait.
  Mutex repair_mu;
  CondVar repair_done;
  bool repairing AZ_GUARDED_BY(repair_mu) = false;

  // The current list; valid while the caller is pinned, or is the commit leader.
  const SegmentSet& segments() const { return *segments_.load(std::memory_order_seq_cst); }
  // Replaces the list. By the commit leader only; the old one is freed when no reader can see it.
  void SetSegments(SegmentSet next, ViewRegistry& views) {
    const SegmentSet* old =
        segments_.exchange(std::make_unique<SegmentSet>(std::move(next)).release());
    views.Retire([old] { std::unique_ptr<const SegmentSet>(old).reset(); });
  }

  // Touched by the commit leader only (and by recovery, before there is one).
  std::deque<ForgottenRows> forgotten;      // Dropped by merges; in order of publication.
  RowId next_row{};                         // The id that the next row gets.
  RowId ids_end{};                          // As in the catalog (made_keys.h); zero for none.
  std::shared_ptr<GrowingSegment> growing;  // Null until the first row; the last of segments().

  // Guarded by build_mu.
  Mutex build_mu;
  CondVar build_done;                             // A build ended, well or not.
  bool building AZ_GUARDED_BY(build_mu) = false;  // A build of this collection runs or waits.
  // Rows below it are merged into as few segments as may be, for calls of Optimize that wait.
  RowId optimize_end AZ_GUARDED_BY(build_mu){};
  int optimizing AZ_GUARDED_BY(build_mu) = 0;       // Calls of Optimize that wait: merge it all.
  std::string index_error AZ_GUARDED_BY(build_mu);  // Of the last build, if it failed.
  int64_t retry_at_ms AZ_GUARDED_BY(build_mu) = 0;  // SteadyMillis; after a failed build.

 private:
  std::atomic<const SegmentSet*> segments_;
};

// All collections by name; immutable.
using CollectionMap = StringMap<std::shared_ptr<Collection>>;

}  // namespace azimuth::engine
