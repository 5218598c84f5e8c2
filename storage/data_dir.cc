#include "storage/data_dir.h"

#include "base/crc32c.h"
#include "base/status.h"
#include "base/strings.h"

#include "absl/random/random.h"
#include "absl/strings/numbers.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::storage {
namespace {

constexpr uint32_t kFormatVersion = 1;
constexpr std::string_view kTitle = "azimuth data directory, format ";

// FORMAT's text without the last line, which is the checksum of what this returns.
std::string FormatBody(uint64_t incarnation) {
  return absl::StrFormat("%s%d\nincarnation %016x\n", kTitle, kFormatVersion, incarnation);
}

std::string FormatText(uint64_t incarnation) {
  const std::string body = FormatBody(incarnation);
  return absl::StrFormat("%scrc32c %08x\n", body, Crc32c(std::string_view(body)));
}

// The incarnation that FORMAT's text gives.
absl::StatusOr<uint64_t> ParseFormat(const std::string& path, std::string_view text) {
  const absl::Status unreadable =
      DataLoss("%s: not a format file: %s; put back a copy of it, or restore the directory", path,
               Quoted(text));
  if (!text.starts_with(kTitle)) return unreadable;
  const std::string_view rest = text.substr(kTitle.size());
  // The version is read first and alone: a newer format may have other lines after it.
  uint32_t version = 0;
  if (!absl::SimpleAtoi(ToAbsl(rest.substr(0, rest.find('\n'))), &version) || version == 0) {
    return unreadable;
  }
  if (version > kFormatVersion) {
    return FailedPrecondition("%s: format %d is newer than %d, the newest that this server reads",
                              path, version, kFormatVersion);
  }
  const size_t label = text.find("\nincarnation ");
  if (label == std::string_view::npos) return unreadable;
  uint64_t incarnation = 0;
  const std::string_view digits =
      text.substr(label + std::string_view("\nincarnation ").size(), 16);
  if (!absl::SimpleHexAtoi(ToAbsl(digits), &incarnation)) return unreadable;
  // Writing it again checks every byte of it, the checksum too.
  if (text != FormatText(incarnation)) return unreadable;
  return incarnation;
}

struct Contents {
  bool missing = false;  // The directory is not there.
  bool has_format = false;
};

// Refuses a directory that is not empty and not ours. Reads only.
absl::StatusOr<Contents> Inspect(const std::string& path) {
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(path);
  if (absl::IsNotFound(names.status())) return Contents{.missing = true};
  if (!names.ok()) return names.status();
  if (std::find(names->begin(), names->end(), "FORMAT") != names->end()) {
    return Contents{.has_format = true};
  }
  for (const std::string& name : *names) {
    // LOCK and FORMAT.tmp are left by a death before FORMAT was there; lost+found is in the root of
    // every ext4 volume.
    if (name == "LOCK" || name == "FORMAT.tmp" || name == "lost+found") continue;
    return FailedPrecondition(
        "%s: not a data directory (no file FORMAT) and not empty (it has %s); name an empty or a "
        "new directory",
        path, Quoted(name));
  }
  return Contents{};
}

absl::StatusOr<uint64_t> ReadIncarnation(const std::string& path) {
  AZ_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path));
  return ParseFormat(path, text);
}

absl::StatusOr<uint64_t> WriteNewIncarnation(const std::string& path) {
  absl::BitGen random;
  const auto incarnation = absl::Uniform<uint64_t>(random);
  AZ_RETURN_IF_ERROR(WriteFileAtomically(path, FormatText(incarnation)));
  return incarnation;
}

}  // namespace

absl::StatusOr<DataDir> DataDir::Open(const std::string& path) {
  const std::string format_path = path + "/FORMAT";
  AZ_ASSIGN_OR_RETURN(Contents contents, Inspect(path));
  if (contents.missing) {
    AZ_RETURN_IF_ERROR(MakeDirectory(path));
    AZ_RETURN_IF_ERROR(SyncDirectory(ParentDirectory(path)));
  }
  // Before the lock, which may make a file: a newer format is refused untouched.
  if (contents.has_format) AZ_RETURN_IF_ERROR(ReadIncarnation(format_path).status());

  AZ_ASSIGN_OR_RETURN(FileLock lock, FileLock::Acquire(path + "/LOCK"));
  // Again: another server may have been faster, and only now does nothing change any more.
  AZ_ASSIGN_OR_RETURN(contents, Inspect(path));
  uint64_t incarnation = 0;
  if (contents.has_format) {
    AZ_ASSIGN_OR_RETURN(incarnation, ReadIncarnation(format_path));
  } else {
    AZ_ASSIGN_OR_RETURN(incarnation, WriteNewIncarnation(format_path));
  }
  DataDir dir(path, std::move(lock), incarnation);
  // After FORMAT: folders without it would look like somebody else's.
  AZ_RETURN_IF_ERROR(MakeDirectory(dir.segments_path()));
  AZ_RETURN_IF_ERROR(MakeDirectory(dir.quarantine_path()));
  AZ_RETURN_IF_ERROR(SyncDirectory(path));
  return dir;
}

std::string DataDir::segment_path(SegmentId id) const {
  return absl::StrFormat("%s/%016x.seg", segments_path(), Raw(id));
}

}  // namespace azimuth::storage
