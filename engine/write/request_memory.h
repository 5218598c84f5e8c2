// RequestMemory: the request ids of the last minutes with the replies that they got, so that a
// write can be repeated without being done twice.
//
// The same entries stand in the store (written in the batch of their write) and are read back at
// start. Bounded in time and number: the oldest go first. Another one of it remembers how far bulk
// loads have come (LoadState), in entries whose ids no client can give.
// Thread safety: touched by the commit leader only (and by recovery).
#pragma once

#include "base/ids.h"
#include "base/strings.h"
#include "engine/database.h"
#include "engine/query/request.h"
#include "storage/row.h"
#include "storage/store.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

namespace azimuth::engine {

class RequestMemory final {
 public:
  RequestMemory(int64_t lifetime_us, size_t entries_max)
      : lifetime_us_(lifetime_us), entries_max_(entries_max) {}

  // Null if the id is not known, or was last used too long before `now_us`.
  const storage::RequestEntry* Find(std::string_view id, int64_t now_us) const;
  // In place of what the id had.
  void Add(storage::RequestEntry entry);
  // Lets `batch` delete the oldest entries, a few at each call, if they have had their time or are
  // too many; those that `batch` writes anew already (`pending`) are left alone. `expiring` is how
  // many it deletes so far: they stay until ForgetOldest, which the batch may fail before.
  void Expire(int64_t now_us, const StringMap<storage::RequestEntry>& pending, size_t& expiring,
              storage::CommitBatch& batch);
  // Forgets entries that a batch has deleted.
  void ForgetOldest(size_t count);

  size_t size() const { return entries_.size(); }

 private:
  struct Age {
    int64_t at_unix_us;
    std::string id;
  };
  const int64_t lifetime_us_;
  const size_t entries_max_;
  StringMap<storage::RequestEntry> entries_;
  // One for each entry, in order of arrival; an entry that was replaced may be younger.
  std::deque<Age> ages_;
};

// The reply as the memory keeps it. Byte table: docs/FORMATS.md, "Remembered replies".
std::string EncodeReply(const WriteResult& result);
absl::StatusOr<WriteResult> DecodeReply(std::string_view bytes);  // DataLoss.

// The entry of a bulk load of a collection: its id, what it is about as its digest, and the state
// as its reply. After a truncation there is another row store, and what was loaded is gone: then
// the digest differs, and the load has not begun. Earlier servers wrote no digest; a start adds
// that of the row store that there is. Byte table: docs/FORMATS.md, "Remembered loads".
std::string LoadEntryId(CollectionId collection, std::string_view load);
std::string LoadEntryDigest(RowStoreId row_store);
bool IsLoadEntry(std::string_view id);
// REQUIRES: IsLoadEntry(id). Nullopt if it is none that LoadEntryId has made.
std::optional<CollectionId> CollectionOfLoad(std::string_view id);
std::string EncodeLoadState(const IngestState& state);
absl::StatusOr<IngestState> DecodeLoadState(std::string_view bytes);  // DataLoss.

}  // namespace azimuth::engine
