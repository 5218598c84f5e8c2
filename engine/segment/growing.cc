#include "engine/segment/growing.h"

#include "base/check.h"
#include "base/status.h"
#include "engine/segment/metric.h"
#include "index/distance/distance.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
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

// An allocation costs about this much beside its bytes.
constexpr uint64_t kAllocationBytes = 16;

uint64_t HeapBytes(const std::string& text) {
  // A short one stands in the object.
  return text.capacity() > 15 ? text.capacity() + kAllocationBytes : 0;
}

uint64_t HeapBytes(const ValueMap& map);
uint64_t HeapBytes(const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value.data)) return HeapBytes(*text);
  if (const auto* map = std::get_if<ValueMap>(&value.data)) return HeapBytes(*map);
  const auto* list = std::get_if<ValueList>(&value.data);
  if (list == nullptr || list->capacity() == 0) return 0;
  uint64_t bytes = kAllocationBytes + list->capacity() * sizeof(Value);
  for (const Value& element : *list) bytes += HeapBytes(element);
  return bytes;
}

uint64_t HeapBytes(const ValueMap& map) {
  constexpr uint64_t kNodeBytes = 32 + sizeof(ValueMap::value_type) + kAllocationBytes;
  uint64_t bytes = 0;
  for (const auto& [name, value] : map) bytes += kNodeBytes + HeapBytes(name) + HeapBytes(value);
  return bytes;
}

// Of key and declared fields.
template <typename Row>
uint64_t HeapBytesOf(const Row& row) {
  uint64_t bytes = 0;
  if (const auto* text = std::get_if<std::string>(&row.key)) bytes += HeapBytes(*text);
  if (row.fields.capacity() > 0) {
    bytes += kAllocationBytes + row.fields.capacity() * sizeof(row.fields.front());
  }
  for (const auto& [id, value] : row.fields) bytes += HeapBytes(value);
  return bytes;
}

template <typename Row>
index::ScalarView ReadField(const Row& row, const FilterField& field) {
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
      if (row.dynamic == nullptr) return {};
      const Value* value = FindPath(*row.dynamic, field.path);
      return value == nullptr ? index::ScalarView{} : index::ViewOf(*value);
    }
  }
  return {};
}

}  // namespace

GrowingSegment::GrowingSegment(const Schema& schema, RowId first, uint32_t capacity,
                               MemoryBudget* budget, Codes codes)
    : schema_(schema),
      first_(first),
      capacity_(capacity),
      budget_(budget),
      codes_(codes),
      end_(Raw(first)) {
  CountBytes(sizeof(*this));
}

GrowingSegment::~GrowingSegment() {
  if (budget_ != nullptr) {
    budget_->Add(MemoryPart::kGrowing, -static_cast<int64_t>(memory_bytes()));
  }
}

void GrowingSegment::CountBytes(uint64_t bytes) {
  memory_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  if (budget_ != nullptr) budget_->Add(MemoryPart::kGrowing, static_cast<int64_t>(bytes));
}

uint64_t RowHeapBytes(const storage::StoredRow& row) {
  return HeapBytesOf(row) + HeapBytes(row.dynamic);
}

uint64_t GrowingSegment::HeapBytes(const Row& row) {
  uint64_t bytes = HeapBytesOf(row);
  if (row.dynamic != nullptr) {
    bytes += kAllocationBytes + sizeof(ValueMap) + engine::HeapBytes(*row.dynamic);
  }
  return bytes;
}

uint64_t GrowingSegment::AddChunk(uint32_t position) {
  uint64_t bytes = 0;
  if (position >= kSmallRows && large_.empty()) {
    large_.resize(ChunkOf(capacity_ - 1) + 1 - kSmallChunks);
    bytes += kAllocationBytes + large_.size() * sizeof(large_.front());
  }
  const uint32_t rows =
      std::min(position < kSmallRows ? kSmallChunkRows : kChunkRows, capacity_ - position);
  auto chunk = std::make_unique<Chunk>();
  chunk->rows = std::vector<Row>(rows);
  chunk->vectors = std::vector<VectorChunk>(schema_.vectors.size());
  bytes += sizeof(Chunk) + rows * sizeof(Row) + schema_.vectors.size() * sizeof(VectorChunk) +
           3 * kAllocationBytes;
  const size_t index = ChunkOf(position);
  (index < kSmallChunks ? small_[index] : large_[index - kSmallChunks]) = std::move(chunk);
  return bytes;
}

