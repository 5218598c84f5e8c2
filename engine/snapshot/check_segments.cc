#include "engine/snapshot/check_segments.h"

#include "base/status.h"
#include "engine/admin/check_graph.h"
#include "index/distance/distance.h"
#include "storage/segment_file.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <span>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr RowId kRowsEnd{std::numeric_limits<uint64_t>::max()};

// The file says something of itself that is not right, or is not there. All else says nothing
// about it.
bool IsBadFile(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsFailedPrecondition(status) || absl::IsNotFound(status);
}

std::vector<const float*> AllVectors(const Segment& segment, size_t slot) {
  std::vector<uint32_t> all(segment.size());
  std::iota(all.begin(), all.end(), 0U);
  return segment.ExportVectors(slot, all);
}

}  // namespace

std::string SegmentsCheck::PathOf(const storage::SnapshotFile& file) const {
  return absl::StrCat(folder_, "/", file.name);
}

absl::Status SegmentsCheck::Add(const storage::SnapshotFile& file,
                                const std::optional<Says>& says) {
  const std::string path = PathOf(file);
  const absl::StatusOr<std::shared_ptr<SealedSegment>> segment = Open(path, says);
  absl::Status status = segment.status();
  if (status.ok()) {
    status = CheckFile(**segment);
    if (IsBadFile(status)) status = AtPlace(path, status);
  }
  if (IsBadFile(status)) {
    AddBad(file.name, std::string(status.message()));
    return absl::OkStatus();
  }
  AZ_RETURN_IF_ERROR(status);
  auto compared = std::make_unique<Compared>();
  compared->file = file;
  compared->segment = *segment;
  compared->there.Reset((*segment)->size(), false);
  compared->comparison =
      std::make_unique<SegmentComparison>(collection_, **segment, compared->findings);
  compared_.push_back(std::move(compared));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<SealedSegment>> SegmentsCheck::Open(
    const std::string& path, const std::optional<Says>& says) const {
  if (says.has_value()) {
    return SealedSegment::Open(path, schema_, says->entry, says->instance, files_);
  }
  AZ_ASSIGN_OR_RETURN(const auto file, storage::SegmentFile::Open(path, files_));
  const storage::SegmentHeader& header = file->header();
  const storage::SegmentEntry entry{.id = header.id,
                                    .row_store = header.row_store,
                                    .rows = {header.first_row, header.end_row},
                                    .row_count = header.row_count,
                                    .file_bytes = file->file_bytes()};
  return SealedSegment::Open(path, schema_, entry, header.incarnation, files_);
}

// How near a graph comes to the nearest is no matter of this check: on some data that is not much.
absl::Status SegmentsCheck::CheckFile(const SealedSegment& segment) const {
  AZ_RETURN_IF_ERROR(segment.Verify(cancel_));
  for (size_t slot = 0; slot < schema_.vectors.size(); ++slot) {
    if (!segment.HasGraph(slot)) continue;
    const index::FrozenGraph& graph = *segment.Graph(slot).graph;
    const uint32_t unreachable = CountUnreachable(graph);
    if (!IsUnreachable(unreachable, graph.node_count())) continue;
    return DataLoss("graph of field %s: %d of %d nodes cannot be reached",
                    Quoted(schema_.vectors[slot].name), unreachable, graph.node_count());
  }
  return CheckContent(segment);
}

// What a comparison with the rows takes for granted, and what it does not come to since the rows
// were dropped by a merge.
absl::Status SegmentsCheck::CheckContent(const SealedSegment& segment) const {
  const storage::RowRange range = segment.rows();
  if (range.first >= range.end || range.end > bounds_.next_row) {
    return DataLoss("its rows %d to %d are out of range", Raw(range.first), Raw(range.end));
  }
  Seq last{};
  for (uint32_t i = 0; i < segment.size(); ++i) {
    const Seq seq = segment.insert_seq(i);
    if (seq == kSeqZero || seq < last || seq > bounds_.as_of) {
      return DataLoss("the row at position %d was inserted at %d, out of order or too late", i,
                      Raw(seq));
    }
    last = seq;
  }
  for (size_t slot = 0; slot < schema_.vectors.size(); ++slot) {
    const uint32_t dim = schema_.vectors[slot].dim;
    for (const float* vector : AllVectors(segment, slot)) {
      if (vector != nullptr && !index::AllFinite(std::span(vector, dim))) {
        return DataLoss("a vector is infinite or not a number");
      }
    }
  }
  return absl::OkStatus();
}

void SegmentsCheck::Begin() {
  std::sort(compared_.begin(), compared_.end(), [](const auto& a, const auto& b) {
    return a->segment->rows().first < b->segment->rows().first;
  });
  RowId end{};
  std::erase_if(compared_, [&](const auto& each) {
    const storage::RowRange range = each->segment->rows();
    const bool overlaps = range.first < end;
    if (overlaps) {
      AddBad(each->file.name,
             absl::StrFormat("%s: its rows %d to %d are those of another file", PathOf(each->file),
                             Raw(range.first), Raw(range.end)));
    }
    end = std::max(end, range.end);
    return overlaps;
  });
  seen_slots_.assign(schema_.vectors.size(), false);
}

absl::Status SegmentsCheck::Visit(storage::RowEntryKind kind, std::string_view key,
                                  std::string_view value) {
  if (compared_.empty()) return absl::OkStatus();
  if (kind == storage::RowEntryKind::kRow) {
    AZ_ASSIGN_OR_RETURN(const RowId row, storage::ParseRowEntryKey(key));
    AZ_ASSIGN_OR_RETURN(storage::StoredRow stored, storage::DecodeRow(value));
    VisitRow(row, std::move(stored));
  } else if (kind == storage::RowEntryKind::kVector) {
    AZ_ASSIGN_OR_RETURN(const storage::VectorEntryKey parsed, storage::ParseVectorEntryKey(key));
    const auto field =
        std::find_if(schema_.vectors.begin(), schema_.vectors.end(),
                     [&](const VectorFieldDef& def) { return def.id == parsed.field; });
    VisitVector(static_cast<size_t>(field - schema_.vectors.begin()), parsed.row, value);
  }
  return absl::OkStatus();
}

void SegmentsCheck::VisitRow(RowId row, storage::StoredRow&& stored) {
  while (at_ < compared_.size() && compared_[at_]->segment->rows().end <= row) {
    CompareRows();
    ++at_;
    position_ = 0;
  }
  if (at_ == compared_.size()) return;
  Compared& compared = *compared_[at_];
  const uint32_t size = compared.segment->size();
  while (position_ < size && compared.segment->row_id(position_) < row) ++position_;
  // One that the file lacks is told at the end, if it is live.
  if (position_ == size || compared.segment->row_id(position_) != row) return;
  compared.there.Set(position_);
  positions_.push_back(position_);
  stored_.emplace_back(std::move(stored));
  if (positions_.size() == kCompareBatch) CompareRows();
}

void SegmentsCheck::CompareRows() {
  if (!positions_.empty()) compared_[at_]->comparison->CompareRows(positions_, stored_);
  positions_.clear();
  stored_.clear();
}

void SegmentsCheck::BeginSlot(size_t slot) {
  CompareRows();
  slot_ = slot;
  seen_slots_[slot] = true;
  at_ = 0;
  position_ = 0;
  in_segment_.clear();
}

void SegmentsCheck::FinishSlot() {
  if (slot_.has_value()) PassVectors(kRowsEnd);
  slot_.reset();
}

void SegmentsCheck::PassVectors(RowId row) {
  for (; at_ < compared_.size(); ++at_, position_ = 0, in_segment_.clear()) {
    Compared& compared = *compared_[at_];
    const uint32_t size = compared.segment->size();
    if (in_segment_.empty()) in_segment_ = AllVectors(*compared.segment, *slot_);
    for (; position_ < size && compared.segment->row_id(position_) < row; ++position_) {
      if (!compared.there.Test(position_)) continue;
      compared.comparison->CompareVector(*slot_, position_, in_segment_[position_], {});
    }
    if (row < compared.segment->rows().end) return;
  }
}

void SegmentsCheck::VisitVector(size_t slot, RowId row, std::string_view value) {
  if (slot_ != slot) {
    FinishSlot();
    BeginSlot(slot);
  }
  PassVectors(row);
  if (at_ == compared_.size()) return;
  Compared& compared = *compared_[at_];
  if (position_ == compared.segment->size() || compared.segment->row_id(position_) != row) return;
  vector_.resize(value.size() / sizeof(float));
  std::memcpy(vector_.data(), value.data(), vector_.size() * sizeof(float));
  compared.comparison->CompareVector(slot, position_, in_segment_[position_], vector_);
  ++position_;
}

void SegmentsCheck::Finish(const EntriesCheck& entries) {
  CompareRows();
  FinishSlot();
  for (size_t slot = 0; slot < schema_.vectors.size() && !compared_.empty(); ++slot) {
    if (seen_slots_[slot]) continue;
    BeginSlot(slot);
    FinishSlot();
  }
  for (const auto& compared : compared_) {
    const SealedSegment& segment = *compared->segment;
    compared->comparison->CompareIds(entries.rows(), entries.retired(), segment.rows(),
                                     segment.size());
    if (compared->comparison->agrees()) {
      good_.push_back(compared->file);
      continue;
    }
    const std::vector<Finding> found = compared->findings.Take();
    AddBad(compared->file.name,
           absl::StrFormat("%s: it does not agree with the rows: %s: %s", PathOf(compared->file),
                           found[0].place, found[0].message));
  }
  compared_.clear();
}

}  // namespace azimuth::engine
