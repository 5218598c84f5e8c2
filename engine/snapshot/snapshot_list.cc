#include "engine/snapshot/snapshot_list.h"

#include "base/status.h"
#include "engine/schema.h"
#include "storage/file.h"
#include "storage/snapshot_folder.h"

#include "absl/strings/str_replace.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr std::string_view kPlace = "snapshot";
// The beginning of the year 1, and the end of 9999.
constexpr int64_t kTimeMin = -62'135'596'800'000'000;
constexpr int64_t kTimeMax = 253'402'300'799'999'999;

absl::Status CheckManifest(const storage::SnapshotManifest& manifest) {
  AZ_RETURN_IF_ERROR(CheckSnapshotName(manifest.name));
  const bool of_collection = manifest.kind == storage::SnapshotKind::kCollection;
  if (of_collection) AZ_RETURN_IF_ERROR(CheckCollectionName(manifest.collection));
  for (const int64_t time : {manifest.created_unix_us, manifest.collection_created_unix_us}) {
    if (!IsCalendarTime(time)) return DataLoss("the time %d is out of range", time);
  }
  if (manifest.live_rows > storage::kSnapshotRowIdMax) {
    return DataLoss("%d rows are out of range", manifest.live_rows);
  }
  return absl::OkStatus();
}

absl::StatusOr<SnapshotInfo> Inspect(const Core& core, const std::string& id) {
  const std::string folder = core.snapshots.PathOf(id);
  AZ_ASSIGN_OR_RETURN(const storage::SnapshotManifest manifest, ReadManifest(folder, core.files()));
  AZ_RETURN_IF_ERROR(storage::CheckSnapshotFiles(folder, manifest, core.files()));
  return InfoOf(id, manifest);
}

}  // namespace

absl::Status CheckSnapshotName(std::string_view name) {
  if (!CheckCollectionName(name).ok()) {
    return InvalidArgument(
        "%s is no name for a snapshot; allowed are 1 to 255 of A-Z a-z 0-9 _ -, the first one a "
        "letter or _",
        Quoted(name));
  }
  if (storage::SnapshotFolders::IsId(name)) {
    return InvalidArgument("%s is no name for a snapshot: it could be an id", Quoted(name));
  }
  return absl::OkStatus();
}

bool IsCalendarTime(int64_t unix_us) {
  return unix_us >= kTimeMin && unix_us <= kTimeMax;
}

absl::StatusOr<storage::SnapshotManifest> ReadManifest(const std::string& folder,
                                                       storage::Files& files) {
  AZ_ASSIGN_OR_RETURN(const storage::FileKind kind, files.KindOf(folder));
  if (kind != storage::FileKind::kDirectory) {
    return InvalidArgument("%s: it is not a folder", folder);
  }
  AZ_ASSIGN_OR_RETURN(storage::SnapshotManifest manifest,
                      storage::ReadSnapshotManifest(folder, files));
  const absl::Status status = CheckManifest(manifest);
  if (status.ok()) return manifest;
  return DataLoss("%s/%s: %s", folder, storage::kSnapshotManifestName,
                  std::string(status.message()));
}

SnapshotInfo InfoOf(std::string id, const storage::SnapshotManifest& manifest) {
  SnapshotInfo info;
  info.id = std::move(id);
  info.name = manifest.name;
  info.collection = manifest.collection;
  info.as_of = manifest.as_of;
  info.incarnation = manifest.incarnation;
  info.created_unix_us = manifest.created_unix_us;
  info.bytes = manifest.bytes();
  info.files = manifest.files.size();
  info.rows = manifest.live_rows;
  return info;
}

std::string WithoutPlace(const Core& core, std::string_view text) {
  return absl::StrReplaceAll(ToAbsl(text), {{core.dir.path() + "/", ""}});
}

absl::StatusOr<std::vector<SnapshotInfo>> ListSnapshots(const Core& core,
                                                        std::string_view collection) {
  AZ_ASSIGN_OR_RETURN(const std::vector<std::string> ids, core.snapshots.List());
  std::vector<SnapshotInfo> infos;
  for (const std::string& id : ids) {
    absl::StatusOr<SnapshotInfo> info = Inspect(core, id);
    if (!info.ok()) {
      // Removed meanwhile.
      if (absl::IsNotFound(core.files().KindOf(core.snapshots.PathOf(id)).status())) continue;
      SnapshotInfo damaged;
      damaged.id = id;
      damaged.problem = WithoutPlace(core, ToStd(info.status().message()));
      infos.push_back(std::move(damaged));
    } else if (collection.empty() || info->collection == collection) {
      infos.push_back(*std::move(info));
    }
  }
  std::sort(infos.begin(), infos.end(), [](const SnapshotInfo& a, const SnapshotInfo& b) {
    return std::make_tuple(!a.problem.empty(), a.created_unix_us, a.id) <
           std::make_tuple(!b.problem.empty(), b.created_unix_us, b.id);
  });
  return infos;
}

absl::StatusOr<std::string> FindSnapshot(const Core& core, std::string_view name_or_id) {
  const bool is_id = storage::SnapshotFolders::IsId(name_or_id);
  if (!is_id) {
    const absl::Status status = CheckSnapshotName(name_or_id);
    if (!status.ok()) return AtPlace(kPlace, status);
  }
  AZ_ASSIGN_OR_RETURN(const std::vector<SnapshotInfo> infos, ListSnapshots(core, ""));
  std::vector<std::string> found;
  for (const SnapshotInfo& info : infos) {
    if (is_id ? info.id == name_or_id : info.name == name_or_id) found.push_back(info.id);
  }
  if (found.size() == 1) return found.front();
  if (!found.empty()) {
    return FailedPrecondition("snapshot: %d snapshots have the name %s; say which by its id: %s",
                              found.size(), Quoted(name_or_id), found.front());
  }
  return NotFound("snapshot %s does not exist", Quoted(name_or_id));
}

absl::Status RemoveSnapshot(Core& core, std::string_view name_or_id) {
  AZ_RETURN_IF_ERROR(FindSnapshot(core, name_or_id).status());
  SnapshotTurns::Turn turn(core.snapshot_turns);
  AZ_RETURN_IF_ERROR(turn.Take("a snapshot is being removed"));
  AZ_ASSIGN_OR_RETURN(const std::string id, FindSnapshot(core, name_or_id));
  // What is left of an earlier one under this name would be in the way.
  AZ_RETURN_IF_ERROR(core.snapshots.RemoveUnfinished());
  return core.snapshots.Remove(id);
}

}  // namespace azimuth::engine
