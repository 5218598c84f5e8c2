#include "storage/segment_file.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/failpoint.h"
#include "storage/segment_format.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::ReadBytes;
using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::azimuth::testing::WriteBytes;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr SegmentHeader kHeader{.id = SegmentId{12},
                                .row_store = RowStoreId{3},
                                .incarnation = 0xABCDEF,
                                .row_count = 100,
                                .max_insert_seq = Seq{900},
                                .first_row = RowId{50},
                                .end_row = RowId{150}};

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string_view Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

struct Section {
  SectionId id;
  std::string content;
};

// Small, empty, of a page, larger than the writer's buffer; not in the order of ids.
std::vector<Section> ExampleSections() {
  std::string large(600'000, '\0');
  std::mt19937_64 random(1);
  for (char& c : large) c = static_cast<char>(random());
  return {{{.kind = SectionKind::kVectors, .field = FieldId{2}}, large},
          {{.kind = SectionKind::kRowIds}, std::string(4096, 'r')},
          {{.kind = SectionKind::kInsertSeqs}, ""},
          {{.kind = SectionKind::kDynamicColumn, .name = "colour"}, "blue"},
          {{.kind = SectionKind::kDynamicColumn, .name = "age"}, "7"},
          {{.kind = SectionKind::kVectors, .field = FieldId{1}}, "vectors"}};
}

absl::Status WriteSections(SegmentWriter& writer, const std::vector<Section>& sections) {
  for (const Section& section : sections) {
    if (absl::Status begun = writer.BeginSection(section.id); !begun.ok()) return begun;
    // In uneven pieces.
    std::string_view rest = section.content;
    for (size_t piece = 1; !rest.empty(); piece = piece * 7 + 1) {
      const std::string_view part = rest.substr(0, piece);
      if (absl::Status appended = writer.Append(Bytes(part)); !appended.ok()) return appended;
      rest.remove_prefix(part.size());
    }
  }
  return absl::OkStatus();
}

// Writes a file and returns its bytes.
std::string MakeFile(const std::string& path, const std::vector<Section>& sections) {
  auto writer = SegmentWriter::Create(path, kHeader);
  if (!writer.ok() || !WriteSections(**writer, sections).ok() || !(*writer)->Finish().ok()) {
    ADD_FAILURE() << "cannot write " << path;
  }
  return ReadBytes(path);
}

absl::Status OpenBytes(const TempDir& dir, std::string_view bytes) {
  WriteBytes(dir.File("damaged"), bytes);
  return SegmentFile::Open(dir.File("damaged")).status();
}

void SetLittle32(std::string& bytes, size_t offset, uint32_t value) {
  std::string encoded;
  PutLittle(encoded, value);
  bytes.replace(offset, encoded.size(), encoded);
}

// The file with its header's checksum made right again.
std::string WithHeaderCrc(std::string bytes) {
  SetLittle32(bytes, 124, Crc32c(std::string_view(bytes).substr(0, 124)));
  return bytes;
}

TEST(SegmentFile, GivesBackWhatWasWritten) {
  const TempDir dir;
  const std::vector<Section> sections = ExampleSections();
  ASSERT_OK_AND_ASSIGN(auto writer, SegmentWriter::Create(dir.File("s"), kHeader));
  ASSERT_OK(WriteSections(*writer, sections));
  ASSERT_OK_AND_ASSIGN(const uint64_t size, writer->Finish());
  writer.reset();

  ASSERT_OK_AND_ASSIGN(const auto file, SegmentFile::Open(dir.File("s")));
  EXPECT_EQ(file->file_bytes(), size);
  EXPECT_EQ(file->header().id, kHeader.id);
  EXPECT_EQ(file->header().row_store, kHeader.row_store);
  EXPECT_EQ(file->header().incarnation, kHeader.incarnation);
  EXPECT_EQ(file->header().row_count, kHeader.row_count);
  EXPECT_EQ(file->header().max_insert_seq, kHeader.max_insert_seq);
  EXPECT_EQ(file->header().first_row, kHeader.first_row);
  EXPECT_EQ(file->header().end_row, kHeader.end_row);
  for (const Section& section : sections) {
    const auto found = file->Find(section.id);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(Text(*found), section.content);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(found->data()) % 4096, 0u);
  }
  EXPECT_THAT(file->Sections(), ElementsAre(sections[1].id, sections[2].id, sections[5].id,
                                            sections[0].id, sections[4].id, sections[3].id));
  EXPECT_OK(file->VerifySections(CancelToken()));
  ASSERT_OK_AND_ASSIGN(const auto names, ListDirectory(dir.path()));
  EXPECT_THAT(names, ElementsAre("s"));
}

