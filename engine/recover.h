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

namespace azimuth::engine {

// A core without workers. Errors: those of the storage layer.
absl::StatusOr<std::unique_ptr<Core>> Recover(const DatabaseOptions& options);

// Reads the whole file of `segment`; if it is bad, takes it out of service: its rows are read again
// from RocksDB and scanned, the file is set aside, a build is scheduled. OK if the segment is good,
// or no longer is in the list. Several calls for one collection take turns. Errors: DataLoss (it is
// bad, and the store is read-only or its rows cannot be read), those of a commit, and of `cancel`.
absl::Status VerifyOrRepair(Core& core, const std::shared_ptr<Collection>& collection,
                            const std::shared_ptr<Segment>& segment, const CancelToken& cancel);

}  // namespace azimuth::engine
