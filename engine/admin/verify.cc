#include "engine/admin/verify.h"

#include "base/failpoint.h"
#include "base/status.h"
#include "engine/admin/check_catalog.h"
#include "engine/admin/check_rows.h"
#include "engine/admin/check_segment.h"
#include "engine/admin/findings.h"
#include "engine/admin/inspect.h"
#include "engine/core.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr RowId kNoRow{std::numeric_limits<uint64_t>::max()};

class OpenCheck final {
 public:
  OpenCheck(Core& core, bool deep, const CancelToken& cancel)
      : core_(core), deep_(deep), cancel_(cancel) {}

  absl::StatusOr<VerifyReport> Run(std::string_view collection) {
    report_.deep = deep_;
    report_.incarnation = core_.dir.incarnation();
    report_.watermark = core_.durability->watermark();
    AZ_RETURN_IF_ERROR(CheckStore(collection.empty()));
    if (!collection.empty()) {
      report_.collections = 1;
      AZ_RETURN_IF_ERROR(CheckCollection(collection));
    } else {
      for (const auto& each : core_.AllCollections()) {
        const absl::Status status = CheckCollection(each->name);
        // Dropped meanwhile.
        if (!absl::IsNotFound(status)) AZ_RETURN_IF_ERROR(status);
      }
    }
    report_.findings = findings_.Take();
    return std::move(report_);
  }

 private:
  CheckContext ContextOf(const ViewRegistry::Pin& pin) {
    return {.store = *core_.store,
            .snapshot = &pin.snapshot(),
            .applied = pin.seq(),
            .deep = deep_,
            .cancel = cancel_,
            .findings = findings_,
            .report = report_,
            .plan = unused_,
            .restoring = core_.snapshot_turns.filled()};
  }

  absl::Status CheckStore(bool all);
  absl::Status CheckCollection(std::string_view name);
  absl::Status CheckSegments(CheckContext& context, const CheckedCollection& checked,
                             const Collection& collection, const StoreRows& rows);
  void HaveRepaired(const Collection& collection, const std::shared_ptr<Segment>& segment);
  // False if it is not there as it was written.
  absl::StatusOr<bool> CheckFilePresent(const CheckedCollection& checked,
                                        const Collection& collection,
                                        const std::shared_ptr<Segment>& segment);

  Core& core_;
  const bool deep_;
  const CancelToken& cancel_;
  Findings findings_;
  VerifyReport report_;
  RepairPlan unused_;  // A running database repairs by itself what it can.
};

absl::Status OpenCheck::CheckStore(bool all) {
  if (all) AZ_RETURN_IF_ERROR(CheckTables(*core_.store, cancel_, findings_));
  // What the mark says is in the store, though perhaps not published yet.
  const absl::StatusOr<Seq> newest = core_.store->GetAppliedSeq();
  if (newest.ok()) {
    CheckWatermark(*newest, report_.watermark, findings_);
  } else if (IsUnreadable(newest.status())) {
    findings_.Source("store.unreadable", "applied position",
                     std::string(newest.status().message()));
  } else {
    return newest.status();
  }
  const ViewRegistry::Pin pin = core_.views.PinNow();
  CheckContext context = ContextOf(pin);
  report_.applied = pin.seq();
  AZ_FAILPOINT(kVerifyAfterPin);
  return all ? CheckCatalog(context).status() : absl::OkStatus();
}

absl::Status OpenCheck::CheckCollection(std::string_view name) {
  const ViewRegistry::Pin pin = core_.views.PinNow();
  AZ_ASSIGN_OR_RETURN(const Collection* collection, core_.FindPinned(name, pin));
  CheckContext context = ContextOf(pin);
  const CheckedCollection checked{collection->name, collection->row_store, collection->schema, {}};
  AZ_ASSIGN_OR_RETURN(const StoreRows rows, CheckRows(context, checked));
  CheckCounters(context, checked, rows, RowId{});
  return CheckSegments(context, checked, *collection, rows);
}

// The list may be younger than the snapshot; it has the same rows, but for those that are retired
// there.
absl::Status OpenCheck::CheckSegments(CheckContext& context, const CheckedCollection& checked,
                                      const Collection& collection, const StoreRows& rows) {
  const std::vector<std::shared_ptr<Segment>> segments = collection.segments().segments;
  RowId end_before{};
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = *segments[i];
    const storage::RowRange own = segment.rows();
    if (own.first < end_before) {
      findings_.Derived("segment.overlap", checked.SegmentPlace(segment.id()),
                        absl::StrFormat("its rows begin at %d, and a segment before it ends at %d",
                                        Raw(own.first), Raw(end_before)));
    }
    end_before = std::max(end_before, own.end);
    bool right = true;
    if (segment.state() == SegmentState::kSealed) {
      ++context.report.segments;
      AZ_ASSIGN_OR_RETURN(right, CheckFilePresent(checked, collection, segments[i]));
      if (right) {
        AZ_ASSIGN_OR_RETURN(right, CheckSegmentFile(context, checked, segment));
      } else {
        segment.Verify(cancel_).IgnoreError();  // It becomes a suspect.
      }
      if (!segment.suspicion().ok()) HaveRepaired(collection, segments[i]);
    }
    if (!right) continue;
    // Between two segments there are no live rows.
    const storage::RowRange range{
        i == 0 ? RowId{} : own.first,
        i + 1 == segments.size() ? kNoRow : segments[i + 1]->rows().first};
    AZ_RETURN_IF_ERROR(
        CheckSegmentRows(context, checked, segment, range, rows, &collection.retired).status());
  }
  if (segments.empty() && rows.complete() && CountLive(rows) > 0) {
    findings_.Derived("segment.row_missing", checked.Place(), "it has rows, but no segments");
  }
  return absl::OkStatus();
}

// In the background, since the report need not wait for it.
void OpenCheck::HaveRepaired(const Collection& collection,
                             const std::shared_ptr<Segment>& segment) {
  for (auto& each : core_.AllCollections()) {
    if (each.get() == &collection) core_.scrubber.Add(std::move(each), segment);
  }
}

absl::StatusOr<bool> OpenCheck::CheckFilePresent(const CheckedCollection& checked,
                                                 const Collection& collection,
                                                 const std::shared_ptr<Segment>& segment) {
  const std::string path = core_.dir.segment_path(segment->id());
  const absl::StatusOr<uint64_t> size = core_.files().Size(path);
  if (size.ok() && *size == segment->file_bytes()) return true;
  if (!size.ok() && !absl::IsNotFound(size.status())) return size.status();
  if (collection.dropped.load()) return true;
  // A file that was set aside meanwhile is no longer in the list.
  const auto& now = collection.segments().segments;
  if (std::find(now.begin(), now.end(), segment) == now.end()) return true;
  findings_.Derived(
      "segment.missing", checked.SegmentPlace(segment->id()),
      size.ok() ? absl::StrFormat("%s: %d bytes instead of %d", path, *size, segment->file_bytes())
                : std::string(size.status().message()));
  return false;
}

}  // namespace

absl::StatusOr<VerifyReport> VerifyDirectory(const DatabaseOptions& options, bool deep,
                                             const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(Inspection inspection, InspectDirectory(options, deep, cancel));
  return std::move(inspection.report);
}

absl::StatusOr<VerifyReport> VerifyOpen(Core& core, std::string_view collection, bool deep,
                                        const CancelToken& cancel) {
  return OpenCheck(core, deep, cancel).Run(collection);
}

}  // namespace azimuth::engine
