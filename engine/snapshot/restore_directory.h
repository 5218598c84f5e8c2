// The restore of a snapshot into a data directory of its own, by `azimuthd restore`, without a
// server: all of a snapshot of the whole store, or the one collection of another.
//
// All of the snapshot is checked first. The directory is then made under RESTORING/ in its place
// and moved up at the end, FORMAT last: until then it is no data directory, and no server opens it;
// a restore that is repeated begins anew. It shares no file with the snapshot, and its history has
// another incarnation.
// The directory is locked meanwhile, as a server locks it.
// Thread safety: functions only.
#pragma once

#include "base/deadline.h"
#include "engine/database.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <string>
#include <vector>

namespace azimuth::engine {

struct DirectoryRestore {
  SnapshotInfo snapshot;
  uint64_t collections = 0;
  // Segment files that were bad or missing, which a start builds again; counters and ids that were
  // wrong, which were put right; remembered requests that cannot be read, which a start forgets;
  // and row stores that no collection names, which were left out.
  std::vector<std::string> warnings;
};

// From the folder of a snapshot into options.data_dir, which is missing, empty, or left by a
// restore that was not finished (else FailedPrecondition). Errors: those of SnapshotSource::Open,
// ResourceExhausted (no room, looked for first), those of files.
absl::StatusOr<DirectoryRestore> RestoreDirectory(const std::string& folder,
                                                  const DatabaseOptions& options,
                                                  const CancelToken& cancel);

}  // namespace azimuth::engine