uint64_t GrowingSegment::SetVector(Chunk& chunk, size_t slot, uint32_t in_chunk,
                                   std::span<const float> vector) {
  const size_t dim = schema_.vectors[slot].dim;
  AZ_CHECK(vector.size() == dim);
  VectorChunk& target = chunk.vectors[slot];
  uint64_t bytes = 0;
  // Who reads values has seen a bit of a counted row before, so this is done by then.
  if (target.values.empty()) {
    target.values.resize(chunk.rows.size() * dim);
    bytes = kAllocationBytes + target.values.size() * sizeof(float);
    if (HasCodes(slot)) {
      target.codes.resize(chunk.rows.size() * index::RowCodeBytes(dim));
      target.code_rows.resize(chunk.rows.size());
      bytes += 2 * kAllocationBytes + target.codes.size() +
               target.code_rows.size() * sizeof(index::RowCode);
    }
  }
  float* copy = target.values.data() + in_chunk * dim;
  std::memcpy(copy, vector.data(), dim * sizeof(float));
  if (schema_.vectors[slot].metric == Metric::kCosine) index::NormalizeL2({copy, dim});
  if (!target.codes.empty()) {
    uint8_t* code = target.codes.data() + in_chunk * index::RowCodeBytes(dim);
    target.code_rows[in_chunk] = index::EncodeRow({copy, dim}, code);
  }
  target.present.fetch_or(uint64_t{1} << in_chunk, std::memory_order_relaxed);
  return bytes;
}

void GrowingSegment::Append(RowId row, storage::StoredRow value,
                            std::span<const std::span<const float>> vectors) {
  AZ_DCHECK(!closed());
  const uint32_t position = size_.load(std::memory_order_relaxed);
  AZ_CHECK(position < capacity_);
  const uint32_t in_chunk = InChunk(position);
  uint64_t bytes = in_chunk == 0 ? AddChunk(position) : 0;
  Chunk& chunk = ChunkAt(ChunkOf(position));
  Row& copy = chunk.rows[in_chunk];
  copy = {row,
          value.insert_seq,
          value.expires_at_unix_us,
          std::move(value.key),
          std::move(value.fields),
          nullptr};
  if (!value.dynamic.empty()) {
    copy.dynamic = std::make_unique<const ValueMap>(std::move(value.dynamic));
  }
  bytes += HeapBytes(copy);
  for (size_t slot = 0; slot < vectors.size(); ++slot) {
    if (!vectors[slot].empty()) bytes += SetVector(chunk, slot, in_chunk, vectors[slot]);
  }
  CountBytes(bytes);
  end_.store(Raw(row) + 1, std::memory_order_relaxed);
  const int64_t expires = copy.expires_at_unix_us;
  if (expires != 0 && expires < earliest_expiry_.load(std::memory_order_relaxed)) {
    earliest_expiry_.store(expires, std::memory_order_relaxed);
  }
  size_.store(position + 1, std::memory_order_release);
}

void GrowingSegment::Close(RowId end) {
  end_.store(Raw(end), std::memory_order_relaxed);
  closed_.store(true, std::memory_order_release);
}

KeyView GrowingSegment::key(uint32_t position) const {
  return ViewOfKey(At(position).key);
}

void GrowingSegment::ReadScalars(const FilterField& field, uint32_t first, uint32_t count,
                                 index::ScalarView* out) const {
  for (uint32_t i = 0; i < count; ++i) out[i] = ReadField(At(first + i), field);
}

void GrowingSegment::ExportScalars(std::span<const uint32_t> positions, uint32_t base,
                                   ColumnSetWriter& out) const {
  for (const uint32_t position : positions) {
    const Row& row = At(position);
    for (const auto& [id, value] : row.fields) out.AppendField(id, base, index::ViewOf(value));
    if (row.dynamic != nullptr) out.AppendDynamic(*row.dynamic, base);
    ++base;
  }
}

