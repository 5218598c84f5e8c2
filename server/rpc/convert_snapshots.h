// Snapshots between the wire and the engine.
//
// Thread safety: free functions.
#pragma once

#include "azimuth/v1/admin.pb.h"
#include "engine/snapshot/snapshot_info.h"
#include "server/rpc/convert_values.h"

namespace azimuth::server {

void ToWire(const engine::SnapshotInfo& info, pb::SnapshotInfo& out);
void ToWire(const engine::SnapshotReport& report, pb::VerifySnapshotResponse& out);
void ToWire(const engine::RestoreResult& result, pb::RestoreSnapshotResponse& out);
engine::RestoreSpec FromWire(const pb::RestoreSnapshotRequest& request);

}  // namespace azimuth::server
