// SealedSegment::Verify: all that can be checked of a file's bytes.
#include "base/status.h"
#include "engine/segment/sealed.h"
#include "index/bitset.h"

#include <algorithm>

namespace azimuth::engine {
namespace {

constexpr uint32_t kNodesPerCheck = 1024;

}  // namespace

absl::Status SealedSegment::VerifyBytes(const CancelToken& cancel) const {
  AZ_RETURN_IF_ERROR(file_->VerifySections(cancel));
  for (uint32_t i = 0; i < size_; ++i) {
    const bool in_range = RowId{row_ids_[i]} >= rows().first && RowId{row_ids_[i]} < rows().end;
    if (!in_range || (i > 0 && row_ids_[i] <= row_ids_[i - 1])) {
      return DataLoss("segment %d: row id %d at position %d is out of order", Raw(id()),
                      row_ids_[i], i);
    }
  }
  AZ_RETURN_IF_ERROR(VerifyKeys());
  AZ_RETURN_IF_ERROR(VerifyEnds());
  for (const auto& entry : fields_) AZ_RETURN_IF_ERROR(entry.second.Verify());
  for (const auto& entry : paths_) AZ_RETURN_IF_ERROR(entry.second.Verify());
  for (const VectorSection& section : vectors_) {
    AZ_RETURN_IF_ERROR(VerifyNodes(section));
    AZ_RETURN_IF_ERROR(VerifyByteVectors(section, cancel));
    if (section.has_graph) AZ_RETURN_IF_ERROR(section.graph.Verify());
  }
  return absl::OkStatus();
}

absl::Status SealedSegment::VerifyKeys() const {
  constexpr uint32_t kStep = 256;
  AZ_RETURN_IF_ERROR(keys_.Verify());
  const ValueKind kind =
      schema_.key_type == KeyType::kString ? ValueKind::kString : ValueKind::kInt64;
  index::ScalarView views[kStep];
  for (uint32_t first = 0; first < size_; first += kStep) {
    const uint32_t count = std::min(kStep, size_ - first);
    keys_.Read(first, count, views);
    for (uint32_t i = 0; i < count; ++i) {
      if (views[i].kind == kind) continue;
      return DataLoss("segment %d: the key at position %d is of kind %s instead of %s", Raw(id()),
                      first + i, ValueKindName(views[i].kind), ValueKindName(kind));
    }
  }
  return absl::OkStatus();
}

// The first end is believed where records that have ended are looked for.
absl::Status SealedSegment::VerifyEnds() const {
  if (expiries_ == nullptr) return absl::OkStatus();
  int64_t first = INT64_MAX;
  for (uint32_t i = 0; i < size_; ++i) {
    if (expiries_[1 + i] != 0) first = std::min(first, expiries_[1 + i]);
  }
  if (expiries_[0] == first) return absl::OkStatus();
  return DataLoss("segment %d: the row that ends first does so at %d instead of %d", Raw(id()),
                  first, expiries_[0]);
}

// Each leads to a row of its own.
absl::Status SealedSegment::VerifyNodes(const VectorSection& section) const {
  index::Bitset taken(size_);
  for (uint32_t node = 0; node < section.node_count; ++node) {
    const uint32_t position = section.node_positions[node];
    if (position >= size_) {
      return DataLoss("segment %d: node %d leads to position %d of %d", Raw(id()), node, position,
                      size_);
    }
    if (taken.Test(position)) {
      return DataLoss("segment %d: node %d leads to position %d, and so does another one",
                      Raw(id()), node, position);
    }
    taken.Set(position);
  }
  return absl::OkStatus();
}

absl::Status SealedSegment::VerifyByteVectors(const VectorSection& section,
                                              const CancelToken& cancel) const {
  if (section.bytes == nullptr) return absl::OkStatus();
  const size_t dim = schema_.vectors[static_cast<size_t>(&section - vectors_.data())].dim;
  for (uint32_t node = 0; node < section.node_count; ++node) {
    if (node % kNodesPerCheck == 0) AZ_RETURN_IF_ERROR(cancel.Check());
    const uint8_t* const bytes = section.bytes + node * dim;
    const float* const vector = section.base + node * dim;
    if (std::equal(bytes, bytes + dim, vector)) continue;
    return DataLoss("segment %d: the bytes of the vector of node %d are not those of its floats",
                    Raw(id()), node);
  }
  return absl::OkStatus();
}

absl::Status SealedSegment::Verify(const CancelToken& cancel) const {
  const absl::Status status = VerifyBytes(cancel);
  Suspect(status);
  if (!status.ok()) return status;
  columns_part_.checked.store(true, std::memory_order_release);
  for (Part& part : vector_parts_) part.checked.store(true, std::memory_order_release);
  MutexLock lock(suspicion_mu_);
  suspicion_ = absl::OkStatus();
  return status;
}

}  // namespace azimuth::engine
