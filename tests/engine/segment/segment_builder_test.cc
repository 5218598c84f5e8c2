#include "engine/segment/segment_builder.h"

#include "engine/segment/growing.h"
#include "engine/segment/sealed.h"
#include "tests/engine/open_database.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::TempDir;
using testing::SmallSchema;
using ::testing::UnorderedElementsAreArray;

constexpr uint32_t kDim = 8;

void OneThread(size_t count, const std::function<void(size_t)>& body) {
  for (size_t i = 0; i < count; ++i) body(i);
}

// One row store of rows 0, 1, 2, ...: row i has key i and the sequence number i + 1.
class SegmentBuilder : public ::testing::Test {
 protected:
  SegmentBuilder() : schema_(SmallSchema(kDim)) { NumberFields(schema_); }

  // A closed segment of the next `count` rows.
  std::shared_ptr<Segment> Closed(uint32_t count) {
    auto segment = std::make_shared<GrowingSegment>(schema_, RowId{next_row_}, count);
    for (uint32_t i = 0; i < count; ++i) {
      std::vector<float> vector(kDim);
      for (float& x : vector) x = normal_(random_);
      storage::StoredRow row;
      row.insert_seq = Seq{next_row_ + 1};
      row.key = Key{static_cast<int64_t>(next_row_)};
      const std::vector<std::span<const float>> fields = {vector};
      segment->Append(RowId{next_row_++}, std::move(row), fields);
    }
    segment->Close(RowId{next_row_});
    return segment;
  }

  absl::StatusOr<SegmentBuildOutput> Build(const std::vector<std::shared_ptr<Segment>>& inputs,
                                           Seq horizon = kSeqMax) {
    const SegmentBuildInput input{.segments = inputs,
                                  .retired = retired_,
                                  .horizon = horizon,
                                  .schema = schema_,
                                  .graph_rows_min = 32,
                                  .id = SegmentId{++last_id_},
                                  .row_store = RowStoreId{1},
                                  .incarnation = 1,
                                  .path = dir_.File(std::to_string(last_id_)),
                                  .files = storage::Files::Posix()};
    return BuildSegment(input, OneThread, CancelToken());
  }

  std::shared_ptr<Segment> Open(const SegmentBuildOutput& output) {
    auto opened = SealedSegment::Open(dir_.File(std::to_string(last_id_)), schema_, *output.entry,
                                      1, storage::Files::Posix());
    EXPECT_OK(opened);
    EXPECT_OK((*opened)->Verify(CancelToken()));
    return *opened;
  }

  std::shared_ptr<Segment> Sealed(uint32_t count) {
    auto output = Build({Closed(count)});
    EXPECT_OK(output);
    return Open(*output);
  }

  // Every nth of the first `count` rows of `segment`.
  void Retire(Segment& segment, uint32_t count, uint32_t nth) {
    for (uint32_t position = 0; position < count; position += nth) {
      retired_.Retire(segment.row_id(position), Seq{next_row_ + 1});
      segment.MarkRetired(position);
    }
  }

  // A walk wide enough for all: it must find each row exactly once, at its own vector first.
  void ExpectWalkFinds(const Segment& segment, const std::set<uint64_t>& rows) {
    std::vector<uint32_t> positions(segment.size());
    for (uint32_t i = 0; i < segment.size(); ++i) positions[i] = i;
    const std::vector<const float*> vectors = segment.ExportVectors(0, positions);
    index::GraphScratch scratch;
    const auto walk = [&](const float* query, size_t k) {
      index::TopK top;
      top.Reset(k, nullptr);
      EXPECT_OK(
          segment.Walk(0, query, {.ef = k}, UINT64_MAX, nullptr, top, scratch, CancelToken()));
      return top.Sorted();
    };
    std::set<uint64_t> found;
    const auto all = walk(vectors[0], segment.size());
    for (const index::Neighbor& hit : all) found.insert(Raw(segment.row_id(hit.position)));
    EXPECT_EQ(all.size(), rows.size());
    EXPECT_EQ(found, rows);
    for (uint32_t position = 0; position < segment.size(); ++position) {
      const auto nearest = walk(vectors[position], 64);
      ASSERT_FALSE(nearest.empty());
      EXPECT_EQ(nearest[0].position, position);
      EXPECT_EQ(nearest[0].distance, 0.0F);
    }
  }