std::vector<const float*> GrowingSegment::ExportVectors(size_t vector_slot,
                                                        std::span<const uint32_t> positions) const {
  const size_t dim = schema_.vectors[vector_slot].dim;
  std::vector<const float*> result;
  result.reserve(positions.size());
  for (const uint32_t position : positions) {
    const VectorChunk& chunk = ChunkAt(ChunkOf(position)).vectors[vector_slot];
    const uint32_t in_chunk = InChunk(position);
    const bool present = (chunk.present.load(std::memory_order_relaxed) >> in_chunk & 1) != 0;
    result.push_back(present ? chunk.values.data() + in_chunk * dim : nullptr);
  }
  return result;
}

uint32_t GrowingSegment::VectorCount(size_t vector_slot) const {
  uint32_t count = 0;
  const uint32_t n = size();
  for (size_t index = 0; FirstOf(index) < n; ++index) {
    const VectorChunk& chunk = ChunkAt(index).vectors[vector_slot];
    count += static_cast<uint32_t>(std::popcount(chunk.present.load(std::memory_order_relaxed)));
  }
  return count;
}

absl::StatusOr<uint64_t> GrowingSegment::Scan(size_t vector_slot, const float* query,
                                              uint32_t limit, const index::Bitset* admitted,
                                              index::TopK& top, const CancelToken& cancel) const {
  const size_t dim = schema_.vectors[vector_slot].dim;
  const index::Metric metric = ToIndexMetric(schema_.vectors[vector_slot].metric);
  const index::DistanceKernels kernels = index::KernelsFor(metric);
  static_assert(kChunkRows <= index::CodeFilter::kBlockRowsMax);
  std::optional<index::CodeFilter> filter;
  if (HasCodes(vector_slot)) filter.emplace(metric, std::span(query, dim));
  constexpr size_t kCancelChunks = 64;
  uint64_t computed = 0;
  float distances[kChunkRows];
  uint32_t ids[kChunkRows];
  for (size_t index = 0; FirstOf(index) < limit; ++index) {
    if (index % kCancelChunks == 0) AZ_RETURN_IF_ERROR(cancel.Check());
    const uint32_t first = FirstOf(index);
    const VectorChunk& chunk = ChunkAt(index).vectors[vector_slot];
    const uint32_t count = std::min(kChunkRows, limit - first);
    uint64_t rows = chunk.present.load(std::memory_order_relaxed);
    if (count < kChunkRows) rows &= (uint64_t{1} << count) - 1;
    if (admitted != nullptr) rows &= admitted->words()[first / 64] >> (first % 64);
    uint32_t chosen = 0;
    for (; rows != 0; rows &= rows - 1) {
      ids[chosen++] = static_cast<uint32_t>(std::countr_zero(rows));
    }
    if (chosen == 0) continue;  // Also: the chunk may have no vectors yet.
    computed += chosen;
    if (filter.has_value()) {
      chosen = filter->Keep(chunk.codes.data(), chunk.code_rows.data(), top.bound(), ids, chosen);
    }
    if (chosen == 0) continue;
    kernels.gather(query, chunk.values.data(), dim, dim, ids, chosen, distances);
    for (uint32_t i = 0; i < chosen; ++i) {
      if (distances[i] <= top.bound()) top.Push({distances[i], first + ids[i]});
    }
  }
  return computed;
}

absl::StatusOr<index::GraphSearchResult> GrowingSegment::Walk(size_t, const float*,
                                                              const WalkEffort&, uint64_t,
                                                              const index::Bitset*, index::TopK&,
                                                              index::GraphScratch&,
                                                              const CancelToken&) const {
  return absl::InternalError("a growing segment has no graph");
}

void GrowingSegment::MarkRetired(uint32_t position) {
  const uint64_t bit = uint64_t{1} << InChunk(position);
  Chunk& chunk = ChunkAt(ChunkOf(position));
  if ((chunk.retired.fetch_or(bit, std::memory_order_acq_rel) & bit) == 0) {
    retired_count_.fetch_add(1, std::memory_order_acq_rel);
  }
}

uint64_t GrowingSegment::RetiredWord(size_t i) const {
  const auto first = static_cast<uint32_t>(i * 64);
  if (first >= kSmallRows) return ChunkAt(ChunkOf(first)).retired.load(std::memory_order_acquire);
  const uint32_t end = std::min(first + 64, size());
  uint64_t word = 0;
  for (size_t index = ChunkOf(first); FirstOf(index) < end; ++index) {
    word |= ChunkAt(index).retired.load(std::memory_order_acquire) << (FirstOf(index) - first);
  }
  return word;
}

}  // namespace azimuth::engine
