#include "storage/snapshot_manifest.h"

#include "base/crc32c.h"
#include "base/status.h"
#include "base/strings.h"

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"

#include <algorithm>
#include <span>
#include <utility>

namespace azimuth::storage {
namespace {

constexpr uint32_t kFormatVersion = 1;
constexpr std::string_view kTitle = "azimuth snapshot, format ";
constexpr std::string_view kDecimals = "0123456789";
constexpr std::string_view kHexDigits = "0123456789abcdef";

absl::Status Malformed(std::string_view what) {
  return DataLoss("not a manifest of a snapshot: %s", what);
}

bool IsAll(std::string_view text, std::string_view characters) {
  return !text.empty() && text.find_first_not_of(characters) == std::string_view::npos;
}

// A number of RocksDB with `head` before it and `tail` after it.
bool IsNumbered(std::string_view name, std::string_view head, std::string_view tail) {
  constexpr size_t kDigitsMax = 20;
  if (!name.starts_with(head) || !name.ends_with(tail)) return false;
  name.remove_prefix(head.size());
  if (name.size() < tail.size()) return false;
  name.remove_suffix(tail.size());
  return name.size() <= kDigitsMax && IsAll(name, kDecimals);
}

bool IsRocksName(std::string_view name) {
  return name == "CURRENT" || name == "IDENTITY" || IsNumbered(name, "MANIFEST-", "") ||
         IsNumbered(name, "OPTIONS-", "") || IsNumbered(name, "", ".sst") ||
         IsNumbered(name, "", ".log");
}

std::string_view KindName(SnapshotKind kind) {
  return kind == SnapshotKind::kCollection ? "collection" : "store";
}

// Takes the lines of a manifest from its front.
class Lines final {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}

  // The rest of the next line, which begins with `label` and a blank.
  absl::StatusOr<std::string_view> Text(std::string_view label) {
    const size_t end = rest_.find('\n');
    std::string_view line = rest_.substr(0, end);
    if (end == std::string_view::npos || !line.starts_with(label) || line.size() <= label.size() ||
        line[label.size()] != ' ') {
      return Malformed(absl::StrFormat("no line '%s'", label));
    }
    rest_.remove_prefix(end + 1);
    return line.substr(label.size() + 1);
  }
  template <typename T>
  absl::StatusOr<T> Decimal(std::string_view label) {
    AZ_ASSIGN_OR_RETURN(const std::string_view text, Text(label));
    T number = 0;
    if (!absl::SimpleAtoi(ToAbsl(text), &number)) {
      return Malformed(absl::StrFormat("line '%s' has no number", label));
    }
    return number;
  }
  absl::StatusOr<uint64_t> Hex(std::string_view label) {
    AZ_ASSIGN_OR_RETURN(const std::string_view text, Text(label));
    uint64_t number = 0;
    if (!IsAll(text, kHexDigits) || !absl::SimpleHexAtoi(ToAbsl(text), &number)) {
      return Malformed(absl::StrFormat("line '%s' has no number", label));
    }
    return number;
  }

