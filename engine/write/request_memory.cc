#include "engine/write/request_memory.h"

#include "base/bytes.h"
#include "base/status.h"
#include "engine/limits.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr uint8_t kReplyFormat = 1;
// With the keys that were made; only written where there are some.
constexpr uint8_t kReplyFormatMade = 2;
// No byte of UTF-8, which is what clients' ids are.
constexpr char kLoadTag = '\xFF';
// Entries that one commit takes out: more than come in, so that the memory shrinks.
constexpr int kExpiredPerCommit = 8;

// Whether one commit can have made these keys. They are told one by one.
bool CanBeMade(const MadeKeys& made) {
  if (made.count == 0) return true;
  return made.count <= kBatchRecordsMax && made.first >= 1 &&
         made.first <= INT64_MAX - static_cast<int64_t>(made.count);
}

}  // namespace

const storage::RequestEntry* RequestMemory::Find(std::string_view id, int64_t now_us) const {
  const auto it = entries_.find(id);
  if (it == entries_.end() || it->second.at_unix_us + lifetime_us_ <= now_us) return nullptr;
  return &it->second;
}

void RequestMemory::Add(storage::RequestEntry entry) {
  const auto it = entries_.find(std::string_view(entry.id));
  if (it != entries_.end()) {
    it->second = std::move(entry);
    return;
  }
  ages_.push_back({entry.at_unix_us, entry.id});
  std::string id = entry.id;
  entries_.emplace(std::move(id), std::move(entry));
}

void RequestMemory::Expire(int64_t now_us, const StringMap<storage::RequestEntry>& pending,
                           size_t& expiring, storage::CommitBatch& batch) {
  for (int i = 0; i < kExpiredPerCommit && expiring < ages_.size(); ++i) {
    const auto place = ages_.begin() + static_cast<std::ptrdiff_t>(expiring);
    if (place->at_unix_us + lifetime_us_ > now_us && ages_.size() - expiring < entries_max_) return;
    const auto it = entries_.find(std::string_view(place->id));
    if (it->second.at_unix_us != place->at_unix_us || pending.contains(place->id)) {
      // It was used again since, or is being used: as old as that.
      Age younger{std::max(it->second.at_unix_us, place->at_unix_us), std::move(place->id)};
      ages_.erase(place);
      ages_.push_back(std::move(younger));
      continue;
    }
    batch.DeleteRequest(place->id);
    ++expiring;
  }
}

void RequestMemory::ForgetOldest(size_t count) {
  for (; count > 0; --count) {
    entries_.erase(entries_.find(std::string_view(ages_.front().id)));
    ages_.pop_front();
  }
}

std::string EncodeReply(const WriteResult& result) {
  std::string out;
  PutLittle(out, result.made.count == 0 ? kReplyFormat : kReplyFormatMade);
  PutLittle(out, result.inserted);
  PutLittle(out, result.replaced);
  PutLittle(out, result.updated);
  PutLittle(out, result.missing);
  PutLittle(out, result.deleted);
  PutLittle(out, Raw(result.as_of));
  if (result.made.count > 0) {
    PutLittle(out, result.made.first);
    PutLittle(out, result.made.count);
  }
  return out;
}

absl::StatusOr<WriteResult> DecodeReply(std::string_view bytes) {
  ByteReader reader(bytes);
  uint8_t format = 0;
  uint64_t as_of = 0;
  WriteResult result;
  if (!reader.Little(format) || (format != kReplyFormat && format != kReplyFormatMade) ||
      !reader.Little(result.inserted) || !reader.Little(result.replaced) ||
      !reader.Little(result.updated) || !reader.Little(result.missing) ||
      !reader.Little(result.deleted) || !reader.Little(as_of) ||
      (format == kReplyFormatMade &&
       (!reader.Little(result.made.first) || !reader.Little(result.made.count))) ||
      !CanBeMade(result.made) || !reader.empty()) {
    return DataLoss("malformed remembered reply of %d bytes", bytes.size());
  }
  result.as_of = Seq{as_of};
  result.repeated = true;
  return result;
}

std::string LoadEntryId(CollectionId collection, std::string_view load) {
  std::string id(1, kLoadTag);
  PutLittle(id, Raw(collection));
  id.append(load);
  return id;
}

std::string LoadEntryDigest(RowStoreId row_store) {
  std::string digest;
  PutLittle(digest, Raw(row_store));
  return digest;
}

bool IsLoadEntry(std::string_view id) {
  return !id.empty() && id.front() == kLoadTag;
}

std::optional<CollectionId> CollectionOfLoad(std::string_view id) {
  ByteReader reader(id.substr(1));
  uint32_t collection = 0;
  if (!reader.Little(collection)) return std::nullopt;
  return CollectionId{collection};
}

std::string EncodeLoadState(const IngestState& state) {
  std::string out;
  PutLittle(out, state.made.empty() ? kReplyFormat : kReplyFormatMade);
  PutLittle(out, state.last_batch);
  PutLittle(out, state.inserted);
  PutLittle(out, state.replaced);
  PutLittle(out, Raw(state.as_of));
  for (const MadeKeys& made : state.made) {
    PutLittle(out, made.first);
    PutLittle(out, made.count);
  }
  return out;
}

absl::StatusOr<IngestState> DecodeLoadState(std::string_view bytes) {
  ByteReader reader(bytes);
  uint8_t format = 0;
  uint64_t as_of = 0;
  IngestState state;
  bool whole = reader.Little(format) && (format == kReplyFormat || format == kReplyFormatMade) &&
               reader.Little(state.last_batch) && reader.Little(state.inserted) &&
               reader.Little(state.replaced) && reader.Little(as_of);
  // To the end.
  while (whole && format == kReplyFormatMade && !reader.empty()) {
    MadeKeys& made = state.made.emplace_back();
    whole = reader.Little(made.first) && reader.Little(made.count) && CanBeMade(made) &&
            state.made.size() <= kLoadMadeKeysMax;
  }
  if (!whole || !reader.empty()) {
    return DataLoss("malformed state of a load, %d bytes", bytes.size());
  }
  state.as_of = Seq{as_of};
  return state;
}

}  // namespace azimuth::engine
