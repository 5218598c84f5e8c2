#include "storage/snapshot_manifest.h"

#include "base/crc32c.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <filesystem>
#include <string>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using ::testing::HasSubstr;

SnapshotManifest OfCollection() {
  SnapshotManifest manifest{.kind = SnapshotKind::kCollection,
                            .name = "nightly",
                            .instance = 0xfedcba9876543210,
                            .incarnation = 0x0123456789abcdef,
                            .as_of = Seq{42},
                            .created_unix_us = 1'700'000'000'000'000,
                            .live_rows = 7,
                            .collection = "items",
                            .collection_created_unix_us = 1'600'000'000'000'000,
                            .next_row = RowId{9},
                            .definition = std::string("\x02\x00\xff", 3)};
  manifest.files = {{"00000000000000ab.seg", 4096, 0x89abcdef}, {"rows.dat", 100, 1}};
  return manifest;
}

SnapshotManifest OfStore() {
  SnapshotManifest manifest{.kind = SnapshotKind::kStore, .name = "all", .as_of = Seq{1}};
  manifest.files = {{"00000000000000ab.seg", 4096, 0},
                    {"rocks/000012.sst", 10, 2},
                    {"rocks/CURRENT", 16, 3},
                    {"rocks/MANIFEST-000005", 17, 4}};
  return manifest;
}

std::string WithChecksum(const std::string& body) {
  return absl::StrFormat("%scrc32c %08x\n", body, Crc32c(std::string_view(body)));
}

// `text` with `from` replaced by `to`, and a checksum that is right again.
std::string Changed(std::string text, const std::string& from, const std::string& to) {
  text.resize(text.rfind("crc32c "));
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return WithChecksum(text.replace(at, from.size(), to));
}

TEST(SnapshotManifest, HasTheBytesOfTheTable) {
  EXPECT_EQ(EncodeSnapshotManifest(OfCollection()),
            WithChecksum("azimuth snapshot, format 1\n"
                         "kind collection\n"
                         "name nightly\n"
                         "instance fedcba9876543210\n"
                         "incarnation 0123456789abcdef\n"
                         "as_of 42\n"
                         "created_unix_us 1700000000000000\n"
                         "live_rows 7\n"
                         "collection items\n"
                         "collection_created_unix_us 1600000000000000\n"
                         "next_row 9\n"
                         "definition 0200ff\n"
                         "files 2\n"
                         "file 00000000000000ab.seg 4096 89abcdef\n"
                         "file rows.dat 100 00000001\n"));
}

TEST(SnapshotManifest, ReadsWhatItWrote) {
  for (const SnapshotManifest& manifest : {OfCollection(), OfStore()}) {
    ASSERT_OK_AND_ASSIGN(const SnapshotManifest read,
                         DecodeSnapshotManifest(EncodeSnapshotManifest(manifest)));
    EXPECT_EQ(read, manifest);
  }
  EXPECT_EQ(OfStore().bytes(), 4096U + 10 + 16 + 17);
  const SnapshotManifest manifest = OfStore();
  ASSERT_NE(manifest.Find("rocks/CURRENT"), nullptr);
  EXPECT_EQ(manifest.Find("rocks/CURRENT")->crc, 3U);
  EXPECT_EQ(manifest.Find("rows.dat"), nullptr);
}

