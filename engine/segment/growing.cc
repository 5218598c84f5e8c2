#include "engine/segment/growing.h"

#include "base/check.h"
#include "base/status.h"
#include "engine/segment/metric.h"
#include "index/distance/distance.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace azimuth::engine {
namespace {

KeyView ViewOfKey(const Key& key) {
  if (const auto* number = std::get_if<int64_t>(&key)) return {false, *number, {}};
  return {true, 0, std::get<std::string>(key)};
}

// The value at a dotted path: a plain name if there is one, else down through maps.
const Value* FindPath(const ValueMap& map, std::string_view path) {
  if (const auto it = map.find(path); it != map.end()) return &it->second;
  const size_t dot = path.find('.');
  if (dot == std::string_view::npos) return nullptr;
  const auto it = map.find(path.substr(0, dot));
  if (it == map.end() || it->second.kind() != ValueKind::kMap) return nullptr;
  const auto* inner = &std::get<ValueMap>(it->second.data);
  std::string_view rest = path.substr(dot + 1);
  while (true) {
    const size_t next = rest.find('.');
    const auto found = inner->find(rest.substr(0, next));
    if (found == inner->end()) return nullptr;
    if (next == std::string_view::npos) return &found->second;
    if (found->second.kind() != ValueKind::kMap) return nullptr;
    inner = &std::get<ValueMap>(found->second.data);
    rest.remove_prefix(next + 1);
  }
}

index::ScalarView ReadField(const storage::StoredRow& row, const FilterField& field) {
  switch (field.source) {
    case FilterField::Source::kKey: {
      index::ScalarView view;
      const KeyView key = ViewOfKey(row.key);
      view.kind = key.is_string ? ValueKind::kString : ValueKind::kInt64;
      view.int64 = key.number;
      view.text = key.text;
      return view;
    }
    case FilterField::Source::kDeclared: {
      const auto it =
          std::lower_bound(row.fields.begin(), row.fields.end(), field.id,
                           [](const auto& entry, FieldId id) { return entry.first < id; });
      if (it == row.fields.end() || it->first != field.id) return {};
      return index::ViewOf(it->second);
    }
    case FilterField::Source::kDynamic: {
      const Value* value = FindPath(row.dynamic, field.path);
      return value == nullptr ? index::ScalarView{} : index::ViewOf(*value);
    }
  }
  return {};
}

}  // namespace

GrowingSegment::GrowingSegment(const Schema& schema, RowId first, uint32_t capacity)
    : schema_(schema),
      first_(first),
      capacity_(capacity),
      blocks_((capacity + kBlockRows - 1) / kBlockRows),
      end_(Raw(first)) {}

std::unique_ptr<GrowingSegment::Block> GrowingSegment::NewBlock() {
  auto block = std::make_unique<Block>();
  block->vectors = std::vector<VectorBlock>(schema_.vectors.size());
  uint64_t bytes = sizeof(Block);
  for (size_t slot = 0; slot < schema_.vectors.size(); ++slot) {
    const size_t floats = size_t{kBlockRows} * schema_.vectors[slot].dim;
    block->vectors[slot].values.resize(floats);
    bytes += floats * sizeof(float);
  }
  memory_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return block;
}

void GrowingSegment::Append(RowId row, storage::StoredRow value,
                            std::span<const std::span<const float>> vectors) {
  AZ_DCHECK(!closed());
  const uint32_t position = size_.load(std::memory_order_relaxed);
  AZ_CHECK(position < capacity_);
  std::unique_ptr<Block>& block = blocks_[position / kBlockRows];
  if (block == nullptr) block = NewBlock();
  const uint32_t in_block = position % kBlockRows;
  block->rows[in_block] = {row, std::move(value)};
  for (size_t slot = 0; slot < vectors.size(); ++slot) {
    if (vectors[slot].empty()) continue;
    const size_t dim = schema_.vectors[slot].dim;
    AZ_CHECK(vectors[slot].size() == dim);
    VectorBlock& target = block->vectors[slot];
    float* copy = target.values.data() + in_block * dim;
    std::memcpy(copy, vectors[slot].data(), dim * sizeof(float));
    if (schema_.vectors[slot].metric == Metric::kCosine) index::NormalizeL2({copy, dim});
    target.present.fetch_or(uint64_t{1} << in_block, std::memory_order_relaxed);
  }
  end_.store(Raw(row) + 1, std::memory_order_relaxed);
  size_.store(position + 1, std::memory_order_release);
}

