// The manifest of a snapshot: what it is of, and every file of it with length and checksum. It is
// written last, so that a folder with a manifest is whole.
//
// Text; docs/FORMATS.md, "Snapshots". Nothing of it is trusted: names come from a closed set, so
// that no path leads out of the folder. Thread safety: plain values.
#pragma once

#include "base/ids.h"
#include "storage/file.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::storage {

inline constexpr std::string_view kSnapshotManifestName = "MANIFEST";
inline constexpr std::string_view kSnapshotRowsName = "rows.dat";
inline constexpr std::string_view kSnapshotRocksFolder = "rocks";
// A longer text is not read.
inline constexpr size_t kSnapshotManifestBytesMax = size_t{16} << 20;
inline constexpr size_t kSnapshotFilesMax = 262'144;
// Sequence numbers and row ids of a snapshot are below these, so that those that come after a
// restore never run over.
inline constexpr uint64_t kSnapshotSeqMax = uint64_t{1} << 62;
inline constexpr uint64_t kSnapshotRowIdMax = uint64_t{1} << 48;

enum class SnapshotKind : uint8_t { kCollection, kStore };

struct SnapshotFile {
  std::string name{};  // "rows.dat", "<16 hexadecimal digits>.seg", "rocks/<a name of RocksDB>".
  uint64_t bytes = 0;
  uint32_t crc = 0;
  friend bool operator==(const SnapshotFile&, const SnapshotFile&) = default;
};

struct SnapshotManifest {
  SnapshotKind kind = SnapshotKind::kStore;
  std::string name{};     // The user's. No rule of names is checked here but that it is one line.
  uint64_t instance = 0;  // Of the data directory that it was taken in.
  uint64_t incarnation = 0;  // Likewise, then.
  Seq as_of{};               // It has exactly the commits up to this one.
  int64_t created_unix_us = 0;
  uint64_t live_rows = 0;
  // Of kCollection only.
  std::string collection{};
  int64_t collection_created_unix_us = 0;
  RowId next_row{};
  std::string definition{};  // The engine's encoding of the schema.
  // Ascending by name.
  std::vector<SnapshotFile> files{};

  // Of all files.
  uint64_t bytes() const;
  // Null if there is none.
  const SnapshotFile* Find(std::string_view file) const;
  friend bool operator==(const SnapshotManifest&, const SnapshotManifest&) = default;
};

// True for the names that files of a snapshot may have.
bool IsSnapshotFileName(std::string_view name);

std::string EncodeSnapshotManifest(const SnapshotManifest& manifest);
// DataLoss if it is not exactly what EncodeSnapshotManifest writes, or a file is named twice or
// lies outside of the set, or one that the kind must have is missing; FailedPrecondition for a
// newer format, naming both versions.
absl::StatusOr<SnapshotManifest> DecodeSnapshotManifest(std::string_view text);

// Of the folder of a snapshot; errors say the path. NotFound if there is no manifest; errors of
// OpenToRead.
absl::StatusOr<SnapshotManifest> ReadSnapshotManifest(const std::string& folder, Files& files);

}  // namespace azimuth::storage
