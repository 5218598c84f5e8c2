#include "engine/snapshot/restore_snapshot.h"

#include "base/failpoint.h"
#include "base/logging.h"
#include "base/status.h"
#include "engine/maintenance.h"
#include "engine/segment/build_job.h"
#include "engine/snapshot/restore_commit.h"
#include "engine/snapshot/restored_segments.h"
#include "engine/snapshot/snapshot_list.h"
#include "engine/snapshot/snapshot_source.h"
#include "engine/write/ddl_commit.h"
#include "storage/file.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

constexpr std::string_view kTurn = "a snapshot is being restored";
// Rows that are taken in at once: commits wait meanwhile.
constexpr uint64_t kTableBytes = uint64_t{16} << 20;
// Rows take that much of the disk for each byte: in tables, and where those are merged.
constexpr uint64_t kDiskFactor = 2;

void Unmark(const Core& core, RowStoreId row_store) {
  const absl::Status status = core.snapshots.Unmark(row_store);
  if (!status.ok() && !absl::IsNotFound(status)) {
    LogWarning("the mark of a restore stays until the next start: %s",
               std::string(status.message()));
  }
}

// Of a restore that failed. First the commit: if it is not known whether the collection was adopted
// (the disk was full), a log that takes this one has left that behind.
absl::Status Remove(Core& core, const RestoreRemains& remains) {
  GiveUpCommit commit(remains.row_store);
  AZ_RETURN_IF_ERROR(core.queue.Run(commit, CancelToken()).status());
  for (const SegmentId id : remains.segments) {
    // Else the next start does it.
    storage::RemoveFile(core.dir.segment_path(id), core.files()).IgnoreError();
  }
  Unmark(core, remains.row_store);
  return absl::OkStatus();
}

class Restore final {
 public:
  Restore(Core& core, const SnapshotSource& source, std::string target, bool overwrite,
          const CancelToken& cancel)
      : core_(core),
        source_(source),
        target_(std::move(target)),
        overwrite_(overwrite),
        cancel_(cancel) {}

  absl::StatusOr<RestoreResult> Run() {
    AZ_RETURN_IF_ERROR(CheckRoom());
    ReserveCommit reserve(core_, target_, overwrite_);
    AZ_RETURN_IF_ERROR(core_.queue.Run(reserve, cancel_).status());
    row_store_ = reserve.row_store();
    core_.snapshot_turns.NoteFilled(row_store_);
    absl::Status status = core_.snapshots.Prepare();
    if (status.ok()) status = core_.snapshots.Mark(row_store_);
    if (!status.ok()) return status;
    status = Fill(reserve.id());
    if (!status.ok()) {
      GiveUp();
      return status;
    }
    AZ_FAILPOINT_VISIT(kRestoreBeforeClear);
    Unmark(core_, row_store_);
    NoteActive(core_, collection_, INT64_MAX);
    ScheduleBuild(core_, collection_);
    return std::move(result_);
  }

 private:
  absl::Status CheckRoom() const;
  absl::Status Fill(CollectionId id);
  absl::Status FillRows();
  absl::Status Put(storage::RowEntryKind kind, std::string_view key, std::string_view value,
                   std::vector<float>& vector, storage::RowTables& tables) const;
  absl::Status Adopt();
  void GiveUp();

  Core& core_;
  const SnapshotSource& source_;
  const std::string target_;
  const bool overwrite_;
  const CancelToken& cancel_;
  RowStoreId row_store_{};
  std::shared_ptr<Collection> collection_;
  std::unique_ptr<RestoredSegments> segments_;
  RestoreResult result_;
};

absl::Status Restore::CheckRoom() const {
  AZ_RETURN_IF_ERROR(core_.durability->CheckWritable());
  AZ_RETURN_IF_ERROR(core_.disk->AdmitWrite());
  uint64_t bytes = source_.entry_bytes() * kDiskFactor;
  for (const storage::SnapshotFile& file : source_.segments()) bytes += file.bytes;
  AZ_ASSIGN_OR_RETURN(const storage::DiskSpace space, core_.files().Space(core_.dir.path()));
  const uint64_t floor = core_.disk->info().floor_bytes;
  if (space.free_bytes < floor || space.free_bytes - floor < bytes) {
    return ResourceExhausted(
        "the restore takes about %d bytes of the disk; %d are free, and %d of them stay so; "
        "outcome: not_applied",
        bytes, space.free_bytes, floor);
  }
  return CheckRetiredBytes(source_.entries().retired_bytes(), core_.memory);
}

