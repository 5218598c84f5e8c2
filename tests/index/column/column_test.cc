#include "index/column/column.h"

#include "tests/support/aligned_bytes.h"
#include "tests/support/matchers.h"

#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::AlignedBytes;
using azimuth::testing::StatusIs;
using ::testing::HasSubstr;

using Rows = std::map<uint32_t, Value>;

std::string Written(const Rows& rows, uint32_t row_count) {
  ColumnWriter writer;
  for (const auto& [position, value] : rows) writer.Append(position, ViewOf(value));
  return writer.Finish(row_count);
}

void ExpectIs(const ScalarView& view, const Value& value) {
  ASSERT_EQ(view.kind, value.kind());
  switch (value.kind()) {
    case ValueKind::kBool:
      EXPECT_EQ(view.boolean, std::get<bool>(value.data));
      break;
    case ValueKind::kInt64:
      EXPECT_EQ(view.int64, std::get<int64_t>(value.data));
      break;
    case ValueKind::kDouble:
      EXPECT_EQ(std::memcmp(&view.float64, &std::get<double>(value.data), sizeof(double)), 0);
      break;
    case ValueKind::kString:
      EXPECT_EQ(view.text, std::get<std::string>(value.data));
      break;
    default:
      break;
  }
}

// Reads [first, first + count) and compares with the model.
void ExpectReads(const ColumnReader& reader, const Rows& rows, uint32_t first, uint32_t count) {
  std::vector<ScalarView> out(count);
  for (ScalarView& view : out) view.kind = ValueKind::kMap;  // Must be overwritten.
  reader.Read(first, count, out.data());
  for (uint32_t i = 0; i < count; ++i) {
    const auto it = rows.find(first + i);
    SCOPED_TRACE(first + i);
    if (it == rows.end()) {
      EXPECT_EQ(out[i].kind, ValueKind::kMissing);
    } else {
      ExpectIs(out[i], it->second);
    }
  }
}

void ExpectRoundTrip(const Rows& rows, uint32_t row_count) {
  const AlignedBytes bytes(Written(rows, row_count));
  ASSERT_OK_AND_ASSIGN(const ColumnReader reader, ColumnReader::Open(bytes.span()));
  EXPECT_EQ(reader.row_count(), row_count);
  EXPECT_OK(reader.Verify());
  ExpectReads(reader, rows, 0, row_count);
  ExpectReads(reader, rows, 0, row_count + 70);
  for (uint32_t first = 0; first <= row_count + 1; first += 1 + row_count / 13) {
    ExpectReads(reader, rows, first, 5);
  }
}

Value RandomValue(std::mt19937_64& random) {
  switch (random() % 7) {
    case 0:
      return Value{};
    case 1:
      return Value{random() % 2 == 0};
    case 2:
      return Value{std::bit_cast<int64_t>(random())};
    case 3:
      return Value{std::bit_cast<double>(random())};
    case 4:
      return Value{std::string(random() % 40, static_cast<char>(random()))};
    case 5:
      return Value{ValueList{Value{int64_t{1}}}};
    default:
      return Value{ValueMap{{"a", Value{}}}};
  }
}

Rows RandomRows(uint32_t row_count, uint32_t percent, std::mt19937_64& random) {
  Rows rows;
  for (uint32_t i = 0; i < row_count; ++i) {
    if (random() % 100 < percent) rows[i] = RandomValue(random);
  }
  return rows;
}

constexpr size_t kFormOffset = 6;
constexpr char kDense = 1;
constexpr char kSparse = 2;

TEST(Column, GivesBackValuesOfEveryKindInTheDenseForm) {
  const Rows rows = {{0, Value{}},
                     {1, Value{true}},
                     {2, Value{false}},
                     {3, Value{std::numeric_limits<int64_t>::min()}},
                     {4, Value{-0.0}},
                     {5, Value{std::numeric_limits<double>::quiet_NaN()}},
                     {6, Value{std::string()}},
                     {7, Value{std::string("a\0b", 3)}},
                     {8, Value{ValueList{}}},
                     {9, Value{ValueMap{}}}};
  EXPECT_EQ(Written(rows, 10)[kFormOffset], kDense);
  ExpectRoundTrip(rows, 10);
}

TEST(Column, GivesBackFewRowsOfManyInTheSparseForm) {
  const Rows rows = {{3, Value{int64_t{7}}}, {500, Value{std::string("x")}}, {999, Value{true}}};
  EXPECT_EQ(Written(rows, 1000)[kFormOffset], kSparse);
  EXPECT_LT(Written(rows, 1000).size(), 100u);
  ExpectRoundTrip(rows, 1000);
}

TEST(Column, GivesBackRandomRowsInEitherForm) {
  std::mt19937_64 random(1);
  for (const uint32_t row_count : {0, 1, 2, 7, 8, 9, 64, 1000}) {
    for (const uint32_t percent : {0, 1, 20, 60, 70, 100}) {
      SCOPED_TRACE(::testing::Message() << row_count << " rows, " << percent << " %");
      ExpectRoundTrip(RandomRows(row_count, percent, random), row_count);
    }
  }
}

