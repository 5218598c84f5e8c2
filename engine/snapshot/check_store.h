// The check of a snapshot of the whole store as a whole, beside that of each of its collections:
// what a server would believe of it at a start. And what makes a copy of it as a server would have
// left it.
//
// Thread safety: functions only.
#pragma once

#include "base/deadline.h"
#include "engine/admin/findings.h"
#include "engine/memory_budget.h"
#include "engine/snapshot/check_segments.h"
#include "engine/snapshot/snapshot_source.h"
#include "storage/file.h"
#include "storage/store.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace azimuth::engine {

// What a check of a snapshot of the store found. Nothing of `wrong` and `left_out` costs rows.
struct StoreContent {
  uint64_t collections = 0;
  std::set<std::string> segments;        // Files that agree with the rows.
  std::vector<BadSegment> bad_segments;  // And those that do not.
  uint64_t retired_bytes = 0;            // Of the maps of retirements of all collections.
  // What is to be put right in a copy: row stores that no collection has (of a restore that was not
  // finished), and counters and next ids that are wrong.
  std::vector<RowStoreId> orphans;
  std::map<RowStoreId, storage::RowStoreCounters> counters;
  storage::NextIds next_ids;
  // In words: what is not as it should be (counters, next ids, remembered requests), and the
  // orphans.
  std::vector<std::string> wrong;
  std::vector<std::string> left_out;
};

// Of `store`, the copy of the database in a snapshot, which has `collections`: whether its catalog
// agrees with itself. Errors: DataLoss (it does not, or numbers are out of range), of `cancel`.
absl::StatusOr<StoreContent> CheckSnapshotCatalog(
    const storage::Store& store, const std::vector<storage::CollectionEntry>& collections,
    const CancelToken& cancel);

// Adds to `content` what was found of one collection of `store`, whose rows are in `row_store`.
absl::Status AddChecked(const storage::Store& store, RowStoreId row_store,
                        const SnapshotSource& source, StoreContent& content);

// Of the snapshot in `folder`, whose files were compared with its manifest; `bad_files` are not as
// that says, and none of them is opened. Errors: those of SnapshotSource::Open, of
// CheckSnapshotCatalog, and of CheckRetiredBytes for all collections together.
absl::StatusOr<StoreContent> CheckSnapshotStore(const std::string& folder,
                                                const BadFiles& bad_files, storage::Files& files,
                                                MemoryBudget& memory, const CancelToken& cancel);

// Puts right the copy of the database in `rocks`: it then has what was checked, and nothing else.
absl::Status PutRight(const std::string& rocks, const StoreContent& content, storage::Files& files);

}  // namespace azimuth::engine