absl::Status Restore::Fill(CollectionId id) {
  AZ_FAILPOINT(kRestoreAfterReserve);
  AZ_RETURN_IF_ERROR(FillRows());
  collection_ = std::make_shared<Collection>(id, target_, row_store_, source_.schema(),
                                             source_.created_unix_us(), kSeqZero);
  collection_->next_row = source_.next_row();
  collection_->live_rows.store(source_.entries().live_rows());
  for (const auto& [row, seq] : source_.entries().retired()) collection_->retired.Retire(row, seq);
  segments_ = std::make_unique<RestoredSegments>(core_, source_, *collection_, cancel_);
  AZ_RETURN_IF_ERROR(segments_->Make());
  return Adopt();
}

// By tables, past the log. They are synced when they are taken in.
absl::Status Restore::FillRows() {
  std::unique_ptr<storage::RowTables> tables = core_.store->NewRowTables();
  const auto take_in = [&]() -> absl::Status {
    AZ_FAILPOINT(kRestoreMidRows);
    AZ_RETURN_IF_ERROR(core_.durability->CheckWritable());
    AZ_RETURN_IF_ERROR(core_.disk->AdmitWrite());
    AZ_RETURN_IF_ERROR(tables->Finish());
    const absl::Status status = core_.store->TakeIn(*tables);
    if (!status.ok()) core_.durability->Fail(status);
    tables = core_.store->NewRowTables();
    return status;
  };
  std::vector<float> vector;
  const absl::Status scanned = source_.Scan(
      [&](storage::RowEntryKind kind, std::string_view key,
          std::string_view value) -> absl::Status {
        AZ_RETURN_IF_ERROR(Put(kind, key, value, vector, *tables));
        return tables->byte_size() < kTableBytes ? absl::OkStatus() : take_in();
      },
      cancel_);
  AZ_RETURN_IF_ERROR(scanned);
  return tables->empty() ? absl::OkStatus() : take_in();
}

absl::Status Restore::Put(storage::RowEntryKind kind, std::string_view key, std::string_view value,
                          std::vector<float>& vector, storage::RowTables& tables) const {
  switch (kind) {
    case storage::RowEntryKind::kRow: {
      AZ_ASSIGN_OR_RETURN(const RowId row, storage::ParseRowEntryKey(key));
      tables.PutEncodedRow(row_store_, row, value);
      break;
    }
    case storage::RowEntryKind::kVector: {
      AZ_ASSIGN_OR_RETURN(const storage::VectorEntryKey parsed, storage::ParseVectorEntryKey(key));
      vector.resize(value.size() / sizeof(float));
      std::memcpy(vector.data(), value.data(), vector.size() * sizeof(float));
      tables.PutVector(row_store_, parsed.field, parsed.row, vector);
      break;
    }
    case storage::RowEntryKind::kKey: {
      AZ_ASSIGN_OR_RETURN(const Key parsed, storage::ParseKeyEntryKey(key));
      AZ_ASSIGN_OR_RETURN(const storage::KeyEntry entry, storage::ParseKeyEntryValue(value));
      tables.PutKey(row_store_, parsed, entry);
      break;
    }
    case storage::RowEntryKind::kRetired: {
      AZ_ASSIGN_OR_RETURN(const RowId row, storage::ParseRowEntryKey(key));
      AZ_ASSIGN_OR_RETURN(const Seq seq, storage::ParseRetiredValue(value));
      tables.PutRetired(row_store_, row, seq);
      break;
    }
  }
  return absl::OkStatus();
}

absl::Status Restore::Adopt() {
  AZ_FAILPOINT(kRestoreBeforeCatalog);
  const storage::CollectionEntry entry{.id = collection_->id,
                                       .row_store = row_store_,
                                       .database = std::string(kDefaultDatabase),
                                       .name = target_,
                                       .created_unix_us = collection_->created_unix_us,
                                       .definition = EncodeSchema(collection_->schema)};
  AdoptCommit adopt(core_, collection_, entry, segments_->entries(), source_.manifest().as_of,
                    overwrite_);
  AZ_ASSIGN_OR_RETURN(result_.as_of, core_.queue.Run(adopt, cancel_));
  result_.collection = target_;
  result_.id = collection_->id;
  result_.rows = source_.entries().live_rows();
  for (const BadSegment& bad : source_.bad_segments()) result_.warnings.push_back(bad.why);
  result_.warnings.insert(result_.warnings.end(), segments_->warnings().begin(),
                          segments_->warnings().end());
  return absl::OkStatus();
}

// What this does not come to is tried again, or left to the next start, which finds the mark, and
// files that no catalog names.
void Restore::GiveUp() {
  RestoreRemains remains{.row_store = row_store_, .segments = {}};
  if (segments_ != nullptr) {
    for (const storage::SegmentEntry& entry : segments_->entries()) {
      remains.segments.push_back(entry.id);
    }
  }
  const absl::Status status = Remove(core_, remains);
  if (status.ok()) return;
  LogWarning("what a restore has written stays for now: %s", std::string(status.message()));
  core_.snapshot_turns.NoteRemains(std::move(remains));
}

