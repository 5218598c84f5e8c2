#include "engine/admin/check_segment.h"

#include "base/status.h"
#include "engine/admin/check_graph.h"
#include "index/distance/distance.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <string>

namespace azimuth::engine {
namespace {

// Rows whose content is compared at once, and of a segment if not all are.
constexpr size_t kBatch = 1024;
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
        size_(segment.InsertedBy(context.applied)) {}

  absl::StatusOr<bool> Run() {
    if (rows_.complete()) {
      CompareIds();
      if (retired_ != nullptr) CompareRetired();
    }
    if (rows_.rows_complete) AZ_RETURN_IF_ERROR(CompareContent());
    return agrees_;
  }

 private:
  void Differs(std::string_view kind, RowId row, std::string message) {
    agrees_ = false;
    context_.findings.Derived(
        kind, absl::StrFormat("%s, row %d", collection_.SegmentPlace(segment_.id()), Raw(row)),
        std::move(message));
  }
  Seq RetiredAt(RowId row) const {
    const auto it =
        std::lower_bound(rows_.retired.begin(), rows_.retired.end(), row,
                         [](const auto& entry, RowId wanted) { return entry.first < wanted; });
    return it == rows_.retired.end() || it->first != row ? kSeqMax : it->second;
  }

  void CompareIds();
  void CompareRetired();
  absl::Status CompareContent();
  absl::Status CompareBatch(std::span<const uint32_t> positions);
  void CompareScalars(std::span<const uint32_t> positions,
                      std::span<const std::optional<storage::StoredRow>> stored);
  std::string DifferentField(uint32_t position, const storage::StoredRow& stored) const;
  absl::Status CompareVectors(std::span<const uint32_t> positions, std::span<const RowId> ids,
                              std::span<const std::optional<storage::StoredRow>> stored,
                              size_t slot);

