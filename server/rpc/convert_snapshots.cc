#include "server/rpc/convert_snapshots.h"

#include "base/ids.h"

namespace azimuth::server {

void ToWire(const engine::SnapshotInfo& info, pb::SnapshotInfo& out) {
  out.set_id(info.id);
  out.set_name(info.name);
  out.set_collection(info.collection);
  out.set_as_of(Raw(info.as_of));
  out.set_incarnation(info.incarnation);
  out.set_created_unix_us(info.created_unix_us);
  out.set_bytes(info.bytes);
  out.set_files(info.files);
  out.set_rows(info.rows);
  out.set_problem(info.problem);
}

void ToWire(const engine::SnapshotReport& report, pb::VerifySnapshotResponse& out) {
  ToWire(report.info, *out.mutable_snapshot());
  out.set_sound(report.problems.empty());
  out.set_restorable(report.restorable);
  for (const std::string& problem : report.problems) out.add_problems(problem);
  out.set_bytes_read(report.bytes_read);
  out.set_rows(report.rows);
  out.set_keys(report.keys);
  out.set_vectors(report.vectors);
}

void ToWire(const engine::RestoreResult& result, pb::RestoreSnapshotResponse& out) {
  out.set_collection(result.collection);
  out.set_collection_id(Raw(result.id));
  out.set_rows(result.rows);
  out.set_as_of(Raw(result.as_of));
  for (const std::string& warning : result.warnings) out.add_warnings(warning);
}

engine::RestoreSpec FromWire(const pb::RestoreSnapshotRequest& request) {
  return {.snapshot = request.snapshot(),
          .collection = request.collection(),
          .target = request.target_name(),
          .overwrite = request.overwrite()};
}

}  // namespace azimuth::server
