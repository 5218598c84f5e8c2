// The commits of a restore: ids are taken; then, when a row store that no catalog names was filled,
// one commit makes it a collection, or it is given up.
//
// Thread safety: made by the thread that waits; Resolve and Apply are the leader's.
#pragma once

#include "engine/core.h"
#include "engine/write/commit_queue.h"
#include "storage/store.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {

// Takes the ids of a new collection and its row store. AlreadyExists (without `overwrite`) and
// ResourceExhausted (too many collections) as early as can be said.
class ReserveCommit final : public Commit {
 public:
  ReserveCommit(Core& core, std::string name, bool overwrite)
      : core_(core), name_(std::move(name)), overwrite_(overwrite) {}
  bool alone() const override { return true; }
  absl::StatusOr<bool> Resolve(ResolveContext& context) override;
  void Apply(Seq) override {}

  CollectionId id() const { return id_; }
  RowStoreId row_store() const { return row_store_; }

 private:
  Core& core_;
  const std::string name_;
  const bool overwrite_;
  CollectionId id_{};
  RowStoreId row_store_{};
};

// `collection`, made by the restore with all its segments, appears; one of its name goes in the
// same moment if `overwrite` is set, else AlreadyExists. The store's numbers go on after `as_of`,
// that of the snapshot, so that they are larger than those of all rows; and so do the keys that the
// server makes, after those of the collection that goes.
class AdoptCommit final : public Commit {
 public:
  AdoptCommit(Core& core, std::shared_ptr<Collection> collection, storage::CollectionEntry entry,
              std::vector<storage::SegmentEntry> segments, Seq as_of, bool overwrite)
      : core_(core),
        collection_(std::move(collection)),
        entry_(std::move(entry)),
        segments_(std::move(segments)),
        as_of_(as_of),
        overwrite_(overwrite) {}
  bool alone() const override { return true; }
  absl::StatusOr<bool> Resolve(ResolveContext& context) override;
  void Apply(Seq seq) override;
  void AfterPublish() override;

 private:
  Core& core_;
  const std::shared_ptr<Collection> collection_;
  storage::CollectionEntry entry_;
  const std::vector<storage::SegmentEntry> segments_;
  const Seq as_of_;
  const bool overwrite_;
  std::shared_ptr<Collection> old_;  // That is replaced, or null.
};

// Removes a row store that was filled in vain.
class GiveUpCommit final : public Commit {
 public:
  explicit GiveUpCommit(RowStoreId row_store) : row_store_(row_store) {}
  bool alone() const override { return true; }
  absl::StatusOr<bool> Resolve(ResolveContext& context) override {
    context.batch.DeleteRowStore(row_store_);
    return true;
  }
  void Apply(Seq) override {}

 private:
  const RowStoreId row_store_;
};

}  // namespace azimuth::engine
