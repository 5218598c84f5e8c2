#include "base/logging.h"
#include "base/mutex.h"
#include "base/status.h"
#include "engine/admin/inspect.h"
#include "engine/admin/verify.h"
#include "storage/data_dir.h"
#include "storage/file.h"
#include "storage/store.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

constexpr std::chrono::milliseconds kPollInterval{20};
// Entries that one commit writes.
constexpr size_t kBatch = 4096;

storage::Files& FilesOf(const DatabaseOptions& options) {
  return options.files != nullptr ? *options.files : storage::Files::Posix();
}

// First aside, then out of the catalog: a start in between finds no file and reads the rows again.
absl::Status TakeOutSegments(const storage::DataDir& dir, storage::Store& store,
                             const RepairPlan& plan, int64_t now_us,
                             std::vector<std::string>& repairs) {
  for (const storage::SegmentEntry& entry : plan.segments) {
    const std::string to =
        absl::StrFormat("%s/%d.%d", dir.quarantine_path(), Raw(entry.id), now_us);
    const absl::Status moved = storage::RenameFile(dir.segment_path(entry.id), to, dir.files());
    if (!moved.ok() && !absl::IsNotFound(moved)) return moved;
    storage::CommitBatch batch;
    batch.DeleteSegment(entry.row_store, entry.id);
    AZ_RETURN_IF_ERROR(store.Commit(batch, /*sync=*/true));
    repairs.push_back(
        absl::StrFormat("segment %d was taken out of the catalog%s", Raw(entry.id),
                        moved.ok() ? absl::StrCat(", its file set aside as ", to) : ""));
  }
  return absl::OkStatus();
}

absl::Status RemoveRetirements(storage::Store& store, const RepairPlan& plan,
                               std::vector<std::string>& repairs) {
  const auto& stray = plan.retirements;
  for (size_t first = 0; first < stray.size(); first += kBatch) {
    storage::CommitBatch batch;
    for (size_t i = first; i < std::min(stray.size(), first + kBatch); ++i) {
      batch.DeleteRetired(stray[i].first, stray[i].second);
    }
    AZ_RETURN_IF_ERROR(store.Commit(batch, /*sync=*/true));
  }
  if (!stray.empty()) {
    repairs.push_back(absl::StrCat(stray.size(), " retirements of dropped rows were removed"));
  }
  return absl::OkStatus();
}

// What is put right before a start. Rows, keys and vectors stay as they are.
absl::Status Apply(const DatabaseOptions& options, const RepairPlan& plan,
                   std::vector<std::string>& repairs) {
  AZ_ASSIGN_OR_RETURN(const storage::DataDir dir,
                      storage::DataDir::Open(options.data_dir, FilesOf(options), options.random));
  storage::StoreOptions store_options;
  store_options.block_cache_bytes = options.block_cache_bytes;
  store_options.write_buffer_bytes = options.write_buffer_bytes;
  store_options.files = &dir.files();
  store_options.merges_tables = false;
  AZ_ASSIGN_OR_RETURN(const auto store, storage::Store::Open(dir.rocks_path(), store_options));
  AZ_RETURN_IF_ERROR(TakeOutSegments(dir, *store, plan, options.clock->NowUnixMicros(), repairs));
  AZ_RETURN_IF_ERROR(RemoveRetirements(*store, plan, repairs));
  if (plan.counters.empty() && !plan.next_ids.has_value()) return absl::OkStatus();
  storage::CommitBatch batch;
  for (const auto& [row_store, counters] : plan.counters) {
    batch.PutCounters(row_store, counters);
    repairs.push_back(absl::StrFormat("row store %d was counted again: %d rows, next row id %d",
                                      Raw(row_store), counters.live_rows, Raw(counters.next_row)));
  }
  if (plan.next_ids.has_value()) {
    batch.PutNextIds(*plan.next_ids);
    repairs.emplace_back("the ids that are next were put past those that there are");
  }
  return store->Commit(batch, /*sync=*/true);
}

// A start does the rest: it removes files that no catalog names, writes the watermark, reads the
// rows that no file has, and builds.
absl::Status Rebuild(DatabaseOptions options, std::vector<std::string>& repairs,
                     const CancelToken& cancel) {
  // What is damaged may be what says that a row was deleted.
  options.keep_rows = true;
  AZ_ASSIGN_OR_RETURN(const auto database, Database::Open(options));
  // Nobody notifies it: builds tell their collection only, which is the database's own.
  Mutex wait_mu;
  CondVar waited;
  for (const CollectionSummary& collection : database->ListCollections()) {
    while (true) {
      AZ_RETURN_IF_ERROR(cancel.Check());
      AZ_RETURN_IF_ERROR(database->CheckWritable());  // Else nothing is built any more.
      AZ_ASSIGN_OR_RETURN(const CollectionStats stats, database->GetStats(collection.name));
      if (stats.unindexed_rows == 0) break;
      if (!stats.index_error.empty()) {
        repairs.push_back(absl::StrFormat("collection %s is not built yet, a start tries again: %s",
                                          Quoted(collection.name), stats.index_error));
        break;
      }
      MutexLock lock(wait_mu);
      waited.WaitUntil(wait_mu, std::chrono::steady_clock::now() + kPollInterval);
    }
  }
  return database->Close();
}

// Without these a start is read-only, or the catalog is not to be trusted.
bool MayRepair(const VerifyReport& report) {
  return std::none_of(report.findings.begin(), report.findings.end(), [](const Finding& finding) {
    return finding.kind == "commits.missing" || finding.kind == "catalog.unreadable";
  });
}

}  // namespace

absl::StatusOr<VerifyReport> RepairDirectory(const DatabaseOptions& options, bool deep,
                                             const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(Inspection before, InspectDirectory(options, deep, cancel));
  if (!MayRepair(before.report)) {
    LogWarning("nothing is repaired while commits are missing or the catalog cannot be read");
    return std::move(before.report);
  }
  std::vector<std::string> repairs;
  AZ_RETURN_IF_ERROR(Apply(options, before.plan, repairs));
  AZ_RETURN_IF_ERROR(Rebuild(options, repairs, cancel));
  // By the start.
  for (const Finding& finding : before.report.findings) {
    if (finding.kind == "file.left_over") repairs.push_back(finding.place + " was removed");
    if (finding.kind == "watermark.missing" || finding.kind == "watermark.damaged") {
      repairs.push_back(finding.place + " was written again");
    }
  }
  AZ_ASSIGN_OR_RETURN(VerifyReport after, VerifyDirectory(options, deep, cancel));
  after.repairs = std::move(repairs);
  return after;
}

}  // namespace azimuth::engine