TEST(SegmentFile, HasTheBytesOfTheTable) {
  using namespace std::string_literals;
  const TempDir dir;
  const std::string bytes = MakeFile(
      dir.File("s"), {{{.kind = SectionKind::kVectors, .field = FieldId{2}, .name = "n"}, "abc"}});
  const std::string header =
      "AZSEGMNT"
      "\x01\0\0\0"              // version
      "\x03\0\0\0"              // row store
      "\x0c\0\0\0\0\0\0\0"      // segment id
      "\xef\xcd\xab\0\0\0\0\0"  // incarnation
      "\x64\0\0\0\0\0\0\0"      // rows
      "\x84\x03\0\0\0\0\0\0"    // highest sequence number
      "\x32\0\0\0\0\0\0\0"      // first row
      "\x96\0\0\0\0\0\0\0"s +   // end of the rows
      std::string(60, '\0');
  EXPECT_EQ(bytes.substr(0, 124), header);
  EXPECT_EQ(bytes.substr(128, 4096 - 128), std::string(4096 - 128, '\0'));
  EXPECT_EQ(bytes.substr(4096, 3), "abc");
  const std::string directory =
      "\x01\0\0\0"              // one entry
      "\x05\0\x01\0\x02\0\0\0"  // kind, length of the name, field
      "\0\x10\0\0\0\0\0\0"      // offset
      "\x03\0\0\0\0\0\0\0"s;    // length
  EXPECT_EQ(bytes.substr(4099, directory.size()), directory);
  EXPECT_EQ(bytes.substr(4099 + directory.size() + 4, 1), "n");
  const std::string footer =
      "\x03\x10\0\0\0\0\0\0"    // offset of the directory
      "\x21\0\0\0\0\0\0\0"      // its length
      "\x4c\x10\0\0\0\0\0\0"s;  // length of the file
  EXPECT_EQ(bytes.substr(4099 + 33, footer.size()), footer);
  ASSERT_EQ(bytes.size(), 4099u + 33u + 40u);
  EXPECT_EQ(bytes.substr(bytes.size() - 8), "AZSEGEND");
}

TEST(SegmentFile, MayHaveNoSections) {
  const TempDir dir;
  MakeFile(dir.File("s"), {});
  ASSERT_OK_AND_ASSIGN(const auto file, SegmentFile::Open(dir.File("s")));
  EXPECT_THAT(file->Sections(), IsEmpty());
  EXPECT_OK(file->VerifySections(CancelToken()));
}

TEST(SegmentFile, RequireNamesWhatIsMissingOrOfAnotherLength) {
  const TempDir dir;
  MakeFile(dir.File("s"), ExampleSections());
  ASSERT_OK_AND_ASSIGN(const auto file, SegmentFile::Open(dir.File("s")));
  const SectionId rows{.kind = SectionKind::kRowIds};
  EXPECT_OK(file->Require(rows, 4096));
  EXPECT_OK(file->Require(rows, std::nullopt));
  EXPECT_THAT(file->Require(rows, 4095),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("section 1 has 4096 bytes")));
  EXPECT_THAT(file->Require({.kind = SectionKind::kGraph, .field = FieldId{2}}, std::nullopt),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("section 7, field 2 is missing")));
}

