// RecordCommit: what insert, upsert, update and delete have in common as commits: the collection
// that may have been truncated meanwhile, the request id, the current version of keys, counters.
//
// Thread safety: made by the thread that waits; Resolve and Apply are the leader's.
#pragma once

#include "engine/core.h"
#include "engine/database.h"
#include "engine/write/commit_queue.h"
#include "engine/write/request_memory.h"
#include "engine/write/validate.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace azimuth::engine {

// What the name of `collection` leads to: itself, or after a truncation another one of its id.
// NotFound if it is gone. By the commit leader.
absl::StatusOr<std::shared_ptr<Collection>> FollowTruncation(
    const Core& core, const std::shared_ptr<Collection>& collection);

class RecordCommit : public Commit {
 public:
  bool relaxed() const final { return options_.relaxed; }
  absl::StatusOr<bool> Resolve(ResolveContext& context) final;
  void Apply(Seq seq) final;

  bool may_be_repeated() const { return !options_.request_id.empty(); }
  // Lets it fail with `status` at its turn, unless it is the repetition of a request: then it gets
  // its reply all the same. Before it runs.
  void RefuseUnlessRepeated(absl::Status status) { refusal_ = std::move(status); }

  // Valid once it ran. as_of is only set if the reply is that of an earlier request; else it is
  // what CommitQueue::Run returned.
  const WriteResult& result() const { return result_; }

 protected:
  // `now_unix_us` is that of the request: records that ended by then are absent.
  RecordCommit(Core& core, std::shared_ptr<Collection> collection, WriteOptions options,
               int64_t now_unix_us)
      : core_(core),
        collection_(std::move(collection)),
        options_(std::move(options)),
        now_unix_us_(now_unix_us) {}

  // As Resolve, for the records; fills result_.
  virtual absl::StatusOr<bool> ResolveRecords(ResolveContext& context) = 0;
  virtual void ApplyRecords(Seq seq) = 0;

  // What a key leads to at its turn.
  struct Current {
    std::optional<storage::KeyEntry> entry;
    bool expired = false;                    // There is a row, but its time has passed.
    const CheckedRecord* pending = nullptr;  // Its record, if a commit of this group wrote it.

    bool exists() const { return entry.has_value() && !expired; }
    // Zero if it does not exist.
    Seq version() const { return exists() ? entry->insert_seq : kSeqZero; }
  };
  // The current state of each key: from the overlay where the group has touched it, else the store.
  absl::StatusOr<std::vector<Current>> CurrentOf(const ResolveContext& context,
                                                 std::span<const Key* const> keys) const;
  // Aborted unless the version is the wanted one. `place` begins the message.
  static absl::Status CheckVersion(const Current& current, std::optional<Seq> wanted,
                                   const Key& key, std::string_view member, size_t place);
  uint64_t LiveRows(const ResolveContext& context) const;
  // Retires a row; Apply sets it in memory.
  void Retire(ResolveContext& context, RowId row);
  // Writes the counters with `added` rows more and those retired less.
  void PutCounters(ResolveContext& context, uint64_t added);

  Core& core_;
  std::shared_ptr<Collection> collection_;  // After Resolve: the one that the name leads to.
  const WriteOptions options_;
  const int64_t now_unix_us_;
  WriteResult result_;

 private:
  // What is remembered under `id`, in the store or by the group; null if nothing is.
  const storage::RequestEntry* Remembered(const ResolveContext& context,
                                          const RequestMemory& memory, std::string_view id) const;
  // True if the request was seen before: then result_ is its reply.
  absl::StatusOr<bool> FindReply(const ResolveContext& context);
  // The same for a batch of a load. FailedPrecondition if it is not the next one.
  absl::StatusOr<bool> FindLoad(const ResolveContext& context);
  void Remember(ResolveContext& context, RequestMemory& memory, std::string id, std::string digest,
                std::string reply);

  struct Kept {
    storage::RequestEntry entry;
    size_t expired;  // Entries of the same memory that go for it.
  };
  std::vector<Kept> kept_;  // With what it did.
  IngestState load_;        // Before this batch.
  std::vector<RowId> retired_;
  uint64_t live_rows_ = 0;
  bool counters_put_ = false;
  bool replayed_ = false;
  absl::Status refusal_;
};

}  // namespace azimuth::engine
