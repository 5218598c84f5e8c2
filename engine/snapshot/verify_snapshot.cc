#include "engine/snapshot/verify_snapshot.h"

#include "base/status.h"
#include "engine/snapshot/check_entries.h"
#include "engine/snapshot/check_store.h"
#include "engine/snapshot/snapshot_list.h"
#include "engine/snapshot/snapshot_source.h"
#include "storage/snapshot_folder.h"

#include <memory>
#include <string>
#include <utility>

namespace azimuth::engine {
namespace {

// What says that the snapshot is bad, and not that it could not be read now.
bool IsProblem(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsInvalidArgument(status) ||
         absl::IsFailedPrecondition(status) || absl::IsNotFound(status);
}

class Check final {
 public:
  Check(Core& core, std::string folder, const CancelToken& cancel)
      : core_(core), folder_(std::move(folder)), cancel_(cancel) {}

  absl::StatusOr<SnapshotReport> Run(std::string id) {
    report_.info.id = id;
    const auto manifest = ReadManifest(folder_, core_.files());
    AZ_RETURN_IF_ERROR(Note(manifest.status(), /*costs_rows=*/true));
    if (manifest.ok()) {
      report_.info = InfoOf(std::move(id), *manifest);
      for (const storage::SnapshotFile& file : manifest->files) AZ_RETURN_IF_ERROR(CheckFile(file));
      if (report_.restorable) AZ_RETURN_IF_ERROR(CheckContent(*manifest));
    }
    if (!report_.problems.empty()) report_.info.problem = report_.problems.front();
    return std::move(report_);
  }

 private:
  // Takes down a problem; hands up what is none.
  absl::Status Note(const absl::Status& status, bool costs_rows) {
    if (!IsProblem(status)) return status;
    report_.problems.push_back(WithoutPlace(core_, ToStd(status.message())));
    if (costs_rows) report_.restorable = false;
    return absl::OkStatus();
  }

  absl::Status CheckFile(const storage::SnapshotFile& file) {
    const bool is_segment = file.name.ends_with(".seg");
    const absl::Status status = storage::VerifySnapshotFile(folder_, file, core_.files(), cancel_);
    // A link in place of a segment file is no damage by chance: it is not restored from.
    const bool costs_rows = !is_segment || absl::IsInvalidArgument(status);
    if (status.ok()) report_.bytes_read += file.bytes;
    if (!status.ok()) noted_.emplace(file.name, status.message());
    return Note(status, costs_rows);
  }

  absl::Status CheckContent(const storage::SnapshotManifest& manifest) {
    if (manifest.kind == storage::SnapshotKind::kStore) return CheckStore(manifest);
    AZ_ASSIGN_OR_RETURN(const auto source, CheckCollection(""));
    if (source == nullptr) return absl::OkStatus();
    return CheckRoom(source->entries().retired_bytes());
  }

  // An error only where there is nothing else to tell.
  absl::Status CheckRoom(uint64_t retired_bytes) {
    const absl::Status room = CheckRetiredBytes(retired_bytes, core_.memory);
    if (room.ok() || report_.problems.empty()) return room;
    report_.problems.emplace_back(room.message());
    report_.restorable = false;
    return absl::OkStatus();
  }

  absl::Status CheckStore(const storage::SnapshotManifest& manifest) {
    // With files that it does not name RocksDB would read what was not checked.
    AZ_RETURN_IF_ERROR(Note(storage::CheckSnapshotFiles(folder_, manifest, core_.files()),
                            /*costs_rows=*/true));
    if (!report_.restorable) return absl::OkStatus();
    const auto store = OpenSnapshotStore(folder_, core_.files());
    AZ_RETURN_IF_ERROR(Note(store.status(), /*costs_rows=*/true));
    if (!store.ok()) return absl::OkStatus();
    const auto collections = (*store)->ListCollections();
    AZ_RETURN_IF_ERROR(Note(collections.status(), /*costs_rows=*/true));
    if (!collections.ok()) return absl::OkStatus();
    const auto catalog = CheckSnapshotCatalog(**store, *collections, cancel_);
    AZ_RETURN_IF_ERROR(Note(catalog.status(), /*costs_rows=*/true));
    StoreContent content;
    if (catalog.ok()) content = *catalog;
    for (const auto& each : *collections) {
      AZ_ASSIGN_OR_RETURN(const auto source, CheckCollection(each.name));
      if (source == nullptr) continue;
      AZ_RETURN_IF_ERROR(
          Note(AddChecked(**store, each.row_store, *source, content), /*costs_rows=*/true));
    }
    for (const std::string& wrong : content.wrong) {
      AZ_RETURN_IF_ERROR(Note(absl::DataLossError(wrong), /*costs_rows=*/false));
    }
    return CheckRoom(content.retired_bytes);
  }

  // Null if its rows cannot be restored.
  absl::StatusOr<std::unique_ptr<SnapshotSource>> CheckCollection(std::string_view name) {
    auto source =
        SnapshotSource::Open(folder_, name, core_.files(), &noted_, core_.memory, cancel_);
    AZ_RETURN_IF_ERROR(Note(source.status(), /*costs_rows=*/true));
    if (!source.ok()) return nullptr;
    for (const BadSegment& bad : (*source)->bad_segments()) {
      if (!noted_.emplace(bad.name, bad.why).second) continue;
      AZ_RETURN_IF_ERROR(Note(absl::DataLossError(bad.why), /*costs_rows=*/false));
    }
    report_.rows += (*source)->entries().row_count();
    report_.keys += (*source)->entries().live_rows();
    report_.vectors += (*source)->entries().vectors();
    return source;
  }

  Core& core_;
  const std::string folder_;
  const CancelToken& cancel_;
  SnapshotReport report_;
  BadFiles noted_;  // Whose problem was taken down.
};

}  // namespace

absl::StatusOr<SnapshotReport> VerifySnapshot(Core& core, std::string_view name_or_id,
                                              const CancelToken& cancel) {
  AZ_RETURN_IF_ERROR(FindSnapshot(core, name_or_id).status());
  SnapshotTurns::Turn turn(core.snapshot_turns);
  AZ_RETURN_IF_ERROR(turn.Take("a snapshot is being checked"));
  AZ_ASSIGN_OR_RETURN(const std::string id, FindSnapshot(core, name_or_id));
  return Check(core, core.snapshots.PathOf(id), cancel).Run(id);
}

}  // namespace azimuth::engine
