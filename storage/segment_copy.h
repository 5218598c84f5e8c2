// A copy of a segment file of a snapshot, as a segment of this directory.
//
// Thread safety: functions only.
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "storage/file.h"
#include "storage/row.h"
#include "storage/snapshot_folder.h"
#include "storage/snapshot_manifest.h"

#include "absl/status/statusor.h"

#include <string>

namespace azimuth::storage {

// Copies `file` of the snapshot in `folder` to `path`, with another header: its id, row store and
// instance. Published as SegmentWriter does. Returns what a catalog says of it. The sections are
// not looked at: the whole file is compared with the manifest. Errors: DataLoss and
// FailedPrecondition (header), those of CopySnapshotFile; then nothing is left.
absl::StatusOr<SegmentEntry> CopySegmentFile(const std::string& folder, const SnapshotFile& file,
                                             const std::string& path, SegmentId id,
                                             RowStoreId row_store, uint64_t instance, Files& files,
                                             const CancelToken& cancel, const AdmitPiece& admit);

}  // namespace azimuth::storage
