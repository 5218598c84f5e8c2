// Distances to rows of bytes have the bits of those to the same rows of floats.
#include "index/distance/byte_rows.h"

#include "index/distance/distance.h"

#include "gtest/gtest.h"

#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace azimuth::index {
namespace {

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kIp, Metric::kCosine};

// Random bytes, none of them the same as floats.
struct Rows {
  Rows(size_t count, size_t stride, uint64_t seed) : bytes(count * stride) {
    std::mt19937_64 random(seed);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    floats.assign(bytes.begin(), bytes.end());
  }
  std::vector<uint8_t> bytes;
  std::vector<float> floats;
};

uint32_t Bits(float x) {
  uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

TEST(ByteRows, EveryTargetGivesTheBitsOfItsFloatKernels) {
  constexpr size_t kRows = 11;
  for (const Metric metric : kMetrics) {
    const std::vector<NamedByteKernels> bytes = AllByteKernelsFor(metric);
    const std::vector<NamedKernels> floats = AllKernelsFor(metric);
    ASSERT_EQ(bytes.size(), floats.size());
    for (size_t target = 0; target < bytes.size(); ++target) {
      ASSERT_EQ(bytes[target].target, floats[target].target);
      for (size_t dim = 1; dim <= 200; ++dim) {
        const size_t stride = dim + dim % 3;
        const Rows rows(kRows, stride, dim);
        std::mt19937_64 random(dim);
        std::normal_distribution<float> normal(100, 60);
        std::vector<float> query(dim);
        for (float& x : query) x = normal(random);
        const std::vector<uint32_t> ids = {3, 0, 10, 3, 7, 1};
        std::vector<float> gathered(ids.size());
        std::vector<float> expected(ids.size());
        bytes[target].kernels.gather(query.data(), rows.bytes.data(), stride, dim, ids.data(),
                                     ids.size(), gathered.data());
        floats[target].kernels.gather(query.data(), rows.floats.data(), stride, dim, ids.data(),
                                      ids.size(), expected.data());
        for (size_t i = 0; i < ids.size(); ++i) {
          ASSERT_EQ(Bits(gathered[i]), Bits(expected[i])) << bytes[target].target << " " << dim;
          ASSERT_EQ(Bits(bytes[target].kernels.pair(query.data(),
                                                    rows.bytes.data() + ids[i] * stride, dim)),
                    Bits(expected[i]));
        }
        std::vector<float> run(kRows);
        std::vector<float> expected_run(kRows);
        bytes[target].kernels.run(query.data(), rows.bytes.data(), stride, dim, kRows, run.data());
        floats[target].kernels.run(query.data(), rows.floats.data(), stride, dim, kRows,
                                   expected_run.data());
        for (size_t i = 0; i < kRows; ++i) ASSERT_EQ(Bits(run[i]), Bits(expected_run[i]));
      }
    }
  }
}

TEST(ByteRows, OnlyWholeNumbersFrom0To255AreBytes) {
  std::vector<float> all(256);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<float>(i);
  EXPECT_TRUE(AreBytes(all));
  std::vector<uint8_t> bytes(all.size());
  ToBytes(all, bytes.data());
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(bytes[i], i);
  EXPECT_TRUE(AreBytes({}));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float other :
       {-1.0F, -0.0F, 0.5F, 254.99998F, 255.00002F, 256.0F, 1e30F, -1e30F, 1e-40F, kInfinity,
        -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    for (const size_t at : {size_t{0}, size_t{100}, size_t{255}}) {
      std::vector<float> one_other = all;
      one_other[at] = other;
      EXPECT_FALSE(AreBytes(one_other)) << other;
    }
  }
}

}  // namespace
}  // namespace azimuth::index
