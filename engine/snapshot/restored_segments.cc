#include "engine/snapshot/restored_segments.h"

#include "base/failpoint.h"
#include "base/logging.h"
#include "base/status.h"
#include "engine/row_loader.h"
#include "engine/segment/replace_commit.h"
#include "storage/segment_copy.h"

#include <algorithm>
#include <utility>

namespace azimuth::engine {
namespace {

// The file says something of itself that is not right. All else says nothing about it.
bool IsBadFile(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsFailedPrecondition(status);
}

}  // namespace

absl::Status RestoredSegments::Make() {
  AZ_RETURN_IF_ERROR(CopyFiles());
  return LoadRest();
}

absl::Status RestoredSegments::CopyFiles() {
  for (const storage::SnapshotFile& file : source_.segments()) {
    AZ_FAILPOINT(kRestoreMidFiles);
    const auto copied = CopyFile(file);
    if (copied.ok()) {
      sealed_.push_back(*copied);
    } else if (IsBadFile(copied.status())) {
      warnings_.emplace_back(copied.status().message());
      LogWarning("a restore leaves out a segment file: %s", warnings_.back());
    } else {
      return copied.status();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<SealedSegment>> RestoredSegments::CopyFile(
    const storage::SnapshotFile& file) {
  const SegmentId id{core_.next_segment.fetch_add(1)};
  const std::string path = core_.dir.segment_path(id);
  AZ_ASSIGN_OR_RETURN(
      const storage::SegmentEntry entry,
      storage::CopySegmentFile(source_.folder(), file, path, id, collection_.row_store,
                               core_.dir.instance(), core_.files(), cancel_,
                               [this] { return core_.disk->AdmitWrite(); }));
  absl::StatusOr<std::shared_ptr<SealedSegment>> segment =
      SealedSegment::Open(path, collection_.schema, entry, core_.dir.instance(), core_.files());
  absl::Status status = segment.status();
  // What it says was compared with the rows when the source was opened.
  if (status.ok()) status = (*segment)->Verify(cancel_);
  if (!status.ok()) {
    storage::RemoveFile(path, core_.files()).IgnoreError();  // Else the next start does it.
    return AtPlace(file.name, status);
  }
  entries_.push_back(entry);
  return segment;
}

// As at a start: the rows that no file covers.
absl::Status RestoredSegments::LoadRest() {
  std::sort(sealed_.begin(), sealed_.end(),
            [](const auto& a, const auto& b) { return a->rows().first < b->rows().first; });
  SegmentSet set;
  RowId covered_to{};
  const auto load_up_to = [&](RowId end, bool is_last) -> absl::Status {
    if (covered_to >= end) return absl::OkStatus();
    const auto on_file = [&](const storage::SegmentEntry& entry) {
      entries_.push_back(entry);
      return absl::OkStatus();
    };
    RowLoader loader(core_, collection_, {covered_to, end}, RowLoader::Form::kMemoryFirst,
                     RowsInMemory(set.segments), on_file, cancel_);
    AZ_RETURN_IF_ERROR(loader.Load());
    AZ_RETURN_IF_ERROR(loader.Close(/*keep_growing=*/is_last));
    if (loader.damaged() > 0) return DataLoss("rows that were just written cannot be read");
    if (is_last) collection_.growing = loader.growing();
    set.segments.insert(set.segments.end(), loader.segments().begin(), loader.segments().end());
    return absl::OkStatus();
  };
  for (const auto& segment : sealed_) {
    AZ_RETURN_IF_ERROR(load_up_to(segment->rows().first, false));
    set.segments.push_back(segment);
    covered_to = segment->rows().end;
  }
  AZ_RETURN_IF_ERROR(load_up_to(collection_.next_row, true));
  for (const auto& segment : set.segments) {
    MarkRetiredRows(collection_.retired, *segment);
    collection_.next_sweep_us =
        std::min(collection_.next_sweep_us.load(), segment->earliest_expiry());
  }
  collection_.unindexed_rows = RowsInMemory(set.segments);
  collection_.SetSegments(std::move(set), core_.views);
  return absl::OkStatus();
}

}  // namespace azimuth::engine