TEST(SegmentFile, TellsWhatIsWrongInDifferentWords) {
  const TempDir dir;
  const std::string good = MakeFile(dir.File("s"), ExampleSections());

  std::string bytes = good;
  bytes[0] = 'B';
  EXPECT_THAT(OpenBytes(dir, bytes),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("not a segment file")));
  EXPECT_THAT(OpenBytes(dir, "hello"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("not a segment file")));

  bytes = good;
  SetLittle32(bytes, 8, 0);
  EXPECT_THAT(OpenBytes(dir, WithHeaderCrc(bytes)),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("format 0 is too old")));
  SetLittle32(bytes, 8, 2);
  EXPECT_THAT(OpenBytes(dir, WithHeaderCrc(bytes)),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("format 2 is too new")));

  EXPECT_THAT(OpenBytes(dir, good.substr(0, good.size() - 1)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("truncated")));
  // A page lost in the middle: both ends are whole.
  EXPECT_THAT(OpenBytes(dir, good.substr(0, 8192) + good.substr(8192 + 4096)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr(": truncated: it says")));
  EXPECT_THAT(OpenBytes(dir, good.substr(0, 8192) + good.substr(4096)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr(": longer than it says: it says")));

  bytes = good;
  bytes[good.size() - kSegmentFooterBytes - 1] ^= 1;
  EXPECT_THAT(OpenBytes(dir, bytes),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("directory corrupt")));
  EXPECT_THAT(SegmentFile::Open(dir.File("none")), StatusIs(absl::StatusCode::kNotFound));
}

TEST(SegmentFile, FindsEveryFlippedByteOfHeaderDirectoryAndFooter) {
  const TempDir dir;
  const std::string good =
      MakeFile(dir.File("s"), {{{.kind = SectionKind::kKeys}, "abc"},
                               {{.kind = SectionKind::kFieldColumn, .field = FieldId{9}}, "def"}});
  std::vector<size_t> places;
  for (size_t i = 0; i < kSegmentHeaderBytes; ++i) places.push_back(i);
  for (size_t i = 2 * 4096 + 3; i < good.size(); ++i) places.push_back(i);
  for (const size_t place : places) {
    std::string bytes = good;
    bytes[place] = static_cast<char>(bytes[place] ^ 0x10);
    EXPECT_THAT(OpenBytes(dir, bytes), StatusIs(absl::StatusCode::kDataLoss)) << place;
  }
}

TEST(SegmentFile, FindsTruncationAtEveryLength) {
  const TempDir dir;
  const std::string good = MakeFile(dir.File("s"), {{{.kind = SectionKind::kKeys}, "abc"}});
  for (size_t length = 0; length < good.size(); ++length) {
    // Every byte at the ends, a sample of the padding between.
    if (length > 300 && length < 4000 && length % 97 != 0) continue;
    EXPECT_THAT(OpenBytes(dir, good.substr(0, length)),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("truncated")))
        << length;
  }
}

TEST(SegmentFile, FindsAppendedBytes) {
  const TempDir dir;
  const std::string good = MakeFile(dir.File("s"), ExampleSections());
  for (const size_t count : {1u, 40u, 4096u}) {
    EXPECT_THAT(OpenBytes(dir, good + std::string(count, '\0')),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("longer than it says")));
  }
  // Appended is another whole file.
  EXPECT_THAT(OpenBytes(dir, good + good),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("longer than it says")));
}

TEST(SegmentFile, VerifyFindsAFlippedByteInEachSection) {
  const TempDir dir;
  const std::vector<Section> sections = ExampleSections();
  const std::string good = MakeFile(dir.File("s"), sections);
  ASSERT_OK_AND_ASSIGN(const auto whole, SegmentFile::Open(dir.File("s")));
  const auto* base =
      reinterpret_cast<const std::byte*>(whole->Find(sections[0].id)->data()) - kSectionAlignment;
  for (const Section& section : sections) {
    if (section.content.empty()) continue;
    const auto offset = static_cast<size_t>(whole->Find(section.id)->data() - base);
    for (const size_t place : {size_t{0}, section.content.size() / 2, section.content.size() - 1}) {
      std::string bytes = good;
      bytes[offset + place] = static_cast<char>(bytes[offset + place] ^ 0x80);
      WriteBytes(dir.File("damaged"), bytes);
      ASSERT_OK_AND_ASSIGN(const auto file, SegmentFile::Open(dir.File("damaged")));
      EXPECT_THAT(file->VerifySections(CancelToken()),
                  StatusIs(absl::StatusCode::kDataLoss, HasSubstr(SectionText(section.id))));
    }
  }
}

