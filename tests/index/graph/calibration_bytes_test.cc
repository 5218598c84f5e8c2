// Goal: the calibration section has the bytes of docs/FORMATS.md, those of version 1 are read, and
// what is no such section is refused.
// Method: bytes put together by hand, read and written again; the same with one mistake.
#include "base/bytes.h"
#include "tests/index/graph/calibrated.h"
#include "tests/support/matchers.h"

#include "gtest/gtest.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

using ::azimuth::testing::StatusIs;
using testing::Calibrated;
using testing::Clustered;
using ::testing::HasSubstr;
using testing::kCodeKinds;
using testing::kLimits;
using testing::kRecalls;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr size_t kHeader = 48;
constexpr size_t kPoint = 80;

using Errors = std::array<float, 3>;
using Distances = std::array<float, 6>;
using Candidate = GraphScratch::Candidate;

std::string Start(uint16_t version, uint32_t count) {
  std::string out = "AZL1";
  PutLittle(out, version);
  PutLittle(out, uint16_t{0});
  PutLittle(out, count);
  return out;
}

std::string Header(uint32_t count, const Errors& errors = {}, const Distances& distances = {},
                   uint16_t version = 2) {
  std::string out = Start(version, count);
  for (const float distance : distances) PutLittle(out, distance);
  for (const float error : errors) PutLittle(out, error);
  return out;
}

// Recall and what is measured again: by error, and of each error by limit.
std::string Point(uint32_t ef, float walked, const std::array<float, 9>& recall,
                  const std::array<float, 9>& rescored = {}) {
  std::string out;
  PutLittle(out, ef);
  PutLittle(out, walked);
  for (const float number : recall) PutLittle(out, number);
  for (const float number : rescored) PutLittle(out, number);
  return out;
}

std::string HeaderOfVersion1(uint32_t count, float error, const Distances& distances = {}) {
  std::string out = Start(1, count);
  PutLittle(out, error);
  for (const float distance : distances) PutLittle(out, distance);
  return out;
}

std::string PointOfVersion1(uint32_t ef, float one, float ten, float hundred) {
  std::string out;
  PutLittle(out, ef);
  for (const float number : {one, ten, hundred, 321.5F, 12.25F}) PutLittle(out, number);
  return out;
}

absl::StatusOr<Calibration> Open(const std::string& bytes) {
  return Calibration::Open(std::as_bytes(std::span(bytes)));
}

void ExpectRefused(const std::string& bytes, const std::string& message) {
  EXPECT_THAT(Open(bytes), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(message)));
}

// Distances of usual neighbours 1, 2, 4, of far ones 2, 3, 6.
void ExpectWidening(const Calibration& read) {
  // Of the rank of the largest limit that is reached, and 1 up to its bound.
  std::vector<Candidate> found(12, Candidate{0, 0});
  found[9].distance = 3;
  EXPECT_EQ(read.Widening(found, Metric::kL2, 1), 1);
  found[9].distance = 3.5F;
  EXPECT_EQ(read.Widening(found, Metric::kL2, 1), 4.5);
  EXPECT_EQ(read.Widening(found, Metric::kIp, 2), 1);
  found[9].distance = 1000;
  EXPECT_EQ(read.Widening(found, Metric::kL2, 1), 8);
  found[9].distance = kNan;
  EXPECT_EQ(read.Widening(found, Metric::kL2, 1), 1);
  EXPECT_EQ(read.Widening({}, Metric::kL2, 1), 1);
  found[9].distance = 1000;
  EXPECT_EQ(Calibration().Widening(found, Metric::kL2, 1), 1);
  const std::vector<Candidate> hundred(100, Candidate{7, 0});
  EXPECT_EQ(read.Widening(hundred, Metric::kL2, 1), 4.5);
}

