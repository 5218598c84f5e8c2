#include "engine/segment/replace_commit.h"

#include "base/check.h"
#include "base/failpoint.h"
#include "base/logging.h"
#include "base/status.h"
#include "storage/file.h"

#include <algorithm>
#include <bit>
#include <span>
#include <utility>

namespace azimuth::engine {

void MarkRetiredRows(const RetiredMap& retired, Segment& segment) {
  for (uint32_t position = 0, n = segment.size(); position < n; ++position) {
    if (retired.RetiredAt(segment.row_id(position)) != kSeqMax) segment.MarkRetired(position);
  }
}

namespace {

// Rows that one commit takes out of the store.
constexpr size_t kDropRows = 4096;

// Removes rows that no reader sees, or their retirements once no segment has the rows.
class DropRowsCommit final : public Commit {
 public:
  enum class What { kData, kRetirements };
  DropRowsCommit(const Collection& collection, std::span<const RowId> rows, What what)
      : collection_(collection), rows_(rows), what_(what) {}
  absl::StatusOr<bool> Resolve(ResolveContext& context) override {
    if (collection_.dropped.load()) return false;
    std::vector<FieldId> fields;
    for (const VectorFieldDef& field : collection_.schema.vectors) fields.push_back(field.id);
    for (const RowId row : rows_) {
      if (what_ == What::kData) {
        context.batch.DeleteRowData(collection_.row_store, row, fields);
      } else {
        context.batch.DeleteRetired(collection_.row_store, row);
      }
    }
    return true;
  }
  void Apply(Seq) override {}

