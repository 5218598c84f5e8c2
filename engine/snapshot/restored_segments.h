// RestoredSegments: the segments of a collection that is restored: copies of those of the
// snapshot's files that agree with its rows, and the rows that no file has.
//
// A copy that is not as it should be is left out and told: its rows are read from the store, as at
// a start.
// Thread safety: one owner. Nobody else knows of the collection yet.
#pragma once

#include "base/deadline.h"
#include "engine/core.h"
#include "engine/segment/sealed.h"
#include "engine/snapshot/snapshot_source.h"

#include "absl/status/status.h"

#include <memory>
#include <string>
#include <vector>

namespace azimuth::engine {

class RestoredSegments final {
 public:
  // All outlive it. The row store of `collection` has all entries of `source`, its map the
  // retirements.
  RestoredSegments(Core& core, const SnapshotSource& source, Collection& collection,
                   const CancelToken& cancel)
      : core_(core), source_(source), collection_(collection), cancel_(cancel) {}

  // Gives the collection its segments. Errors: of the disk, of `cancel`.
  absl::Status Make();
  // Files that a catalog must name, or, after a failure, that are to be removed.
  const std::vector<storage::SegmentEntry>& entries() const { return entries_; }
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  absl::Status CopyFiles();
  absl::StatusOr<std::shared_ptr<SealedSegment>> CopyFile(const storage::SnapshotFile& file);
  absl::Status LoadRest();

  Core& core_;
  const SnapshotSource& source_;
  Collection& collection_;
  const CancelToken& cancel_;
  std::vector<storage::SegmentEntry> entries_;  // Of files that are there.
  std::vector<std::shared_ptr<Segment>> sealed_;
  std::vector<std::string> warnings_;
};

}  // namespace azimuth::engine
