#include "engine/admin/inspect.h"

#include "base/status.h"
#include "engine/admin/check_catalog.h"
#include "engine/admin/check_rows.h"
#include "engine/admin/check_segment.h"
#include "engine/segment/sealed.h"
#include "storage/data_dir.h"
#include "storage/file.h"
#include "storage/snapshot_folder.h"
#include "storage/watermark.h"

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>

namespace azimuth::engine {
namespace {

// From this one on there is a WATERMARK, and RocksDB has all column families.
constexpr uint32_t kFormatOfWatermark = 3;
constexpr uint32_t kFormatOfFamilies = 2;

class DirectoryCheck final {
 public:
  DirectoryCheck(const storage::DataDir& dir, bool deep, const CancelToken& cancel)
      : dir_(dir), deep_(deep), cancel_(cancel) {}

  absl::StatusOr<Inspection> Run(const DatabaseOptions& options) {
    result_.report.deep = deep_;
    result_.report.incarnation = dir_.incarnation();
    AZ_ASSIGN_OR_RETURN(set_aside_, List(dir_.quarantine_path()));
    AZ_ASSIGN_OR_RETURN(const auto found, storage::Watermark::Read(dir_.watermark_path(),
                                                                   dir_.instance(), dir_.files()));
    if (found.mark.has_value()) result_.report.watermark = found.mark->seq;
    AZ_ASSIGN_OR_RETURN(const auto store, OpenStore(options, found));
    if (store != nullptr) AZ_RETURN_IF_ERROR(CheckStore(*store, found));
    AZ_RETURN_IF_ERROR(CheckNames());
    result_.report.findings = findings_.Take();
    return std::move(result_);
  }

 private:
  absl::StatusOr<std::unique_ptr<storage::Store>> OpenStore(const DatabaseOptions& options,
                                                            const storage::Watermark::Found& found);
  absl::StatusOr<bool> NeverOpened(const absl::Status& status,
                                   const storage::Watermark::Found& found) const;
  absl::Status CheckStore(const storage::Store& store, const storage::Watermark::Found& found);
  void CheckMark(const storage::Watermark::Found& found);
  absl::Status CheckCollection(CheckContext& context, const CatalogCollection& collection);
  absl::Status CheckNames();
  bool IsSetAside(SegmentId id) const;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) const;