TEST(CalibrationBytes, AreThoseOfTheTable) {
  const std::string bytes =
      Header(2, {0.5F, 0.25F, 0.125F}, {1, 2, 4, 2, 3, 6}) +
      Point(14, 321.5F, {0.5F, 0.25F, 0, 0.375F, 0.125F, 0, 0.25F, 0, 0},
            {9, 12.25F, 0, 8, 11, 0, 7, 10, 0}) +
      Point(140, 1321.5F, {1, 0.75F, 0.5F, 1, 0.5F, 0.25F, 0.5F, 0.25F, 0.125F},
            {19, 22.25F, 110, 18, 21, 105, 17, 20, 100});
  ASSERT_EQ(bytes.size(), kHeader + 2 * kPoint);
  ASSERT_OK_AND_ASSIGN(const Calibration read, Open(bytes));
  EXPECT_EQ(read.errors(), (Calibration::Errors{0.5F, 0.25F, 0.125F}));
  ASSERT_EQ(read.points().size(), 2U);
  EXPECT_EQ(read.points()[0].ef, 14U);
  const Calibration::Point& last = read.points()[1];
  EXPECT_EQ(last.ef, 140U);
  EXPECT_EQ(last.walked, 1321.5F);
  EXPECT_EQ(last.recall[0], (Calibration::ByLimit{1, 0.75F, 0.5F}));
  EXPECT_EQ(last.recall[2], (Calibration::ByLimit{0.5F, 0.25F, 0.125F}));
  EXPECT_EQ(last.rescored[0], (Calibration::ByLimit{19, 22.25F, 110}));
  EXPECT_EQ(last.rescored[1], (Calibration::ByLimit{18, 21, 105}));
  ExpectWidening(read);
  EXPECT_EQ(read.Save(), bytes);
  EXPECT_EQ(Calibration().Save(), Header(0));
}

TEST(CalibrationBytes, OfOtherKindsAreRefused) {
  const std::array<float, 9> ones = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  const std::string good = Header(2) + Point(14, 5, ones) + Point(140, 5, ones);
  ASSERT_OK(Open(good));
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(Open(good.substr(0, size)), StatusIs(absl::StatusCode::kDataLoss)) << size;
  }
  ExpectRefused(good + '\0', "209 bytes for 2 points");
  ExpectRefused(good + std::string(kPoint, '\0'), "288 bytes for 2 points");
  ExpectRefused('B' + good.substr(1), "magic is");
  for (const uint32_t count : {0U, 1U, 3U, UINT32_MAX}) {
    ExpectRefused(Header(count) + good.substr(kHeader), "points");
  }
  for (const uint16_t version : {uint16_t{0}, uint16_t{3}, uint16_t{512}}) {
    EXPECT_THAT(Open(Header(0, {}, {}, version)),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("version is " + std::to_string(version) +
                                   "; this program reads 1 and 2")));
  }
  for (const float error : {-1.0F, kNan, kInfinity}) {
    ExpectRefused(Header(0, {error, 0, 0}), "the error of codes is");
    ExpectRefused(Header(0, {1, error, 0}), "the error of codes is");
    ExpectRefused(Header(0, {1, 1, error}), "the error of codes is");
  }
  ExpectRefused(Header(0, {1, 2, 1}), "the error of codes is 2");
  ExpectRefused(Header(0, {3, 1, 2}), "the error of codes is 2");
  ASSERT_OK(Open(Header(0, {1, 1, 1})));
  for (size_t i = 0; i < 6; ++i) {
    for (const float bad : {kNan, kInfinity, -kInfinity}) {
      Distances distances = {};
      distances[i] = bad;
      ExpectRefused(Header(0, {}, distances), "is not finite");
    }
  }
  const auto expect_point = [&](const std::string& point) {
    ExpectRefused(Header(2) + Point(14, 5, ones) + point, "is not valid");
  };
  for (const uint32_t ef : {0U, 13U, 14U, 32769U, UINT32_MAX}) expect_point(Point(ef, 5, ones));
  for (const float bad : {kNan, -0.5F, kInfinity}) {
    expect_point(Point(20, bad, ones));
    for (size_t i = 0; i < 9; ++i) {
      std::array<float, 9> numbers = ones;
      numbers[i] = bad;
      expect_point(Point(20, 5, numbers));
      expect_point(Point(20, 5, ones, numbers));
      numbers[i] = 1.5F;
      expect_point(Point(20, 5, numbers));
      ASSERT_OK(Open(Header(1) + Point(20, 5, ones, numbers)));
    }
  }
  ExpectRefused(Header(1) + Point(0, 5, ones), "the point of width 0 is not valid");
}

// --- Version 1
// ------------------------------------------------------------------------------------

