#include "storage/snapshot_rows.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/status.h"
#include "storage/key_codec.h"
#include "tests/storage/rows.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <filesystem>
#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Entry = std::tuple<RowEntryKind, std::string, std::string>;

const CancelToken kNoCancel{};

std::string BigEndian(uint64_t number) {
  std::string out;
  PutBig(out, number);
  return out;
}

class SnapshotRowsTest : public ::testing::Test {
 protected:
  std::string Path() const { return dir_.File("rows.dat"); }

  void Write(const std::vector<Entry>& entries, Seq as_of = Seq{5}) {
    std::filesystem::remove(Path());
    ASSERT_OK_AND_ASSIGN(const auto writer,
                         SnapshotRowsWriter::Create(Path(), as_of, Files::Posix()));
    for (const auto& [kind, key, value] : entries) ASSERT_OK(writer->Add(kind, key, value));
    ASSERT_OK(writer->Finish());
    const std::string bytes = ReadBytes(Path());
    EXPECT_EQ(writer->bytes(), bytes.size());
    EXPECT_EQ(writer->crc(), Crc32c(std::string_view(bytes)));
  }
  absl::StatusOr<std::vector<Entry>> Read(Seq as_of = Seq{5}) {
    AZ_ASSIGN_OR_RETURN(const auto file, Files::Posix().OpenToRead(Path()));
    std::vector<Entry> entries;
    const auto counts = ReadSnapshotRows(
        *file, as_of,
        [&](RowEntryKind kind, std::string_view key, std::string_view value) {
          entries.emplace_back(kind, key, value);
          return absl::OkStatus();
        },
        kNoCancel);
    if (!counts.ok()) return counts.status();
    return entries;
  }

  const TempDir dir_;
  const std::vector<Entry> few_ = {{RowEntryKind::kRow, BigEndian(1), "one"},
                                   {RowEntryKind::kRow, BigEndian(2), ""},
                                   {RowEntryKind::kKey, "\x01zzz", "v"},
                                   {RowEntryKind::kRetired, BigEndian(1), "12345678"}};
};

TEST_F(SnapshotRowsTest, HasTheBytesOfTheTable) {
  Write({{RowEntryKind::kVector, "ab", "cde"}}, Seq{7});
  std::string header = "AZSNROWS";
  PutLittle(header, uint32_t{1});
  PutLittle(header, uint64_t{7});
  PutLittle(header, Crc32c(std::string_view(header)));
  const auto block = [](uint32_t kind, uint32_t count, const std::string& content) {
    std::string out;
    PutLittle(out, kind);
    PutLittle(out, count);
    PutLittle(out, static_cast<uint32_t>(content.size()));
    return out.append([&] {
      std::string crc;
      PutLittle(crc, Crc32c(std::string_view(out + content)));
      return crc + content;
    }());
  };
  std::string entry;
  PutLengthPrefixed(entry, "ab");
  PutLengthPrefixed(entry, "cde");
  std::string counts;
  for (const uint64_t count : {0, 1, 0, 0}) PutLittle(counts, count);
  EXPECT_EQ(ReadBytes(Path()), header + block(2, 1, entry) + block(0xFFFFFFFF, 0, counts));
}

TEST_F(SnapshotRowsTest, ReadsWhatItWroteInBlocksOfBoundedSize) {
  std::mt19937_64 random(1);
  std::vector<Entry> entries;
  for (const RowEntryKind kind : kRowEntryKinds) {
    for (uint64_t i = 0; i < 3000; ++i) {
      entries.emplace_back(kind, BigEndian(i), RandomText(random, 1500));
    }
  }
  entries.emplace_back(RowEntryKind::kRetired, BigEndian(5000), std::string(3 << 20, 'x'));
  Write(entries);
  ASSERT_OK_AND_ASSIGN(const auto read, Read());
  EXPECT_TRUE(read == entries);
  Write({});
  ASSERT_OK_AND_ASSIGN(const auto none, Read());
  EXPECT_TRUE(none.empty());
}

