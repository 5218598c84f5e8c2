// Goal: the calibration section has the bytes of docs/FORMATS.md, and what is no such section is
// refused.
// Method: bytes put together by hand, read and written again; the same with one mistake.
#include "base/bytes.h"
#include "index/graph/calibration.h"
#include "tests/support/matchers.h"

#include "gtest/gtest.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

using ::azimuth::testing::StatusIs;
using ::testing::HasSubstr;

using Distances = std::array<float, 6>;

std::string Header(uint32_t count, float error, uint16_t version = 1,
                   const Distances& distances = {}) {
  std::string out = "AZL1";
  PutLittle(out, version);
  PutLittle(out, uint16_t{0});
  PutLittle(out, count);
  PutLittle(out, error);
  for (const float distance : distances) PutLittle(out, distance);
  return out;
}

std::string Point(uint32_t ef, float one, float ten, float hundred) {
  std::string out;
  PutLittle(out, ef);
  for (const float number : {one, ten, hundred, 321.5F, 12.25F}) PutLittle(out, number);
  return out;
}

absl::StatusOr<Calibration> Open(const std::string& bytes) {
  return Calibration::Open(std::as_bytes(std::span(bytes)));
}

TEST(Calibration, HasTheBytesOfTheTable) {
  const std::string bytes = Header(2, 0.125F, 1, {1, 2, 4, 2, 3, 6}) + Point(14, 0.5F, 0.25F, 0) +
                            Point(140, 1, 0.75F, 0.5F);
  ASSERT_OK_AND_ASSIGN(const Calibration read, Open(bytes));
  EXPECT_EQ(read.error(), 0.125F);
  ASSERT_EQ(read.points().size(), 2U);
  EXPECT_EQ(read.points()[0].ef, 14U);
  EXPECT_EQ(read.points()[1].ef, 140U);
  EXPECT_EQ(read.points()[1].recall, (std::array<float, 3>{1, 0.75F, 0.5F}));
  EXPECT_EQ(read.points()[1].walked, 321.5F);
  EXPECT_EQ(read.points()[1].rescored, 12.25F);
  // Of the rank of the largest limit that is reached, and 1 up to its bound.
  std::vector<Neighbor> found(12, Neighbor{0, 0});
  found[9].distance = 3;
  EXPECT_EQ(read.Widening(found, Metric::kL2, 1), 1);
  found[9].distance = 3.5F;
  EXPECT_EQ(read.Widening(found, Metric::kL2, 1), 3.5);
  EXPECT_EQ(read.Widening(found, Metric::kIp, 2), 1);
  found[9].distance = 1000;
  EXPECT_EQ(read.Widening(found, Metric::kL2, 1), 8);
  EXPECT_EQ(read.Widening({}, Metric::kL2, 1), 1);
  EXPECT_EQ(Calibration().Widening(found, Metric::kL2, 1), 1);
  EXPECT_EQ(read.Save(), bytes);
  EXPECT_EQ(Calibration().Save(), Header(0, 0));
}

TEST(Calibration, RefusesOtherBytes) {
  const std::string good = Header(2, 0) + Point(14, 0.5F, 0.25F, 0) + Point(140, 1, 1, 1);
  ASSERT_OK(Open(good));
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(Open(good.substr(0, size)), StatusIs(absl::StatusCode::kDataLoss)) << size;
  }
  const auto expect = [](const std::string& bytes, const std::string& message) {
    EXPECT_THAT(Open(bytes), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(message)));
  };
  expect(good + '\0', "89 bytes for 2 points");
  expect('B' + good.substr(1), "magic is");
  EXPECT_THAT(Open(Header(0, 0, 2)), StatusIs(absl::StatusCode::kFailedPrecondition,
                                              HasSubstr("version is 2; this program reads 1")));
  for (const float error : {-1.0F, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    expect(Header(0, error), "the error of codes is");
  }
  expect(Header(0, 0, 1, {0, 0, 0, 0, 0, std::nanf("")}), "is not finite");
  expect(Header(0, 0, 1, {std::numeric_limits<float>::infinity()}), "is not finite");
  const auto expect_point = [&](const std::string& point) {
    expect(Header(2, 0) + Point(14, 1, 1, 0) + point, "is not valid");
  };
  expect_point(Point(14, 1, 1, 1));
  expect_point(Point(13, 1, 1, 1));
  expect_point(Point(32769, 1, 1, 1));
  expect_point(Point(20, 1.5F, 1, 1));
  expect_point(Point(20, 1, -0.5F, 1));
  expect_point(Point(20, 1, 1, std::nanf("")));
  expect(Header(1, 0) + Point(0, 1, 1, 1), "the point of width 0 is not valid");
}

}  // namespace
}  // namespace azimuth::index
