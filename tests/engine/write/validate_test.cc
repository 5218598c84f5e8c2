#include "engine/write/validate.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace azimuth::engine {
namespace {

using ::testing::HasSubstr;

VectorFieldDef Field(size_t dim, Metric metric = Metric::kL2) {
  return {.name = "v", .dim = static_cast<uint32_t>(dim), .metric = metric};
}

// What CheckVector says of `vector`; empty if it lets it pass.
std::string Refusal(const std::vector<float>& vector, Metric metric = Metric::kL2) {
  return std::string(CheckVector(Field(vector.size(), metric), vector, "query").message());
}

TEST(CheckVector, NamesTheFirstElementThatIsNotFiniteWhereverItStands) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (size_t dim = 1; dim <= 50; ++dim) {
    for (size_t place = 0; place < dim; ++place) {
      for (const float bad : {infinity, -infinity, nan, -nan}) {
        std::vector<float> vector(dim, 1.0F);
        vector[place] = bad;
        vector.back() = bad;
        EXPECT_EQ(Refusal(vector), "query[" + std::to_string(place) +
                                       "]: NaN or infinite; every element must be finite");
      }
    }
  }
}

TEST(CheckVector, TheNormDecidesAndNotTheLargestElement) {
  for (const size_t dim : {1U, 7U, 16U, 33U, 784U}) {
    // All elements alike, just below and just above the largest norm.
    const double most = std::sqrt(8.5e37 / static_cast<double>(dim));
    EXPECT_EQ(Refusal(std::vector<float>(dim, static_cast<float>(most * 0.999))), "") << dim;
    EXPECT_EQ(Refusal(std::vector<float>(dim, static_cast<float>(-most * 0.999))), "") << dim;
    EXPECT_THAT(Refusal(std::vector<float>(dim, static_cast<float>(most * 1.001))),
                HasSubstr("is too large"));
    // One element has it all.
    std::vector<float> one(dim, 0.0F);
    one[dim / 2] = 9.2e18F;
    EXPECT_EQ(Refusal(one), "") << dim;
    one[dim / 2] = 9.3e18F;
    EXPECT_THAT(Refusal(one), HasSubstr("is too large")) << dim;
  }
}

TEST(CheckVector, OnlyCosineNeedsALength) {
  for (const size_t dim : {1U, 7U, 16U, 33U, 784U}) {
    const std::vector<float> zero(dim, 0.0F);
    EXPECT_EQ(Refusal(zero), "");
    EXPECT_EQ(Refusal(zero, Metric::kIp), "");
    EXPECT_THAT(Refusal(zero, Metric::kCosine), HasSubstr("a zero vector has no direction"));
    std::vector<float> one = zero;
    one[dim - 1] = -0.99e-30F;
    EXPECT_THAT(Refusal(one, Metric::kCosine), HasSubstr("a zero vector has no direction"));
    one[dim - 1] = -1.01e-30F;
    EXPECT_EQ(Refusal(one, Metric::kCosine), "");
    EXPECT_EQ(Refusal(std::vector<float>(dim, 1.01e-30F), Metric::kCosine), "");
  }
}

}  // namespace
}  // namespace azimuth::engine
