// Create, drop and truncation of collections, and the closing of a growing segment, as commits.
//
// Thread safety: made by the thread that waits; Resolve and Apply are the leader's.
#pragma once

#include "engine/core.h"
#include "engine/schema.h"
#include "engine/write/commit_queue.h"

#include <memory>
#include <string>
#include <string_view>

namespace azimuth::engine {

// The only database there is.
inline constexpr std::string_view kDefaultDatabase = "default";

// The entry of the catalog for a collection as it is. By the commit leader.
storage::CollectionEntry EntryOf(const Collection& collection);
// Removes the segment files of a collection that readers can no longer come to, once the last one
// that could has gone.
void RemoveSegmentFiles(Core& core, const Collection& collection);
// `fresh` has taken the place of `old`, and that is published: readers that pin from here on are at
// its number or later; those before need the old one until they have gone.
void ForgetBefore(Core& core, std::shared_ptr<Collection> fresh, std::shared_ptr<Collection> old);

class CreateCommit final : public Commit {
 public:
  // `schema` is validated and numbered.
  CreateCommit(Core& core, std::string name, Schema schema, bool if_not_exists)
      : core_(core),
        name_(std::move(name)),
        schema_(std::move(schema)),
        if_not_exists_(if_not_exists) {}
  bool alone() const override { return true; }
  absl::StatusOr<bool> Resolve(ResolveContext& context) override;
  void Apply(Seq seq) override;

  CollectionId id() const { return entry_.id; }
  bool created() const { return created_; }

 private:
  Core& core_;
  const std::string name_;
  const Schema schema_;
  const bool if_not_exists_;
  storage::CollectionEntry entry_;
  bool created_ = false;
};

class DropCommit final : public Commit {
 public:
  DropCommit(Core& core, std::string name, bool if_exists)
      : core_(core), name_(std::move(name)), if_exists_(if_exists) {}
  bool alone() const override { return true; }
  absl::StatusOr<bool> Resolve(ResolveContext& context) override;
  void Apply(Seq seq) override;

  bool dropped() const { return collection_ != nullptr; }

 private:
  Core& core_;
  const std::string name_;
  const bool if_exists_;
  std::shared_ptr<Collection> collection_;
};

// Gives a collection a new, empty row store. Writes that wait in the queue go to the new one.
class TruncateCommit final : public Commit {
 public:
  TruncateCommit(Core& core, std::string name) : core_(core), name_(std::move(name)) {}
  bool alone() const override { return true; }
  absl::StatusOr<bool> Resolve(ResolveContext& context) override;
  void Apply(Seq seq) override;
  void AfterPublish() override;

  uint64_t removed() const { return removed_; }

 private:
  Core& core_;
  const std::string name_;
  std::shared_ptr<Collection> old_;
  std::shared_ptr<Collection> fresh_;
  storage::CollectionEntry entry_;
  uint64_t removed_ = 0;
};

// Closes the growing segment of a collection, so that it is built. Writes nothing to the log.
class CloseGrowingCommit final : public Commit {
 public:
  CloseGrowingCommit(Core& core, std::shared_ptr<Collection> collection)
      : core_(core), collection_(std::move(collection)) {}
  absl::StatusOr<bool> Resolve(ResolveContext&) override { return false; }
  void Apply(Seq seq) override;

  // All rows of segments were below it at its turn.
  RowId end() const { return end_; }

 private:
  Core& core_;
  const std::shared_ptr<Collection> collection_;
  RowId end_{};
};

}  // namespace azimuth::engine
