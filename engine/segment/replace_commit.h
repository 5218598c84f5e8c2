// ReplaceCommit: some segments of a collection are replaced by others that answer for the same
// rows: the publication of a build, or of rows read again in place of a bad file.
//
// Dropped rows leave the store first, in small commits (their retirements stay, so that the
// replaced segments stay true); then one commit writes the catalog, and its apply step sets the
// retirements that came meanwhile and swaps the list; then the retirements of the dropped rows go.
// Files of replaced segments go when no reader can see them.
// Thread safety: made by the thread that waits; Resolve and Apply are the leader's.
#pragma once

#include "engine/core.h"
#include "engine/segment/sealed.h"
#include "engine/write/commit_queue.h"
#include "storage/row.h"

#include <memory>
#include <utility>
#include <vector>

namespace azimuth::engine {

class ReplaceCommit final : public Commit {
 public:
  // `inputs` are adjacent in the list. `entries` are those of the replacements that have files,
  // `dropped` the rows that the replacements leave out.
  ReplaceCommit(Core& core, std::shared_ptr<Collection> collection,
                std::vector<std::shared_ptr<Segment>> inputs,
                std::vector<std::shared_ptr<Segment>> replacements,
                std::vector<storage::SegmentEntry> entries, std::vector<RowId> dropped);

  // Runs it through the queue.
  absl::Status Publish();

  bool alone() const override { return true; }
  absl::StatusOr<bool> Resolve(ResolveContext& context) override;
  void Apply(Seq seq) override;

  const std::vector<std::shared_ptr<Segment>>& replacements() const { return replacements_; }

 private:
  // Sets retirements of the inputs that are not in marked_ in the replacements.
  void MarkNewlyRetired();
  void ForgetDropped();

  Core& core_;
  const std::shared_ptr<Collection> collection_;
  const std::vector<std::shared_ptr<Segment>> inputs_;
  const std::vector<std::shared_ptr<Segment>> replacements_;
  const std::vector<storage::SegmentEntry> entries_;
  std::vector<RowId> dropped_;
  // The retired words of each input as they were before the replacements were marked.
  std::vector<std::vector<uint64_t>> marked_;
};

// Sets the retired bits of `segment` from the map. Before it is published, or by the leader.
void MarkRetiredRows(const RetiredMap& retired, Segment& segment);

}  // namespace azimuth::engine