TEST(CalibrationBytes, OfVersion1AreReadAsOneError) {
  const std::string bytes = HeaderOfVersion1(2, 0.125F, {1, 2, 4, 2, 3, 6}) +
                            PointOfVersion1(14, 0.5F, 0.25F, 0) +
                            PointOfVersion1(140, 1, 0.75F, 0.5F);
  ASSERT_OK_AND_ASSIGN(const Calibration read, Open(bytes));
  EXPECT_EQ(read.errors(), (Calibration::Errors{0.125F, 0.125F, 0.125F}));
  ASSERT_EQ(read.points().size(), 2U);
  EXPECT_EQ(read.points()[0].ef, 14U);
  const Calibration::Point& last = read.points()[1];
  EXPECT_EQ(last.ef, 140U);
  EXPECT_EQ(last.walked, 321.5F);
  for (size_t error = 0; error < 3; ++error) {
    EXPECT_EQ(last.recall[error], (Calibration::ByLimit{1, 0.75F, 0.5F}));
    EXPECT_EQ(last.rescored[error], (Calibration::ByLimit{12.25F, 12.25F, 12.25F}));
  }
  ExpectWidening(read);
  // The width that it answered with when it was written, and that one error.
  for (const double recall : {0.2, 0.5, 0.75, 0.9}) {
    for (const uint32_t limit : {1U, 10U, 50U, 100U}) {
      const Calibration::Effort effort = read.EffortFor(recall, limit, 64, 256);
      EXPECT_EQ(effort.ef, read.Ef(recall, limit));
      EXPECT_EQ(effort.error, 0.125F);
    }
  }
  EXPECT_EQ(read.Ef(0.75, 10), 140U);
  // What is written is of the version of today.
  ASSERT_OK_AND_ASSIGN(const Calibration again, Open(read.Save()));
  EXPECT_EQ(again.Save(), read.Save());
  EXPECT_EQ(again.Ef(0.9, 10), read.Ef(0.9, 10));
}

TEST(CalibrationBytes, OfVersion1ThatAreWrongAreRefused) {
  const std::string good =
      HeaderOfVersion1(2, 0) + PointOfVersion1(14, 0.5F, 0.25F, 0) + PointOfVersion1(140, 1, 1, 1);
  ASSERT_OK(Open(good));
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(Open(good.substr(0, size)), StatusIs(absl::StatusCode::kDataLoss)) << size;
  }
  ExpectRefused(good + '\0', "89 bytes for 2 points");
  for (const float error : {-1.0F, kNan, kInfinity}) {
    ExpectRefused(HeaderOfVersion1(0, error), "the error of codes is");
  }
  ExpectRefused(HeaderOfVersion1(0, 0, {0, 0, 0, 0, 0, kNan}), "is not finite");
  ExpectRefused(HeaderOfVersion1(0, 0, {kInfinity}), "is not finite");
  const auto expect_point = [&](const std::string& point) {
    ExpectRefused(HeaderOfVersion1(2, 0) + PointOfVersion1(14, 1, 1, 0) + point, "is not valid");
  };
  expect_point(PointOfVersion1(14, 1, 1, 1));
  expect_point(PointOfVersion1(13, 1, 1, 1));
  expect_point(PointOfVersion1(32769, 1, 1, 1));
  expect_point(PointOfVersion1(20, 1.5F, 1, 1));
  expect_point(PointOfVersion1(20, 1, -0.5F, 1));
  expect_point(PointOfVersion1(20, 1, 1, kNan));
  ExpectRefused(HeaderOfVersion1(1, 0) + PointOfVersion1(0, 1, 1, 1),
                "the point of width 0 is not valid");
}

// --- The cheapest effort of a table
// ---------------------------------------------------------------

// Walks of 20 and of 40, by assumed error: what they find of ten, and what is measured again.
absl::StatusOr<Calibration> TableOf(const std::array<float, 3>& of_20,
                                    const std::array<float, 3>& of_40) {
  const auto all = [](const std::array<float, 3>& by_error) {
    std::array<float, 9> numbers = {};
    for (size_t i = 0; i < 9; ++i) numbers[i] = by_error[i / 3];
    return numbers;
  };
  return Open(Header(2, {0.5F, 0.25F, 0.125F}) + Point(20, 100, all(of_20), all({15, 11, 10})) +
              Point(40, 200, all(of_40), all({30, 12, 10})));
}

