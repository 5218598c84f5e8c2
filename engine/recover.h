// Recovery: from a data directory to a Core that serves, and the repair of a segment file that
// fails its check later.
//
// Order: lock, format, RocksDB, watermark, catalog, segment files (mapped, not read), retirements,
// and only the rows that no segment file covers. A file that no catalog names is removed; one that
// fails its check is set aside and its rows are read from RocksDB, scanned, and built again. When
// synced commits are missing, nothing is written: what is left is served as it is.
//
// Thread safety: Recover before any other use; VerifyOrRepair from any thread.
#pragma once

#include "engine/core.h"

#include "absl/status/statusor.h"

#include <memory>
#include <string_view>

namespace azimuth::engine {

// A core without workers. Errors: those of the storage layer.
absl::StatusOr<std::unique_ptr<Core>> Recover(const DatabaseOptions& options);

// Reads the whole file of `segment`; if it is bad, takes it out of service: its rows are read again
// from RocksDB and scanned, the file is set aside, a build is scheduled. OK if the segment is good,
// or no longer is in the list. Several calls for one collection take turns. Errors: DataLoss (it is
// bad, and the store is read-only or its rows cannot be read), those of a commit, and of `cancel`.
absl::Status VerifyOrRepair(Core& core, const std::shared_ptr<Collection>& collection,
                            const std::shared_ptr<Segment>& segment, const CancelToken& cancel);

// Repairs the segments of the collection `name` whose checks have failed in a read. True if there
// were some: then the read is worth another try.
absl::StatusOr<bool> RepairSuspects(Core& core, std::string_view name, const CancelToken& cancel);

// Runs `work`, which gives a StatusOr, and again after a repair if it came upon a damaged segment.
template <typename Work>
auto WithRepair(Core& core, std::string_view name, const CancelToken& cancel, const Work& work)
    -> decltype(work()) {
  // Each time another segment may be found to be bad, but not without end.
  constexpr int kTriesMax = 64;
  absl::Status last;
  for (int tries = 1;; ++tries) {
    auto result = work();
    if (!absl::IsDataLoss(result.status()) || tries == kTriesMax) return result;
    const absl::StatusOr<bool> repaired = RepairSuspects(core, name, cancel);
    if (!repaired.ok()) return repaired.status();
    // Another thread may have repaired it just now; but not if it is the same again.
    if (!*repaired && result.status() == last) return result;
    last = result.status();
  }
}

}  // namespace azimuth::engine