// What is wrong with a request before the snapshot is looked at.
absl::Status CheckSpec(const Core& core, const RestoreSpec& spec) {
  for (const auto& [place, name] : {std::pair("collection", std::string_view(spec.collection)),
                                    std::pair("target_name", std::string_view(spec.target))}) {
    const absl::Status status = name.empty() ? absl::OkStatus() : CheckCollectionName(name);
    if (!status.ok()) return AtPlace(place, status);
  }
  return core.durability->CheckWritable();
}

// It is the caller's turn.
absl::StatusOr<RestoreResult> RestoreInTurn(Core& core, const std::string& folder,
                                            const RestoreSpec& spec, const CancelToken& cancel) {
  // Before all of it is read in vain. The commits look again.
  std::string target = spec.target.empty() ? spec.collection : spec.target;
  if (target.empty()) {
    AZ_ASSIGN_OR_RETURN(const storage::SnapshotManifest manifest,
                        ReadManifest(folder, core.files()));
    target = manifest.collection;
  }
  if (!spec.overwrite && !target.empty() && core.FindCollection(target).ok()) {
    return AlreadyExists(
        "collection %s already exists; restore it under another name, or with overwrite",
        Quoted(target));
  }
  AZ_ASSIGN_OR_RETURN(const auto source,
                      SnapshotSource::Open(folder, spec.collection, core.files(),
                                           /*compared=*/nullptr, core.memory, cancel));
  return Restore(core, *source, target, spec.overwrite, cancel).Run();
}

}  // namespace

absl::StatusOr<RestoreResult> RestoreSnapshot(Core& core, const RestoreSpec& spec,
                                              const CancelToken& cancel) {
  AZ_RETURN_IF_ERROR(FindSnapshot(core, spec.snapshot).status());
  AZ_RETURN_IF_ERROR(CheckSpec(core, spec));
  SnapshotTurns::Turn turn(core.snapshot_turns);
  AZ_RETURN_IF_ERROR(turn.Take(kTurn));
  // Again: until now it may have been deleted, and another one made under its name.
  AZ_ASSIGN_OR_RETURN(const std::string id, FindSnapshot(core, spec.snapshot));
  auto result = RestoreInTurn(core, core.snapshots.PathOf(id), spec, cancel);
  if (!result.ok()) return WithoutPlace(core, result.status());
  for (std::string& warning : result->warnings) warning = WithoutPlace(core, warning);
  return result;
}

absl::StatusOr<RestoreResult> RestoreFolder(Core& core, const std::string& folder,
                                            const RestoreSpec& spec, const CancelToken& cancel) {
  AZ_RETURN_IF_ERROR(CheckSpec(core, spec));
  SnapshotTurns::Turn turn(core.snapshot_turns);
  AZ_RETURN_IF_ERROR(turn.Take(kTurn));
  return RestoreInTurn(core, folder, spec, cancel);
}

// However full the disk is: it is a delete, which makes room.
void ClearUpRestores(Core& core) {
  for (RestoreRemains& remains : core.snapshot_turns.TakeRemains()) {
    if (!Remove(core, remains).ok()) core.snapshot_turns.NoteRemains(std::move(remains));
  }
}

void RecoverRestores(Core& core) {
  if (!core.durability->CheckWritable().ok()) return;
  const auto work = [&]() -> absl::Status {
    AZ_RETURN_IF_ERROR(core.snapshots.RemoveUnfinished());
    AZ_ASSIGN_OR_RETURN(const std::vector<RowStoreId> marked, core.snapshots.Marked());
    const std::vector<std::shared_ptr<Collection>> collections = core.AllCollections();
    for (const RowStoreId row_store : marked) {
      const bool adopted =
          std::any_of(collections.begin(), collections.end(),
                      [&](const auto& collection) { return collection->row_store == row_store; });
      if (!adopted) {
        LogInfo("removing row store %d: its restore was not finished", Raw(row_store));
        storage::CommitBatch batch;
        batch.DeleteRowStore(row_store);
        AZ_RETURN_IF_ERROR(core.store->Commit(batch, /*sync=*/true));
      }
      AZ_FAILPOINT(kRestoreBeforeClear);
      AZ_RETURN_IF_ERROR(core.snapshots.Unmark(row_store));
    }
    // Readers see the store without them.
    if (!marked.empty()) core.views.Publish(core.views.published(), core.store->TakeSnapshot());
    return absl::OkStatus();
  };
  if (const absl::Status status = work(); !status.ok()) {
    LogWarning("what a restore or a snapshot has left stays until the next start: %s",
               std::string(status.message()));
  }
}

}  // namespace azimuth::engine
