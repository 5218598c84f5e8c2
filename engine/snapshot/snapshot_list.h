// Which snapshots there are, and the removal of one.
//
// Thread safety: functions only; RemoveSnapshot takes its turn.
#pragma once

#include "base/strings.h"
#include "engine/core.h"
#include "engine/snapshot/snapshot_info.h"
#include "storage/file.h"
#include "storage/snapshot_manifest.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine {

// A name of a snapshot: as that of a collection, and not like an id. InvalidArgument.
absl::Status CheckSnapshotName(std::string_view name);

// A time that calendars have: of the years 1 to 9999.
bool IsCalendarTime(int64_t unix_us);

// The manifest in the folder of a snapshot, with names and times that a server would have written;
// others are DataLoss, and get nowhere. Errors: InvalidArgument (it is not a folder), those of
// ReadSnapshotManifest.
absl::StatusOr<storage::SnapshotManifest> ReadManifest(const std::string& folder,
                                                       storage::Files& files);

SnapshotInfo InfoOf(std::string id, const storage::SnapshotManifest& manifest);

// The same without the place of the data directory, which is nobody's business: paths in it begin
// with "snapshots/".
std::string WithoutPlace(const Core& core, std::string_view text);
inline absl::Status WithoutPlace(const Core& core, const absl::Status& status) {
  return status.ok() ? status
                     : absl::Status(status.code(), WithoutPlace(core, ToStd(status.message())));
}

// All of them, the oldest first; those that are damaged with their problem, at the end. With a
// `collection`, those of it and the damaged ones.
absl::StatusOr<std::vector<SnapshotInfo>> ListSnapshots(const Core& core,
                                                        std::string_view collection);

// The id of the snapshot with that id or name. InvalidArgument (neither can look like that),
// NotFound, FailedPrecondition (several have the name: say the id).
absl::StatusOr<std::string> FindSnapshot(const Core& core, std::string_view name_or_id);

// Also one that is damaged, by its id.
absl::Status RemoveSnapshot(Core& core, std::string_view name_or_id);

}  // namespace azimuth::engine
