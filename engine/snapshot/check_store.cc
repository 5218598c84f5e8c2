#include "engine/snapshot/check_store.h"

#include "base/status.h"
#include "engine/admin/check_catalog.h"
#include "storage/snapshot_manifest.h"

#include <algorithm>
#include <utility>

namespace azimuth::engine {
namespace {

// Ids of a catalog are below this, so that those that come after a restore never run over.
constexpr uint32_t kIdMax = uint32_t{1} << 31;

bool InRange(const storage::NextIds& ids) {
  return Raw(ids.collection) <= kIdMax && Raw(ids.row_store) <= kIdMax &&
         Raw(ids.segment) <= storage::kSnapshotSeqMax;
}

absl::Status CheckIds(const storage::Store& store,
                      const std::vector<storage::CollectionEntry>& collections) {
  AZ_ASSIGN_OR_RETURN(const storage::NextIds next, store.GetNextIds());
  AZ_ASSIGN_OR_RETURN(const auto segments, store.ListSegments());
  AZ_ASSIGN_OR_RETURN(const auto row_stores, store.ListRowStores());
  const bool right =
      InRange(next) &&
      std::all_of(
          collections.begin(), collections.end(),
          [](const auto& each) { return Raw(each.id) < kIdMax && Raw(each.row_store) < kIdMax; }) &&
      std::all_of(segments.begin(), segments.end(),
                  [](const auto& each) { return Raw(each.id) < storage::kSnapshotSeqMax; }) &&
      std::all_of(row_stores.begin(), row_stores.end(),
                  [](RowStoreId each) { return Raw(each) < kIdMax; });
  return right ? absl::OkStatus() : DataLoss("an id of the catalog is out of range");
}

// Row stores that no collection has.
absl::StatusOr<std::vector<RowStoreId>> FindOrphans(
    const storage::Store& store, const std::vector<storage::CollectionEntry>& collections) {
  AZ_ASSIGN_OR_RETURN(std::vector<RowStoreId> orphans, store.ListRowStores());
  std::erase_if(orphans, [&](RowStoreId orphan) {
    return std::any_of(collections.begin(), collections.end(),
                       [&](const auto& each) { return each.row_store == orphan; });
  });
  return orphans;
}

// A start forgets them, and serves all else; but not if they are of a newer format.
bool IsDamageOfRequests(const storage::Store& store, const Finding& finding) {
  return finding.place == kRequestsPlace && absl::IsDataLoss(store.ListRequests().status());
}

// That the catalog agrees with itself; the ids that are next may be wrong, and remembered requests
// lost.
absl::Status CheckCatalogOf(const storage::Store& store, StoreContent& content,
                            const CancelToken& cancel) {
  Findings findings;
  VerifyReport report;
  RepairPlan plan;
  CheckContext context{.store = store,
                       .cancel = cancel,
                       .findings = findings,
                       .report = report,
                       .plan = plan,
                       .restoring = {content.orphans.begin(), content.orphans.end()}};
  AZ_RETURN_IF_ERROR(CheckCatalog(context).status());
  for (const Finding& finding : findings.Take()) {
    if (IsDamageOfRequests(store, finding)) {
      content.wrong.push_back(absl::StrFormat("%s cannot be read, and will be forgotten: %s",
                                              finding.place, finding.message));
    } else if (finding.severity == FindingSeverity::kSource) {
      return DataLoss("the copy of the database: %s: %s", finding.place, finding.message);
    }
    if (finding.kind == "catalog.next_ids") content.wrong.push_back(finding.message);
  }
  AZ_ASSIGN_OR_RETURN(content.next_ids, store.GetNextIds());
  if (plan.next_ids.has_value()) content.next_ids = *plan.next_ids;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StoreContent> CheckSnapshotCatalog(
    const storage::Store& store, const std::vector<storage::CollectionEntry>& collections,
    const CancelToken& cancel) {
  AZ_RETURN_IF_ERROR(CheckIds(store, collections));
  StoreContent content;
  content.collections = collections.size();
  AZ_ASSIGN_OR_RETURN(content.orphans, FindOrphans(store, collections));
  for (const RowStoreId orphan : content.orphans) {
    content.left_out.push_back(absl::StrFormat(
        "row store %d has rows, keys or counters, and no collection names it: left out",
        Raw(orphan)));
  }
  AZ_RETURN_IF_ERROR(CheckCatalogOf(store, content, cancel));
  return content;
}

absl::Status AddChecked(const storage::Store& store, RowStoreId row_store,
                        const SnapshotSource& source, StoreContent& content) {
  for (const storage::SnapshotFile& file : source.segments()) content.segments.insert(file.name);
  content.bad_segments.insert(content.bad_segments.end(), source.bad_segments().begin(),
                              source.bad_segments().end());
  content.retired_bytes += source.entries().retired_bytes();
  AZ_ASSIGN_OR_RETURN(const auto counters, store.GetCounters(row_store));
  const uint64_t live = source.entries().live_rows();
  if (counters.live_rows == live) return absl::OkStatus();
  content.counters[row_store] = {counters.next_row, live};
  content.wrong.push_back(absl::StrFormat("collection %s is counted as %d rows, and has %d",
                                          Quoted(source.collection()), counters.live_rows, live));
  return absl::OkStatus();
}

absl::StatusOr<StoreContent> CheckSnapshotStore(const std::string& folder,
                                                const BadFiles& bad_files, storage::Files& files,
                                                MemoryBudget& memory, const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(const auto store, OpenSnapshotStore(folder, files));
  AZ_ASSIGN_OR_RETURN(const auto collections, store->ListCollections());
  AZ_ASSIGN_OR_RETURN(StoreContent content, CheckSnapshotCatalog(*store, collections, cancel));
  for (const storage::CollectionEntry& collection : collections) {
    AZ_ASSIGN_OR_RETURN(const auto source, SnapshotSource::Open(folder, collection.name, files,
                                                                &bad_files, memory, cancel));
    AZ_RETURN_IF_ERROR(AddChecked(*store, collection.row_store, *source, content));
  }
  AZ_RETURN_IF_ERROR(CheckRetiredBytes(content.retired_bytes, memory));
  return content;
}

absl::Status PutRight(const std::string& rocks, const StoreContent& content,
                      storage::Files& files) {
  storage::StoreOptions options;
  options.files = &files;
  options.merges_tables = false;
  AZ_ASSIGN_OR_RETURN(const auto store, storage::Store::Open(rocks, options));
  // Rows, vectors and retirements past the counters, which no check has looked at.
  AZ_RETURN_IF_ERROR(store->RemoveLeftovers(/*everywhere=*/true));
  AZ_ASSIGN_OR_RETURN(const auto segments, store->ListSegments());
  storage::CommitBatch batch;
  for (const storage::SegmentEntry& segment : segments) {
    if (content.segments.contains(absl::StrFormat("%016x.seg", Raw(segment.id)))) continue;
    batch.DeleteSegment(segment.row_store, segment.id);
  }
  for (const RowStoreId orphan : content.orphans) batch.DeleteRowStore(orphan);
  for (const auto& [row_store, counters] : content.counters) {
    batch.PutCounters(row_store, counters);
  }
  batch.PutNextIds(content.next_ids);
  AZ_RETURN_IF_ERROR(store->Commit(batch, /*sync=*/true));
  return store->Close();
}

}  // namespace azimuth::engine
