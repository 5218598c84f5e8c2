#include "engine/admin/compare_segment.h"

#include "base/status.h"
#include "engine/segment/growing.h"
#include "index/distance/distance.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

namespace azimuth::engine {
namespace {

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

// Cosine vectors were made unit length, perhaps by another kind of processor.
bool SameVector(const float* a, std::span<const float> b, Metric metric) {
  if (metric != Metric::kCosine) return std::memcmp(a, b.data(), b.size_bytes()) == 0;
  constexpr float kRounding = 1e-5F;
  for (size_t i = 0; i < b.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= kRounding)) return false;
  }
  return true;
}

}  // namespace

void CompareBatch::Add(uint32_t position, storage::StoredRow&& row, uint64_t more) {
  bytes += sizeof(row) + RowHeapBytes(row) + more;
  positions.push_back(position);
  stored.push_back(std::move(row));
}

void CompareBatch::Clear() {
  positions.clear();
  stored.clear();
  bytes = 0;
}

Seq RetiredAt(std::span<const std::pair<RowId, Seq>> retired, RowId row) {
  const auto it =
      std::lower_bound(retired.begin(), retired.end(), row,
                       [](const auto& entry, RowId wanted) { return entry.first < wanted; });
  return it == retired.end() || it->first != row ? kSeqMax : it->second;
}

void SegmentComparison::Differs(std::string_view kind, RowId row, std::string message) {
  agrees_ = false;
  findings_.Derived(
      kind, absl::StrFormat("%s, row %d", collection_.SegmentPlace(segment_.id()), Raw(row)),
      std::move(message));
}

// Rows of the range and positions of the segment, both ascending.
void SegmentComparison::CompareIds(std::span<const RowId> rows,
                                   std::span<const std::pair<RowId, Seq>> retired,
                                   storage::RowRange range, uint32_t size) {
  auto row = std::lower_bound(rows.begin(), rows.end(), range.first);
  const auto end = std::lower_bound(row, rows.end(), range.end);
  const auto missing = [&](RowId id) {
    // A merge leaves out rows that are retired.
    if (RetiredAt(retired, id) == kSeqMax) {
      Differs("segment.row_missing", id, "the store has it, and the segment answers for its id");
    }
  };
  for (uint32_t position = 0; position < size; ++position) {
    const RowId id = segment_.row_id(position);
    for (; row != end && *row < id; ++row) missing(*row);
    if (row != end && *row == id) {
      ++row;
    } else if (RetiredAt(retired, id) == kSeqMax) {
      // A merge takes dropped rows out of the store before it takes the file out of the catalog;
      // their retirements stay until then.
      Differs("segment.row_unknown", id, "the segment has it, and the store does not");
    }
  }
  for (; row != end; ++row) missing(*row);
}

void SegmentComparison::CompareRows(const CompareBatch& batch) {
  for (size_t i = 0; i < batch.positions.size(); ++i) {
    const uint32_t position = batch.positions[i];
    const storage::StoredRow& stored = batch.stored[i];
    const RowId row = segment_.row_id(position);
    const Key key = segment_.key(position).ToKey();
    if (key != stored.key) {
      Differs("segment.row_differs", row,
              absl::StrFormat("its key is %s in the segment, %s in the store", KeyToText(key),
                              KeyToText(stored.key)));
    }
    if (segment_.insert_seq(position) != stored.insert_seq) {
      Differs("segment.row_differs", row,
              absl::StrFormat("it was inserted at %d by the segment, at %d by the store",
                              Raw(segment_.insert_seq(position)), Raw(stored.insert_seq)));
    }
    if (segment_.expires_at_unix_us(position) != stored.expires_at_unix_us) {
      Differs("segment.row_differs", row,
              absl::StrFormat("it ends at %d by the segment, at %d by the store",
                              segment_.expires_at_unix_us(position), stored.expires_at_unix_us));
    }
  }
  CompareScalars(batch);
}

// The columns of the batch are made once from the segment and once from the rows; both ways they
// are the same bytes.
void SegmentComparison::CompareScalars(const CompareBatch& batch) {
  const auto count = static_cast<uint32_t>(batch.positions.size());
  ColumnSetWriter of_store;
  for (uint32_t i = 0; i < count; ++i) AppendScalars(batch.stored[i], i, of_store);
  ColumnSetWriter of_segment;
  segment_.ExportScalars(batch.positions, 0, of_segment);
  if (!DifferentColumn(of_segment, of_store, count, collection_.schema).has_value()) return;
  for (uint32_t i = 0; i < count; ++i) {
    const std::string field = DifferentField(batch.positions[i], batch.stored[i]);
    if (field.empty()) continue;
    Differs("segment.row_differs", segment_.row_id(batch.positions[i]),
            absl::StrFormat("field %s is not what the store has", Quoted(field)));
  }
}

std::string SegmentComparison::DifferentField(uint32_t position,
                                              const storage::StoredRow& stored) const {
  ColumnSetWriter of_store;
  ColumnSetWriter of_segment;
  AppendScalars(stored, 0, of_store);
  segment_.ExportScalars({&position, 1}, 0, of_segment);
  return DifferentColumn(of_segment, of_store, 1, collection_.schema).value_or("");
}

void SegmentComparison::CompareVector(size_t slot, uint32_t position, const float* in_segment,
                                      std::span<float> in_store) {
  const VectorFieldDef& field = collection_.schema.vectors[slot];
  const RowId row = segment_.row_id(position);
  if (in_store.empty() != (in_segment == nullptr)) {
    Differs("segment.row_differs", row,
            absl::StrFormat("field %s has a vector in the %s only", Quoted(field.name),
                            in_store.empty() ? "segment" : "store"));
    return;
  }
  if (in_segment == nullptr || in_store.size() != field.dim) return;
  if (field.metric == Metric::kCosine) index::NormalizeL2(in_store);
  if (!SameVector(in_segment, in_store, field.metric)) {
    Differs(
        "segment.row_differs", row,
        absl::StrFormat("the vector in field %s is not what the store has", Quoted(field.name)));
  }
}

}  // namespace azimuth::engine
