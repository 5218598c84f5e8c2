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

// Rows between two looks at whether the check is still wanted.
constexpr uint32_t kStep = 4096;
constexpr RowId kRowsEnd{std::numeric_limits<uint64_t>::max()};
// For each row while vectors are looked up: its position, and the vector, by position twice.
constexpr uint64_t kLookUpBytes = sizeof(uint32_t) + 2 * sizeof(const float*);

// The file says something of itself that is not right, or is not there. All else says nothing
// about it.
bool IsBadFile(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsFailedPrecondition(status) || absl::IsNotFound(status);
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
  kept_bytes_ += compared->bytes();
  compared_.push_back(std::move(compared));
  Count();
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
absl::Status SegmentsCheck::CheckFile(const SealedSegment& segment) {
  AZ_RETURN_IF_ERROR(segment.Verify(cancel_));
  for (size_t slot = 0; slot < schema_.vectors.size(); ++slot) {
    if (!segment.HasGraph(slot)) continue;
    const index::FrozenGraph& graph = *segment.Graph(slot).graph;
    AZ_ASSIGN_OR_RETURN(const uint32_t unreachable, CountUnreachable(graph, cancel_));
    if (!IsUnreachable(unreachable, graph.node_count())) continue;
    return DataLoss("graph of field %s: %d of %d nodes cannot be reached",
                    Quoted(schema_.vectors[slot].name), unreachable, graph.node_count());
  }
  return CheckContent(segment);
}

// What a comparison with the rows takes for granted, and what it does not come to since the rows
// were dropped by a merge.
absl::Status SegmentsCheck::CheckContent(const SealedSegment& segment) {
  const storage::RowRange range = segment.rows();
  if (range.first >= range.end || range.end > bounds_.next_row) {
    return DataLoss("its rows %d to %d are out of range", Raw(range.first), Raw(range.end));
  }
  Seq last{};
  for (uint32_t i = 0; i < segment.size(); ++i) {
    if (i % kStep == 0) AZ_RETURN_IF_ERROR(cancel_.Check());
    const Seq seq = segment.insert_seq(i);
    if (seq == kSeqZero || seq < last || seq > bounds_.as_of) {
      return DataLoss("the row at position %d was inserted at %d, out of order or too late", i,
                      Raw(seq));
    }
    last = seq;
  }
  for (size_t slot = 0; slot < schema_.vectors.size(); ++slot) {
    const uint32_t dim = schema_.vectors[slot].dim;
    uint32_t steps = 0;
    LookUpVectors(segment, slot);
    for (const float* vector : in_segment_) {
      if (steps++ % kStep == 0) AZ_RETURN_IF_ERROR(cancel_.Check());
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
      kept_bytes_ -= each->bytes();
      AddBad(each->file.name,
             absl::StrFormat("%s: its rows %d to %d are those of another file", PathOf(each->file),
                             Raw(range.first), Raw(range.end)));
    }
    end = std::max(end, range.end);
    return overlaps;
  });
  seen_slots_.assign(schema_.vectors.size(), false);
  in_segment_ = std::vector<const float*>();
  Count();
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
    return VisitVector(static_cast<size_t>(field - schema_.vectors.begin()), parsed.row, value);
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
  batch_.Add(position_, std::move(stored));
  Count();
  if (batch_.full()) CompareRows();
}

void SegmentsCheck::CompareRows() {
  if (batch_.positions.empty()) return;
  compared_[at_]->comparison->CompareRows(batch_);
  batch_.Clear();
  Count();
}

void SegmentsCheck::LookUpVectors(const SealedSegment& segment, size_t slot) {
  in_segment_ = std::vector<const float*>();
  counted_.Set(HeldBytes() + segment.size() * kLookUpBytes);
  std::vector<uint32_t> all(segment.size());
  std::iota(all.begin(), all.end(), 0U);
  in_segment_ = segment.ExportVectors(slot, all);
  Count();
}

uint64_t SegmentsCheck::HeldBytes() const {
  return kept_bytes_ + batch_.bytes + in_segment_.capacity() * sizeof(in_segment_[0]);
}

void SegmentsCheck::DropDifferent() {
  std::erase_if(compared_, [&](const auto& each) {
    if (each->comparison->agrees()) return false;
    const std::vector<Finding> found = each->findings.Take();
    AddBad(each->file.name, absl::StrFormat("%s: it does not agree with the rows: %s: %s",
                                            PathOf(each->file), found[0].place, found[0].message));
    kept_bytes_ -= each->bytes();
    return true;
  });
  Count();
}

void SegmentsCheck::BeginSlot(size_t slot) {
  CompareRows();
  DropDifferent();
  slot_ = slot;
  seen_slots_[slot] = true;
  at_ = 0;
  position_ = 0;
  in_segment_.clear();
}

absl::Status SegmentsCheck::FinishSlot() {
  if (slot_.has_value()) AZ_RETURN_IF_ERROR(PassVectors(kRowsEnd));
  slot_.reset();
  return absl::OkStatus();
}

absl::Status SegmentsCheck::PassVectors(RowId row) {
  for (; at_ < compared_.size(); ++at_, position_ = 0, in_segment_.clear()) {
    Compared& compared = *compared_[at_];
    const uint32_t size = compared.segment->size();
    if (in_segment_.empty()) LookUpVectors(*compared.segment, *slot_);
    for (; position_ < size && compared.segment->row_id(position_) < row; ++position_) {
      if (position_ % kStep == 0) AZ_RETURN_IF_ERROR(cancel_.Check());
      if (!compared.there.Test(position_)) continue;
      compared.comparison->CompareVector(*slot_, position_, in_segment_[position_], {});
    }
    if (row < compared.segment->rows().end) break;
  }
  return absl::OkStatus();
}

absl::Status SegmentsCheck::VisitVector(size_t slot, RowId row, std::string_view value) {
  if (slot_ != slot) {
    AZ_RETURN_IF_ERROR(FinishSlot());
    BeginSlot(slot);
  }
  AZ_RETURN_IF_ERROR(PassVectors(row));
  if (at_ == compared_.size()) return absl::OkStatus();
  Compared& compared = *compared_[at_];
  const bool there =
      position_ < compared.segment->size() && compared.segment->row_id(position_) == row;
  if (!there) return absl::OkStatus();
  vector_.resize(value.size() / sizeof(float));
  std::memcpy(vector_.data(), value.data(), vector_.size() * sizeof(float));
  compared.comparison->CompareVector(slot, position_, in_segment_[position_], vector_);
  ++position_;
  return absl::OkStatus();
}

absl::Status SegmentsCheck::Finish(const EntriesCheck& entries) {
  CompareRows();
  AZ_RETURN_IF_ERROR(FinishSlot());
  for (size_t slot = 0; slot < schema_.vectors.size() && !compared_.empty(); ++slot) {
    if (seen_slots_[slot]) continue;
    BeginSlot(slot);
    AZ_RETURN_IF_ERROR(FinishSlot());
  }
  for (const auto& compared : compared_) {
    AZ_RETURN_IF_ERROR(cancel_.Check());
    const SealedSegment& segment = *compared->segment;
    compared->comparison->CompareIds(entries.rows(), entries.retired(), segment.rows(),
                                     segment.size());
  }
  DropDifferent();
  for (const auto& compared : compared_) good_.push_back(compared->file);
  compared_.clear();
  kept_bytes_ = 0;
  in_segment_ = std::vector<const float*>();
  Count();
  return absl::OkStatus();
}

}  // namespace azimuth::engine
