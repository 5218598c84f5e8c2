// CommitQueue: the one order of all changes of the store, and the group commit.
//
// Waiters line up; the first becomes leader, takes those behind it along up to a cap, and for all
// of them: resolves one after the other (3), writes one batch with one sync (4), applies to memory
// and publishes the sequence number (5). The numbers are the steps of the write path in
// docs/ARCHITECTURE.md; 3 to 5 are where a replicated log can stand.
// Source: the writer queue of LevelDB, with resolution by the leader.
//
// Thread safety: Run from any number of threads.
#pragma once

#include "base/clock.h"
#include "base/deadline.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "base/value.h"
#include "engine/durability.h"
#include "engine/views.h"
#include "storage/store.h"

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace azimuth::engine {

struct CheckedRecord;

// What earlier commits of a group have decided and the store does not have yet.
struct GroupOverlay {
  struct PendingKey {
    std::optional<storage::KeyEntry> entry;  // nullopt when it is deleted.
    // What was put, as it stands in the commit that put it; valid until that is applied.
    const CheckedRecord* record = nullptr;
  };
  absl::flat_hash_map<std::pair<RowStoreId, Key>, PendingKey> keys;
  // Live rows of a row store.
  absl::flat_hash_map<RowStoreId, uint64_t> live_rows;
  // Request ids that commits of the group will remember.
  StringMap<storage::RequestEntry> requests;
  // The oldest so many request ids, and bulk loads, that the batch deletes.
  size_t expiring_requests = 0;
  size_t expiring_loads = 0;
};

struct ResolveContext {
  const storage::Store& store;
  GroupOverlay& overlay;
  storage::CommitBatch& batch;
  Seq seq;  // Of this commit, if it changes anything.
  // No commit of the group comes after it: nobody will read what it adds to the overlay.
  bool last = false;
  // A commit that is alone may raise it: its number is then not `seq`, but at least this.
  Seq at_least = kSeqZero;
};

// One change, as it goes through the queue.
class Commit {
 public:
  virtual ~Commit() = default;
  // True if it must be a group of its own (changes of the catalog).
  virtual bool alone() const { return false; }
  // True if it may be acknowledged before the log is synced.
  virtual bool relaxed() const { return false; }
  // About what it adds to the log, for the cap of a group.
  virtual size_t byte_size() const { return 0; }
  // Of it, what are vectors of new rows, which may go past the log (storage/row_tables.h).
  virtual size_t vector_bytes() const { return 0; }
  // Step 3, by the leader. Decides against store and overlay, then adds to batch and overlay. On an
  // error it has added nothing, and it drops out alone. False: nothing to write (Apply still runs).
  virtual absl::StatusOr<bool> Resolve(ResolveContext& context) = 0;
  // Step 5, by the leader, after the log is synced. Cannot fail.
  virtual void Apply(Seq seq) = 0;
  // By the leader, once readers can see the group.
  virtual void AfterPublish() {}

  // Once it ran: whether the log was synced after it.
  bool synced() const { return synced_; }

 private:
  friend class CommitQueue;
  bool synced_ = true;
};

class CommitQueue final {
 public:
  // `last` is the last number that was given out before. A group with `bulk_bytes` of vectors has
  // them written to row tables. All outlive it.
  CommitQueue(storage::Store& store, ViewRegistry& views, Durability& durability,
              const Clock& clock, Seq last, uint64_t bulk_bytes)
      : store_(store),
        views_(views),
        durability_(durability),
        clock_(clock),
        bulk_bytes_(bulk_bytes),
        last_seq_(Raw(last)) {}

  // Takes `commit` through the steps; returns when it is published, and synced unless it and all of
  // its group are relaxed, with its sequence number (that of the newest commit if it changed
  // nothing). Errors: those of Resolve; DeadlineExceeded if the deadline passed before its turn
  // (not applied); Unavailable if the log could not be written (outcome unknown; the store is
  // read-only from then on), ResourceExhausted if the disk is full (outcome unknown); either of the
  // two if row tables of the group could not be written (not applied, and nothing else comes of
  // it); those of Durability::CheckWritable when the store is read-only (not applied).
  absl::StatusOr<Seq> Run(Commit& commit, const CancelToken& cancel);
  // The same for several that stand in line together, in this order: as many of them as a group may
  // have share one sync. An entry for each commit; one that fails does not keep those after it.
  std::vector<absl::StatusOr<Seq>> RunAll(std::span<Commit* const> commits,
                                          const CancelToken& cancel);

  // Commits that wait or run.
  size_t depth() const {
    MutexLock lock(mu_);
    return waiters_.size();
  }

 private:
  struct Waiter {
    Commit* commit = nullptr;
    CondVar wake;
    bool taken = false;
    bool done = false;
    bool withdrawn = false;  // Its deadline passed.
    absl::Status status;
    Seq seq{};

    absl::StatusOr<Seq> Result() const;
  };

  // Allocates; then none of them stands in line.
  void StandInLine(std::span<Waiter> waiters) AZ_REQUIRES(mu_);
  // Has `waiters` stand in line and run.
  void RunWaiters(std::span<Waiter> waiters, const CancelToken& cancel);
  bool WaitForTurn(Waiter& waiter, const CancelToken& cancel) AZ_REQUIRES(mu_);
  // Waits a moment for the writers that the last group has just let go: with them one sync serves
  // all, without them they and the others would take turns in groups of half the size.
  void Gather() AZ_REQUIRES(mu_);
  // `group` has room for all that may be in one.
  void TakeGroup(std::vector<Waiter*>& group) AZ_REQUIRES(mu_);
  // Steps 3 to 5 for a group; only the leader. Memory that runs out in the middle ends the process:
  // a start recovers, while a half-applied group would not.
  void Lead(const std::vector<Waiter*>& group) noexcept;
  // Step 4.
  absl::Status AppendToLog(storage::CommitBatch& batch, bool sync);

  storage::Store& store_;
  ViewRegistry& views_;
  Durability& durability_;
  const Clock& clock_;
  const uint64_t bulk_bytes_;
  mutable Mutex mu_;
  std::deque<Waiter*> waiters_ AZ_GUARDED_BY(mu_);
  bool leading_ AZ_GUARDED_BY(mu_) = false;
  // Commits that were in the queue when the last group ended, its own included: so many writers are
  // about, and those of the group are likely to come again at once.
  size_t expected_ AZ_GUARDED_BY(mu_) = 0;
  CondVar gathered_;   // As many wait as are expected.
  uint64_t last_seq_;  // The last number given out. Touched by the leader only.
};

}  // namespace azimuth::engine
