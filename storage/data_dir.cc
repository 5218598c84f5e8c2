#include "storage/data_dir.h"

#include "base/crc32c.h"
#include "base/failpoint.h"
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

constexpr uint32_t kFormatVersion = 4;
// Opened and at once made a directory of kFormatVersion: all that it holds reads the same there.
constexpr uint32_t kFormatVersionMin = 1;
// Before it the incarnation was the instance, too.
constexpr uint32_t kFormatVersionOfInstance = 3;
constexpr std::string_view kTitle = "azimuth data directory, format ";

struct Format {
  uint32_t version = kFormatVersion;
  uint64_t instance = 0;
  uint64_t incarnation = 0;
};

std::string FormatText(const Format& format) {
  std::string body = absl::StrFormat("%s%d\n", kTitle, format.version);
  if (format.version >= kFormatVersionOfInstance) {
    absl::StrAppendFormat(&body, "instance %016x\n", format.instance);
  }
  absl::StrAppendFormat(&body, "incarnation %016x\n", format.incarnation);
  return absl::StrFormat("%scrc32c %08x\n", body, Crc32c(std::string_view(body)));
}

// Reads the number of the line that `label` (with the newline before it) begins.
bool ReadNumber(std::string_view text, std::string_view label, uint64_t& number) {
  const size_t at = text.find(label);
  return at != std::string_view::npos &&
         absl::SimpleHexAtoi(ToAbsl(text.substr(at + label.size(), 16)), &number);
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
  if (!ReadNumber(text, "\nincarnation ", format.incarnation)) return unreadable;
  format.instance = format.incarnation;
  if (format.version >= kFormatVersionOfInstance &&
      !ReadNumber(text, "\ninstance ", format.instance)) {
    return unreadable;
  }
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

// Puts FORMAT of the version that is written in place of the older one, before anything of the
// newer format is written: an older server would misread it.
absl::Status Upgrade(Files& files, const std::string& path, Format& format) {
  format.version = kFormatVersion;
  AZ_FAILPOINT(kUpgradeBeforeFormat);
  AZ_RETURN_IF_ERROR(WriteFileAtomically(path, FormatText(format), files));
  AZ_FAILPOINT(kUpgradeAfterFormat);
  return absl::OkStatus();
}

}  // namespace

uint64_t RandomNumber(const std::function<uint64_t()>& random) {
  if (random) return random();
  absl::BitGen system;
  return absl::Uniform<uint64_t>(system);
}

absl::Status WriteFormatOf(uint64_t instance, const std::string& path, Files& files,
                           const std::function<uint64_t()>& random) {
  const Format format{.instance = instance, .incarnation = RandomNumber(random)};
  return WriteFileAtomically(path, FormatText(format), files);
}

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
  uint32_t found_version = kFormatVersion;
  if (contents.has_format) {
    AZ_ASSIGN_OR_RETURN(format, ReadFormat(files, format_path));
    found_version = format.version;
    if (format.version != kFormatVersion) {
      AZ_RETURN_IF_ERROR(Upgrade(files, format_path, format));
    }
  } else {
    format.incarnation = RandomNumber(random);
    format.instance = RandomNumber(random);
    AZ_RETURN_IF_ERROR(WriteFileAtomically(format_path, FormatText(format), files));
  }
  DataDir dir(files, path, std::move(lock));
  dir.version_ = format.version;
  dir.found_version_ = found_version;
  dir.instance_ = format.instance;
  dir.incarnation_ = format.incarnation;
  // After FORMAT: folders without it would look like somebody else's.
  AZ_RETURN_IF_ERROR(files.MakeDir(dir.segments_path()));
  AZ_RETURN_IF_ERROR(files.MakeDir(dir.quarantine_path()));
  AZ_RETURN_IF_ERROR(files.SyncDir(path));
  return dir;
}

absl::StatusOr<DataDir> DataDir::OpenToRead(const std::string& path, Files& files) {
  const std::string format_path = path + "/FORMAT";
  AZ_ASSIGN_OR_RETURN(const Contents contents, Inspect(files, path));
  if (contents.missing) return NotFound("%s: there is no such directory", path);
  if (!contents.has_format) {
    return FailedPrecondition("%s: not a data directory (no file FORMAT)", path);
  }
  AZ_RETURN_IF_ERROR(ReadFormat(files, format_path).status());
  // To lock it would make it.
  AZ_RETURN_IF_ERROR(files.Size(path + "/LOCK").status());
  AZ_ASSIGN_OR_RETURN(std::unique_ptr<FileLock> lock, files.Lock(path + "/LOCK"));
  // Again: only now does nothing change any more.
  AZ_ASSIGN_OR_RETURN(const Format format, ReadFormat(files, format_path));
  DataDir dir(files, path, std::move(lock));
  dir.version_ = format.version;
  dir.found_version_ = format.version;
  dir.instance_ = format.instance;
  dir.incarnation_ = format.incarnation;
  return dir;
}

absl::Status DataDir::ChangeIncarnation(const std::function<uint64_t()>& random) {
  Format format{.version = version_, .instance = instance_, .incarnation = RandomNumber(random)};
  if (format.incarnation == incarnation_) ++format.incarnation;
  AZ_RETURN_IF_ERROR(WriteFileAtomically(path_ + "/FORMAT", FormatText(format), *files_));
  incarnation_ = format.incarnation;
  return absl::OkStatus();
}

std::string DataDir::segment_path(SegmentId id) const {
  return absl::StrFormat("%s/%016x.seg", segments_path(), Raw(id));
}

bool DataDir::IsSegmentName(std::string_view name) {
  constexpr size_t kDigits = 16;
  if (name.size() < kDigits) return false;
  const std::string_view digits = name.substr(0, kDigits);
  const std::string_view rest = name.substr(kDigits);
  return digits.find_first_not_of("0123456789abcdef") == std::string_view::npos &&
         (rest == ".seg" || rest == ".seg.tmp");
}

}  // namespace azimuth::storage