// A directory that was made up, with checksums that are right.
std::string WithDirectory(const std::string& directory, const SegmentFooter& wanted) {
  std::string bytes = EncodeSegmentHeader(kHeader);
  bytes.resize(3 * kSectionAlignment, '\0');
  SegmentFooter footer = wanted;
  footer.directory_crc = Crc32c(std::string_view(directory));
  footer.file_length = bytes.size() + directory.size() + kSegmentFooterBytes;
  return bytes + directory + EncodeSegmentFooter(footer);
}

TEST(SegmentFile, DoesNotTrustOffsetsAndLengthsUnderARightChecksum) {
  const TempDir dir;
  constexpr uint64_t kDirectoryOffset = 3 * kSectionAlignment;
  constexpr uint64_t kHuge = ~uint64_t{0};
  const SectionId id{.kind = SectionKind::kKeys};
  const auto open_entries = [&](const std::vector<SectionEntry>& entries) {
    const std::string directory = EncodeSegmentDirectory(entries);
    return OpenBytes(dir, WithDirectory(directory, {.directory_offset = kDirectoryOffset,
                                                    .directory_length = directory.size()}));
  };
  EXPECT_OK(open_entries({{.id = id, .offset = 4096, .length = 8192}}));
  const std::vector<SectionEntry> bad = {
      {.id = id, .offset = 0, .length = 10},               // The header.
      {.id = id, .offset = 4097, .length = 10},            // Between pages.
      {.id = id, .offset = 4096, .length = 8193},          // Into the directory.
      {.id = id, .offset = 4 * 4096, .length = 0},         // After the directory.
      {.id = id, .offset = 4096, .length = kHuge - 4095},  // A sum of zero.
      {.id = id, .offset = kHuge - 4095, .length = 4096},
  };
  for (const SectionEntry& entry : bad) {
    EXPECT_THAT(open_entries({entry}),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("out of bounds")))
        << entry.offset << " " << entry.length;
  }
  const SectionEntry good{.id = id, .offset = 4096, .length = 1};
  EXPECT_THAT(open_entries({good, good}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("out of order")));

  const std::string directory = EncodeSegmentDirectory({good});
  for (const uint64_t offset : {uint64_t{0}, kDirectoryOffset - 1, kDirectoryOffset + 1, kHuge}) {
    for (const uint64_t length : {uint64_t{0}, uint64_t{directory.size()}, kHuge}) {
      EXPECT_THAT(OpenBytes(dir, WithDirectory(directory, {.directory_offset = offset,
                                                           .directory_length = length})),
                  StatusIs(absl::StatusCode::kDataLoss, HasSubstr("out of bounds")))
          << offset << " " << length;
    }
  }
  std::string many;
  PutLittle(many, uint32_t{0xFFFFFFFF});
  EXPECT_THAT(OpenBytes(dir, WithDirectory(many, {.directory_offset = kDirectoryOffset,
                                                  .directory_length = many.size()})),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("4294967295 entries")));
}

TEST(SegmentFile, KeepsSectionsOfKindsThatItDoesNotKnow) {
  const TempDir dir;
  const SectionId later{.kind = SectionKind{500}};
  MakeFile(dir.File("s"), {{later, "from a later version"}});
  ASSERT_OK_AND_ASSIGN(const auto file, SegmentFile::Open(dir.File("s")));
  EXPECT_THAT(file->Sections(), ElementsAre(later));
}

