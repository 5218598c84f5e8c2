// Failpoints: named places where a test can make the process die, fail or stop.
//
// One list (AZ_FAILPOINTS) makes the enum, the names and the test that visits all. Armed by the
// environment, AZIMUTH_FAILPOINTS="name=action[@n];...": the action happens at the nth visit
// (default the first). Actions: `kill` (SIGKILL to self), `error` (the place returns Unavailable,
// as a failed write does), `full` (ResourceExhausted, as a full disk does). A test in the same
// process can also set a hook, which runs at every visit: that is how it gets between two steps of
// another operation.
// Compiled out unless AZ_FAILPOINTS_ENABLED is defined (presets dev, asan, tsan).
//
// Thread safety: Arm before threads start, or between their visits; the rest is free.
#pragma once

#include "absl/status/status.h"

#include <functional>
#include <string_view>

#define AZ_FAILPOINTS(X)                                   \
  X(kCommitBeforeLog, "commit.before_log")                 \
  X(kLogBeforeSync, "log.before_sync")                     \
  X(kLogAfterRotate, "log.after_rotate")                   \
  X(kCommitAfterLog, "commit.after_log")                   \
  X(kTablesBeforeTakeIn, "tables.before_take_in")          \
  X(kTablesAfterTakeIn, "tables.after_take_in")            \
  X(kIngestBeforeAck, "ingest.before_ack")                 \
  X(kCommitBeforePublish, "commit.before_publish")         \
  X(kCommitAfterApply, "commit.after_apply")               \
  X(kWatermarkBeforeSync, "watermark.before_sync")         \
  X(kSegmentBeforeBuild, "segment.before_build")           \
  X(kSegmentAfterGather, "segment.after_gather")           \
  X(kSegmentBeforeGraph, "segment.before_graph")           \
  X(kSegmentMidWrite, "segment.mid_write")                 \
  X(kSegmentBeforeRename, "segment.before_rename")         \
  X(kSegmentBeforeDirSync, "segment.before_dir_sync")      \
  X(kSegmentMidDrop, "segment.mid_drop")                   \
  X(kSegmentBeforeCatalog, "segment.before_catalog")       \
  X(kSegmentAfterCatalog, "segment.after_catalog")         \
  X(kSegmentBeforeRemove, "segment.before_remove")         \
  X(kCreateAfterCatalog, "create.after_catalog")           \
  X(kDropAfterCatalog, "drop.after_catalog")               \
  X(kTruncateAfterCatalog, "truncate.after_catalog")       \
  X(kDeleteAfterChoose, "delete.after_choose")             \
  X(kSweepAfterChoose, "sweep.after_choose")               \
  X(kVerifyAfterPin, "verify.after_pin")                   \
  X(kVerifyBeforeVectors, "verify.before_vectors")         \
  X(kReadAfterPin, "read.after_pin")                       \
  X(kReadBeforeFetch, "read.before_fetch")                 \
  X(kUpgradeBeforeFormat, "upgrade.before_format")         \
  X(kUpgradeAfterFormat, "upgrade.after_format")           \
  X(kRecoverBeforeStore, "recover.before_store")           \
  X(kRecoverAfterOpen, "recover.after_open")               \
  X(kRecoverAfterWatermark, "recover.after_watermark")     \
  X(kRecoverMidSegments, "recover.mid_segments")           \
  X(kRecoverMidRows, "recover.mid_rows")                   \
  X(kRecoverBeforeOrphans, "recover.before_orphans")       \
  X(kRecoverBeforeServe, "recover.before_serve")           \
  X(kQuarantineBeforeCatalog, "quarantine.before_catalog") \
  X(kSnapshotBeforeFiles, "snapshot.before_files")         \
  X(kSnapshotMidRows, "snapshot.mid_rows")                 \
  X(kSnapshotBeforeManifest, "snapshot.before_manifest")   \
  X(kSnapshotBeforeRename, "snapshot.before_rename")       \
  X(kSnapshotBeforeDirSync, "snapshot.before_dir_sync")    \
  X(kSnapshotMidDelete, "snapshot.mid_delete")             \
  X(kRestoreAfterReserve, "restore.after_reserve")         \
  X(kRestoreMidRows, "restore.mid_rows")                   \
  X(kRestoreMidFiles, "restore.mid_files")                 \
  X(kRestoreBeforeCatalog, "restore.before_catalog")       \
  X(kRestoreAfterCatalog, "restore.after_catalog")         \
  X(kRestoreBeforeClear, "restore.before_clear")           \
  X(kCopyMidFiles, "copy.mid_files")                       \
  X(kCopyBeforeFormat, "copy.before_format")               \
  X(kCloseBeforeFlush, "close.before_flush")

namespace azimuth {

enum class Failpoint {
#define AZ_FAILPOINT_ENUM(id, name) id,
  AZ_FAILPOINTS(AZ_FAILPOINT_ENUM)
#undef AZ_FAILPOINT_ENUM
      kCount
};

std::string_view FailpointName(Failpoint point);

// Arms from the text form above; an empty text disarms all. InvalidArgument names what is unknown.
absl::Status ArmFailpoints(std::string_view text);

// Runs `hook` at every visit of `point`, on the thread that visits; its status is that of the
// visit. It may itself do what leads to visits. An empty hook ends that; call it before what the
// hook refers to dies. REQUIRES: no visit of `point` runs meanwhile on another thread.
void SetFailpointHook(Failpoint point, std::function<absl::Status()> hook);

// One visit: dies, returns an error, or returns OK.
absl::Status VisitFailpoint(Failpoint point);

}  // namespace azimuth

#ifdef AZ_FAILPOINTS_ENABLED
// Returns the error from the enclosing function (Status or StatusOr) when armed with `error`.
#define AZ_FAILPOINT(point)                                                             \
  do {                                                                                  \
    if (::absl::Status az_fp_ = ::azimuth::VisitFailpoint(::azimuth::Failpoint::point); \
        !az_fp_.ok()) {                                                                 \
      return az_fp_;                                                                    \
    }                                                                                   \
  } while (false)
// The same where no error can be returned: only `kill` does something.
#define AZ_FAILPOINT_VISIT(point) \
  static_cast<void>(::azimuth::VisitFailpoint(::azimuth::Failpoint::point))
#else
#define AZ_FAILPOINT_VISIT(point) static_cast<void>(0)
#define AZ_FAILPOINT(point) static_cast<void>(0)
#endif