  const storage::DataDir& dir_;
  const bool deep_;
  const CancelToken& cancel_;
  Findings findings_;
  Inspection result_;
  std::set<std::string> named_;  // Paths of the files that the catalog names.
  bool catalog_known_ = false;
  std::vector<std::string> set_aside_;  // Names in quarantine/.
};

// True if the very first start died before there was a whole database, which `status` says.
absl::StatusOr<bool> DirectoryCheck::NeverOpened(const absl::Status& status,
                                                 const storage::Watermark::Found& found) const {
  if (absl::IsDataLoss(status) || result_.report.watermark > kSeqZero) return false;
  AZ_ASSIGN_OR_RETURN(const auto names, List(dir_.rocks_path()));
  if (std::find(names.begin(), names.end(), "CURRENT") != names.end()) {
    // Without all of its column families.
    return absl::IsFailedPrecondition(status) && found.mark.has_value();
  }
  return std::none_of(names.begin(), names.end(), [](const std::string& name) {
    return name.ends_with(".sst") || name.ends_with(".log");
  });
}

// Null if the directory was never opened to the end.
absl::StatusOr<std::unique_ptr<storage::Store>> DirectoryCheck::OpenStore(
    const DatabaseOptions& options, const storage::Watermark::Found& found) {
  if (dir_.format_version() < kFormatOfFamilies) {
    return FailedPrecondition("%s: format %d is read by a server only, which upgrades it",
                              dir_.path(), dir_.format_version());
  }
  storage::StoreOptions store_options;
  store_options.block_cache_bytes = options.block_cache_bytes;
  store_options.write_buffer_bytes = options.write_buffer_bytes;
  store_options.files = &dir_.files();
  store_options.merges_tables = false;
  store_options.read_only = true;
  auto store = storage::Store::Open(dir_.rocks_path(), store_options);
  if (store.ok()) return store;
  AZ_ASSIGN_OR_RETURN(const bool never_opened, NeverOpened(store.status(), found));
  if (!never_opened) return store.status();
  findings_.Notice(
      "store.new", dir_.rocks_path(),
      absl::StrCat("the first start did not come to its end: ", store.status().message()));
  return std::unique_ptr<storage::Store>();
}

void DirectoryCheck::CheckMark(const storage::Watermark::Found& found) {
  if (found.mark.has_value() && found.damaged) {
    // A crash while one was written does that.
    findings_.Notice("watermark.slot", dir_.watermark_path(),
                     "one of its two entries is damaged; the other one counts");
  } else if (found.damaged) {
    findings_.Derived("watermark.damaged", dir_.watermark_path(),
                      "neither of its entries can be read: commits that are missing would not be "
                      "noticed");
  } else if (found.missing && result_.report.applied > kSeqZero) {
    constexpr std::string_view kMessage =
        "it is not there: commits that are missing would not be noticed";
    if (dir_.format_version() < kFormatOfWatermark) {
      findings_.Notice("watermark.older_format", dir_.watermark_path(), std::string(kMessage));
    } else {
      // A crash in an upgrade of the format does that.
      findings_.Notice("watermark.missing", dir_.watermark_path(), std::string(kMessage));
    }
  }
}

absl::Status DirectoryCheck::CheckStore(const storage::Store& store,
                                        const storage::Watermark::Found& found) {
  CheckContext context{.store = store,
                       .deep = deep_,
                       .cancel = cancel_,
                       .findings = findings_,
                       .report = result_.report,
                       .plan = result_.plan};
  const storage::SnapshotFolders snapshots(dir_.snapshots_path(), dir_.files());
  AZ_ASSIGN_OR_RETURN(const std::vector<RowStoreId> marked, snapshots.Marked());
  context.restoring.insert(marked.begin(), marked.end());
  const absl::StatusOr<Seq> applied = store.GetAppliedSeq();
  if (!applied.ok() && !IsUnreadable(applied.status())) return applied.status();
  if (applied.ok()) {
    context.applied = *applied;
    result_.report.applied = *applied;
    CheckMark(found);
    CheckWatermark(*applied, result_.report.watermark, findings_);
  } else {
    context.applied = kSeqMax;
    findings_.Source("store.unreadable", "applied position",
                     std::string(applied.status().message()));
  }
  AZ_RETURN_IF_ERROR(CheckTables(store, cancel_, findings_));
  AZ_ASSIGN_OR_RETURN(const auto collections, CheckCatalog(context));
  catalog_known_ = !findings_.HasKind("catalog.unreadable");
  for (const CatalogCollection& collection : collections) {
    AZ_RETURN_IF_ERROR(CheckCollection(context, collection));
  }
  return absl::OkStatus();
}

absl::Status DirectoryCheck::CheckCollection(CheckContext& context,
                                             const CatalogCollection& collection) {
  const CheckedCollection checked = collection.checked();
  CheckSegmentRanges(context, collection);
  AZ_ASSIGN_OR_RETURN(const StoreRows rows, CheckRows(context, checked));
  RowId segments_end{};
  std::vector<RowId> stray;  // Retired rows that neither the store nor a segment has.
  if (rows.complete()) {
    for (const auto& entry : rows.retired) {
      if (!std::binary_search(rows.rows.begin(), rows.rows.end(), entry.first)) {
        stray.push_back(entry.first);
      }
    }
  }
  for (const storage::SegmentEntry& entry : collection.segments) {
    segments_end = std::max(segments_end, entry.rows.end);
    named_.insert(dir_.segment_path(entry.id));
    auto sealed = SealedSegment::Open(dir_.segment_path(entry.id), collection.schema, entry,
                                      dir_.instance(), dir_.files());
    ++context.report.segments;
    const std::string place = checked.SegmentPlace(entry.id);
    if (absl::IsNotFound(sealed.status())) {
      if (IsSetAside(entry.id)) {
        // A death on the way out of the catalog.
        findings_.Notice(
            "segment.set_aside", place,
            "its file failed a check and was set aside; the next start builds it again");
      } else {
        findings_.Derived("segment.missing", place, std::string(sealed.status().message()));
      }
      context.plan.TakeOut(entry);
      continue;
    }
    if (IsUnreadable(sealed.status())) {
      findings_.Derived("segment.format", place, std::string(sealed.status().message()));
      context.plan.TakeOut(entry);
      continue;
    }
    AZ_RETURN_IF_ERROR(sealed.status());
    std::erase_if(stray, [&](RowId row) { return (*sealed)->Find(row).has_value(); });
    AZ_ASSIGN_OR_RETURN(bool right, CheckSegmentFile(context, checked, **sealed));
    if (right) {
      AZ_ASSIGN_OR_RETURN(right, CheckSegmentRows(context, checked, **sealed, entry.rows, rows,
                                                  /*retired=*/nullptr));
    }
    if (!right) context.plan.TakeOut(entry);
  }
  CheckCounters(context, checked, rows, segments_end);
  if (stray.empty()) return absl::OkStatus();
  findings_.Notice("retired.stray", checked.Place(),
                   absl::StrFormat("%d retirements of rows that a merge has dropped; the next "
                                   "start removes them",
                                   stray.size()));
  for (const RowId row : stray) context.plan.retirements.emplace_back(collection.row_store, row);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> DirectoryCheck::List(const std::string& path) const {
  auto names = dir_.files().List(path);
  if (absl::IsNotFound(names.status())) return std::vector<std::string>();
  return names;
}

bool DirectoryCheck::IsSetAside(SegmentId id) const {
  const std::string prefix = absl::StrCat(Raw(id), ".");
  return std::any_of(set_aside_.begin(), set_aside_.end(),
                     [&](const std::string& name) { return name.starts_with(prefix); });
}

absl::Status DirectoryCheck::CheckNames() {
  static constexpr std::string_view kOurs[] = {"LOCK",      "FORMAT",    "FORMAT.tmp", "WATERMARK",
                                               "BALLAST",   "rocks",     "segments",   "quarantine",
                                               "snapshots", "lost+found"};
  AZ_ASSIGN_OR_RETURN(const auto names, List(dir_.path()));
  for (const std::string& name : names) {
    if (std::find(std::begin(kOurs), std::end(kOurs), name) != std::end(kOurs)) continue;
    findings_.Notice("file.unknown", absl::StrCat(dir_.path(), "/", name), "it is not ours");
  }
  AZ_ASSIGN_OR_RETURN(const auto segments, List(dir_.segments_path()));
  for (const std::string& name : segments) {
    const std::string path = absl::StrCat(dir_.segments_path(), "/", name);
    if (!catalog_known_ || named_.contains(path)) continue;
    if (storage::DataDir::IsSegmentName(name)) {
      findings_.Notice("file.left_over", path, "no catalog names it; the next start removes it");
    } else {
      findings_.Notice("file.unknown", path, "it is not ours");
    }
  }
  for (const std::string& name : set_aside_) {
    findings_.Notice("file.set_aside", absl::StrCat(dir_.quarantine_path(), "/", name),
                     "a segment file that failed a check; remove it when you have no use for it");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTables(const storage::Store& store, const CancelToken& cancel,
                         Findings& findings) {
  AZ_ASSIGN_OR_RETURN(const auto bad, store.CheckTables(cancel));
  for (const absl::Status& status : bad) {
    findings.Source("store.table", "rocks", std::string(status.message()));
  }
  return absl::OkStatus();
}

void CheckWatermark(Seq applied, Seq watermark, Findings& findings) {
  if (applied >= watermark) return;
  findings.Source("commits.missing", "rocks",
                  absl::StrFormat("commits up to %d were synced, and only those up to %d are there",
                                  Raw(watermark), Raw(applied)));
}

absl::StatusOr<Inspection> InspectDirectory(const DatabaseOptions& options, bool deep,
                                            const CancelToken& cancel) {
  storage::Files& files = options.files != nullptr ? *options.files : storage::Files::Posix();
  AZ_ASSIGN_OR_RETURN(const storage::DataDir dir,
                      storage::DataDir::OpenToRead(options.data_dir, files));
  return DirectoryCheck(dir, deep, cancel).Run(options);
}

}  // namespace azimuth::engine
