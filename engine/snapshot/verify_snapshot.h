// The check of a snapshot: all that a restore of it would check, and all of its files.
//
// Thread safety: any thread; takes its turn.
#pragma once

#include "base/deadline.h"
#include "engine/core.h"
#include "engine/snapshot/snapshot_info.h"

#include "absl/status/statusor.h"

#include <string_view>

namespace azimuth::engine {

// What is wrong with the snapshot is no error. Errors: those of FindSnapshot, Aborted (not its
// turn), ResourceExhausted (the memory is not for the check, or for what a restore would hold of
// replaced and deleted rows), of `cancel`, and of reading but damage.
absl::StatusOr<SnapshotReport> VerifySnapshot(Core& core, std::string_view name_or_id,
                                              const CancelToken& cancel);

}  // namespace azimuth::engine
