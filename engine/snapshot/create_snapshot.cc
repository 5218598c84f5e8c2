#include "engine/snapshot/create_snapshot.h"

#include "base/logging.h"
#include "base/status.h"
#include "engine/limits.h"
#include "engine/snapshot/snapshot_list.h"
#include "engine/snapshot/snapshot_source.h"
#include "storage/file.h"
#include "storage/row_entries.h"
#include "storage/snapshot_folder.h"
#include "storage/snapshot_manifest.h"
#include "storage/snapshot_rows.h"

#include <algorithm>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using storage::SnapshotKind;
using storage::SnapshotManifest;

// Entries between two looks at the clock and the disk.
constexpr uint64_t kStep = 4096;

// "items-20261231-235959", in UTC.
std::string NameOfTime(std::string_view collection, int64_t unix_us) {
  constexpr size_t kTailBytesMax = 24;
  const auto seconds = static_cast<std::time_t>(unix_us / 1'000'000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  const std::string_view head = collection.empty() ? "store" : collection;
  return absl::StrFormat("%s-%04d%02d%02d-%02d%02d%02d",
                         head.substr(0, kNameBytesMax - kTailBytesMax), utc.tm_year + 1900,
                         utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

class Creation final {
 public:
  Creation(Core& core, const CancelToken& cancel)
      : core_(core), cancel_(cancel), created_unix_us_(core.NowUnixMicros()) {}

  absl::StatusOr<SnapshotInfo> Run(std::string_view collection, std::string_view name) {
    AZ_RETURN_IF_ERROR(core_.snapshots.Prepare());
    AZ_ASSIGN_OR_RETURN(manifest_.name, ChooseName(collection, name));
    AZ_RETURN_IF_ERROR(ChooseId());
    folder_ = core_.snapshots.TemporaryPathOf(id_);
    manifest_.instance = core_.dir.instance();
    manifest_.incarnation = core_.dir.incarnation();
    manifest_.created_unix_us = created_unix_us_;
    absl::Status status = core_.snapshots.Begin(id_);
    if (status.ok()) status = collection.empty() ? WriteStore() : WriteCollection(collection);
    if (status.ok()) status = Finish();
    if (!status.ok()) {
      // The first error is the one to tell; what stays goes with the next start or snapshot.
      core_.snapshots.RemoveUnfinished().IgnoreError();
      return WithoutPlace(core_, status);
    }
    return InfoOf(id_, manifest_);
  }

 private:
  absl::StatusOr<std::string> ChooseName(std::string_view collection, std::string_view name) const;
  absl::Status ChooseId();
  absl::Status WriteCollection(std::string_view name);
  absl::Status WriteRows(RowStoreId row_store, const storage::ReadSnapshot& snapshot);
  absl::Status WriteStore();
  absl::Status LinkSegments(const std::vector<storage::SegmentEntry>& segments);
  absl::Status AddFile(std::string name);
  absl::Status Finish();
  // Between pieces of the work: a snapshot must not be what fills the disk.
  absl::Status Step() const {
    AZ_RETURN_IF_ERROR(cancel_.Check());
    return core_.disk->AdmitWrite();
  }

  Core& core_;
  const CancelToken& cancel_;
  const int64_t created_unix_us_;
  std::string id_;
  std::string folder_;  // While it is made.
  SnapshotManifest manifest_;
  std::vector<std::string> segments_;  // Names of files that were linked.
};

absl::StatusOr<std::string> Creation::ChooseName(std::string_view collection,
                                                 std::string_view name) const {
  AZ_ASSIGN_OR_RETURN(const std::vector<SnapshotInfo> infos, ListSnapshots(core_, ""));
  const auto taken = [&](std::string_view wanted) {
    return std::any_of(infos.begin(), infos.end(),
                       [&](const SnapshotInfo& info) { return info.name == wanted; });
  };
  if (!name.empty()) {
    if (!taken(name)) return std::string(name);
    return AlreadyExists("snapshot %s already exists", Quoted(name));
  }
  const std::string base = NameOfTime(collection, created_unix_us_);
  std::string chosen = base;
  for (int n = 2; taken(chosen); ++n) chosen = absl::StrCat(base, "-", n);
  return chosen;
}

absl::Status Creation::ChooseId() {
  while (true) {
    id_ = absl::StrFormat("%016x", storage::RandomNumber(core_.options.random));
    const absl::Status there = core_.files().KindOf(core_.snapshots.PathOf(id_)).status();
    if (absl::IsNotFound(there)) return absl::OkStatus();
    AZ_RETURN_IF_ERROR(there);
  }
}

absl::Status Creation::WriteCollection(std::string_view name) {
  std::unique_ptr<storage::ReadSnapshot> snapshot;
  std::optional<storage::CollectionEntry> entry;
  {
    // Before the snapshot of the store: files that its catalog names stay until there are second
    // names for them.
    const ViewRegistry::Pin pin = core_.views.PinNow();
    snapshot = core_.store->TakeSnapshot();
    AZ_ASSIGN_OR_RETURN(manifest_.as_of, core_.store->GetAppliedSeq(snapshot.get()));
    AZ_ASSIGN_OR_RETURN(auto collections, core_.store->ListCollections(snapshot.get()));
    for (storage::CollectionEntry& each : collections) {
      if (each.name == name) entry = std::move(each);
    }
    if (!entry.has_value()) return NotFound("collection %s does not exist", Quoted(name));
    AZ_ASSIGN_OR_RETURN(auto segments, core_.store->ListSegments(snapshot.get()));
    std::erase_if(segments, [&](const storage::SegmentEntry& segment) {
      return segment.row_store != entry->row_store;
    });
    AZ_RETURN_IF_ERROR(LinkSegments(segments));
  }
  AZ_ASSIGN_OR_RETURN(const storage::RowStoreCounters counters,
                      core_.store->GetCounters(entry->row_store, snapshot.get()));
  manifest_.kind = SnapshotKind::kCollection;
  manifest_.live_rows = counters.live_rows;
  manifest_.collection = entry->name;
  manifest_.collection_created_unix_us = entry->created_unix_us;
  manifest_.next_row = counters.next_row;
  manifest_.definition = entry->definition;
  return WriteRows(entry->row_store, *snapshot);
}

absl::Status Creation::WriteRows(RowStoreId row_store, const storage::ReadSnapshot& snapshot) {
  const std::string name(storage::kSnapshotRowsName);
  AZ_ASSIGN_OR_RETURN(const auto writer,
                      storage::SnapshotRowsWriter::Create(absl::StrCat(folder_, "/", name),
                                                          manifest_.as_of, core_.files()));
  uint64_t steps = 0;
  const absl::Status scanned = storage::ScanRowEntries(
      *core_.store, row_store, manifest_.next_row,
      [&](storage::RowEntryKind kind, std::string_view key,
          std::string_view value) -> absl::Status {
        if (++steps % kStep == 0) AZ_RETURN_IF_ERROR(Step());
        return writer->Add(kind, key, value);
      },
      &snapshot);
  AZ_RETURN_IF_ERROR(scanned);
  AZ_RETURN_IF_ERROR(writer->Finish());
  manifest_.files.push_back({.name = name, .bytes = writer->bytes(), .crc = writer->crc()});
  return absl::OkStatus();
}

absl::Status Creation::WriteStore() {
  const std::string folder(storage::kSnapshotRocksFolder);
  const std::string rocks = absl::StrCat(folder_, "/", folder);
  manifest_.kind = SnapshotKind::kStore;
  {
    // Before the checkpoint, for the same reason.
    const ViewRegistry::Pin pin = core_.views.PinNow();
    AZ_RETURN_IF_ERROR(storage::MakeCheckpoint(*core_.store, rocks, core_.files()));
    AZ_ASSIGN_OR_RETURN(const auto copy, OpenSnapshotStore(folder_, core_.files()));
    AZ_ASSIGN_OR_RETURN(manifest_.as_of, copy->GetAppliedSeq());
    AZ_ASSIGN_OR_RETURN(const auto collections, copy->ListCollections());
    for (const storage::CollectionEntry& collection : collections) {
      AZ_ASSIGN_OR_RETURN(const auto counters, copy->GetCounters(collection.row_store));
      manifest_.live_rows += counters.live_rows;
    }
    AZ_ASSIGN_OR_RETURN(const auto segments, copy->ListSegments());
    AZ_RETURN_IF_ERROR(LinkSegments(segments));
  }
  AZ_ASSIGN_OR_RETURN(const auto names, storage::ListDirectory(rocks, core_.files()));
  for (const std::string& name : names) AZ_RETURN_IF_ERROR(AddFile(folder + "/" + name));
  return absl::OkStatus();
}

absl::Status Creation::LinkSegments(const std::vector<storage::SegmentEntry>& segments) {
  for (const storage::SegmentEntry& segment : segments) {
    std::string name = absl::StrFormat("%016x.seg", Raw(segment.id));
    const absl::Status linked =
        storage::LinkOrCopy(core_.dir.segment_path(segment.id), absl::StrCat(folder_, "/", name),
                            core_.files(), cancel_, [this] { return core_.disk->AdmitWrite(); });
    if (absl::IsNotFound(linked)) {
      // Set aside as bad a moment ago; the rows are there.
      LogWarning("a snapshot is made without segment %d: %s", Raw(segment.id),
                 std::string(linked.message()));
      continue;
    }
    AZ_RETURN_IF_ERROR(linked);
    segments_.push_back(std::move(name));
  }
  return absl::OkStatus();
}

absl::Status Creation::AddFile(std::string name) {
  AZ_RETURN_IF_ERROR(Step());
  const std::string path = absl::StrCat(folder_, "/", name);
  AZ_ASSIGN_OR_RETURN(storage::SnapshotFile file,
                      storage::ChecksumOf(path, std::move(name), core_.files(), cancel_));
  manifest_.files.push_back(std::move(file));
  return absl::OkStatus();
}

absl::Status Creation::Finish() {
  for (const std::string& name : segments_) {
    const absl::Status status = AddFile(name);
    if (absl::IsDataLoss(status)) {
      LogWarning("a snapshot is made without a segment file: %s", std::string(status.message()));
      AZ_RETURN_IF_ERROR(storage::RemoveFile(absl::StrCat(folder_, "/", name), core_.files()));
      continue;
    }
    AZ_RETURN_IF_ERROR(status);
  }
  std::sort(manifest_.files.begin(), manifest_.files.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  if (manifest_.files.size() > storage::kSnapshotFilesMax) {
    return ResourceExhausted("the snapshot would have %d files, at most %d are allowed",
                             manifest_.files.size(), storage::kSnapshotFilesMax);
  }
  // It may have commits that were acknowledged before they were synced. They must not be in it and
  // missing from the store after a power failure.
  if (core_.durability->synced() < manifest_.as_of) {
    const absl::Status synced = core_.store->SyncLog();
    if (!synced.ok()) core_.durability->Fail(synced);
    AZ_RETURN_IF_ERROR(synced);
  }
  return core_.snapshots.Publish(id_, manifest_);
}

}  // namespace

absl::StatusOr<SnapshotInfo> CreateSnapshot(Core& core, std::string_view collection,
                                            std::string_view name, const CancelToken& cancel) {
  if (!name.empty()) {
    if (const absl::Status status = CheckSnapshotName(name); !status.ok()) {
      return AtPlace("name", status);
    }
  }
  if (!collection.empty()) AZ_RETURN_IF_ERROR(core.FindCollection(collection).status());
  AZ_RETURN_IF_ERROR(cancel.Check());
  AZ_RETURN_IF_ERROR(core.durability->CheckWritable());
  AZ_RETURN_IF_ERROR(core.disk->AdmitWrite());
  SnapshotTurns::Turn turn(core.snapshot_turns);
  AZ_RETURN_IF_ERROR(turn.Take("a snapshot is being made"));
  return Creation(core, cancel).Run(collection, name);
}

}  // namespace azimuth::engine
