// Recovery: from a data directory to a Core that serves, and the repair of a segment file that
// fails its check later.
//
// Order: lock, format, RocksDB, catalog, segment files (mapped, not read), retirements, and only
// the rows that no segment file covers. A file that no catalog names is removed; one that fails its
// check is set aside and its rows are read from RocksDB, scanned, and built again. Thread safety:
// Recover before any other use; RepairSegment from a worker.
#pragma once

#include "engine/core.h"

#include "absl/status/statusor.h"

#include <memory>

namespace azimuth::engine {

// A core without workers. Errors: those of the storage layer.
absl::StatusOr<std::unique_ptr<Core>> Recover(const DatabaseOptions& options);

// Reads the whole file of `segment`; if it is bad, takes it out of service: its rows are read again
// from RocksDB and scanned, the file is set aside, a build is scheduled.
void VerifyOrRepair(Core& core, const std::shared_ptr<Collection>& collection,
                    const std::shared_ptr<Segment>& segment);

}  // namespace azimuth::engine
