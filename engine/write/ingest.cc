#include "engine/write/ingest.h"

#include "base/status.h"
#include "engine/limits.h"
#include "engine/write/put_commit.h"
#include "engine/write/record_commit.h"
#include "engine/write/validate.h"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace azimuth::engine {
namespace {

absl::Status CheckLoadName(std::string_view load) {
  if (!load.empty() && load.size() <= kLoadNameBytesMax) return absl::OkStatus();
  return InvalidArgument("load: %d bytes; a name of 1 to %d bytes is expected", load.size(),
                         kLoadNameBytesMax);
}

// Asks the leader, whose memory it is. Changes nothing.
class ReadLoadCommit final : public Commit {
 public:
  ReadLoadCommit(Core& core, std::shared_ptr<Collection> collection, std::string_view load)
      : core_(core), collection_(std::move(collection)), id_(LoadEntryId(collection_->id, load)) {}
  absl::StatusOr<bool> Resolve(ResolveContext& context) override {
    AZ_ASSIGN_OR_RETURN(collection_, FollowTruncation(core_, collection_));
    const storage::RequestEntry* known = core_.loads.Find(id_, core_.NowUnixMicros());
    if (const auto pending = context.overlay.requests.find(std::string_view(id_));
        pending != context.overlay.requests.end()) {
      known = &pending->second;
    }
    if (known == nullptr || known->digest != LoadEntryDigest(collection_->row_store)) return false;
    AZ_ASSIGN_OR_RETURN(state_, DecodeLoadState(known->reply));
    return false;
  }
  void Apply(Seq) override {}

  const IngestState& state() const { return state_; }

 private:
  Core& core_;
  std::shared_ptr<Collection> collection_;
  const std::string id_;
  IngestState state_;
};

// The batches that have passed the checks, and what they hold of the budget.
struct Admitted {
  std::vector<std::unique_ptr<PutCommit>> commits;
  std::vector<Backpressure::Admission> admissions;
};

absl::Status AdmitNext(Core& core, const std::shared_ptr<Collection>& target,
                       const IngestSpec& spec, IngestBatch batch, const CancelToken& cancel,
                       Admitted& admitted) {
  const int64_t now = core.NowUnixMicros();
  std::vector<CheckedRecord> checked;
  if (!batch.skip) {
    AZ_ASSIGN_OR_RETURN(checked, CheckRecords(target->schema, std::move(batch.records),
                                              PutOptions(target->schema, spec.insert, now)));
  }
  WriteOptions options;
  options.load = spec.load;
  options.load_batch = batch.number;
  options.relaxed = spec.relaxed;
  auto commit = std::make_unique<PutCommit>(core, target, std::move(checked),
                                            spec.insert ? PutMode::kInsert : PutMode::kUpsert,
                                            std::move(options), now);
  // Without records it adds nothing that must be held back, and it may be what lets a load end.
  if (!batch.skip) {
    AZ_RETURN_IF_ERROR(core.disk->AdmitWrite());
    AZ_ASSIGN_OR_RETURN(
        auto admission,
        core.backpressure.Admit(target->name, target->unindexed_rows, commit->byte_size(), cancel));
    admitted.admissions.push_back(std::move(admission));
  }
  admitted.commits.push_back(std::move(commit));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<IngestState> OpenIngest(Core& core, const IngestSpec& spec,
                                       const CancelToken& cancel) {
  AZ_RETURN_IF_ERROR(CheckLoadName(spec.load));
  AZ_ASSIGN_OR_RETURN(const auto target, core.FindCollection(spec.collection));
  ReadLoadCommit commit(core, target, spec.load);
  AZ_RETURN_IF_ERROR(core.queue.Run(commit, cancel).status());
  return commit.state();
}

std::vector<absl::StatusOr<WriteResult>> Ingest(Core& core, const IngestSpec& spec,
                                                std::vector<IngestBatch> batches,
                                                const CancelToken& cancel) {
  std::vector<absl::StatusOr<WriteResult>> results;
  results.reserve(batches.size());
  Admitted admitted;
  absl::Status refused = CheckLoadName(spec.load);
  auto target = core.FindCollection(spec.collection);
  if (refused.ok()) refused = target.status();
  for (IngestBatch& batch : batches) {
    if (refused.ok()) refused = AdmitNext(core, *target, spec, std::move(batch), cancel, admitted);
    if (!refused.ok()) break;
  }
  std::vector<Commit*> commits;
  for (const auto& commit : admitted.commits) commits.push_back(commit.get());
  const std::vector<absl::StatusOr<Seq>> seqs = core.queue.RunAll(commits, cancel);
  for (size_t i = 0; i < seqs.size(); ++i) {
    if (!seqs[i].ok()) {
      results.push_back(seqs[i].status());
      continue;
    }
    WriteResult result = admitted.commits[i]->result();
    if (!result.repeated) result.as_of = *seqs[i];
    result.synced =
        result.repeated ? core.durability->synced() >= result.as_of : admitted.commits[i]->synced();
    results.push_back(std::move(result));
  }
  if (results.size() < batches.size()) results.push_back(refused);
  while (results.size() < batches.size()) {
    results.push_back(
        FailedPrecondition("batch %d of load %s: one before it was refused; outcome: not_applied",
                           batches[results.size()].number, Quoted(spec.load)));
  }
  return results;
}

}  // namespace azimuth::engine