 private:
  std::string_view rest_;
};

absl::StatusOr<SnapshotFile> DecodeFile(std::string_view line) {
  const size_t second = line.rfind(' ');
  const size_t first = second == std::string_view::npos || second == 0
                           ? std::string_view::npos
                           : line.rfind(' ', second - 1);
  if (first == std::string_view::npos) return Malformed("a file without length or checksum");
  SnapshotFile file{.name = std::string(line.substr(0, first))};
  if (!IsSnapshotFileName(file.name)) {
    return DataLoss("the manifest names a file %s, which no snapshot has", Quoted(file.name));
  }
  uint64_t crc = 0;
  const std::string_view crc_text = line.substr(second + 1);
  if (!absl::SimpleAtoi(ToAbsl(line.substr(first + 1, second - first - 1)), &file.bytes) ||
      crc_text.size() != 8 || !IsAll(crc_text, kHexDigits) ||
      !absl::SimpleHexAtoi(ToAbsl(crc_text), &crc)) {
    return Malformed("a file without length or checksum");
  }
  file.crc = static_cast<uint32_t>(crc);
  return file;
}

absl::Status DecodeCollection(Lines& lines, SnapshotManifest& manifest) {
  AZ_ASSIGN_OR_RETURN(const std::string_view name, lines.Text("collection"));
  manifest.collection = name;
  AZ_ASSIGN_OR_RETURN(manifest.collection_created_unix_us,
                      lines.Decimal<int64_t>("collection_created_unix_us"));
  AZ_ASSIGN_OR_RETURN(const uint64_t next_row, lines.Decimal<uint64_t>("next_row"));
  if (next_row > kSnapshotRowIdMax) return Malformed("line 'next_row' is out of range");
  manifest.next_row = RowId{next_row};
  AZ_ASSIGN_OR_RETURN(const std::string_view definition, lines.Text("definition"));
  if (definition.size() % 2 != 0 || !IsAll(definition, kHexDigits)) {
    return Malformed("line 'definition' is not hexadecimal");
  }
  manifest.definition = absl::HexStringToBytes(ToAbsl(definition));
  return absl::OkStatus();
}

absl::Status DecodeFiles(Lines& lines, SnapshotManifest& manifest) {
  AZ_ASSIGN_OR_RETURN(const uint64_t count, lines.Decimal<uint64_t>("files"));
  if (count > kSnapshotFilesMax) {
    return DataLoss("the manifest says %d files, at most %d are allowed", count, kSnapshotFilesMax);
  }
  uint64_t bytes = 0;
  for (uint64_t i = 0; i < count; ++i) {
    AZ_ASSIGN_OR_RETURN(const std::string_view line, lines.Text("file"));
    AZ_ASSIGN_OR_RETURN(SnapshotFile file, DecodeFile(line));
    if (!manifest.files.empty() && manifest.files.back().name >= file.name) {
      return DataLoss("the manifest names the file %s twice, or out of order", Quoted(file.name));
    }
    // So that a sum of all never runs over.
    if (file.bytes > kSnapshotSeqMax - bytes) return Malformed("a length is out of range");
    bytes += file.bytes;
    const bool is_rocks = file.name.starts_with(kSnapshotRocksFolder);
    const bool is_rows = file.name == kSnapshotRowsName;
    if (manifest.kind == SnapshotKind::kCollection ? is_rocks : is_rows) {
      return DataLoss("the manifest names a file %s, which a snapshot of its kind does not have",
                      Quoted(file.name));
    }
    manifest.files.push_back(std::move(file));
  }
  const std::string_view needed =
      manifest.kind == SnapshotKind::kCollection ? kSnapshotRowsName : "rocks/CURRENT";
  if (manifest.Find(needed) == nullptr) {
    return DataLoss("the manifest does not name the file %s", needed);
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t SnapshotManifest::bytes() const {
  uint64_t sum = 0;
  for (const SnapshotFile& file : files) sum += file.bytes;
  return sum;
}

const SnapshotFile* SnapshotManifest::Find(std::string_view file) const {
  const auto it = std::lower_bound(
      files.begin(), files.end(), file,
      [](const SnapshotFile& each, std::string_view wanted) { return each.name < wanted; });
  return it == files.end() || it->name != file ? nullptr : &*it;
}

bool IsSnapshotFileName(std::string_view name) {
  constexpr size_t kDigits = 16;
  constexpr std::string_view kRocksPrefix = "rocks/";
  if (name == kSnapshotRowsName) return true;
  if (name.starts_with(kRocksPrefix)) return IsRocksName(name.substr(kRocksPrefix.size()));
  return name.size() > kDigits && name.substr(kDigits) == ".seg" &&
         IsAll(name.substr(0, kDigits), kHexDigits);
}

std::string EncodeSnapshotManifest(const SnapshotManifest& manifest) {
  std::string text = absl::StrFormat(
      "%s%d\nkind %s\nname %s\ninstance %016x\nincarnation %016x\nas_of %d\ncreated_unix_us %d\n"
      "live_rows %d\n",
      kTitle, kFormatVersion, KindName(manifest.kind), manifest.name, manifest.instance,
      manifest.incarnation, Raw(manifest.as_of), manifest.created_unix_us, manifest.live_rows);
  if (manifest.kind == SnapshotKind::kCollection) {
    absl::StrAppendFormat(
        &text, "collection %s\ncollection_created_unix_us %d\nnext_row %d\ndefinition %s\n",
        manifest.collection, manifest.collection_created_unix_us, Raw(manifest.next_row),
        absl::BytesToHexString(ToAbsl(manifest.definition)));
  }
  absl::StrAppendFormat(&text, "files %d\n", manifest.files.size());
  for (const SnapshotFile& file : manifest.files) {
    absl::StrAppendFormat(&text, "file %s %d %08x\n", file.name, file.bytes, file.crc);
  }
  absl::StrAppendFormat(&text, "crc32c %08x\n", Crc32c(std::string_view(text)));
  return text;
}

absl::StatusOr<SnapshotManifest> DecodeSnapshotManifest(std::string_view text) {
  if (text.size() > kSnapshotManifestBytesMax) return Malformed("it is too long");
  if (!text.starts_with(kTitle)) return Malformed("its first line is another one");
  // The version is read first and alone: a newer format may have other lines after it.
  const std::string_view rest = text.substr(kTitle.size());
  const size_t end = rest.find('\n');
  uint32_t version = 0;
  if (end == std::string_view::npos || !absl::SimpleAtoi(ToAbsl(rest.substr(0, end)), &version) ||
      version == 0) {
    return Malformed("its first line has no version");
  }
  if (version > kFormatVersion) {
    return FailedPrecondition(
        "the snapshot has format %d, which is newer than %d, the newest that this server reads",
        version, kFormatVersion);
  }
  Lines lines(rest.substr(end + 1));
  SnapshotManifest manifest;
  AZ_ASSIGN_OR_RETURN(const std::string_view kind, lines.Text("kind"));
  if (kind != KindName(SnapshotKind::kCollection) && kind != KindName(SnapshotKind::kStore)) {
    return Malformed("its kind is unknown");
  }
  const bool of_collection = kind == KindName(SnapshotKind::kCollection);
  manifest.kind = of_collection ? SnapshotKind::kCollection : SnapshotKind::kStore;
  AZ_ASSIGN_OR_RETURN(const std::string_view name, lines.Text("name"));
  manifest.name = name;
  AZ_ASSIGN_OR_RETURN(manifest.instance, lines.Hex("instance"));
  AZ_ASSIGN_OR_RETURN(manifest.incarnation, lines.Hex("incarnation"));
  AZ_ASSIGN_OR_RETURN(const uint64_t as_of, lines.Decimal<uint64_t>("as_of"));
  if (as_of > kSnapshotSeqMax) return Malformed("line 'as_of' is out of range");
  manifest.as_of = Seq{as_of};
  AZ_ASSIGN_OR_RETURN(manifest.created_unix_us, lines.Decimal<int64_t>("created_unix_us"));
  AZ_ASSIGN_OR_RETURN(manifest.live_rows, lines.Decimal<uint64_t>("live_rows"));
  if (of_collection) AZ_RETURN_IF_ERROR(DecodeCollection(lines, manifest));
  AZ_RETURN_IF_ERROR(DecodeFiles(lines, manifest));
  // Writing it again checks every byte of it, the checksum too.
  if (text != EncodeSnapshotManifest(manifest)) return Malformed("its checksum does not match");
  return manifest;
}

absl::StatusOr<SnapshotManifest> ReadSnapshotManifest(const std::string& folder, Files& files) {
  const std::string path = absl::StrCat(folder, "/", ToAbsl(kSnapshotManifestName));
  AZ_ASSIGN_OR_RETURN(const auto file, files.OpenToRead(path));
  if (file->size() > kSnapshotManifestBytesMax) {
    return DataLoss("%s: %d bytes are more than a manifest has", path, file->size());
  }
  std::string text(file->size(), '\0');
  AZ_ASSIGN_OR_RETURN(const size_t count, file->ReadAt(0, std::as_writable_bytes(std::span(text))));
  text.resize(count);
  auto manifest = DecodeSnapshotManifest(text);
  if (!manifest.ok()) return AtPlace(path, manifest.status());
  return manifest;
}

}  // namespace azimuth::storage