TEST(Column, TakesAppendedMissingValuesForRowsWithoutTheField) {
  ColumnWriter writer;
  writer.Append(0, ScalarView{});
  writer.Append(1, ViewOf(Value{int64_t{5}}));
  EXPECT_EQ(writer.Finish(100), Written({{1, Value{int64_t{5}}}}, 100));
}

TEST(Column, ReadsAsMissingEverywhereWithoutBytes) {
  ExpectReads(ColumnReader(), {}, 0, 10);
}

TEST(Column, ReadsRowsAtTheEndOfTheNumbersAsMissing) {
  const AlignedBytes bytes(Written({{1, Value{true}}}, 2));
  ASSERT_OK_AND_ASSIGN(const ColumnReader reader, ColumnReader::Open(bytes.span()));
  ExpectReads(reader, {}, std::numeric_limits<uint32_t>::max() - 3, 3);
}

TEST(Column, RejectsEveryPrefixAndAnythingThatFollows) {
  std::mt19937_64 random(2);
  for (const uint32_t percent : {5, 90}) {
    const std::string whole = Written(RandomRows(60, percent, random), 60);
    for (size_t size = 0; size < whole.size(); ++size) {
      const AlignedBytes bytes(whole.substr(0, size));
      EXPECT_THAT(ColumnReader::Open(bytes.span()), StatusIs(absl::StatusCode::kDataLoss)) << size;
    }
    const AlignedBytes longer(whole + '\0');
    EXPECT_THAT(ColumnReader::Open(longer.span()), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(Column, RejectsBytesThatAreNotAligned) {
  const AlignedBytes bytes(" " + Written({}, 4));
  EXPECT_THAT(ColumnReader::Open(bytes.span().subspan(1)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("address")));
}

TEST(Column, NamesTheHeaderFieldThatIsWrong) {
  struct Case {
    size_t offset;
    char byte;
    std::string message;
  };
  const std::string good = Written({{0, Value{true}}, {1, Value{true}}}, 2);
  for (const Case& c : {Case{0, 'B', "magic"}, Case{4, 2, "version is 2"}, Case{6, 0, "form is 0"},
                        Case{6, 3, "form is 3"}, Case{7, 1, "reserved"}, Case{8, 9, "entries"},
                        Case{12, 9, "entries"}, Case{16, 1, "heap"}, Case{23, 0x7F, "heap"},
                        Case{24, 1, "reserved"}}) {
    std::string bad = good;
    bad[c.offset] = c.byte;
    const AlignedBytes bytes(bad);
    EXPECT_THAT(ColumnReader::Open(bytes.span()),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(c.message)))
        << "offset " << c.offset;
  }
}

// Whatever the bytes after the header hold, reading stays inside them (AddressSanitizer looks on).
TEST(Column, ReadsCorruptBodiesWithoutAFault) {
  constexpr size_t kHeaderBytes = 32;
  std::mt19937_64 random(3);
  for (int round = 0; round < 2000; ++round) {
    const Rows rows = RandomRows(50, round % 2 == 0 ? 10 : 90, random);
    AlignedBytes bytes(Written(rows, 50));
    for (int flip = 0; flip < 20 && bytes.span().size() > kHeaderBytes; ++flip) {
      const size_t place = kHeaderBytes + random() % (bytes.span().size() - kHeaderBytes);
      bytes.span()[place] = static_cast<std::byte>(random());
    }
    ASSERT_OK_AND_ASSIGN(const ColumnReader reader, ColumnReader::Open(bytes.span()));
    std::vector<ScalarView> out(60);
    reader.Read(0, 60, out.data());
    size_t text_bytes = 0;
    for (const ScalarView& view : out) {
      EXPECT_LE(view.kind, ValueKind::kMap);
      for (const char c : view.text) text_bytes += c == 'x' ? 1 : 2;
    }
    EXPECT_LE(text_bytes, 60 * 2 * bytes.span().size());
  }
}

TEST(Column, VerifyNamesAnEntryThatIsOutOfOrderOrRange) {
  constexpr size_t kPositions = 32;
  for (const uint32_t position : {7U, 60U, 100U}) {
    std::string bytes = Written({{7, Value{true}}, {60, Value{int64_t{1}}}}, 100);
    ASSERT_EQ(bytes[kFormOffset], kSparse);
    std::memcpy(&bytes[kPositions + 4], &position, sizeof(position));
    const AlignedBytes aligned(bytes);
    ASSERT_OK_AND_ASSIGN(const ColumnReader reader, ColumnReader::Open(aligned.span()));
    if (position == 60) {
      EXPECT_OK(reader.Verify());
    } else {
      EXPECT_THAT(reader.Verify(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("entry 1")));
    }
  }
}

TEST(Column, ReadsAStringOutsideTheHeapAsMissing) {
  std::string whole = Written({{0, Value{std::string("abc")}}}, 1);
  whole[40] = 4;  // The length in the only word, one more than the heap has.
  const AlignedBytes bytes(whole);
  ASSERT_OK_AND_ASSIGN(const ColumnReader reader, ColumnReader::Open(bytes.span()));
  ExpectReads(reader, {}, 0, 1);
}

}  // namespace
}  // namespace azimuth::index
