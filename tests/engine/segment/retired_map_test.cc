#include "engine/segment/retired_map.h"

#include "gtest/gtest.h"

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

}  // namespace
}  // namespace azimuth::engine
