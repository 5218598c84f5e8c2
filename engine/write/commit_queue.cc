#include "engine/write/commit_queue.h"

#include "base/check.h"
#include "base/failpoint.h"
#include "base/status.h"

#include <algorithm>
#include <chrono>

namespace azimuth::engine {
namespace {

constexpr size_t kGroupCommitsMax = 256;
constexpr size_t kGroupBytesMax = size_t{32} << 20;
// Less than a sync of a fast disk takes.
constexpr std::chrono::microseconds kGatherMax{100};

absl::Status Write(storage::Store& store, storage::CommitBatch& batch, bool sync) {
  AZ_RETURN_IF_ERROR(store.Commit(batch, sync));
  AZ_FAILPOINT(kCommitAfterLog);
  return absl::OkStatus();
}

absl::Status PassedDeadline() {
  return absl::DeadlineExceededError(
      "the deadline passed while the write waited for its turn; outcome: not_applied");
}

}  // namespace

// Memory may run out where it is asked for: before the commits stand in line, which they then never
// did, or in Lead. In between nothing is allocated.
absl::StatusOr<Seq> CommitQueue::Run(Commit& commit, const CancelToken& cancel) {
  AZ_RETURN_IF_ERROR(cancel.Check());
  Waiter waiter;
  waiter.commit = &commit;
  RunWaiters({&waiter, 1}, cancel);
  return waiter.Result();
}

std::vector<absl::StatusOr<Seq>> CommitQueue::RunAll(std::span<Commit* const> commits,
                                                     const CancelToken& cancel) {
  std::vector<absl::StatusOr<Seq>> results;
  if (const absl::Status status = cancel.Check(); !status.ok()) {
    results.assign(commits.size(), status);
    return results;
  }
  results.reserve(commits.size());
  std::vector<Waiter> waiters(commits.size());
  for (size_t i = 0; i < commits.size(); ++i) waiters[i].commit = commits[i];
  RunWaiters(waiters, cancel);
  for (const Waiter& waiter : waiters) results.push_back(waiter.Result());
  return results;
}

absl::StatusOr<Seq> CommitQueue::Waiter::Result() const {
  if (withdrawn) return PassedDeadline();
  if (!status.ok()) return status;
  return seq;
}

void CommitQueue::StandInLine(std::span<Waiter> waiters) {
  size_t standing = 0;
  try {
    for (; standing < waiters.size(); ++standing) waiters_.push_back(&waiters[standing]);
  } catch (...) {
    for (; standing > 0; --standing) waiters_.pop_back();
    throw;
  }
  if (leading_ && waiters_.size() >= expected_) gathered_.NotifyOne();
}

void CommitQueue::RunWaiters(std::span<Waiter> waiters, const CancelToken& cancel) {
  std::vector<Waiter*> group;
  group.reserve(kGroupCommitsMax);
  {
    MutexLock lock(mu_);
    StandInLine(waiters);
  }
  for (Waiter& waiter : waiters) {
    {
      MutexLock lock(mu_);
      waiter.withdrawn = !WaitForTurn(waiter, cancel);
      if (waiter.withdrawn || waiter.done) continue;
      leading_ = true;
      Gather();
      TakeGroup(group);
    }
    Lead(group);
    MutexLock lock(mu_);
    leading_ = false;
    expected_ = std::min(waiters_.size(), kGroupCommitsMax);
    for (Waiter* member : group) {
      AZ_CHECK(waiters_.front() == member);
      waiters_.pop_front();
      member->done = true;
      if (member != &waiter) member->wake.NotifyOne();
    }
    if (!waiters_.empty()) waiters_.front()->wake.NotifyOne();
    group.clear();
  }
}

// True when the waiter is done or is to lead; false if its deadline passed, and then it no longer
// stands in line.
bool CommitQueue::WaitForTurn(Waiter& waiter, const CancelToken& cancel) {
  while (!waiter.done && (leading_ || waiters_.front() != &waiter)) {
    if (cancel.deadline() == CancelToken::TimePoint::max() || waiter.taken) {
      waiter.wake.Wait(mu_);
    } else if (!waiter.wake.WaitUntil(mu_, cancel.deadline()) && !waiter.taken && !waiter.done) {
      const bool was_front = waiters_.front() == &waiter;
      waiters_.erase(std::find(waiters_.begin(), waiters_.end(), &waiter));
      if (was_front && !leading_ && !waiters_.empty()) waiters_.front()->wake.NotifyOne();
      return false;
    }
  }
  return true;
}

void CommitQueue::Gather() {
  if (waiters_.size() >= expected_) return;
  const auto end = std::chrono::steady_clock::now() + kGatherMax;
  while (waiters_.size() < expected_ && gathered_.WaitUntil(mu_, end)) {
  }
}

void CommitQueue::TakeGroup(std::vector<Waiter*>& group) {
  size_t bytes = 0;
  for (Waiter* waiter : waiters_) {
    const bool fits =
        group.empty() ||
        (group.size() < kGroupCommitsMax && !waiter->commit->alone() &&
         !group.front()->commit->alone() && bytes + waiter->commit->byte_size() <= kGroupBytesMax);
    if (!fits) break;
    bytes += waiter->commit->byte_size();
    waiter->taken = true;
    group.push_back(waiter);
  }
}

void CommitQueue::Lead(const std::vector<Waiter*>& group) noexcept {
  storage::CommitBatch batch;
  GroupOverlay overlay;
  bool any_change = false;
  bool sync = false;
  size_t vector_bytes = 0;
  for (const Waiter* waiter : group) vector_bytes += waiter->commit->vector_bytes();
  if (vector_bytes > 0 && vector_bytes >= bulk_bytes_) batch.PutVectorsInto(store_.NewRowTables());
  for (Waiter* waiter : group) {
    ResolveContext context{store_, overlay, batch, Seq{last_seq_ + 1}, waiter == group.back()};
    const absl::StatusOr<bool> changes = waiter->commit->Resolve(context);
    if (!changes.ok()) {
      waiter->status = changes.status();
    } else if (*changes) {
      last_seq_ = std::max(last_seq_ + 1, Raw(context.at_least));
      waiter->seq = Seq{last_seq_};
      any_change = true;
      sync = sync || !waiter->commit->relaxed();
    }
  }
  if (any_change) {
    batch.PutAppliedSeq(Seq{last_seq_});
    if (const absl::Status status = AppendToLog(batch, sync); !status.ok()) {
      // Also those that were refused: perhaps because of a commit of this very group.
      for (Waiter* waiter : group) waiter->status = status;
      return;
    }
  }
  for (Waiter* waiter : group) {
    if (!waiter->status.ok()) continue;
    waiter->commit->synced_ = sync || !any_change;
    waiter->commit->Apply(waiter->seq);
  }
  AZ_FAILPOINT_VISIT(kCommitBeforePublish);
  if (any_change) views_.Publish(Seq{last_seq_}, store_.TakeSnapshot());
  for (Waiter* waiter : group) {
    if (waiter->status.ok()) waiter->commit->AfterPublish();
    if (waiter->seq == kSeqZero) waiter->seq = views_.published();
  }
  AZ_FAILPOINT_VISIT(kCommitAfterApply);
  views_.Collect();
}

absl::Status CommitQueue::AppendToLog(storage::CommitBatch& batch, bool sync) {
  AZ_RETURN_IF_ERROR(durability_.CheckWritable());
  if (const absl::Status status = batch.FinishTables(); !status.ok()) {
    // The files go with the batch.
    return absl::Status(
        status.code(),
        absl::StrCat(status.message(), "; outcome: not_applied, the write can be repeated"));
  }
  AZ_FAILPOINT(kCommitBeforeLog);
  const absl::Status status = Write(store_, batch, sync);
  if (status.ok()) {
    durability_.NoteCommitted(Seq{last_seq_}, sync, clock_.SteadyMillis());
    return status;
  }
  durability_.Fail(status);
  if (status.code() == absl::StatusCode::kResourceExhausted) {
    return ResourceExhausted(
        "the disk is full; outcome: unknown, an upsert is safe to repeat; writes go on by "
        "themselves once there is room: %s",
        std::string(status.message()));
  }
  return absl::UnavailableError(
      absl::StrCat("the write-ahead log failed; outcome: unknown, an upsert is safe to repeat: ",
                   status.message()));
}

}  // namespace azimuth::engine
