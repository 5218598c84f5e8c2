#include "engine/segment/replace_commit.h"

#include "base/check.h"
#include "base/failpoint.h"
#include "base/logging.h"
#include "base/status.h"
#include "storage/file.h"

#include <algorithm>

namespace azimuth::engine {

void MarkRetiredRows(const RetiredMap& retired, Segment& segment) {
  for (uint32_t position = 0, n = segment.size(); position < n; ++position) {
    if (retired.RetiredAt(segment.row_id(position)) != kSeqMax) segment.MarkRetired(position);
  }
}

absl::Status ReplaceCommit::Publish() {
  AZ_FAILPOINT(kSegmentBeforeCatalog);
  AZ_RETURN_IF_ERROR(core_.queue.Run(*this, CancelToken()).status());
  AZ_FAILPOINT(kSegmentAfterCatalog);
  return absl::OkStatus();
}

absl::StatusOr<bool> ReplaceCommit::Resolve(ResolveContext& context) {
  if (collection_->dropped.load()) {
    return NotFound("collection %s was dropped", Quoted(collection_->name));
  }
  // A repair and a build may have begun with the same segment: the second finds it gone.
  const auto& current = collection_->segments().segments;
  if (std::search(current.begin(), current.end(), inputs_.begin(), inputs_.end()) ==
      current.end()) {
    return absl::AbortedError("the segments to replace are no longer in the list");
  }
  std::vector<FieldId> vector_fields;
  for (const VectorFieldDef& field : collection_->schema.vectors) vector_fields.push_back(field.id);
  for (const RowId row : built_.dropped) {
    context.batch.DeleteRow(collection_->row_store, row, vector_fields);
  }
  if (built_.entry.has_value()) context.batch.PutSegment(*built_.entry);
  for (const auto& input : inputs_) {
    if (input->state() == SegmentState::kSealed) {
      context.batch.DeleteSegment(collection_->row_store, input->id());
    }
  }
  core_.next_ids.segment = SegmentId{core_.next_segment.load()};
  context.batch.PutNextIds(core_.next_ids);
  return true;
}

void ReplaceCommit::Apply(Seq) {
  const auto& old = collection_->segments().segments;
  const auto first = std::find(old.begin(), old.end(), inputs_.front());
  AZ_CHECK(first != old.end());
  for (const auto& replacement : replacements_) {
    MarkRetiredRows(collection_->retired, *replacement);
  }
  SegmentSet next;
  next.segments.assign(old.begin(), first);
  next.segments.insert(next.segments.end(), replacements_.begin(), replacements_.end());
  next.segments.insert(next.segments.end(), first + static_cast<std::ptrdiff_t>(inputs_.size()),
                       old.end());
  collection_->SetSegments(std::move(next), core_.views);
  for (const auto& input : inputs_) {
    if (input->state() != SegmentState::kSealed) continue;
    core_.views.Retire([path = core_.dir.segment_path(input->id())] {
      AZ_FAILPOINT_VISIT(kSegmentBeforeRemove);
      const absl::Status status = storage::RemoveFile(path);
      // A file that was set aside is gone already.
      if (!status.ok() && status.code() != absl::StatusCode::kNotFound) {
        LogWarning("a replaced segment file stays until the next start: %s",
                   std::string(status.message()));
      }
    });
  }
}

}  // namespace azimuth::engine
