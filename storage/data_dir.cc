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

constexpr uint32_t kFormatVersion = 2;
// Opened and at once made a directory of kFormatVersion: all that it holds reads the same there.
constexpr uint32_t kFormatVersionMin = 1;
constexpr std::string_view kTitle = "azimuth data directory, format ";

struct Format {
  uint32_t version = kFormatVersion;
  uint64_t incarnation = 0;
};

std::string FormatText(const Format& format) {
  const std::string body =
      absl::StrFormat("%s%d\nincarnation %016x\n", kTitle, format.version, format.incarnation);
  return absl::StrFormat("%scrc32c %08x\n", body, Crc32c(std::string_view(body)));
}

absl::StatusOr<Format> ParseFormat(const std::string& path, std::string_view text) {
  const absl::Status unreadable =
      DataLoss("%s: not a format file: %s; put back a copy of it, or restore the directory", path,
               Quoted(text));
  if (!text.starts_with(kTitle)) return unreadable;
  const std::string_view rest = text.substr(kTitle.size());
  // The version is read first and alone: a newer format may have other lines after it.
  Format format;
  if (!absl::SimpleAtoi(ToAbsl(rest.substr(0, rest.find('\n'))), &format.version) ||
      format.version < kFormatVersionMin) {
    return unreadable;
  }
  if (format.version > kFormatVersion) {
    return FailedPrecondition("%s: format %d is newer than %d, the newest that this server reads",
                              path, format.version, kFormatVersion);
  }
  const size_t label = text.find("\nincarnation ");
  if (label == std::string_view::npos) return unreadable;
  const std::string_view digits =
      text.substr(label + std::string_view("\nincarnation ").size(), 16);
  if (!absl::SimpleHexAtoi(ToAbsl(digits), &format.incarnation)) return unreadable;
  // Writing it again checks every byte of it, the checksum too.
  if (text != FormatText(format)) return unreadable;
  return format;
}

struct Contents {
  bool missing = false;  // The directory is not there.
  bool has_format = false;
};

// Refuses a directory that is not empty and not ours. Reads only.
absl::StatusOr<Contents> Inspect(Files& files, const std::string& path) {
  const absl::StatusOr<std::vector<std::string>> names = files.List(path);
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

absl::StatusOr<Format> ReadFormat(Files& files, const std::string& path) {
  AZ_ASSIGN_OR_RETURN(const std::string text, files.ReadSmall(path));
  return ParseFormat(path, text);
}

uint64_t SystemRandom() {
  absl::BitGen random;
  return absl::Uniform<uint64_t>(random);
}

}  // namespace

absl::StatusOr<DataDir> DataDir::Open(const std::string& path, Files& files,
                                      const std::function<uint64_t()>& random) {
  const std::string format_path = path + "/FORMAT";
  AZ_ASSIGN_OR_RETURN(Contents contents, Inspect(files, path));
  if (contents.missing) {
    AZ_RETURN_IF_ERROR(files.MakeDir(path));
    AZ_RETURN_IF_ERROR(files.SyncDir(ParentDirectory(path)));
  }
  // Before the lock, which may make a file: a newer format is refused untouched.
  if (contents.has_format) AZ_RETURN_IF_ERROR(ReadFormat(files, format_path).status());

  AZ_ASSIGN_OR_RETURN(std::unique_ptr<FileLock> lock, files.Lock(path + "/LOCK"));
  // Again: another server may have been faster, and only now does nothing change any more.
  AZ_ASSIGN_OR_RETURN(contents, Inspect(files, path));
  Format format;
  bool write_format = true;
  if (contents.has_format) {
    AZ_ASSIGN_OR_RETURN(format, ReadFormat(files, format_path));
    // Before anything of the newer format is written: an older server would misread it.
    write_format = format.version != kFormatVersion;
    format.version = kFormatVersion;
  } else {
    format.incarnation = random ? random() : SystemRandom();
  }
  if (write_format) {
    AZ_RETURN_IF_ERROR(WriteFileAtomically(format_path, FormatText(format), files));
  }
  DataDir dir(files, path, std::move(lock), format.incarnation);
  // After FORMAT: folders without it would look like somebody else's.
  AZ_RETURN_IF_ERROR(files.MakeDir(dir.segments_path()));
  AZ_RETURN_IF_ERROR(files.MakeDir(dir.quarantine_path()));
  AZ_RETURN_IF_ERROR(files.SyncDir(path));
  return dir;
}

std::string DataDir::segment_path(SegmentId id) const {
  return absl::StrFormat("%s/%016x.seg", segments_path(), Raw(id));
}

}  // namespace azimuth::storage
