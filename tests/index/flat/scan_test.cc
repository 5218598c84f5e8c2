#include "index/flat/scan.h"

#include "tests/index/vectors.h"
#include "tests/support/matchers.h"

#include <limits>
#include <optional>
#include <random>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::StatusIs;
using testing::BruteForce;
using testing::Clustered;
using testing::Vectors;

constexpr size_t kDim = 12;

void ExpectSame(const std::vector<Neighbor>& got, const std::vector<Neighbor>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].position, expected[i].position) << i;
    EXPECT_EQ(got[i].distance, expected[i].distance) << i;
  }
}

Bitset RandomBits(size_t size, size_t percent, std::mt19937_64& random) {
  Bitset bits(size);
  for (size_t i = 0; i < size; ++i) {
    if (random() % 100 < percent) bits.Set(i);
  }
  return bits;
}

// Scans with scalar kernels, so that distances equal those of brute force bit by bit.
uint64_t Scanned(const Vectors& vectors, const float* query, const ScanOptions& options,
                 TopK& top) {
  const auto computed =
      ScanRows(ScalarKernelsFor(Metric::kL2), query, vectors.data.data(), vectors.dim, vectors.dim,
               vectors.count(), options, top, CancelToken());
  EXPECT_OK(computed);
  return computed.value_or(0);
}

TEST(ScanRows, FindsTheNearestOfAllRows) {
  const Vectors query = Clustered(1, kDim, 7);
  for (const size_t count : {0, 1, 255, 256, 257, 5000}) {
    const Vectors vectors = Clustered(count, kDim, 1);
    TopK top;
    top.Reset(10, nullptr);
    EXPECT_EQ(Scanned(vectors, query.row(0), {}, top), count);
    ExpectSame(top.Sorted(), BruteForce(vectors, Metric::kL2, query.row(0), 10));
  }
}

TEST(ScanRows, ComputesOnlyAdmittedRows) {
  std::mt19937_64 random(2);
  const Vectors query = Clustered(1, kDim, 7);
  for (const size_t count : {1, 63, 64, 65, 300, 5000}) {
    for (const size_t percent : {0, 1, 50, 100}) {
      const Vectors vectors = Clustered(count, kDim, 1);
      const Bitset admitted = RandomBits(count, percent, random);
      TopK top;
      top.Reset(10, nullptr);
      ScanOptions options;
      options.admitted = &admitted;
      EXPECT_EQ(Scanned(vectors, query.row(0), options, top), admitted.Count());
      ExpectSame(top.Sorted(), BruteForce(vectors, Metric::kL2, query.row(0), 10, &admitted));
    }
  }
}

TEST(ScanRows, AddsTheFirstPositionAlsoWhereNoWordBegins) {
  std::mt19937_64 random(3);
  const Vectors query = Clustered(1, kDim, 7);
  const Vectors all = Clustered(1000, kDim, 1);
  for (const uint32_t first : {64, 128, 1, 100, 999}) {
    Vectors tail{kDim, {}};
    tail.data.assign(all.row(first), all.row(0) + all.data.size());
    Bitset admitted = RandomBits(1000, 30, random);
    for (size_t i = 0; i < first; ++i) admitted.Clear(i);
    TopK top;
    top.Reset(10, nullptr);
    ScanOptions options;
    options.admitted = &admitted;
    options.first_position = first;
    EXPECT_EQ(Scanned(tail, query.row(0), options, top), admitted.Count());
    ExpectSame(top.Sorted(), BruteForce(all, Metric::kL2, query.row(0), 10, &admitted));
  }
}

TEST(ScanRows, TakesPositionsFromTheTableOfRows) {
  const Vectors query = Clustered(1, kDim, 7);
  const Vectors vectors = Clustered(700, kDim, 1);
  std::vector<uint32_t> backwards(700);
  for (uint32_t i = 0; i < 700; ++i) backwards[i] = 699 - i;
  Vectors reversed = testing::Reordered(vectors, backwards);
  Bitset even(700);
  for (size_t i = 0; i < 700; i += 2) even.Set(i);
  const Bitset* const filters[] = {nullptr, &even};
  for (const Bitset* admitted : filters) {
    TopK top;
    top.Reset(10, nullptr);
    ScanOptions options;
    options.admitted = admitted;
    options.row_to_position = backwards.data();
    Scanned(reversed, query.row(0), options, top);
    ExpectSame(top.Sorted(), BruteForce(vectors, Metric::kL2, query.row(0), 10, admitted));
  }
}

TEST(ScanRows, AdmitsNoPositionPastTheEndOfTheSet) {
  const Vectors vectors = Clustered(200, kDim, 1);
  const Bitset admitted(70, true);
  std::vector<uint32_t> same(200);
  for (uint32_t i = 0; i < 200; ++i) same[i] = i;
  const uint32_t* const tables[] = {nullptr, same.data()};
  for (const uint32_t* table : tables) {
    TopK top;
    top.Reset(200, nullptr);
    ScanOptions options;
    options.admitted = &admitted;
    options.row_to_position = table;
    EXPECT_EQ(Scanned(vectors, vectors.row(0), options, top), 70u);
    EXPECT_EQ(top.size(), 70u);
  }
}

TEST(ScanRows, LetsTheTieOrderDecideAtTheEdge) {
  class HigherFirst final : public TieOrder {
   public:
    bool Before(uint32_t a, uint32_t b) const override { return a > b; }
  };
  const Vectors equal{kDim, std::vector<float>(kDim * 600, 1.0f)};
  const HigherFirst higher_first;
  TopK top;
  top.Reset(2, &higher_first);
  Scanned(equal, equal.row(0), {}, top);
  ASSERT_EQ(top.Sorted().size(), 2u);
  EXPECT_EQ(top.Sorted()[0].position, 599u);
  EXPECT_EQ(top.Sorted()[1].position, 598u);
}

TEST(ScanRows, LeavesOutRowsWhoseDistanceIsNotANumber) {
  const float huge = std::numeric_limits<float>::max();
  const Vectors vectors{2, {huge, -huge, 1, 1}};
  const std::vector<float> query = {huge, huge};
  TopK top;
  top.Reset(2, nullptr);
  ASSERT_OK(ScanRows(ScalarKernelsFor(Metric::kIp), query.data(), vectors.data.data(), 2, 2, 2, {},
                     top, CancelToken()));
  ASSERT_EQ(top.Sorted().size(), 1u);
  EXPECT_EQ(top.Sorted()[0].position, 1u);
}

TEST(ScanRows, StopsWhenCancelled) {
  const Vectors vectors = Clustered(20000, 2, 1);
  int asked = 0;
  const CancelToken cancel(CancelToken::TimePoint::max(), [&] { return ++asked == 3; });
  TopK top;
  top.Reset(10, nullptr);
  EXPECT_THAT(ScanRows(KernelsFor(Metric::kL2), vectors.row(0), vectors.data.data(), 2, 2, 20000,
                       {}, top, cancel),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(asked, 3);
}

}  // namespace
}  // namespace azimuth::index
