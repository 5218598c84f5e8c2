#include "engine/admin/check_catalog.h"

#include "base/status.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace azimuth::engine {
namespace {

class CatalogCheck final {
 public:
  explicit CatalogCheck(CheckContext& context) : context_(context) {}

  absl::StatusOr<std::vector<CatalogCollection>> Run() {
    AZ_RETURN_IF_ERROR(ReadCollections());
    AZ_RETURN_IF_ERROR(ReadSegments());
    AZ_RETURN_IF_ERROR(context_.cancel.Check());
    AZ_RETURN_IF_ERROR(CheckRowStores());
    AZ_RETURN_IF_ERROR(CheckNextIds());
    const auto requests = context_.store.ListRequests(context_.snapshot);
    if (IsUnreadable(requests.status())) {
      context_.findings.Source("store.unreadable", std::string(kRequestsPlace),
                               std::string(requests.status().message()));
    } else {
      AZ_RETURN_IF_ERROR(requests.status());
    }
    return std::move(collections_);
  }

 private:
  absl::Status ReadCollections();
  void AddCollection(const storage::CollectionEntry& entry);
  absl::Status ReadSegments();
  absl::Status CheckRowStores();
  // Those of row tables that were not given out when the snapshot was taken.
  absl::StatusOr<std::set<RowStoreId>> YoungerStores() const;
  absl::Status CheckNextIds();

