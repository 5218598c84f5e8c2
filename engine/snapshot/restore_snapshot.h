// The restore of a collection into an open database, under its own or another name, while
// everything goes on.
//
// All of the snapshot is checked before anything is touched. Its rows fill a row store that no
// catalog names, its segment files become files of this directory; then one commit makes it a
// collection, searchable at once. Until then nobody sees anything, and after a failure nothing is
// left: a row store that is being filled is marked (storage/snapshot_folder.h), so that a start
// removes it, if a full disk has kept the server from it until then.
// Thread safety: any thread; takes its turn. RecoverRestores: before the core serves.
// ClearUpRestores: the maintenance.
#pragma once

#include "base/deadline.h"
#include "engine/core.h"
#include "engine/snapshot/snapshot_info.h"

#include "absl/status/statusor.h"

#include <string>

namespace azimuth::engine {

// Errors: those of FindSnapshot and SnapshotSource::Open; AlreadyExists (the target, without
// `overwrite`), InvalidArgument (its name), ResourceExhausted (room on the disk or in memory, too
// many collections), Aborted (not its turn), those of commits.
absl::StatusOr<RestoreResult> RestoreSnapshot(Core& core, const RestoreSpec& spec,
                                              const CancelToken& cancel);

// The same from the folder of a snapshot, wherever it lies; `spec.snapshot` is not looked at.
absl::StatusOr<RestoreResult> RestoreFolder(Core& core, const std::string& folder,
                                            const RestoreSpec& spec, const CancelToken& cancel);

// Tries again to remove what failed restores have left, which a full disk has kept them from.
void ClearUpRestores(Core& core);

// At start, when the catalog is known: removes what restores and snapshots have left that were not
// finished. Errors are logged: what stays takes room and nothing else.
void RecoverRestores(Core& core);

}  // namespace azimuth::engine
