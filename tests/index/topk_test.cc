#include "index/topk.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <limits>
#include <random>
#include <vector>

namespace azimuth::index {
namespace {

class HigherPositionFirst final : public TieOrder {
 public:
  bool Before(uint32_t a, uint32_t b) const override { return a > b; }
};

// Few different distances, so that most neighbours tie.
std::vector<Neighbor> RandomNeighbors(size_t count, std::mt19937_64& random) {
  std::vector<Neighbor> neighbors(count);
  for (size_t i = 0; i < count; ++i) {
    neighbors[i] = {static_cast<float>(random() % 8), static_cast<uint32_t>(i)};
  }
  std::shuffle(neighbors.begin(), neighbors.end(), random);
  return neighbors;
}

void ExpectSameAsSort(std::vector<Neighbor> neighbors, size_t k, const TieOrder* ties) {
  TopK top;
  top.Reset(k, ties);
  for (const Neighbor& neighbor : neighbors) top.Push(neighbor);
  std::sort(neighbors.begin(), neighbors.end(), [&](const Neighbor& a, const Neighbor& b) {
    if (a.distance != b.distance) return a.distance < b.distance;
    return ties != nullptr ? ties->Before(a.position, b.position) : a.position < b.position;
  });
  neighbors.resize(std::min(k, neighbors.size()));
  const std::vector<Neighbor>& sorted = top.Sorted();
  ASSERT_EQ(sorted.size(), neighbors.size());
  for (size_t i = 0; i < sorted.size(); ++i) {
    EXPECT_EQ(sorted[i].distance, neighbors[i].distance) << "at " << i << " of k " << k;
    EXPECT_EQ(sorted[i].position, neighbors[i].position) << "at " << i << " of k " << k;
  }
}

TEST(TopK, KeepsWhatSortingWouldPutFirstWithTies) {
  std::mt19937_64 random(1);
  const HigherPositionFirst higher_first;
  for (const size_t count : {0, 1, 2, 10, 100, 300}) {
    for (const size_t k : {0, 1, 2, 9, 10, 11, 64, 1000}) {
      ExpectSameAsSort(RandomNeighbors(count, random), k, nullptr);
      ExpectSameAsSort(RandomNeighbors(count, random), k, &higher_first);
    }
  }
}

TEST(TopK, GivesTheSameResultWhenAskedAgain) {
  TopK top;
  top.Reset(3, nullptr);
  for (const uint32_t i : {4, 2, 7, 1, 9}) top.Push({static_cast<float>(i), i});
  for (int round = 0; round < 2; ++round) {
    ASSERT_EQ(top.Sorted().size(), 3u);
    EXPECT_EQ(top.Sorted()[0].position, 1u);
    EXPECT_EQ(top.Sorted()[1].position, 2u);
    EXPECT_EQ(top.Sorted()[2].position, 4u);
  }
}

TEST(TopK, HasNoBoundUntilItIsFull) {
  TopK top;
  top.Reset(2, nullptr);
  EXPECT_EQ(top.bound(), std::numeric_limits<float>::infinity());
  top.Push({1, 0});
  EXPECT_FALSE(top.full());
  EXPECT_EQ(top.bound(), std::numeric_limits<float>::infinity());
  top.Push({3, 1});
  EXPECT_TRUE(top.full());
  EXPECT_EQ(top.bound(), 3);
  top.Push({2, 2});
  EXPECT_EQ(top.bound(), 2);
}

TEST(TopK, TakesNothingFartherThanTheBoundThatItIsGiven) {
  TopK top;
  top.Reset(2, nullptr, 3);
  EXPECT_EQ(top.bound(), 3);
  top.Push({4, 0});
  EXPECT_EQ(top.size(), 0u);
  top.Push({3, 1});
  EXPECT_EQ(top.bound(), 3);
  top.Push({1, 2});
  EXPECT_EQ(top.bound(), 3);
  top.Push({2, 3});
  EXPECT_EQ(top.bound(), 2);
  top.Reset(2, nullptr);
  EXPECT_EQ(top.bound(), std::numeric_limits<float>::infinity());
  top.Push({4, 0});
  EXPECT_EQ(top.size(), 1u);
}

TEST(TopK, KeepsNothingWhenKIsZero) {
  TopK top;
  top.Reset(0, nullptr);
  top.Push({1, 0});
  EXPECT_EQ(top.size(), 0u);
  EXPECT_TRUE(top.Sorted().empty());
}

TEST(TopK, ForgetsOnReset) {
  TopK top;
  top.Reset(1, nullptr);
  top.Push({1, 7});
  top.Reset(1, nullptr);
  top.Push({2, 8});
  ASSERT_EQ(top.Sorted().size(), 1u);
  EXPECT_EQ(top.Sorted()[0].position, 8u);
}

}  // namespace
}  // namespace azimuth::index
