// The values of the small column families: keys, counters, catalog entries, next ids.
//
// Byte table: docs/FORMATS.md, "RocksDB values". Rows have row.h. Internal to storage.
// Errors of decoders: DataLoss (malformed), FailedPrecondition (a newer version of an entry).
// Thread safety: functions only.
#pragma once

#include "base/ids.h"
#include "storage/row.h"

#include "absl/status/statusor.h"

#include <string>
#include <string_view>

namespace azimuth::storage {

std::string EncodeKeyEntry(const KeyEntry& entry);
absl::StatusOr<KeyEntry> DecodeKeyEntry(std::string_view bytes);

// A bare sequence number: the applied position, a retirement.
std::string EncodeSeq(Seq seq);
absl::StatusOr<Seq> DecodeSeq(std::string_view bytes);

// The id of a row: up to where row tables may stand.
std::string EncodeRowId(RowId row);
absl::StatusOr<RowId> DecodeRowId(std::string_view bytes);

std::string EncodeCounters(const RowStoreCounters& counters);
absl::StatusOr<RowStoreCounters> DecodeCounters(std::string_view bytes);

std::string EncodeNextIds(const NextIds& ids);
absl::StatusOr<NextIds> DecodeNextIds(std::string_view bytes);

// The ids that stand in the key are not repeated in the value: decoders leave them at zero.
std::string EncodeCollectionEntry(const CollectionEntry& entry);
absl::StatusOr<CollectionEntry> DecodeCollectionEntry(std::string_view bytes);
std::string EncodeSegmentEntry(const SegmentEntry& entry);
absl::StatusOr<SegmentEntry> DecodeSegmentEntry(std::string_view bytes);
// The request's id is the key.
std::string EncodeRequestEntry(const RequestEntry& entry);
absl::StatusOr<RequestEntry> DecodeRequestEntry(std::string_view bytes);

}  // namespace azimuth::storage
