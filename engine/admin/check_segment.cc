#include "engine/admin/check_segment.h"

#include "base/status.h"
#include "engine/admin/check_graph.h"
#include "engine/admin/compare_segment.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

// Rows of a segment whose content is compared if not all are.
constexpr uint32_t kSampleRows = 512;

class RowsComparison final {
 public:
  RowsComparison(CheckContext& context, const CheckedCollection& collection, const Segment& segment,
                 storage::RowRange range, const StoreRows& rows, const RetiredMap* retired)
      : context_(context),
        collection_(collection),
        segment_(segment),
        range_(range),
        rows_(rows),
        retired_(retired),
        size_(segment.InsertedBy(context.applied)),
        comparison_(collection, segment, context.findings) {}

  absl::StatusOr<bool> Run() {
    if (rows_.complete()) {
      comparison_.CompareIds(rows_.rows, rows_.retired, range_, size_);
      if (retired_ != nullptr) CompareRetired();
    }
    if (rows_.rows_complete) AZ_RETURN_IF_ERROR(CompareContent());
    return comparison_.agrees();
  }

 private:
  void CompareRetired();
  absl::Status CompareContent();
  absl::Status CompareAll();
  absl::Status CompareSample();
  absl::Status Take(size_t place, storage::StoredRow&& stored);
  absl::Status Flush();

  CheckContext& context_;
  const CheckedCollection& collection_;
  const Segment& segment_;
  const storage::RowRange range_;
  const StoreRows& rows_;
  const RetiredMap* const retired_;
  const uint32_t size_;  // Rows of later commits are not looked at.
  SegmentComparison comparison_;
  std::vector<uint32_t> positions_;                 // All that are compared.
  std::vector<std::vector<const float*>> vectors_;  // By field, of those.
  uint64_t vector_bytes_ = 0;                       // Of a row, in the longest field.
  CompareBatch batch_;
  std::vector<size_t> places_;  // Of the batch among positions_.
};

void RowsComparison::CompareRetired() {
  for (uint32_t position = 0; position < size_; ++position) {
    const RowId id = segment_.row_id(position);
    const Seq stored = RetiredAt(rows_.retired, id);
    const bool hidden = (segment_.RetiredWord(position / 64) >> (position % 64) & 1) != 0;
    const Seq known = hidden ? retired_->RetiredAt(id) : kSeqMax;
    // What a later commit retired is live at this point.
    const bool same = stored == kSeqMax ? known > context_.applied : known == stored;
    if (!same) {
      comparison_.Differs("memory.retired", id,
                          stored == kSeqMax ? "it is live, and hidden from searches"
                                            : "it is retired, and not hidden from searches");
    }
  }
}

absl::Status RowsComparison::CompareContent() {
  const uint32_t step = context_.deep ? 1 : std::max<uint32_t>(1, size_ / kSampleRows);
  for (uint32_t position = 0; position < size_; position += step) positions_.push_back(position);
  if (positions_.empty()) return absl::OkStatus();
  for (size_t slot = 0; slot < collection_.schema.vectors.size(); ++slot) {
    vectors_.push_back(segment_.ExportVectors(slot, positions_));
    vector_bytes_ = std::max(vector_bytes_, collection_.schema.vectors[slot].dim * sizeof(float));
  }
  absl::Status status = step == 1 ? CompareAll() : CompareSample();
  if (status.ok()) status = Flush();
  if (!IsUnreadable(status)) return status;
  context_.findings.Source("store.unreadable", collection_.SegmentPlace(segment_.id()),
                           absl::StrCat("its rows cannot be read: ", status.message()));
  return absl::OkStatus();
}

// A row that the store does not have was told before, if that is wrong.
absl::Status RowsComparison::CompareAll() {
  size_t place = 0;
  return context_.store.ScanRows(
      collection_.row_store, {segment_.row_id(0), Next(segment_.row_id(size_ - 1))},
      [&](RowId row, storage::StoredRow&& stored) {
        while (place < positions_.size() && segment_.row_id(positions_[place]) < row) ++place;
        const bool there = place < positions_.size() && segment_.row_id(positions_[place]) == row;
        return there ? Take(place, std::move(stored)) : absl::OkStatus();
      },
      context_.snapshot);
}

// One by one: nobody knows how long the rows are.
absl::Status RowsComparison::CompareSample() {
  for (size_t place = 0; place < positions_.size(); ++place) {
    const RowId row = segment_.row_id(positions_[place]);
    AZ_ASSIGN_OR_RETURN(
        auto stored, context_.store.GetRows(collection_.row_store, {&row, 1}, context_.snapshot));
    if (stored[0].has_value()) AZ_RETURN_IF_ERROR(Take(place, *std::move(stored[0])));
  }
  return absl::OkStatus();
}

absl::Status RowsComparison::Take(size_t place, storage::StoredRow&& stored) {
  batch_.Add(positions_[place], std::move(stored), vector_bytes_);
  places_.push_back(place);
  return batch_.full() ? Flush() : absl::OkStatus();
}

absl::Status RowsComparison::Flush() {
  AZ_RETURN_IF_ERROR(context_.cancel.Check());
  comparison_.CompareRows(batch_);
  std::vector<RowId> ids;
  for (const uint32_t position : batch_.positions) ids.push_back(segment_.row_id(position));
  for (size_t slot = 0; slot < collection_.schema.vectors.size(); ++slot) {
    const FieldId field = collection_.schema.vectors[slot].id;
    AZ_ASSIGN_OR_RETURN(auto vectors, context_.store.GetVectors(collection_.row_store, field, ids,
                                                                context_.snapshot));
    for (size_t i = 0; i < ids.size(); ++i) {
      comparison_.CompareVector(slot, batch_.positions[i], vectors_[slot][places_[i]], vectors[i]);
    }
  }
  context_.report.segment_rows_compared += ids.size();
  batch_.Clear();
  places_.clear();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<bool> CheckSegmentFile(CheckContext& context, const CheckedCollection& collection,
                                      const Segment& segment) {
  const auto bad = [&](const absl::Status& why) {
    context.findings.Derived("segment.checksum", collection.SegmentPlace(segment.id()),
                             std::string(why.message()));
    return false;
  };
  const absl::Status status = segment.Verify(context.cancel);
  AZ_RETURN_IF_ERROR(context.cancel.Check());
  context.report.bytes_read += segment.file_bytes();
  if (absl::IsDataLoss(status)) return bad(status);
  AZ_RETURN_IF_ERROR(status);
  bool right = true;
  for (size_t slot = 0; slot < collection.schema.vectors.size(); ++slot) {
    if (!segment.HasGraph(slot)) continue;
    const absl::StatusOr<bool> graph = CheckSegmentGraph(context, collection, segment, slot);
    if (absl::IsDataLoss(graph.status())) return bad(graph.status());
    AZ_RETURN_IF_ERROR(graph.status());
    right = right && *graph;
  }
  return right;
}

absl::StatusOr<bool> CheckSegmentRows(CheckContext& context, const CheckedCollection& collection,
                                      const Segment& segment, storage::RowRange range,
                                      const StoreRows& rows, const RetiredMap* retired) {
  return RowsComparison(context, collection, segment, range, rows, retired).Run();
}

}  // namespace azimuth::engine
