#include "engine/row_loader.h"

#include "base/failpoint.h"
#include "base/logging.h"
#include "base/status.h"
#include "engine/segment/segment_builder.h"
#include "storage/file.h"

#include "absl/container/flat_hash_map.h"

#include <algorithm>

namespace azimuth::engine {
namespace {

using storage::RowRange;

constexpr uint64_t kBatchRowsMax = 4096;
constexpr uint64_t kBatchVectorBytes = uint64_t{8} << 20;
constexpr uint64_t kBatchRowBytes = uint64_t{4} << 20;
constexpr uint64_t kDamagedRowsLogged = 10;
constexpr uint64_t kFileRowsMax = uint64_t{1} << 20;

// What a file without graphs is written out of: a share of the budget, within bounds.
uint64_t PieceBytes(const MemoryBudget& memory) {
  constexpr uint64_t kShare = 64;
  return std::clamp(memory.total() / kShare, uint64_t{4} << 20, uint64_t{64} << 20);
}

size_t BatchRows(const Schema& schema) {
  uint64_t row_bytes = 1;
  for (const VectorFieldDef& field : schema.vectors) row_bytes += field.dim * sizeof(float);
  return std::clamp<uint64_t>(kBatchVectorBytes / row_bytes, 1, kBatchRowsMax);
}

}  // namespace

RowLoader::RowLoader(Core& core, const Collection& collection, RowRange range, Form form,
                     uint64_t unindexed_rows, OnFile on_file, const CancelToken& cancel)
    : core_(core),
      collection_(collection),
      range_(range),
      form_(form),
      on_file_(std::move(on_file)),
      cancel_(cancel),
      batch_rows_(BatchRows(collection.schema)),
      unindexed_rows_(unindexed_rows),
      next_first_(range.first) {}

absl::Status RowLoader::Load() {
  absl::Status status = core_.store->ScanRows(
      collection_.row_store, range_, [&](RowId row, storage::StoredRow&& value) {
        AZ_FAILPOINT(kRecoverMidRows);
        batch_bytes_ += sizeof(value) + RowHeapBytes(value);
        batch_.emplace_back(row, std::move(value));
        const bool more = batch_.size() < batch_rows_ && batch_bytes_ < kBatchRowBytes;
        return more ? absl::OkStatus() : AppendBatch();
      });
  if (status.ok()) status = AppendBatch();
  if (absl::IsDataLoss(status)) {
    batch_.clear();
    status = Salvage(appended_to_);
  }
  return status;
}

absl::Status RowLoader::Close(bool keep_growing) {
  if (growing_ == nullptr || (keep_growing && !to_file_)) return absl::OkStatus();
  return CloseGrowing(range_.end);
}

absl::Status RowLoader::AppendBatch() {
  AZ_RETURN_IF_ERROR(cancel_.Check());
  if (batch_.empty()) return absl::OkStatus();
  const size_t slots = collection_.schema.vectors.size();
  const RowRange range{batch_.front().first, Next(batch_.back().first)};
  std::vector<absl::flat_hash_map<RowId, std::vector<float>>> vectors(slots);
  for (size_t slot = 0; slot < slots; ++slot) {
    AZ_RETURN_IF_ERROR(
        core_.store->ScanVectors(collection_.row_store, collection_.schema.vectors[slot].id, range,
                                 [&](RowId row, std::span<const float> vector) {
                                   vectors[slot][row].assign(vector.begin(), vector.end());
                                   return CheckDimension(row, slot, vector);
                                 }));
  }
  std::vector<std::span<const float>> views(slots);
  for (auto& [row, value] : batch_) {
    for (size_t slot = 0; slot < slots; ++slot) {
      const auto it = vectors[slot].find(row);
      views[slot] = it == vectors[slot].end() ? std::span<const float>() : it->second;
    }
    AZ_ASSIGN_OR_RETURN(GrowingSegment* const segment, WithRoom(row));
    segment->Append(row, std::move(value), views);
    appended_to_ = Next(row);
  }
  batch_.clear();
  batch_bytes_ = 0;
  return absl::OkStatus();
}

absl::Status RowLoader::CheckDimension(RowId row, size_t slot,
                                       std::span<const float> vector) const {
  if (vector.size() == collection_.schema.vectors[slot].dim) return absl::OkStatus();
  return DataLoss("row %d of row store %d: a vector of %d elements", Raw(row),
                  Raw(collection_.row_store), vector.size());
}

// Reads one row after the other from `first` on, and leaves out those that cannot be read: a scan
// ends at the first bad block.
absl::Status RowLoader::Salvage(RowId first) {
  for (RowId row = std::max(first, range_.first); row < range_.end; row = Next(row)) {
    if (Raw(row) % kBatchRowsMax == 0) AZ_RETURN_IF_ERROR(cancel_.Check());
    const absl::Status status = AppendOne(row);
    if (status.ok()) continue;
    if (!absl::IsDataLoss(status)) return status;
    ++damaged_;
    if (damaged_ <= kDamagedRowsLogged) {
      LogError("collection %d: row %d cannot be read and is left out: %s", Raw(collection_.id),
               Raw(row), std::string(status.message()));
    }
  }
  LogError("collection %d: %d rows cannot be read", Raw(collection_.id), damaged_);
  return absl::OkStatus();
}

absl::Status RowLoader::AppendOne(RowId row) {
  AZ_ASSIGN_OR_RETURN(auto rows, core_.store->GetRows(collection_.row_store, {&row, 1}));
  if (!rows.front().has_value()) return absl::OkStatus();
  const size_t slots = collection_.schema.vectors.size();
  std::vector<std::vector<float>> vectors(slots);
  std::vector<std::span<const float>> views(slots);
  for (size_t slot = 0; slot < slots; ++slot) {
    AZ_ASSIGN_OR_RETURN(auto found,
                        core_.store->GetVectors(collection_.row_store,
                                                collection_.schema.vectors[slot].id, {&row, 1}));
    vectors[slot] = std::move(found.front());
    if (!vectors[slot].empty()) AZ_RETURN_IF_ERROR(CheckDimension(row, slot, vectors[slot]));
    views[slot] = vectors[slot];
  }
  AZ_ASSIGN_OR_RETURN(GrowingSegment* const segment, WithRoom(row));
  segment->Append(row, *std::move(rows.front()), views);
  appended_to_ = Next(row);
  return absl::OkStatus();
}

bool RowLoader::MayWriteFiles() const {
  return !disk_full_ && core_.durability->CheckWritable().ok() && core_.disk->BuildsAllowed();
}

absl::StatusOr<GrowingSegment*> RowLoader::WithRoom(RowId row) {
  if (growing_ != nullptr) {
    const bool full =
        growing_->full() || (to_file_ && growing_->memory_bytes() >= PieceBytes(core_.memory));
    if (!full) return growing_.get();
    AZ_RETURN_IF_ERROR(CloseGrowing(row));
  }
  const bool wants_file =
      form_ == Form::kFiles || core_.backpressure.PressureOf(unindexed_rows_) > 0.0;
  to_file_ = wants_file && MayWriteFiles();
  if (wants_file && !to_file_ && core_.memory.used() >= core_.memory.total()) {
    return ResourceExhausted(
        "collection %s: the rows of missing or bad segment files fit neither into the memory of %d "
        "bytes nor onto the disk; make room",
        Quoted(collection_.name), core_.memory.total());
  }
  const auto file_rows =
      static_cast<uint32_t>(std::min(kFileRowsMax, core_.options.segment_rows_max));
  // If no file comes of it after all, scans read its rows themselves.
  growing_ = to_file_
                 ? std::make_shared<GrowingSegment>(collection_.schema, next_first_, file_rows,
                                                    &core_.memory, GrowingSegment::Codes::kNone)
                 : MakeGrowingSegment(core_, collection_, next_first_);
  segments_.push_back(growing_);
  return growing_.get();
}

// `end`: of the ids that it answers for.
absl::Status RowLoader::CloseGrowing(RowId end) {
  growing_->Close(end);
  next_first_ = end;
  const std::shared_ptr<GrowingSegment> closed = std::move(growing_);
  growing_ = nullptr;
  if (to_file_) {
    absl::StatusOr<std::shared_ptr<Segment>> file = WriteFile(closed);
    if (file.ok()) {
      segments_.back() = *std::move(file);
      return absl::OkStatus();
    }
    if (!absl::IsResourceExhausted(file.status())) return file.status();
    LogWarning("collection %d: rows without a segment file stay in memory: %s", Raw(collection_.id),
               std::string(file.status().message()));
    disk_full_ = true;
  }
  unindexed_rows_ += closed->size();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Segment>> RowLoader::WriteFile(
    std::shared_ptr<GrowingSegment> rows) {
  const SegmentId id{core_.next_segment.fetch_add(1)};
  const std::shared_ptr<Segment> inputs[] = {std::move(rows)};
  const SegmentBuildInput input{.segments = inputs,
                                .retired = collection_.retired,
                                .horizon = kSeqZero,  // None is left out.
                                .schema = collection_.schema,
                                .graph_rows_min = core_.options.graph_rows_min,
                                .id = id,
                                .row_store = collection_.row_store,
                                .incarnation = core_.dir.instance(),
                                .path = core_.dir.segment_path(id),
                                .files = core_.files(),
                                .graphs = false};
  const index::ParallelFor none = [](size_t count, const std::function<void(size_t)>& body) {
    for (size_t i = 0; i < count; ++i) body(i);
  };
  const absl::StatusOr<SegmentBuildOutput> output = BuildSegment(input, none, cancel_);
  // A disk that fails to write this will fail the log as well.
  if (absl::IsUnavailable(output.status()) || absl::IsPermissionDenied(output.status())) {
    core_.durability->Fail(output.status());
  }
  AZ_RETURN_IF_ERROR(output.status());
  absl::StatusOr<std::shared_ptr<SealedSegment>> sealed = SealedSegment::Open(
      input.path, collection_.schema, *output->entry, core_.dir.instance(), core_.files());
  absl::Status status = sealed.status();
  // Not damage of a row.
  if (absl::IsDataLoss(status)) status = absl::InternalError(status.message());
  if (status.ok()) status = on_file_(*output->entry);
  if (status.ok()) return std::shared_ptr<Segment>(*std::move(sealed));
  if (!absl::IsUnavailable(status)) {
    storage::RemoveFile(input.path, core_.files()).IgnoreError();  // Else the next start does it.
  }
  return status;
}

}  // namespace azimuth::engine