TEST_F(SnapshotRowsTest, EveryFlippedBitAndEveryCutIsNoticed) {
  Write(few_);
  const std::string right = ReadBytes(Path());
  for (size_t i = 0; i < right.size() * 8; ++i) {
    std::string bytes = right;
    bytes[i / 8] = static_cast<char>(bytes[i / 8] ^ (1 << (i % 8)));
    WriteBytes(Path(), bytes);
    EXPECT_FALSE(Read().ok()) << "bit " << i;
  }
  for (size_t size = 0; size < right.size(); ++size) {
    WriteBytes(Path(), right.substr(0, size));
    EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss)) << size << " bytes";
  }
  WriteBytes(Path(), right + "x");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("after its end")));
}

TEST_F(SnapshotRowsTest, ASequenceNumberAnotherThanTheManifestSaysIsRefused) {
  Write(few_);
  EXPECT_THAT(Read(Seq{6}), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("5 instead of 6")));
}

TEST_F(SnapshotRowsTest, ANewerFormatIsRefusedByItsNumber) {
  std::string header = "AZSNROWS";
  PutLittle(header, uint32_t{2});
  PutLittle(header, uint64_t{5});
  PutLittle(header, Crc32c(std::string_view(header)));
  WriteBytes(Path(), header);
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("format 2")));
}

// With checksums that are right.
TEST_F(SnapshotRowsTest, LengthsAndOrderAreNotTrusted) {
  const auto with_block = [&](uint32_t kind, uint32_t count, const std::string& content,
                              uint32_t length) {
    std::string bytes = "AZSNROWS";
    PutLittle(bytes, uint32_t{1});
    PutLittle(bytes, uint64_t{5});
    PutLittle(bytes, Crc32c(std::string_view(bytes)));
    std::string header;
    PutLittle(header, kind);
    PutLittle(header, count);
    PutLittle(header, length);
    bytes += header;
    PutLittle(bytes, Crc32c(std::string_view(header + content)));
    WriteBytes(Path(), bytes + content);
    return Read();
  };
  const auto of = [&](uint32_t kind, uint32_t count, const std::string& content) {
    return with_block(kind, count, content, static_cast<uint32_t>(content.size()));
  };
  std::string a;
  PutLengthPrefixed(a, "a");
  PutLengthPrefixed(a, "");
  std::string endless;
  PutLittle(endless, uint32_t{0xFFFFFFFF});
  EXPECT_THAT(of(1, 1, a), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("cut off")));
  EXPECT_THAT(of(1, 2, a + a), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("out of order")));
  EXPECT_THAT(of(1, 2, a), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("longer")));
  EXPECT_THAT(of(1, 0xFFFFFFFF, a), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("longer")));
  EXPECT_THAT(of(1, 1, endless), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("longer")));
  EXPECT_THAT(of(1, 0, a), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("after its last")));
  EXPECT_THAT(of(0, 0, ""), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another kind")));
  EXPECT_THAT(of(5, 0, ""), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another kind")));
  EXPECT_THAT(with_block(1, 1, a, 0xFFFFFFFF),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("longer than any")));
  EXPECT_THAT(with_block(1, 1, a, 1 << 20),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("cut off")));
}

TEST_F(SnapshotRowsTest, AVisitorEndsIt) {
  Write(few_);
  ASSERT_OK_AND_ASSIGN(const auto file, Files::Posix().OpenToRead(Path()));
  int visits = 0;
  EXPECT_THAT(ReadSnapshotRows(
                  *file, Seq{5},
                  [&](RowEntryKind, std::string_view, std::string_view) {
                    return ++visits == 2 ? absl::AbortedError("enough") : absl::OkStatus();
                  },
                  kNoCancel),
              StatusIs(absl::StatusCode::kAborted));
  EXPECT_EQ(visits, 2);
}

}  // namespace
}  // namespace azimuth::storage
