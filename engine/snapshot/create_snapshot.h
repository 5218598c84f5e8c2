// The making of a snapshot, of one collection or of the whole store, while everything goes on.
//
// A reader is pinned while the segment files get second names; after that nothing is held but a
// snapshot of RocksDB (of a collection), or RocksDB's own checkpoint (of the store).
// Thread safety: any thread; takes its turn.
#pragma once

#include "base/deadline.h"
#include "engine/core.h"
#include "engine/snapshot/snapshot_info.h"

#include "absl/status/statusor.h"

#include <string_view>

namespace azimuth::engine {

// `collection` empty: the whole store. `name` empty: one with the time in it. Errors: NotFound,
// AlreadyExists (the name), InvalidArgument, Aborted (not its turn), ResourceExhausted (the disk),
// those of Durability::CheckWritable, DataLoss (rows that cannot be read); then nothing is left.
absl::StatusOr<SnapshotInfo> CreateSnapshot(Core& core, std::string_view collection,
                                            std::string_view name, const CancelToken& cancel);

}  // namespace azimuth::engine