TEST(SnapshotManifest, EveryFlippedBitAndEveryCutIsNoticed) {
  const std::string right = EncodeSnapshotManifest(OfCollection());
  for (size_t i = 0; i < right.size() * 8; ++i) {
    std::string text = right;
    text[i / 8] = static_cast<char>(text[i / 8] ^ (1 << (i % 8)));
    EXPECT_FALSE(DecodeSnapshotManifest(text).ok()) << "bit " << i;
  }
  for (size_t size = 0; size < right.size(); ++size) {
    EXPECT_FALSE(DecodeSnapshotManifest(right.substr(0, size)).ok()) << size << " bytes";
  }
  EXPECT_THAT(DecodeSnapshotManifest(right + "x"), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(SnapshotManifest, ANewerFormatIsRefusedByItsNumber) {
  EXPECT_THAT(DecodeSnapshotManifest("azimuth snapshot, format 2\nwhatever"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("format 2")));
  EXPECT_THAT(DecodeSnapshotManifest("azimuth snapshot, format 0\n"),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST(SnapshotManifest, NamesOfFilesComeFromAClosedSet) {
  for (const char* name :
       {"rows.dat", "0123456789abcdef.seg", "rocks/CURRENT", "rocks/IDENTITY", "rocks/000001.sst",
        "rocks/000001.log", "rocks/MANIFEST-000001", "rocks/OPTIONS-000001"}) {
    EXPECT_TRUE(IsSnapshotFileName(name)) << name;
  }
  for (const char* name : {"",
                           ".",
                           "..",
                           "/etc/passwd",
                           "../rows.dat",
                           "rocks/../rows.dat",
                           "rocks/",
                           "rocks",
                           "rocks//CURRENT",
                           "rocks/a/CURRENT",
                           "MANIFEST",
                           "0123456789ABCDEF.seg",
                           "123456789abcdef.seg",
                           "00123456789abcdef.seg",
                           "0123456789abcdef.seg.tmp",
                           "rows.dat/",
                           "rocks/.sst",
                           "rocks/x.sst",
                           "rocks/LOCK",
                           "rocks/000001.sst.tmp",
                           "rocks/MANIFEST-",
                           "rocks/123456789012345678901.sst",
                           "rows.dat\n"}) {
    EXPECT_FALSE(IsSnapshotFileName(name)) << name;
  }
  const std::string right = EncodeSnapshotManifest(OfCollection());
  EXPECT_THAT(DecodeSnapshotManifest(Changed(right, "file rows.dat", "file ../a.dat")),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("../a.dat")));
}

TEST(SnapshotManifest, WhatContradictsItselfIsRefused) {
  const std::string right = EncodeSnapshotManifest(OfCollection());
  const auto refused = [&](const std::string& from, const std::string& to) {
    EXPECT_THAT(DecodeSnapshotManifest(Changed(right, from, to)),
                StatusIs(absl::StatusCode::kDataLoss))
        << to;
  };
  refused("files 2", "files 3");
  refused("files 2", "files 1");
  refused("files 2", "files 99999999999");
  refused("files 2", "files -2");
  // Twice, out of order, of another kind, and none with rows.
  refused("file rows.dat 100 00000001\n", "file 00000000000000ab.seg 4096 89abcdef\n");
  refused("file rows.dat 100 00000001\n", "file 0000000000000001.seg 4096 89abcdef\n");
  refused("file 00000000000000ab.seg 4096 89abcdef\n", "file rocks/CURRENT 4096 89abcdef\n");
  refused("files 2\nfile 00000000000000ab.seg 4096 89abcdef\nfile rows.dat 100 00000001\n",
          "files 1\nfile 00000000000000ab.seg 4096 89abcdef\n");
  refused("as_of 42", "as_of 18446744073709551615");
  refused("next_row 9", "next_row 18446744073709551615");
  refused("file rows.dat 100", "file rows.dat 18446744073709551615");
  refused("file rows.dat 100", "file rows.dat 0100");
  refused("definition 0200ff", "definition 0200f");
  refused("definition 0200ff", "definition 0200FF");
  refused("kind collection", "kind store");
  refused("kind collection", "kind else");
}

TEST(SnapshotManifest, IsReadFromAFolderAndNotThroughALink) {
  const TempDir dir;
  EXPECT_THAT(ReadSnapshotManifest(dir.path(), Files::Posix()),
              StatusIs(absl::StatusCode::kNotFound));
  WriteBytes(dir.File("elsewhere"), EncodeSnapshotManifest(OfStore()));
  std::filesystem::create_symlink(dir.File("elsewhere"), dir.File("MANIFEST"));
  EXPECT_THAT(ReadSnapshotManifest(dir.path(), Files::Posix()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a regular file")));
  std::filesystem::remove(dir.File("MANIFEST"));
  WriteBytes(dir.File("MANIFEST"), ReadBytes(dir.File("elsewhere")));
  ASSERT_OK_AND_ASSIGN(const SnapshotManifest read,
                       ReadSnapshotManifest(dir.path(), Files::Posix()));
  EXPECT_EQ(read, OfStore());
}

}  // namespace
}  // namespace azimuth::storage
