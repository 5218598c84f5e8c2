#include "base/check.h"

#include "gtest/gtest.h"

namespace azimuth {
namespace {

TEST(Check, DiesWithThePlaceAndTheCondition) {
  EXPECT_DEATH(AZ_CHECK(1 + 1 == 3), "check_test.cc:[0-9]+: check failed: 1 \\+ 1 == 3");
}

TEST(Check, EvaluatesTheConditionOnceWhenItHolds) {
  int evaluated = 0;
  AZ_CHECK(++evaluated == 1);
  EXPECT_EQ(evaluated, 1);
}

}  // namespace
}  // namespace azimuth
