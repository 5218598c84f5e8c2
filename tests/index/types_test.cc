#include "index/types.h"

#include "gtest/gtest.h"

namespace azimuth::index {
namespace {

TEST(Metric, HasTheNamesOfTheApi) {
  EXPECT_EQ(MetricName(Metric::kL2), "l2");
  EXPECT_EQ(MetricName(Metric::kIp), "ip");
  EXPECT_EQ(MetricName(Metric::kCosine), "cosine");
}

TEST(Metric, HasTheNumbersThatAreOnDisk) {
  EXPECT_EQ(static_cast<int>(Metric::kL2), 1);
  EXPECT_EQ(static_cast<int>(Metric::kIp), 2);
  EXPECT_EQ(static_cast<int>(Metric::kCosine), 3);
}

}  // namespace
}  // namespace azimuth::index
