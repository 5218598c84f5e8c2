// Numeric identities. Each is a type of its own with no implicit way back to a number, and none is
// ever used a second time in one data directory.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

namespace azimuth {

// A collection: a catalog entry over a row store, fields and indexes.
enum class CollectionId : uint32_t {};
// A store of rows; the prefix of its rows' keys in RocksDB. Truncate and restore make a new one.
enum class RowStoreId : uint32_t {};
// A named subset of a collection. Zero is the unnamed one, where records go by default.
enum class PartitionId : uint32_t {};
// A declared scalar field or vector field of a collection.
enum class FieldId : uint32_t {};
// One version of a record within its row store; assigned in order of commit.
enum class RowId : uint64_t {};
// A segment file.
enum class SegmentId : uint64_t {};
// A commit of the store. Zero is before all commits.
enum class Seq : uint64_t {};

inline constexpr PartitionId kDefaultPartition{0};
inline constexpr Seq kSeqZero{0};
// The retired_seq of a row that is live.
inline constexpr Seq kSeqMax{std::numeric_limits<uint64_t>::max()};

template <typename Id>
constexpr auto Raw(Id id) {
  return static_cast<std::underlying_type_t<Id>>(id);
}

template <typename Id>
constexpr Id Next(Id id) {
  return static_cast<Id>(Raw(id) + 1);
}

}  // namespace azimuth
