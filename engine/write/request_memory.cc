#include "engine/write/request_memory.h"

#include "base/bytes.h"
#include "base/status.h"
#include "engine/limits.h"

#include <utility>

namespace azimuth::engine {
namespace {

constexpr uint8_t kReplyFormat = 1;
// Entries that one commit takes out: more than come in, so that the memory shrinks.
constexpr int kExpiredPerCommit = 8;

}  // namespace

const storage::RequestEntry* RequestMemory::Find(std::string_view id, int64_t now_us) const {
  const auto it = entries_.find(id);
  if (it == entries_.end() || it->second.at_unix_us + kRequestMemoryMicros <= now_us) {
    return nullptr;
  }
  return &it->second;
}

void RequestMemory::Add(storage::RequestEntry entry) {
  ages_.push_back({entry.at_unix_us, entry.id});
  std::string id = entry.id;
  entries_.insert_or_assign(std::move(id), std::move(entry));
}

void RequestMemory::Expire(int64_t now_us, const StringMap<storage::RequestEntry>& pending,
                           storage::CommitBatch& batch) {
  for (int i = 0; i < kExpiredPerCommit && !ages_.empty(); ++i) {
    const Age& oldest = ages_.front();
    if (oldest.at_unix_us + kRequestMemoryMicros > now_us && ages_.size() < kRequestsMax) return;
    // An id that was used again after its time has a younger entry.
    const auto it = entries_.find(oldest.id);
    if (it != entries_.end() && it->second.at_unix_us == oldest.at_unix_us &&
        !pending.contains(oldest.id)) {
      batch.DeleteRequest(oldest.id);
      entries_.erase(it);
    }
    ages_.pop_front();
  }
}

std::string EncodeReply(const WriteResult& result) {
  std::string out;
  PutLittle(out, kReplyFormat);
  PutLittle(out, result.inserted);
  PutLittle(out, result.replaced);
  PutLittle(out, result.updated);
  PutLittle(out, result.missing);
  PutLittle(out, result.deleted);
  PutLittle(out, Raw(result.as_of));
  return out;
}

absl::StatusOr<WriteResult> DecodeReply(std::string_view bytes) {
  ByteReader reader(bytes);
  uint8_t format = 0;
  uint64_t as_of = 0;
  WriteResult result;
  if (!reader.Little(format) || format != kReplyFormat || !reader.Little(result.inserted) ||
      !reader.Little(result.replaced) || !reader.Little(result.updated) ||
      !reader.Little(result.missing) || !reader.Little(result.deleted) || !reader.Little(as_of) ||
      !reader.empty()) {
    return DataLoss("malformed remembered reply of %d bytes", bytes.size());
  }
  result.as_of = Seq{as_of};
  result.repeated = true;
  return result;
}

}  // namespace azimuth::engine
