#include "engine/segment/growing.h"

#include "index/topk.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

const CancelToken kNoCancel;

Schema TestSchema() {
  Schema schema;
  schema.fields.push_back({.name = "n", .type = FieldType::kInt64});
  schema.vectors.push_back({.name = "v", .dim = 2, .metric = Metric::kL2});
  schema.vectors.push_back({.name = "rare", .dim = 1, .metric = Metric::kL2});
  NumberFields(schema);
  return schema;
}

// Row i has id 10 + 2 i, key "k<i>" and n = 3 i, and lies at (i, 0); every fifth has the rare
// vector.
void AppendRow(const Schema& schema, GrowingSegment& segment, uint32_t i) {
  storage::StoredRow row;
  row.insert_seq = Seq{100 + i};
  row.key = Key("k" + std::to_string(i));
  row.fields.emplace_back(schema.fields[0].id, Value{int64_t{3} * i});
  if (i % 2 == 0) row.dynamic["extra"] = Value{int64_t{i}};
  const std::vector<float> vector = {static_cast<float>(i), 0.0F};
  const std::vector<float> rare = {static_cast<float>(i)};
  const std::vector<std::span<const float>> vectors = {
      vector, i % 5 == 0 ? std::span<const float>(rare) : std::span<const float>()};
  segment.Append(RowId{10 + 2 * i}, std::move(row), vectors);
}

void ExpectRow(const Schema& schema, const GrowingSegment& segment, uint32_t i) {
  EXPECT_EQ(segment.row_id(i), RowId{10 + 2 * i});
  EXPECT_EQ(segment.insert_seq(i), Seq{100 + i});
  EXPECT_EQ(segment.key(i).text, "k" + std::to_string(i));
  EXPECT_EQ(segment.Find(RowId{10 + 2 * i}), i);
  index::ScalarView view;
  segment.ReadScalars({FilterField::Source::kDeclared, schema.fields[0].id, "n"}, i, 1, &view);
  EXPECT_EQ(view.int64, int64_t{3} * i);
  segment.ReadScalars({FilterField::Source::kDynamic, {}, "extra"}, i, 1, &view);
  EXPECT_EQ(view.kind, i % 2 == 0 ? ValueKind::kInt64 : ValueKind::kMissing);
  const std::vector<uint32_t> position = {i};
  ASSERT_NE(segment.ExportVectors(0, position)[0], nullptr);
  EXPECT_EQ(segment.ExportVectors(0, position)[0][0], static_cast<float>(i));
  EXPECT_EQ(segment.ExportVectors(1, position)[0] != nullptr, i % 5 == 0);
}

// Around every border between chunks, and the last one, which is cut by the capacity.
TEST(GrowingSegment, KeepsEveryRowInItsPlaceAsChunksComeAndGrow) {
  const Schema schema = TestSchema();
  constexpr uint32_t kCapacity = 400;
  GrowingSegment segment(schema, RowId{10}, kCapacity);
  for (uint32_t i = 0; i < kCapacity; ++i) {
    AppendRow(schema, segment, i);
    ASSERT_EQ(segment.size(), i + 1);
    EXPECT_EQ(segment.VectorCount(0), i + 1);
    EXPECT_EQ(segment.VectorCount(1), i / 5 + 1);
  }
  EXPECT_TRUE(segment.full());
  for (uint32_t i = 0; i < kCapacity; ++i) ExpectRow(schema, segment, i);
  EXPECT_EQ(segment.InsertedBy(Seq{100 + 256}), 257U);
}

TEST(GrowingSegment, RetiredBitsStandAtTheirPositions) {
  const Schema schema = TestSchema();
  constexpr uint32_t kRows = 390;
  GrowingSegment segment(schema, RowId{10}, 1000);
  std::vector<uint64_t> expected((kRows + 63) / 64);
  uint32_t count = 0;
  for (uint32_t i = 0; i < kRows; ++i) {
    AppendRow(schema, segment, i);
    if (i % 7 != 0 && i % 16 != 15) continue;
    segment.MarkRetired(i);
    segment.MarkRetired(i);
    expected[i / 64] |= uint64_t{1} << (i % 64);
    EXPECT_EQ(segment.retired_count(), ++count);
    EXPECT_EQ(segment.RetiredWord(i / 64), expected[i / 64]);
  }
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(segment.RetiredWord(i), expected[i]);
}

TEST(GrowingSegment, AScanLooksAtTheAdmittedRowsBelowItsLimit) {
  const Schema schema = TestSchema();
  constexpr uint32_t kRows = 390;
  GrowingSegment segment(schema, RowId{10}, kRows);
  for (uint32_t i = 0; i < kRows; ++i) AppendRow(schema, segment, i);
  index::Bitset odd(kRows);
  for (uint32_t i = 1; i < kRows; i += 2) odd.Set(i);
  const std::vector<float> query = {1000.0F, 0.0F};  // The last row is nearest.
  for (const uint32_t limit : {1U, 2U, 15U, 16U, 17U, 64U, 100U, 255U, 256U, 257U, 320U, kRows}) {
    index::TopK top;
    top.Reset(1, nullptr);
    ASSERT_OK_AND_ASSIGN(uint64_t computed,
                         segment.Scan(0, query.data(), limit, nullptr, top, kNoCancel));
    EXPECT_EQ(computed, limit);
    EXPECT_EQ(top.Sorted()[0].position, limit - 1);
    top.Reset(1, nullptr);
    ASSERT_OK_AND_ASSIGN(computed, segment.Scan(0, query.data(), limit, &odd, top, kNoCancel));
    EXPECT_EQ(computed, limit / 2);
    if (computed > 0) {
      EXPECT_EQ(top.Sorted()[0].position, (limit / 2) * 2 - 1);
    }
  }
}

