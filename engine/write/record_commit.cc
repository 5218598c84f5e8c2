#include "engine/write/record_commit.h"

#include "base/status.h"
#include "engine/limits.h"

#include <algorithm>
#include <cstddef>
#include <optional>

namespace azimuth::engine {
namespace {

void MarkRetired(Collection& collection, RowId row, Seq seq) {
  collection.retired.Retire(row, seq);
  if (Segment* segment = collection.segments().Find(row)) {
    if (const auto position = segment->Find(row)) segment->MarkRetired(*position);
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<Collection>> FollowTruncation(
    const Core& core, const std::shared_ptr<Collection>& collection) {
  if (!collection->dropped.load(std::memory_order_acquire)) return collection;
  const CollectionMap& collections = core.collections();
  const auto it = collections.find(std::string_view(collection->name));
  if (it == collections.end() || it->second->id != collection->id) {
    return NotFound("collection %s does not exist", Quoted(collection->name));
  }
  return it->second;
}

const storage::RequestEntry* RecordCommit::Remembered(const ResolveContext& context,
                                                      const RequestMemory& memory,
                                                      std::string_view id) const {
  const auto pending = context.overlay.requests.find(id);
  return pending != context.overlay.requests.end() ? &pending->second
                                                   : memory.Find(id, now_unix_us_);
}

absl::StatusOr<bool> RecordCommit::FindReply(const ResolveContext& context) {
  if (options_.request_id.empty()) return false;
  const storage::RequestEntry* known = Remembered(context, core_.requests, options_.request_id);
  if (known == nullptr) return false;
  if (known->digest != options_.request_digest) {
    return InvalidArgument("request_id: %s came with another request before; ids are used once",
                           Quoted(options_.request_id));
  }
  AZ_ASSIGN_OR_RETURN(result_, DecodeReply(known->reply));
  return true;
}

absl::StatusOr<bool> RecordCommit::FindLoad(const ResolveContext& context) {
  if (options_.load.empty()) return false;
  const std::string id = LoadEntryId(collection_->id, options_.load);
  const storage::RequestEntry* known = Remembered(context, core_.loads, id);
  const bool truncated =
      known != nullptr && known->digest != LoadEntryDigest(collection_->row_store);
  if (known != nullptr && !truncated) {
    AZ_ASSIGN_OR_RETURN(load_, DecodeLoadState(known->reply));
  }
  if (options_.load_batch <= load_.last_batch) {
    result_.repeated = true;
    result_.inserted = load_.inserted;
    result_.replaced = load_.replaced;
    result_.as_of = load_.as_of;
    const uint64_t later = load_.last_batch - options_.load_batch;
    if (later < load_.made.size()) result_.made = load_.made[load_.made.size() - 1 - later];
    return true;
  }
  if (options_.load_batch == load_.last_batch + 1) return false;
  return FailedPrecondition("batch %d of load %s: batch %d comes next%s; outcome: not_applied",
                            options_.load_batch, Quoted(options_.load), load_.last_batch + 1,
                            truncated ? ", as the collection was truncated" : "");
}

void RecordCommit::Remember(ResolveContext& context, RequestMemory& memory, std::string id,
                            std::string digest, std::string reply) {
  storage::RequestEntry entry{.id = std::move(id),
                              .digest = std::move(digest),
                              .at_unix_us = now_unix_us_,
                              .reply = std::move(reply)};
  size_t& expiring =
      IsLoadEntry(entry.id) ? context.overlay.expiring_loads : context.overlay.expiring_requests;
  const size_t before = expiring;
  memory.Expire(now_unix_us_, context.overlay.requests, expiring, context.batch);
  context.batch.PutRequest(entry);
  if (!context.last) context.overlay.requests[entry.id] = entry;
  kept_.push_back({std::move(entry), expiring - before});
}

absl::StatusOr<bool> RecordCommit::Resolve(ResolveContext& context) {
  AZ_ASSIGN_OR_RETURN(collection_, FollowTruncation(core_, collection_));
  AZ_ASSIGN_OR_RETURN(replayed_, FindReply(context));
  if (replayed_) return false;
  AZ_ASSIGN_OR_RETURN(replayed_, FindLoad(context));
  if (replayed_) return false;
  AZ_RETURN_IF_ERROR(refusal_);
  AZ_ASSIGN_OR_RETURN(bool changes, ResolveRecords(context));
  if (!options_.request_id.empty()) {
    WriteResult reply = result_;
    reply.as_of = context.seq;
    Remember(context, core_.requests, options_.request_id, options_.request_digest,
             EncodeReply(reply));
    changes = true;
  }
  if (!options_.load.empty()) {
    IngestState state{.last_batch = options_.load_batch,
                      .inserted = load_.inserted + result_.inserted,
                      .replaced = load_.replaced + result_.replaced,
                      .as_of = context.seq};
    if (collection_->schema.auto_id) {
      const size_t kept = std::min(load_.made.size(), kLoadMadeKeysMax - 1);
      state.made.assign(load_.made.end() - static_cast<std::ptrdiff_t>(kept), load_.made.end());
      state.made.push_back(result_.made);
    }
    Remember(context, core_.loads, LoadEntryId(collection_->id, options_.load),
             LoadEntryDigest(collection_->row_store), EncodeLoadState(state));
    changes = true;
  }
  return changes;
}

void RecordCommit::Apply(Seq seq) {
  if (replayed_) return;
  for (Kept& kept : kept_) {
    RequestMemory& memory = IsLoadEntry(kept.entry.id) ? core_.loads : core_.requests;
    memory.ForgetOldest(kept.expired);
    memory.Add(std::move(kept.entry));
  }
  for (const RowId row : retired_) MarkRetired(*collection_, row, seq);
  ApplyRecords(seq);
  if (counters_put_) collection_->live_rows.store(live_rows_, std::memory_order_release);
}

absl::StatusOr<std::vector<RecordCommit::Current>> RecordCommit::CurrentOf(
    const ResolveContext& context, std::span<const Key* const> keys) const {
  const RowStoreId row_store = collection_->row_store;
  std::vector<Current> all(keys.size());
  std::vector<Key> unknown;
  std::vector<size_t> places;
  const auto& pending = context.overlay.keys;
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto it =
        pending.empty() ? pending.end() : pending.find(std::make_pair(row_store, *keys[i]));
    if (it != pending.end()) {
      all[i].entry = it->second.entry;
      all[i].pending = it->second.record;
    } else {
      unknown.push_back(*keys[i]);
      places.push_back(i);
    }
  }
  AZ_ASSIGN_OR_RETURN(auto stored, context.store.LookUpKeys(row_store, unknown));
  for (size_t i = 0; i < places.size(); ++i) all[places[i]].entry = stored[i];
  for (Current& current : all) {
    current.expired =
        current.entry.has_value() && HasExpired(current.entry->expires_at_unix_us, now_unix_us_);
  }
  return all;
}

absl::Status RecordCommit::CheckVersion(const Current& current, std::optional<Seq> wanted,
                                        const Key& key, std::string_view member, size_t place) {
  if (!wanted.has_value() || *wanted == current.version()) return absl::OkStatus();
  const std::string is = current.exists()
                             ? absl::StrFormat("is at version %d", Raw(current.version()))
                             : std::string("does not exist");
  return absl::AbortedError(absl::StrFormat(
      "%s[%d]: %s %s, and if_version asks for %d; read it again and repeat; outcome: not_applied",
      std::string(member), place, KeyToText(key), is, Raw(*wanted)));
}

uint64_t RecordCommit::LiveRows(const ResolveContext& context) const {
  const auto it = context.overlay.live_rows.find(collection_->row_store);
  return it != context.overlay.live_rows.end() ? it->second : collection_->live_rows.load();
}

void RecordCommit::Retire(ResolveContext& context, RowId row) {
  context.batch.PutRetired(collection_->row_store, row, context.seq);
  retired_.push_back(row);
}

void RecordCommit::PutCounters(ResolveContext& context, uint64_t added) {
  live_rows_ = LiveRows(context) + added - retired_.size();
  counters_put_ = true;
  if (!context.last) context.overlay.live_rows[collection_->row_store] = live_rows_;
  context.batch.PutCounters(collection_->row_store, {collection_->next_row, live_rows_});
}

}  // namespace azimuth::engine
