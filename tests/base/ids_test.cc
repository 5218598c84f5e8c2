#include "base/ids.h"

#include "gtest/gtest.h"

#include <type_traits>

namespace azimuth {
namespace {

TEST(Ids, CountUpWithoutBecomingNumbers) {
  EXPECT_EQ(Raw(Next(RowId{41})), 42u);
  EXPECT_EQ(Raw(Next(PartitionId{0})), 1u);
  static_assert(!std::is_convertible_v<RowId, uint64_t>);
  static_assert(!std::is_convertible_v<RowStoreId, CollectionId>);
}

}  // namespace
}  // namespace azimuth