  CheckContext& context_;
  std::vector<CatalogCollection> collections_;
  std::set<RowStoreId> row_stores_;  // That a collection names, readable or not.
  // What the ids that are next must be at least.
  storage::NextIds next_;
  bool complete_ = true;
};

absl::Status CatalogCheck::ReadCollections() {
  const auto entries = context_.store.ListCollections(context_.snapshot);
  if (IsUnreadable(entries.status())) {
    complete_ = false;
    context_.findings.Source("catalog.unreadable", "collections",
                             std::string(entries.status().message()));
    return absl::OkStatus();
  }
  AZ_RETURN_IF_ERROR(entries.status());
  std::set<std::string> names;
  for (const storage::CollectionEntry& entry : *entries) {
    ++context_.report.collections;
    next_.collection = std::max(next_.collection, Next(entry.id));
    next_.row_store = std::max(next_.row_store, Next(entry.row_store));
    const std::string place =
        absl::StrFormat("collection %s (number %d)", Quoted(entry.name), Raw(entry.id));
    if (!names.insert(entry.name).second) {
      context_.findings.Source("catalog.duplicate", place, "another collection has this name");
    }
    if (!row_stores_.insert(entry.row_store).second) {
      context_.findings.Source(
          "catalog.duplicate", place,
          absl::StrFormat("another collection has its row store %d", Raw(entry.row_store)));
      continue;
    }
    AddCollection(entry);
  }
  return absl::OkStatus();
}

void CatalogCheck::AddCollection(const storage::CollectionEntry& entry) {
  absl::StatusOr<Schema> schema = DecodeSchema(entry.definition);
  if (schema.ok()) {
    collections_.push_back({entry.name, entry.row_store, *std::move(schema), {}, entry.ids_end});
    return;
  }
  context_.findings.Source("catalog.definition", absl::StrCat("collection ", Quoted(entry.name)),
                           std::string(schema.status().message()));
}

absl::Status CatalogCheck::ReadSegments() {
  const auto entries = context_.store.ListSegments(context_.snapshot);
  if (IsUnreadable(entries.status())) {
    complete_ = false;
    context_.findings.Source("catalog.unreadable", "segments",
                             std::string(entries.status().message()));
    return absl::OkStatus();
  }
  AZ_RETURN_IF_ERROR(entries.status());
  std::map<RowStoreId, CatalogCollection*> by_store;
  for (CatalogCollection& collection : collections_) by_store[collection.row_store] = &collection;
  for (const storage::SegmentEntry& entry : *entries) {
    next_.segment = std::max(next_.segment, Next(entry.id));
    if (const auto it = by_store.find(entry.row_store); it != by_store.end()) {
      it->second->segments.push_back(entry);
    } else if (complete_ && !row_stores_.contains(entry.row_store)) {
      context_.findings.Derived(
          "segment.no_collection", absl::StrFormat("segment %d", Raw(entry.id)),
          absl::StrFormat("no collection has its row store %d", Raw(entry.row_store)));
      context_.plan.TakeOut(entry);
    }
  }
  for (CatalogCollection& collection : collections_) {
    std::sort(collection.segments.begin(), collection.segments.end(),
              [](const auto& a, const auto& b) { return a.rows.first < b.rows.first; });
  }
  return absl::OkStatus();
}

// Row tables show in older snapshots. Where nothing runs beside, there are none that are younger.
absl::StatusOr<std::set<RowStoreId>> CatalogCheck::YoungerStores() const {
  std::set<RowStoreId> younger;
  if (context_.snapshot == nullptr) return younger;
  const auto ids = context_.store.GetNextIds(context_.snapshot);
  const auto ends = context_.store.ListTablesEnds();
  for (const absl::Status& status : {ids.status(), ends.status()}) {
    if (IsUnreadable(status)) return younger;
    AZ_RETURN_IF_ERROR(status);
  }
  for (const auto& entry : *ends) {
    if (entry.first >= ids->row_store) younger.insert(entry.first);
  }
  return younger;
}

absl::Status CatalogCheck::CheckRowStores() {
  const auto stores = context_.store.ListRowStores(context_.snapshot);
  if (IsUnreadable(stores.status())) {
    complete_ = false;
    context_.findings.Source("store.unreadable", "row stores",
                             std::string(stores.status().message()));
    return absl::OkStatus();
  }
  AZ_RETURN_IF_ERROR(stores.status());
  AZ_ASSIGN_OR_RETURN(const std::set<RowStoreId> younger, YoungerStores());
  for (const RowStoreId store : *stores) {
    if (younger.contains(store)) continue;
    next_.row_store = std::max(next_.row_store, Next(store));
    if (!complete_ || row_stores_.contains(store)) continue;
    if (context_.restoring.contains(store)) {
      context_.findings.Notice("store.restoring", absl::StrFormat("row store %d", Raw(store)),
                               "a restore fills it, or has not come to its end: then the next "
                               "start removes it");
      continue;
    }
    context_.findings.Source("store.no_collection", absl::StrFormat("row store %d", Raw(store)),
                             "it has rows, keys or counters, and no collection names it");
  }
  return absl::OkStatus();
}

absl::Status CatalogCheck::CheckNextIds() {
  const auto stored = context_.store.GetNextIds(context_.snapshot);
  if (IsUnreadable(stored.status())) {
    context_.findings.Source("store.unreadable", "next ids",
                             std::string(stored.status().message()));
    return absl::OkStatus();
  }
  AZ_RETURN_IF_ERROR(stored.status());
  const storage::NextIds right{.collection = std::max(stored->collection, next_.collection),
                               .row_store = std::max(stored->row_store, next_.row_store),
                               .segment = std::max(stored->segment, next_.segment)};
  if (right.collection == stored->collection && right.row_store == stored->row_store &&
      right.segment == stored->segment) {
    return absl::OkStatus();
  }
  context_.findings.Derived(
      "catalog.next_ids", "next ids",
      absl::StrFormat("collection %d, row store %d, segment %d are next, but must be at least "
                      "%d, %d, %d",
                      Raw(stored->collection), Raw(stored->row_store), Raw(stored->segment),
                      Raw(right.collection), Raw(right.row_store), Raw(right.segment)));
  context_.plan.next_ids = right;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<CatalogCollection>> CheckCatalog(CheckContext& context) {
  return CatalogCheck(context).Run();
}

void CheckSegmentRanges(CheckContext& context, const CatalogCollection& collection) {
  RowId end{};
  for (const storage::SegmentEntry& entry : collection.segments) {
    const std::string place = collection.checked().SegmentPlace(entry.id);
    if (entry.rows.first >= entry.rows.end) {
      context.findings.Derived("segment.range", place,
                               absl::StrFormat("its rows %d to %d are none", Raw(entry.rows.first),
                                               Raw(entry.rows.end)));
      context.plan.TakeOut(entry);
    } else if (entry.rows.first < end) {
      context.findings.Derived(
          "segment.overlap", place,
          absl::StrFormat("its rows begin at %d, and a segment before it ends at %d",
                          Raw(entry.rows.first), Raw(end)));
      context.plan.TakeOut(entry);
    }
    end = std::max(end, entry.rows.end);
  }
}

}  // namespace azimuth::engine
