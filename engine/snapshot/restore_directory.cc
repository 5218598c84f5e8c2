#include "engine/snapshot/restore_directory.h"

#include "base/failpoint.h"
#include "base/status.h"
#include "engine/memory_budget.h"
#include "engine/snapshot/check_store.h"
#include "engine/snapshot/snapshot_list.h"
#include "storage/data_dir.h"
#include "storage/file.h"
#include "storage/snapshot_folder.h"
#include "storage/watermark.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace azimuth::engine {
namespace {

// Where the parts lie until they are whole.
constexpr std::string_view kUnfinished = "RESTORING";
// Of a data directory, in the order in which they are moved up.
constexpr std::string_view kParts[] = {"rocks", "segments", "quarantine", "WATERMARK", "FORMAT"};
// Rows take that much more than their snapshot: tables and log.
constexpr uint64_t kDiskFactor = 2;

class DirectoryRestorer final {
 public:
  DirectoryRestorer(std::string folder, const DatabaseOptions& options, const CancelToken& cancel)
      : folder_(std::move(folder)),
        options_(options),
        files_(options.files != nullptr ? *options.files : storage::Files::Posix()),
        cancel_(cancel),
        memory_(options.memory_bytes > 0 ? options.memory_bytes : MemoryBudget::DefaultTotal()),
        target_(options.data_dir),
        made_(absl::StrCat(options.data_dir, "/", ToAbsl(kUnfinished))) {}

  absl::StatusOr<DirectoryRestore> Run() {
    AZ_RETURN_IF_ERROR(CheckTarget());
    was_there_ = there_;
    if (!there_) AZ_RETURN_IF_ERROR(files_.MakeDir(target_));
    absl::StatusOr<std::unique_ptr<storage::FileLock>> lock = files_.Lock(Target("LOCK"));
    absl::Status status = lock.status();
    // Again: a server or another restore may have been faster, and only now nobody is.
    if (status.ok()) status = CheckTarget();
    if (!status.ok()) return status;
    status = CheckSnapshot();
    if (status.ok()) status = CheckRoom();
    if (status.ok()) {
      status = Begin();
      if (status.ok()) status = Make();
      // The first error is the one to tell; what stays the next restore removes.
      if (!status.ok()) Clear().IgnoreError();
    }
    if (!status.ok()) {
      if (!unfinished_) files_.Remove(Target("LOCK")).IgnoreError();
      if (!was_there_) files_.RemoveDir(target_).IgnoreError();
      return status;
    }
    result_.snapshot = InfoOf("", manifest_);
    return std::move(result_);
  }

 private:
  absl::Status CheckTarget();
  absl::Status CheckSnapshot();
  absl::Status CheckStore(const BadFiles& told);
  absl::Status CheckRoom() const;
  absl::Status Begin();
  absl::Status Clear();
  absl::Status Make() {
    AZ_RETURN_IF_ERROR(manifest_.kind == storage::SnapshotKind::kStore ? MakeStore()
                                                                       : MakeCollection());
    return MoveUp();
  }
  absl::Status MakeStore();
  absl::Status MakeCollection();
  absl::Status MoveUp();
  std::string Target(std::string_view name) const {
    return absl::StrCat(target_, "/", ToAbsl(name));
  }
  std::string Made(std::string_view name) const { return absl::StrCat(made_, "/", ToAbsl(name)); }

