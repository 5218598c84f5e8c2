#include "engine/segment/retired_map.h"

#include "gtest/gtest.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace azimuth::engine {
namespace {

TEST(RetiredMap, RowsAreLiveUntilTheyAreRetired) {
  RetiredMap map;
  EXPECT_EQ(map.RetiredAt(RowId{0}), kSeqMax);
  EXPECT_EQ(map.RetiredAt(RowId{1'000'000'000}), kSeqMax);
  map.Retire(RowId{5}, Seq{17});
  EXPECT_EQ(map.RetiredAt(RowId{5}), Seq{17});
  EXPECT_EQ(map.RetiredAt(RowId{4}), kSeqMax);
  EXPECT_EQ(map.RetiredAt(RowId{6}), kSeqMax);
}

TEST(RetiredMap, KeepsEarlierPagesWhenItGrows) {
  RetiredMap map;
  for (uint64_t row = 0; row < 200'000; row += 7) map.Retire(RowId{row}, Seq{row + 1});
  for (uint64_t row = 0; row < 200'000; ++row) {
    const Seq expected = row % 7 == 0 ? Seq{row + 1} : kSeqMax;
    ASSERT_EQ(map.RetiredAt(RowId{row}), expected) << row;
  }
}

TEST(RetiredMap, GivesAPageBackOnceAllItsRetirementsAreForgotten) {
  RetiredMap map;
  std::vector<RowId> rows;
  for (uint64_t row = 0; row < 5'000; ++row) {
    map.Retire(RowId{row}, Seq{row + 1});
    rows.push_back(RowId{row});
  }
  const size_t pages = map.page_count();
  EXPECT_GT(pages, 5u);
  // All but one row: its page stays, and its number.
  const std::function<void()> free_pages = map.Forget(std::span(rows).subspan(1));
  ASSERT_NE(free_pages, nullptr);
  EXPECT_EQ(map.page_count(), 1u);
  EXPECT_EQ(map.RetiredAt(RowId{0}), Seq{1});
  EXPECT_EQ(map.RetiredAt(RowId{1}), kSeqMax);
  EXPECT_EQ(map.RetiredAt(RowId{4'999}), kSeqMax);
  free_pages();
  EXPECT_EQ(map.Forget(std::span(rows).subspan(1)), nullptr);  // They are forgotten already.
  // A page that is gone comes again.
  map.Retire(RowId{4'999}, Seq{9'999});
  EXPECT_EQ(map.RetiredAt(RowId{4'999}), Seq{9'999});
  EXPECT_EQ(map.page_count(), 2u);
}

}  // namespace
}  // namespace azimuth::engine
