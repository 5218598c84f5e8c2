#include "engine/segment/segment.h"

#include <algorithm>

namespace azimuth::engine {
namespace {

// The first position in [0, size) for which `is_past` holds; it holds for a suffix.
template <typename F>
uint32_t PartitionPoint(uint32_t size, F&& is_past) {
  uint32_t low = 0;
  uint32_t high = size;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (is_past(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace

void ColumnSetWriter::Column::Append(uint32_t position, const index::ScalarView& value) {
  if (static_cast<int64_t>(position) <= last_position) return;
  if (value.kind == ValueKind::kMissing) return;
  last_position = position;
  writer.Append(position, value);
}

void ColumnSetWriter::AppendField(FieldId field, uint32_t position,
                                  const index::ScalarView& value) {
  fields_[field].Append(position, value);
}

void ColumnSetWriter::AppendPath(std::string_view path, uint32_t position,
                                 const index::ScalarView& value) {
  PathColumn(path).Append(position, value);
}

void ColumnSetWriter::AppendDynamic(const ValueMap& dynamic, uint32_t position) {
  // Plain names first: `{"a.b": 1, "a": {"b": 2}}` reads 1 by `a.b`, here as in a growing segment.
  for (const auto& [name, value] : dynamic) {
    AppendPath(name, position, index::ViewOf(value));
  }
  std::string path;
  AppendNested(path, dynamic, position);
}

void ColumnSetWriter::AppendNested(std::string& path, const ValueMap& map, uint32_t position) {
  const size_t length = path.size();
  for (const auto& [name, value] : map) {
    // A path is split at its dots when it is read, so what lies under such a name has no path.
    if (name.find('.') != std::string::npos) continue;
    path.append(name);
    if (length > 0) AppendPath(path, position, index::ViewOf(value));
    if (value.kind() == ValueKind::kMap) {
      path.push_back('.');
      AppendNested(path, std::get<ValueMap>(value.data), position);
    }
    path.resize(length);
  }
}

ColumnSetWriter::Column& ColumnSetWriter::PathColumn(std::string_view path) {
  auto it = paths_.find(path);
  if (it == paths_.end()) it = paths_.emplace(std::string(path), Column{}).first;
  return it->second;
}

uint32_t Segment::InsertedBy(Seq seq) const {
  const uint32_t count = size();
  if (count == 0 || insert_seq(count - 1) <= seq) return count;
  return PartitionPoint(count, [&](uint32_t i) { return insert_seq(i) > seq; });
}

std::optional<uint32_t> Segment::Find(RowId row) const {
  const uint32_t count = size();
  const uint32_t position = PartitionPoint(count, [&](uint32_t i) { return row_id(i) >= row; });
  if (position == count || row_id(position) != row) return std::nullopt;
  return position;
}

uint64_t RowsInMemory(std::span<const std::shared_ptr<Segment>> segments) {
  uint64_t rows = 0;
  for (const auto& segment : segments) {
    if (segment->state() != SegmentState::kSealed) rows += segment->size();
  }
  return rows;
}

Segment* SegmentSet::Find(RowId row) const {
  const auto it =
      std::upper_bound(segments.begin(), segments.end(), row,
                       [](RowId r, const auto& segment) { return r < segment->rows().first; });
  if (it == segments.begin()) return nullptr;
  return std::prev(it)->get();
}

}  // namespace azimuth::engine