  const std::string folder_;
  const DatabaseOptions& options_;
  storage::Files& files_;
  const CancelToken& cancel_;
  MemoryBudget memory_;
  const std::string target_;
  const std::string made_;
  bool there_ = false;       // The target is.
  bool was_there_ = false;   // Before the restore.
  bool unfinished_ = false;  // An earlier restore has left it.
  storage::SnapshotManifest manifest_;
  std::vector<storage::SnapshotFile> good_;  // Files to be restored from.
  StoreContent content_;                     // Of a snapshot of the whole store.
  DirectoryRestore result_;
};

absl::Status DirectoryRestorer::CheckTarget() {
  const absl::StatusOr<std::vector<std::string>> names = files_.List(target_);
  if (absl::IsNotFound(names.status())) return absl::OkStatus();
  AZ_RETURN_IF_ERROR(names.status());
  there_ = true;
  const auto has = [&](std::string_view name) {
    return std::find(names->begin(), names->end(), name) != names->end();
  };
  unfinished_ = has(kUnfinished) && !has("FORMAT");
  if (unfinished_) return absl::OkStatus();
  for (const std::string& name : *names) {
    // A lock is left by a restore that failed, or ours; the other is in the root of every ext4
    // volume.
    if (name == "LOCK" || name == "lost+found") continue;
    return FailedPrecondition("%s: not empty (it has %s); name an empty or a new directory",
                              target_, Quoted(name));
  }
  return absl::OkStatus();
}

absl::Status DirectoryRestorer::CheckSnapshot() {
  AZ_ASSIGN_OR_RETURN(manifest_, ReadManifest(folder_, files_));
  storage::SnapshotManifest needed = manifest_;
  std::erase_if(needed.files,
                [](const storage::SnapshotFile& file) { return file.name.ends_with(".seg"); });
  AZ_RETURN_IF_ERROR(storage::CheckSnapshotFiles(folder_, needed, files_));
  BadFiles told;
  for (const storage::SnapshotFile& file : manifest_.files) {
    const absl::Status status = storage::VerifySnapshotFile(folder_, file, files_, cancel_);
    // What is wrong with a segment file costs no rows.
    if (absl::IsDataLoss(status) && file.name.ends_with(".seg")) {
      result_.warnings.emplace_back(status.message());
      told.emplace(file.name, status.message());
      continue;
    }
    AZ_RETURN_IF_ERROR(status);
    good_.push_back(file);
  }
  if (manifest_.kind == storage::SnapshotKind::kStore) return CheckStore(told);
  // Its rows are checked, and warnings given again, when they are restored.
  result_.collections = 1;
  return absl::OkStatus();
}

absl::Status DirectoryRestorer::CheckStore(const BadFiles& told) {
  AZ_ASSIGN_OR_RETURN(content_, CheckSnapshotStore(folder_, told, files_, memory_, cancel_));
  result_.collections = content_.collections;
  for (const BadSegment& bad : content_.bad_segments) {
    if (!told.contains(bad.name)) result_.warnings.push_back(bad.why);
  }
  for (const auto* told_of : {&content_.wrong, &content_.left_out}) {
    result_.warnings.insert(result_.warnings.end(), told_of->begin(), told_of->end());
  }
  // Also those that the catalog does not name.
  std::erase_if(good_, [&](const storage::SnapshotFile& file) {
    return file.name.ends_with(".seg") && !content_.segments.contains(file.name);
  });
  return absl::OkStatus();
}

absl::Status DirectoryRestorer::CheckRoom() const {
  uint64_t bytes = 0;
  for (const storage::SnapshotFile& file : good_) {
    bytes += file.name == storage::kSnapshotRowsName ? file.bytes * kDiskFactor : file.bytes;
  }
  AZ_ASSIGN_OR_RETURN(const storage::DiskSpace space,
                      files_.Space(there_ ? target_ : storage::ParentDirectory(target_)));
  if (space.free_bytes >= bytes) return absl::OkStatus();
  return ResourceExhausted("%s: the restore takes about %d bytes of the disk, and %d are free",
                           target_, bytes, space.free_bytes);
}

absl::Status DirectoryRestorer::Begin() {
  AZ_RETURN_IF_ERROR(files_.MakeDir(target_));
  AZ_RETURN_IF_ERROR(files_.SyncDir(storage::ParentDirectory(target_)));
  if (unfinished_) AZ_RETURN_IF_ERROR(Clear());
  AZ_RETURN_IF_ERROR(files_.MakeDir(made_));
  return files_.SyncDir(target_);
}

// FORMAT goes first, and the folder that says that all is unfinished last.
absl::Status DirectoryRestorer::Clear() {
  std::vector<std::string> paths = {made_};
  for (const std::string_view part : kParts) paths.push_back(Target(part));
  for (auto path = paths.rbegin(); path != paths.rend(); ++path) {
    const absl::Status removed = storage::RemoveTree(*path, files_);
    if (!absl::IsNotFound(removed)) AZ_RETURN_IF_ERROR(removed);
  }
  return absl::OkStatus();
}

absl::Status DirectoryRestorer::MakeStore() {
  for (const char* folder : {"rocks", "segments", "quarantine"}) {
    AZ_RETURN_IF_ERROR(files_.MakeDir(Made(folder)));
  }
  for (const storage::SnapshotFile& file : good_) {
    AZ_FAILPOINT(kCopyMidFiles);
    const std::string to =
        file.name.ends_with(".seg") ? Made("segments/" + file.name) : Made(file.name);
    AZ_RETURN_IF_ERROR(storage::CopySnapshotFile(folder_, file, to, {}, files_, cancel_));
  }
  AZ_RETURN_IF_ERROR(PutRight(Made("rocks"), content_, files_));
  for (const char* folder : {"rocks", "segments"}) AZ_RETURN_IF_ERROR(files_.SyncDir(Made(folder)));
  AZ_ASSIGN_OR_RETURN(const auto watermark,
                      storage::Watermark::Open(Made("WATERMARK"), manifest_.instance, files_));
  AZ_RETURN_IF_ERROR(watermark->Reset(manifest_.as_of));
  return storage::WriteFormatOf(manifest_.instance, Made("FORMAT"), files_, options_.random);
}

// The collection becomes that of a database of its own, which is then closed.
absl::Status DirectoryRestorer::MakeCollection() {
  DatabaseOptions options = options_;
  options.data_dir = made_;
  options.ballast_bytes = 0;
  AZ_ASSIGN_OR_RETURN(const auto database, Database::Open(options));
  AZ_FAILPOINT(kCopyMidFiles);
  AZ_ASSIGN_OR_RETURN(RestoreResult restored, database->RestoreFolder(folder_, {}, cancel_));
  result_.warnings = std::move(restored.warnings);
  return database->Close();
}

absl::Status DirectoryRestorer::MoveUp() {
  AZ_RETURN_IF_ERROR(files_.SyncDir(made_));
  for (const std::string_view part : kParts) {
    if (part == "FORMAT") {
      // All else has its name before that.
      AZ_RETURN_IF_ERROR(files_.SyncDir(target_));
      AZ_FAILPOINT(kCopyBeforeFormat);
    }
    AZ_RETURN_IF_ERROR(files_.Rename(Made(part), Target(part)));
  }
  AZ_RETURN_IF_ERROR(files_.SyncDir(target_));
  // It is whole. What is left there (a lock, an empty folder) does no harm.
  storage::RemoveTree(made_, files_).IgnoreError();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DirectoryRestore> RestoreDirectory(const std::string& folder,
                                                  const DatabaseOptions& options,
                                                  const CancelToken& cancel) {
  return DirectoryRestorer(folder, options, cancel).Run();
}

}  // namespace azimuth::engine