void GrowingSegment::Close(RowId end) {
  end_.store(Raw(end), std::memory_order_relaxed);
  closed_.store(true, std::memory_order_release);
}

KeyView GrowingSegment::key(uint32_t position) const {
  return ViewOfKey(At(position).row.key);
}

void GrowingSegment::ReadScalars(const FilterField& field, uint32_t first, uint32_t count,
                                 index::ScalarView* out) const {
  for (uint32_t i = 0; i < count; ++i) out[i] = ReadField(At(first + i).row, field);
}

void GrowingSegment::ExportScalars(std::span<const uint32_t> positions, uint32_t base,
                                   ColumnSetWriter& out) const {
  for (const uint32_t position : positions) {
    const storage::StoredRow& row = At(position).row;
    for (const auto& [id, value] : row.fields) out.AppendField(id, base, index::ViewOf(value));
    out.AppendDynamic(row.dynamic, base);
    ++base;
  }
}

std::vector<const float*> GrowingSegment::ExportVectors(size_t vector_slot,
                                                        std::span<const uint32_t> positions) const {
  const size_t dim = schema_.vectors[vector_slot].dim;
  std::vector<const float*> result;
  result.reserve(positions.size());
  for (const uint32_t position : positions) {
    const VectorBlock& block = blocks_[position / kBlockRows]->vectors[vector_slot];
    const uint32_t in_block = position % kBlockRows;
    const bool present = (block.present.load(std::memory_order_relaxed) >> in_block & 1) != 0;
    result.push_back(present ? block.values.data() + in_block * dim : nullptr);
  }
  return result;
}

uint32_t GrowingSegment::VectorCount(size_t vector_slot) const {
  uint32_t count = 0;
  for (uint32_t first = 0, n = size(); first < n; first += kBlockRows) {
    const VectorBlock& block = blocks_[first / kBlockRows]->vectors[vector_slot];
    count += static_cast<uint32_t>(std::popcount(block.present.load(std::memory_order_relaxed)));
  }
  return count;
}

absl::StatusOr<uint64_t> GrowingSegment::Scan(size_t vector_slot, const float* query,
                                              uint32_t limit, const index::Bitset* admitted,
                                              index::TopK& top, const CancelToken& cancel) const {
  const size_t dim = schema_.vectors[vector_slot].dim;
  const index::DistanceKernels kernels =
      index::KernelsFor(ToIndexMetric(schema_.vectors[vector_slot].metric));
  constexpr uint32_t kCancelBlocks = 64;
  uint64_t computed = 0;
  float distances[kBlockRows];
  uint32_t ids[kBlockRows];
  for (uint32_t first = 0; first < limit; first += kBlockRows) {
    const uint32_t block_index = first / kBlockRows;
    if (block_index % kCancelBlocks == 0) AZ_RETURN_IF_ERROR(cancel.Check());
    const VectorBlock& block = blocks_[block_index]->vectors[vector_slot];
    const uint32_t count = std::min(kBlockRows, limit - first);
    uint64_t rows = block.present.load(std::memory_order_relaxed);
    if (count < kBlockRows) rows &= (uint64_t{1} << count) - 1;
    if (admitted != nullptr) rows &= admitted->words()[block_index];
    uint32_t chosen = 0;
    for (; rows != 0; rows &= rows - 1) {
      ids[chosen++] = static_cast<uint32_t>(std::countr_zero(rows));
    }
    if (chosen == 0) continue;
    kernels.gather(query, block.values.data(), dim, dim, ids, chosen, distances);
    computed += chosen;
    for (uint32_t i = 0; i < chosen; ++i) {
      if (distances[i] <= top.bound()) top.Push({distances[i], first + ids[i]});
    }
  }
  return computed;
}

absl::StatusOr<index::GraphSearchResult> GrowingSegment::Walk(size_t, const float*, size_t,
                                                              uint64_t, const index::Bitset*,
                                                              index::TopK&, index::GraphScratch&,
                                                              const CancelToken&) const {
  return absl::InternalError("a growing segment has no graph");
}

void GrowingSegment::MarkRetired(uint32_t position) {
  const uint64_t bit = uint64_t{1} << (position % kBlockRows);
  Block& block = *blocks_[position / kBlockRows];
  if ((block.retired.fetch_or(bit, std::memory_order_acq_rel) & bit) == 0) {
    retired_count_.fetch_add(1, std::memory_order_acq_rel);
  }
}

}  // namespace azimuth::engine