  TempDir dir_;
  Schema schema_;
  RetiredMap retired_;
  uint64_t next_row_ = 0;
  uint64_t last_id_ = 0;
  std::mt19937_64 random_{7};
  std::normal_distribution<float> normal_;
};

TEST_F(SegmentBuilder, ReusesTheGraphOfASealedInputAndAnswersTheVisibleRowsExactly) {
  const auto sealed = Sealed(500);
  const auto closed = Closed(100);
  Retire(*sealed, 500, 10);
  Retire(*closed, 100, 4);
  ASSERT_OK_AND_ASSIGN(const SegmentBuildOutput output, Build({sealed, closed}));
  EXPECT_EQ(output.graphs_reused, 1U);
  EXPECT_EQ(output.graphs_built, 0U);
  std::set<uint64_t> rows;
  std::vector<RowId> dropped;
  for (uint64_t row = 0; row < 600; ++row) {
    if (row < 500 ? row % 10 == 0 : row % 4 == 0) {
      dropped.push_back(RowId{row});
    } else {
      rows.insert(row);
    }
  }
  EXPECT_THAT(output.dropped, UnorderedElementsAreArray(dropped));
  const auto merged = Open(output);
  ASSERT_EQ(merged->size(), rows.size());
  ExpectWalkFinds(*merged, rows);
}

TEST_F(SegmentBuilder, KeepsRowsThatAReaderMayStillSee) {
  const auto sealed = Sealed(200);
  Retire(*sealed, 200, 10);
  ASSERT_OK_AND_ASSIGN(const SegmentBuildOutput output, Build({sealed}, Seq{next_row_}));
  EXPECT_EQ(output.graphs_reused, 1U);
  EXPECT_TRUE(output.dropped.empty());
  EXPECT_EQ(output.entry->row_count, 200U);
}

TEST_F(SegmentBuilder, ReusesTheLargestGraphWhereverItStands) {
  const auto small = Sealed(100);
  const auto large = Sealed(400);
  ASSERT_OK_AND_ASSIGN(const SegmentBuildOutput output, Build({small, large, Closed(100)}));
  EXPECT_EQ(output.graphs_reused, 1U);
  std::set<uint64_t> rows;
  for (uint64_t row = 0; row < 600; ++row) rows.insert(row);
  ExpectWalkFinds(*Open(output), rows);
}

TEST_F(SegmentBuilder, BuildsAnewWhereReuseDoesNotPay) {
  // Without a graph.
  ASSERT_OK_AND_ASSIGN(SegmentBuildOutput output, Build({Closed(100)}));
  EXPECT_EQ(output.graphs_built, 1U);
  EXPECT_EQ(output.graphs_reused, 0U);
  // More than a fifth of the nodes are gone.
  const auto worn = Sealed(200);
  Retire(*worn, 200, 4);
  ASSERT_OK_AND_ASSIGN(output, Build({worn}));
  EXPECT_EQ(output.graphs_built, 1U);
  ExpectWalkFinds(*Open(output), [&] {
    std::set<uint64_t> rows;
    for (uint64_t row = 100; row < 300; ++row) {
      if ((row - 100) % 4 != 0) rows.insert(row);
    }
    return rows;
  }());
  // The largest graph is less than half of the new one.
  ASSERT_OK_AND_ASSIGN(output, Build({Sealed(100), Sealed(100), Sealed(100)}));
  EXPECT_EQ(output.graphs_built, 1U);
  EXPECT_EQ(output.graphs_reused, 0U);
  // The graph was built with another m.
  const auto other = Sealed(200);
  schema_.vectors[0].index.m = 8;
  ASSERT_OK_AND_ASSIGN(output, Build({other}));
  EXPECT_EQ(output.graphs_built, 1U);
  // Too few rows are left for a graph.
  const auto few = Sealed(40);
  Retire(*few, 40, 2);
  ASSERT_OK_AND_ASSIGN(output, Build({few}));
  EXPECT_EQ(output.graphs_built + output.graphs_reused, 0U);
}

TEST_F(SegmentBuilder, WritesNoFileIfNoRowIsLeft) {
  const auto sealed = Sealed(50);
  Retire(*sealed, 50, 1);
  ASSERT_OK_AND_ASSIGN(const SegmentBuildOutput output, Build({sealed}));
  EXPECT_FALSE(output.entry.has_value());
  EXPECT_EQ(output.dropped.size(), 50U);
  EXPECT_EQ(output.graphs_built + output.graphs_reused, 0U);
}

}  // namespace
}  // namespace azimuth::engine