TEST(Calibration, EffortIsTheCheapestThatReachesTheRecall) {
  using Effort = Calibration::Effort;
  constexpr float kRecall = 0.9375F;
  const auto expect = [](const absl::StatusOr<Calibration>& of, size_t vector_bytes,
                         const Effort& effort) {
    ASSERT_OK(of);
    const Effort got = of->EffortFor(kRecall, 10, 64, vector_bytes);
    EXPECT_EQ(got.ef, effort.ef);
    EXPECT_EQ(got.error, effort.error);
  };
  const std::array<float, 3> narrow = {kRecall, 0.9F, 0.5F};
  const std::array<float, 3> wide = {0.99F, kRecall, 0.6F};
  // 100 x 3 + 15 x 10 lines against 200 x 3 + 12 x 10.
  expect(TableOf(narrow, wide), 512, {20, 0.5F});
  // 100 x 3 + 15 x 102 lines against 200 x 3 + 12 x 102.
  expect(TableOf(narrow, wide), 6400, {40, 0.25F});
  // One that reaches it as narrow is cheaper in any case.
  expect(TableOf({kRecall, kRecall, 0.5F}, wide), 512, {20, 0.25F});
  expect(TableOf({kRecall, kRecall, kRecall}, wide), 512, {20, 0.125F});
  // Beyond what it has reached no error but the largest is known.
  expect(TableOf({kRecall, 0.5F, 0.5F}, {0.99F, 0.9F, 0.9F}), 6400, {20, 0.5F});
  ASSERT_OK_AND_ASSIGN(const Calibration none, TableOf({0.5F, 0.5F, 0.5F}, {0.9F, 0.9F, 0.9F}));
  EXPECT_EQ(none.EffortFor(kRecall, 10, 64, 6400).ef, none.Ef(kRecall, 10));
  EXPECT_EQ(none.EffortFor(kRecall, 10, 64, 6400).error, 0.5F);
}

// Those of the cheapest at 0.95, twice, and at 0.99.
TEST(Calibration, CostIsInLinesOfMemory) {
  const auto cost = [](const absl::StatusOr<Calibration>& of, size_t code, size_t vector) {
    EXPECT_OK(of);
    return of->Cost(code, vector);
  };
  const auto one = TableOf({0.96F, 0.9F, 0.5F}, {0.99F, 0.94F, 0.6F});
  const auto mean = [](double usual, double high) { return std::cbrt(usual * usual * high); };
  EXPECT_NEAR(cost(one, 64, 512), mean(100 * 3 + 15 * 10, 200 * 3 + 30 * 10), 0.01);
  EXPECT_NEAR(cost(one, 65, 512), mean(100 * 4 + 15 * 10, 200 * 4 + 30 * 10), 0.01);
  EXPECT_NEAR(cost(one, 64, 6400), mean(100 * 3 + 15 * 102, 200 * 3 + 30 * 102), 0.01);
  const auto two = TableOf({0.96F, 0.96F, 0.5F}, {0.99F, 0.99F, 0.6F});
  EXPECT_NEAR(cost(two, 64, 512), mean(100 * 3 + 11 * 10, 200 * 3 + 12 * 10), 0.01);
}

// --- Of a calibration that was measured
// -----------------------------------------------------------

TEST(CalibrationBytes, AreTheSameAfterSaveAndOpen) {
  const Calibrated calibrated(Clustered(1000, 32, 1), Metric::kL2, kCodeKinds[1]);
  for (const Calibration& calibration : {calibrated.calibration, Calibration()}) {
    ASSERT_OK_AND_ASSIGN(const Calibration opened, Open(calibration.Save()));
    EXPECT_EQ(opened.Save(), calibration.Save());
    EXPECT_EQ(opened.errors(), calibration.errors());
    EXPECT_EQ(opened.points().size(), calibration.points().size());
    for (const double recall : kRecalls) {
      for (const uint32_t limit : kLimits) {
        const Calibration::Effort before = calibration.EffortFor(recall, limit, 64, 128);
        const Calibration::Effort after = opened.EffortFor(recall, limit, 64, 128);
        EXPECT_EQ(after.ef, before.ef);
        EXPECT_EQ(after.error, before.error);
      }
    }
  }
}

TEST(CalibrationBytes, ThatAreDamagedButOpenAnswer) {
  const Calibrated calibrated(Clustered(500, 16, 1), Metric::kL2, kCodeKinds[1]);
  const std::string good = calibrated.calibration.Save();
  ASSERT_GE(calibrated.calibration.points().size(), 3U);
  size_t opens = 0;
  for (size_t at = 0; at < good.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      const auto opened = Open(bytes);
      if (!opened.ok()) continue;
      ++opens;
      for (const uint32_t limit : {1U, 5U, 10U, 77U, 100U, 16384U}) {
        uint32_t last = limit;
        for (const double recall : kRecalls) {
          const uint32_t ef = opened->Ef(recall, limit);
          EXPECT_GE(ef, last);
          last = ef;
          const Calibration::Effort effort = opened->EffortFor(recall, limit, 64, 256);
          EXPECT_GE(effort.ef, limit);
          EXPECT_LE(effort.ef, 32768U);
          EXPECT_GE(Calibration::Rescore(limit, effort.error, 3).slack, 0);
        }
        EXPECT_LE(last, 32768U);
      }
      EXPECT_GE(opened->Cost(64, 256), 0);
    }
  }
  EXPECT_GT(opens, good.size());
}

}  // namespace
}  // namespace azimuth::index
