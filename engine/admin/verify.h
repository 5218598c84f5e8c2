// Verify: whether what is on disk agrees with itself, from RocksDB's checksums up to the graphs.
//
// What is checked, for the whole store: the checksum of every block of every table file; the
// watermark against the applied position; that everything belongs to a collection; the folders'
// files against the catalog (missing, left over, unknown, set aside). For each collection: rows and
// keys lead to each other one to one; retirements and vectors belong to rows; counters; order of
// row ids and sequence numbers; segments cover ranges that do not overlap; each segment file's
// checksums and its rows against those of the store; bounds, degrees and reachability of its
// graphs; and, of a sample, that a vector finds itself. `deep` compares all columns and vectors of
// all rows with the store; else those of a sample.
//
// Thread safety: VerifyDirectory and RepairDirectory own the directory (its lock) while they run;
// VerifyOpen runs beside everything else, and pins a view of one collection at a time.
// Errors: a finding is no error. FailedPrecondition (the directory is in use, or a newer format),
// NotFound, DataLoss (RocksDB or FORMAT cannot be opened at all), Cancelled, DeadlineExceeded.
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "engine/database.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine {

struct Core;

// Reads the directory of a database that is not open; changes nothing.
absl::StatusOr<VerifyReport> VerifyDirectory(const DatabaseOptions& options, bool deep,
                                             const CancelToken& cancel);

// Makes right what can be made from the rows: takes bad segment files out of the catalog and sets
// them aside, removes files that no catalog names, counts again, removes stray retirements; then
// opens the database, waits until what it took out is built again, and closes it. Rows, keys and
// vectors are never changed. Returns what VerifyDirectory finds afterwards, with `repairs`.
absl::StatusOr<VerifyReport> RepairDirectory(const DatabaseOptions& options, bool deep,
                                             const CancelToken& cancel);

// The same look at an open database; all collections if `collection` is empty (NotFound).
absl::StatusOr<VerifyReport> VerifyOpen(Core& core, std::string_view collection, bool deep,
                                        const CancelToken& cancel);

}  // namespace azimuth::engine
