// Inspect: the check of a directory that is not open, with what a repair needs to know.
//
// Thread safety: owns the directory (its lock) while it runs.
#pragma once

#include "base/deadline.h"
#include "engine/admin/findings.h"
#include "engine/database.h"

#include "absl/status/statusor.h"

namespace azimuth::engine {

struct Inspection {
  VerifyReport report;
  RepairPlan plan;
};

// Changes nothing. Errors: those of VerifyDirectory.
absl::StatusOr<Inspection> InspectDirectory(const DatabaseOptions& options, bool deep,
                                            const CancelToken& cancel);

// Findings for tables whose blocks do not have their checksums. Errors: of `cancel`.
absl::Status CheckTables(const storage::Store& store, const CancelToken& cancel,
                         Findings& findings);
// Findings for commits that are missing: the store is at `applied`.
void CheckWatermark(Seq applied, Seq watermark, Findings& findings);

}  // namespace azimuth::engine
