// The limits that requests are held to. Every message about one of them says its number.
#pragma once

#include <cstddef>
#include <cstdint>

namespace azimuth::engine {

inline constexpr size_t kNameBytesMax = 255;
inline constexpr size_t kKeyBytesMax = 512;
inline constexpr uint32_t kDimensionMax = 32768;
inline constexpr size_t kFieldsMax = 1024;  // Of a schema; of a record, nested ones too.
inline constexpr size_t kVectorFieldsMax = 64;
inline constexpr size_t kBatchRecordsMax = 100000;
inline constexpr size_t kRecordBytesMax = size_t{1} << 20;  // Without vectors.
inline constexpr uint32_t kLimitMax = 16384;                // Hits of a search, records of a query.
inline constexpr double kRecallDefault = 0.95;              // Of a search that does not say.
inline constexpr uint32_t kEfMax = 32768;
inline constexpr size_t kQueriesMax = 10000;  // Of one SearchBatch.
inline constexpr uint64_t kQueriesTimesLimitMax = 1000000;
inline constexpr size_t kGetKeysMax = 16384;
inline constexpr size_t kFilterBytesMax = size_t{64} << 10;
inline constexpr int kFilterDepthMax = 64;
inline constexpr size_t kFilterNodesMax = 4096;
inline constexpr size_t kFilterListMax = 65536;
inline constexpr size_t kFilterParametersMax = 1024;
inline constexpr uint32_t kGraphMMin = 2;
inline constexpr uint32_t kGraphMMax = 128;
inline constexpr uint32_t kEfConstructionMin = 8;
inline constexpr uint32_t kEfConstructionMax = 4096;
inline constexpr size_t kCollectionsMax = 65536;
inline constexpr size_t kDeleteRowsMax = 100000;  // Of one commit of a delete by filter.
inline constexpr size_t kRequestIdBytesMax = 128;
// How long a request_id is remembered, and how many of them at most: the oldest go first.
inline constexpr int64_t kRequestMemoryMicros = int64_t{600} * 1000 * 1000;
inline constexpr size_t kRequestsMax = 100000;
// The same of bulk loads.
inline constexpr size_t kLoadNameBytesMax = 100;
inline constexpr int64_t kLoadMemoryMicros = int64_t{24} * 3600 * 1000 * 1000;
inline constexpr size_t kLoadsMax = 10000;
// Batches of a load, the last ones, of which it is remembered what keys were made for them: as many
// as a client may have on their way.
inline constexpr size_t kLoadMadeKeysMax = 256;
inline constexpr int64_t kMinSeqWaitMs = 10000;  // Of a read without a deadline.
inline constexpr int kMinSeqWaitersMax = 64;     // Reads that wait at one time.
// What an update may read and write again, whole records with their vectors.
inline constexpr uint64_t kUpdateBytesMax = uint64_t{64} << 20;
inline constexpr int64_t kExpiryMax = int64_t{253402300800} * 1000000;  // The end of the year 9999.
inline constexpr int64_t kTtlSecondsMax = int64_t{100} * 366 * 86400;

}  // namespace azimuth::engine