TEST(GrowingSegment, ItsBytesStandInTheBudgetAsLongAsItLives) {
  const Schema schema = TestSchema();
  MemoryBudget budget(1 << 30);
  auto segment = std::make_unique<GrowingSegment>(schema, RowId{10}, 1000, &budget);
  uint64_t before = segment->memory_bytes();
  EXPECT_EQ(budget.used(MemoryPart::kGrowing), before);
  for (uint32_t i = 0; i < 300; ++i) AppendRow(schema, *segment, i);
  EXPECT_EQ(budget.used(MemoryPart::kGrowing), segment->memory_bytes());
  // A long string counts by its length, wherever it stands.
  for (const bool nested : {false, true}) {
    before = segment->memory_bytes();
    const Value text{std::string(1 << 20, 'x')};
    storage::StoredRow row;
    row.key = Key(int64_t{1});
    if (nested) {
      row.dynamic["m"] = Value{ValueMap{{"l", Value{ValueList{text}}}}};
    } else {
      row.fields.emplace_back(schema.fields[0].id, text);
    }
    segment->Append(RowId{5000 + segment->size()}, std::move(row),
                    std::vector<std::span<const float>>(2));
    EXPECT_GT(segment->memory_bytes(), before + (1 << 20));
    EXPECT_LT(segment->memory_bytes(), before + (1 << 20) + 4096);
  }
  segment.reset();
  EXPECT_EQ(budget.used(MemoryPart::kGrowing), 0U);
}

TEST(GrowingSegment, AFieldWithoutVectorsTakesNoRoomForThem) {
  Schema schema = TestSchema();
  const auto bytes_of = [](const Schema& with) {
    GrowingSegment segment(with, RowId{10}, 1000);
    storage::StoredRow row;
    row.key = Key(int64_t{1});
    segment.Append(RowId{10}, std::move(row), std::vector<std::span<const float>>(2));
    return segment.memory_bytes();
  };
  const uint64_t small = bytes_of(schema);
  schema.vectors[0].dim = 4096;
  EXPECT_EQ(bytes_of(schema), small);
}

// A schema whose second field is long enough for codes.
Schema CodedSchema() {
  Schema schema = TestSchema();
  schema.vectors[1].dim = 64;
  return schema;
}

// Row i has the second field if `has` it: i, 0, 0, ...
void AppendCoded(GrowingSegment& segment, uint32_t i, bool has) {
  storage::StoredRow row;
  row.insert_seq = Seq{100 + i};
  row.key = Key(int64_t{i});
  std::vector<float> rare(64, 0.0F);
  rare[0] = static_cast<float>(i);
  const std::vector<std::span<const float>> vectors = {
      {}, has ? std::span<const float>(rare) : std::span<const float>()};
  segment.Append(RowId{10 + i}, std::move(row), vectors);
}

TEST(GrowingSegment, WithoutCodesItIsSmallerAndAScanFindsTheSame) {
  const Schema schema = CodedSchema();
  constexpr uint32_t kRows = 2000;
  GrowingSegment with(schema, RowId{10}, kRows);
  GrowingSegment without(schema, RowId{10}, kRows, nullptr, GrowingSegment::Codes::kNone);
  for (uint32_t i = 0; i < kRows; ++i) {
    AppendCoded(with, i, true);
    AppendCoded(without, i, true);
  }
  EXPECT_LE(without.memory_bytes() + kRows * uint64_t{64}, with.memory_bytes());
  std::vector<float> query(64, 0.0F);
  query[0] = 777.3F;
  index::TopK top;
  std::vector<std::vector<index::Neighbor>> found;
  for (const GrowingSegment* segment : {&with, &without}) {
    top.Reset(10, nullptr);
    ASSERT_OK(segment->Scan(1, query.data(), kRows, nullptr, top, kNoCancel));
    found.push_back(top.Sorted());
  }
  ASSERT_EQ(found[0].size(), 10U);
  EXPECT_EQ(found[0][0].position, 777U);
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(found[0][i].position, found[1][i].position);
    EXPECT_EQ(found[0][i].distance, found[1][i].distance);
  }
}

// The first vector of a chunk, and room for its codes, come while others read rows of the chunk.
TEST(GrowingSegment, AScanMayGoOnWhileRowsComeOfWhichFewHaveTheVector) {
  const Schema schema = CodedSchema();
  constexpr uint32_t kRows = 8000;
  constexpr uint32_t kEvery = 90;
  GrowingSegment segment(schema, RowId{10}, kRows);
  std::thread writer([&] {
    for (uint32_t i = 0; i < kRows; ++i) AppendCoded(segment, i, i % kEvery == kEvery - 1);
  });
  const std::vector<float> query(64, 0.0F);
  index::TopK top;
  uint32_t rows = 0;
  while (rows < kRows) {
    rows = segment.size();
    top.Reset(3, nullptr);
    const auto computed = segment.Scan(1, query.data(), rows, nullptr, top, kNoCancel);
    EXPECT_OK(computed);
    EXPECT_EQ(computed.value_or(0), rows / kEvery);
    if (rows >= kEvery) {
      EXPECT_EQ(top.Sorted()[0].position, kEvery - 1);
    }
  }
  writer.join();
}

}  // namespace
}  // namespace azimuth::engine