  CheckContext& context_;
  const CheckedCollection& collection_;
  const Segment& segment_;
  const storage::RowRange range_;
  const StoreRows& rows_;
  const RetiredMap* const retired_;
  const uint32_t size_;  // Rows of later commits are not looked at.
  bool agrees_ = true;
  size_t compared_ = 0;                             // Positions before this batch.
  std::vector<std::vector<const float*>> vectors_;  // By field, of all compared positions.
};

// Rows of the range and positions of the segment, both ascending.
void RowsComparison::CompareIds() {
  auto row = std::lower_bound(rows_.rows.begin(), rows_.rows.end(), range_.first);
  const auto end = std::lower_bound(row, rows_.rows.end(), range_.end);
  const auto missing = [&](RowId id) {
    // A merge leaves out rows that are retired.
    if (RetiredAt(id) == kSeqMax) {
      Differs("segment.row_missing", id, "the store has it, and the segment answers for its id");
    }
  };
  for (uint32_t position = 0; position < size_; ++position) {
    const RowId id = segment_.row_id(position);
    for (; row != end && *row < id; ++row) missing(*row);
    if (row != end && *row == id) {
      ++row;
    } else if (RetiredAt(id) == kSeqMax) {
      // A merge takes dropped rows out of the store before it takes the file out of the catalog;
      // their retirements stay until then.
      Differs("segment.row_unknown", id, "the segment has it, and the store does not");
    }
  }
  for (; row != end; ++row) missing(*row);
}

void RowsComparison::CompareRetired() {
  for (uint32_t position = 0; position < size_; ++position) {
    const RowId id = segment_.row_id(position);
    const Seq stored = RetiredAt(id);
    const bool hidden = (segment_.RetiredWord(position / 64) >> (position % 64) & 1) != 0;
    const Seq known = hidden ? retired_->RetiredAt(id) : kSeqMax;
    // What a later commit retired is live at this point.
    const bool same = stored == kSeqMax ? known > context_.applied : known == stored;
    if (!same) {
      Differs("memory.retired", id,
              stored == kSeqMax ? "it is live, and hidden from searches"
                                : "it is retired, and not hidden from searches");
    }
  }
}

absl::Status RowsComparison::CompareContent() {
  std::vector<uint32_t> positions;
  const uint32_t step = context_.deep ? 1 : std::max<uint32_t>(1, size_ / kSampleRows);
  for (uint32_t position = 0; position < size_; position += step) positions.push_back(position);
  for (size_t slot = 0; slot < collection_.schema.vectors.size(); ++slot) {
    vectors_.push_back(segment_.ExportVectors(slot, positions));
  }
  for (; compared_ < positions.size(); compared_ += kBatch) {
    AZ_RETURN_IF_ERROR(context_.cancel.Check());
    const size_t count = std::min(kBatch, positions.size() - compared_);
    const absl::Status status = CompareBatch(std::span(positions).subspan(compared_, count));
    if (IsUnreadable(status)) {
      context_.findings.Source("store.unreadable", collection_.SegmentPlace(segment_.id()),
                               absl::StrCat("its rows cannot be read: ", status.message()));
      return absl::OkStatus();
    }
    AZ_RETURN_IF_ERROR(status);
    context_.report.segment_rows_compared += count;
  }
  return absl::OkStatus();
}

absl::Status RowsComparison::CompareBatch(std::span<const uint32_t> positions) {
  std::vector<RowId> ids;
  for (const uint32_t position : positions) ids.push_back(segment_.row_id(position));
  AZ_ASSIGN_OR_RETURN(const auto stored,
                      context_.store.GetRows(collection_.row_store, ids, context_.snapshot));
  for (size_t i = 0; i < positions.size(); ++i) {
    if (!stored[i].has_value()) continue;  // Said already, if it is wrong.
    const uint32_t position = positions[i];
    const Key key = segment_.key(position).ToKey();
    if (key != stored[i]->key) {
      Differs("segment.row_differs", ids[i],
              absl::StrFormat("its key is %s in the segment, %s in the store", KeyToText(key),
                              KeyToText(stored[i]->key)));
    }
    if (segment_.insert_seq(position) != stored[i]->insert_seq) {
      Differs("segment.row_differs", ids[i],
              absl::StrFormat("it was inserted at %d by the segment, at %d by the store",
                              Raw(segment_.insert_seq(position)), Raw(stored[i]->insert_seq)));
    }
    if (segment_.expires_at_unix_us(position) != stored[i]->expires_at_unix_us) {
      Differs(
          "segment.row_differs", ids[i],
          absl::StrFormat("it ends at %d by the segment, at %d by the store",
                          segment_.expires_at_unix_us(position), stored[i]->expires_at_unix_us));
    }
  }
  CompareScalars(positions, stored);
  for (size_t slot = 0; slot < collection_.schema.vectors.size(); ++slot) {
    AZ_RETURN_IF_ERROR(CompareVectors(positions, ids, stored, slot));
  }
  return absl::OkStatus();
}

void AppendScalars(const storage::StoredRow& row, uint32_t position, ColumnSetWriter& out) {
  for (const auto& [field, value] : row.fields) {
    out.AppendField(field, position, index::ViewOf(value));
  }
  if (!row.dynamic.empty()) out.AppendDynamic(row.dynamic, position);
}

// The name of the first column that differs; nullopt if none does.
std::optional<std::string> DifferentColumn(const ColumnSetWriter& a, const ColumnSetWriter& b,
                                           uint32_t rows, const Schema& schema) {
  const auto same = [&](const auto& columns, const auto& others, const auto& id) {
    const auto one = columns.find(id);
    const auto other = others.find(id);
    return one != columns.end() && other != others.end() &&
           one->second.writer.Finish(rows) == other->second.writer.Finish(rows);
  };
  for (const auto* columns : {&a.fields(), &b.fields()}) {
    for (const auto& entry : *columns) {
      if (same(a.fields(), b.fields(), entry.first)) continue;
      for (const FieldDef& field : schema.fields) {
        if (field.id == entry.first) return field.name;
      }
      return absl::StrCat("number ", Raw(entry.first));
    }
  }
  for (const auto* columns : {&a.paths(), &b.paths()}) {
    for (const auto& entry : *columns) {
      if (!same(a.paths(), b.paths(), entry.first)) return entry.first;
    }
  }
  return std::nullopt;
}

// The columns of the batch are made once from the segment and once from the rows; both ways they
// are the same bytes.
void RowsComparison::CompareScalars(std::span<const uint32_t> positions,
                                    std::span<const std::optional<storage::StoredRow>> stored) {
  std::vector<uint32_t> there;
  ColumnSetWriter of_store;
  for (size_t i = 0; i < positions.size(); ++i) {
    if (!stored[i].has_value()) continue;
    AppendScalars(*stored[i], static_cast<uint32_t>(there.size()), of_store);
    there.push_back(positions[i]);
  }
  ColumnSetWriter of_segment;
  segment_.ExportScalars(there, 0, of_segment);
  const auto count = static_cast<uint32_t>(there.size());
  if (!DifferentColumn(of_segment, of_store, count, collection_.schema).has_value()) return;
  for (size_t i = 0; i < positions.size(); ++i) {
    if (!stored[i].has_value()) continue;
    const std::string field = DifferentField(positions[i], *stored[i]);
    if (field.empty()) continue;
    Differs("segment.row_differs", segment_.row_id(positions[i]),
            absl::StrFormat("field %s is not what the store has", Quoted(field)));
  }
}

std::string RowsComparison::DifferentField(uint32_t position,
                                           const storage::StoredRow& stored) const {
  ColumnSetWriter of_store;
  ColumnSetWriter of_segment;
  AppendScalars(stored, 0, of_store);
  segment_.ExportScalars({&position, 1}, 0, of_segment);
  return DifferentColumn(of_segment, of_store, 1, collection_.schema).value_or("");
}

// Cosine vectors were made unit length, perhaps by another kind of processor.
bool SameVector(const float* a, std::span<const float> b, Metric metric) {
  if (metric != Metric::kCosine) return std::memcmp(a, b.data(), b.size_bytes()) == 0;
  constexpr float kRounding = 1e-5F;
  for (size_t i = 0; i < b.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= kRounding)) return false;
  }
  return true;
}

absl::Status RowsComparison::CompareVectors(
    std::span<const uint32_t> positions, std::span<const RowId> ids,
    std::span<const std::optional<storage::StoredRow>> stored, size_t slot) {
  const VectorFieldDef& field = collection_.schema.vectors[slot];
  AZ_ASSIGN_OR_RETURN(auto vectors, context_.store.GetVectors(collection_.row_store, field.id, ids,
                                                              context_.snapshot));
  for (size_t i = 0; i < positions.size(); ++i) {
    if (!stored[i].has_value()) continue;
    const float* const in_segment = vectors_[slot][compared_ + i];
    std::vector<float>& in_store = vectors[i];
    if (in_store.empty() != (in_segment == nullptr)) {
      Differs("segment.row_differs", ids[i],
              absl::StrFormat("field %s has a vector in the %s only", Quoted(field.name),
                              in_store.empty() ? "segment" : "store"));
      continue;
    }
    if (in_segment == nullptr || in_store.size() != field.dim) continue;
    if (field.metric == Metric::kCosine) index::NormalizeL2(in_store);
    if (!SameVector(in_segment, in_store, field.metric)) {
      Differs(
          "segment.row_differs", ids[i],
          absl::StrFormat("the vector in field %s is not what the store has", Quoted(field.name)));
    }
  }
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