TEST(SegmentWriter, ReplacesALeftOverTemporaryFile) {
  const TempDir dir;
  WriteBytes(dir.File("s.tmp"), std::string(100'000, 'x'));
  MakeFile(dir.File("s"), ExampleSections());
  ASSERT_OK_AND_ASSIGN(const auto file, SegmentFile::Open(dir.File("s")));
  EXPECT_OK(file->VerifySections(CancelToken()));
  ASSERT_OK_AND_ASSIGN(const auto names, ListDirectory(dir.path()));
  EXPECT_THAT(names, ElementsAre("s"));
}

TEST(SegmentWriter, LeavesNothingWhenItIsNotFinished) {
  const TempDir dir;
  {
    ASSERT_OK_AND_ASSIGN(auto writer, SegmentWriter::Create(dir.File("s"), kHeader));
    ASSERT_OK(WriteSections(*writer, ExampleSections()));
    ASSERT_OK_AND_ASSIGN(const auto names, ListDirectory(dir.path()));
    EXPECT_THAT(names, ElementsAre("s.tmp"));
  }
  ASSERT_OK_AND_ASSIGN(const auto names, ListDirectory(dir.path()));
  EXPECT_THAT(names, IsEmpty());
}

TEST(SegmentWriter, LeavesNothingWhenTheNameCannotBeTaken) {
  const TempDir dir;
  // A directory of that name cannot be replaced by a file.
  ASSERT_OK(MakeDirectory(dir.File("s")));
  {
    ASSERT_OK_AND_ASSIGN(auto writer, SegmentWriter::Create(dir.File("s"), kHeader));
    EXPECT_FALSE(writer->Finish().ok());
    EXPECT_FALSE(writer->Finish().ok());
  }
  ASSERT_OK_AND_ASSIGN(const auto names, ListDirectory(dir.path()));
  EXPECT_THAT(names, ElementsAre("s"));
}

TEST(SegmentWriter, RefusesMisuse) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(auto writer, SegmentWriter::Create(dir.File("s"), kHeader));
  EXPECT_THAT(writer->Append(Bytes("x")), StatusIs(absl::StatusCode::kFailedPrecondition));
  const SectionId id{.kind = SectionKind::kGraph, .field = FieldId{1}};
  ASSERT_OK(writer->BeginSection(id));
  EXPECT_THAT(writer->BeginSection(id),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("section 7, field 1")));
  const auto named = [](size_t length) {
    return SectionId{.kind = SectionKind::kDynamicColumn, .name = std::string(length, 'n')};
  };
  EXPECT_OK(writer->BeginSection(named(65'535)));
  EXPECT_THAT(writer->BeginSection(named(65'536)), StatusIs(absl::StatusCode::kInvalidArgument));
  // None of that is in the way of a file.
  ASSERT_OK(writer->Finish());
  EXPECT_THAT(writer->Finish(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(writer->Append(Bytes("x")), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_OK(SegmentFile::Open(dir.File("s")));
}

#ifdef AZ_FAILPOINTS_ENABLED
TEST(SegmentWriter, LeavesNothingAfterAnErrorAtEachOfItsFailpoints) {
  for (const Failpoint point : {Failpoint::kSegmentMidWrite, Failpoint::kSegmentBeforeRename,
                                Failpoint::kSegmentBeforeDirSync}) {
    const TempDir dir;
    ASSERT_OK(ArmFailpoints(std::string(FailpointName(point)) + "=error"));
    {
      ASSERT_OK_AND_ASSIGN(auto writer, SegmentWriter::Create(dir.File("s"), kHeader));
      const absl::Status written = WriteSections(*writer, ExampleSections());
      const absl::Status finished = writer->Finish().status();
      EXPECT_FALSE(finished.ok()) << FailpointName(point);
      EXPECT_EQ(written.ok(), point != Failpoint::kSegmentMidWrite);
    }
    ASSERT_OK(ArmFailpoints(""));
    ASSERT_OK_AND_ASSIGN(const auto names, ListDirectory(dir.path()));
    EXPECT_THAT(names, IsEmpty()) << FailpointName(point);
  }
}
#endif

}  // namespace
}  // namespace azimuth::storage