 private:
  const Collection& collection_;
  const std::span<const RowId> rows_;
  const What what_;
};

absl::Status DropRows(Core& core, const Collection& collection, std::span<const RowId> rows,
                      DropRowsCommit::What what) {
  for (size_t first = 0; first < rows.size(); first += kDropRows) {
    DropRowsCommit drop(collection, rows.subspan(first, std::min(kDropRows, rows.size() - first)),
                        what);
    AZ_RETURN_IF_ERROR(core.queue.Run(drop, CancelToken()).status());
    AZ_FAILPOINT(kSegmentMidDrop);
  }
  return absl::OkStatus();
}

std::vector<uint64_t> RetiredWords(const Segment& segment) {
  std::vector<uint64_t> words((segment.size() + 63) / 64);
  for (size_t i = 0; i < words.size(); ++i) words[i] = segment.RetiredWord(i);
  return words;
}

}  // namespace

ReplaceCommit::ReplaceCommit(Core& core, std::shared_ptr<Collection> collection,
                             std::vector<std::shared_ptr<Segment>> inputs,
                             std::vector<std::shared_ptr<Segment>> replacements,
                             std::vector<storage::SegmentEntry> entries, std::vector<RowId> dropped)
    : core_(core),
      collection_(std::move(collection)),
      inputs_(std::move(inputs)),
      replacements_(std::move(replacements)),
      entries_(std::move(entries)),
      dropped_(std::move(dropped)) {
  // The words first: what is retired between the two is marked twice, never not at all.
  for (const auto& input : inputs_) marked_.push_back(RetiredWords(*input));
  // Pages of the map are freed when nobody is pinned that may look at them.
  const ViewRegistry::Pin pin = core_.views.PinNow();
  for (const auto& replacement : replacements_) {
    MarkRetiredRows(collection_->retired, *replacement);
  }
}

absl::Status ReplaceCommit::Publish() {
  const std::vector<RowId> dropped = dropped_;
  AZ_RETURN_IF_ERROR(DropRows(core_, *collection_, dropped, DropRowsCommit::What::kData));
  AZ_FAILPOINT(kSegmentBeforeCatalog);
  AZ_RETURN_IF_ERROR(core_.queue.Run(*this, CancelToken()).status());
  AZ_FAILPOINT_VISIT(kSegmentAfterCatalog);
  // Published; what of this fails is done by the next start.
  const absl::Status cleaned =
      DropRows(core_, *collection_, dropped, DropRowsCommit::What::kRetirements);
  if (!cleaned.ok()) {
    LogWarning("retirements of dropped rows stay until the next start: %s",
               std::string(cleaned.message()));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> ReplaceCommit::Resolve(ResolveContext& context) {
  if (collection_->dropped.load()) {
    return NotFound("collection %s was dropped", Quoted(collection_->name));
  }
  // A repair and a build may have begun with the same segment: the second finds it gone.
  const auto& current = collection_->segments().segments;
  if (std::search(current.begin(), current.end(), inputs_.begin(), inputs_.end()) ==
      current.end()) {
    return absl::AbortedError("the segments to replace are no longer in the list");
  }
  for (const storage::SegmentEntry& entry : entries_) context.batch.PutSegment(entry);
  for (const auto& input : inputs_) {
    if (input->state() == SegmentState::kSealed) {
      context.batch.DeleteSegment(collection_->row_store, input->id());
    }
  }
  core_.next_ids.segment = SegmentId{core_.next_segment.load()};
  context.batch.PutNextIds(core_.next_ids);
  return true;
}

void ReplaceCommit::MarkNewlyRetired() {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const Segment& input = *inputs_[i];
    for (size_t word = 0; word < marked_[i].size(); ++word) {
      uint64_t fresh = input.RetiredWord(word) & ~marked_[i][word];
      for (; fresh != 0; fresh &= fresh - 1) {
        const RowId row = input.row_id(
            static_cast<uint32_t>(word * 64 + static_cast<size_t>(std::countr_zero(fresh))));
        for (const auto& replacement : replacements_) {
          if (const auto position = replacement->Find(row)) replacement->MarkRetired(*position);
        }
      }
    }
  }
}

// The numbers of dropped rows are needed while readers use the list before this one.
void ReplaceCommit::ForgetDropped() {
  auto& forgotten = collection_->forgotten;
  while (!forgotten.empty() && forgotten.front().unused->load()) {
    if (auto free_pages = collection_->retired.Forget(forgotten.front().rows)) {
      core_.views.Retire(std::move(free_pages));
    }
    forgotten.pop_front();
  }
  if (dropped_.empty()) return;
  ForgottenRows rows{.rows = std::move(dropped_)};
  core_.views.Retire([unused = rows.unused] { unused->store(true); });
  forgotten.push_back(std::move(rows));
}

void ReplaceCommit::Apply(Seq) {
  const auto& old = collection_->segments().segments;
  const auto first = std::find(old.begin(), old.end(), inputs_.front());
  AZ_CHECK(first != old.end());
  MarkNewlyRetired();
  SegmentSet next;
  next.segments.assign(old.begin(), first);
  next.segments.insert(next.segments.end(), replacements_.begin(), replacements_.end());
  next.segments.insert(next.segments.end(), first + static_cast<std::ptrdiff_t>(inputs_.size()),
                       old.end());
  collection_->SetSegments(std::move(next), core_.views);
  ForgetDropped();
  collection_->unindexed_rows.fetch_add(RowsInMemory(replacements_) - RowsInMemory(inputs_),
                                        std::memory_order_relaxed);
  core_.backpressure.Relieve();
  for (const auto& input : inputs_) {
    if (input->state() != SegmentState::kSealed) continue;
    core_.views.Retire([&files = core_.files(), path = core_.dir.segment_path(input->id())] {
      AZ_FAILPOINT_VISIT(kSegmentBeforeRemove);
      const absl::Status status = storage::RemoveFile(path, files);
      // A file that was set aside is gone already.
      if (!status.ok() && status.code() != absl::StatusCode::kNotFound) {
        LogWarning("a replaced segment file stays until the next start: %s",
                   std::string(status.message()));
      }
    });
  }
}

}  // namespace azimuth::engine
