// The first stage of a scan leaves out no row that is among the nearest, and most of the others.
#include "index/flat/code_filter.h"

#include "index/topk.h"
#include "tests/index/vectors.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

namespace azimuth::index {
namespace {

using testing::Clustered;
using testing::Vectors;

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kIp, Metric::kCosine};
constexpr uint32_t kBlock = CodeFilter::kBlockRowsMax;

struct Coded {
  explicit Coded(const Vectors& vectors)
      : bytes(RowCodeBytes(vectors.dim)), codes(vectors.count() * bytes), rows(vectors.count()) {
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i] = EncodeRow({vectors.row(i), vectors.dim}, &codes[i * bytes]);
    }
  }
  size_t bytes;
  std::vector<uint8_t> codes;
  std::vector<RowCode> rows;
};

// Scans blocks of which every `step`-th row is asked for; `kept` counts what the filter left, if
// there is one.
std::vector<float> Nearest(const Vectors& vectors, Metric metric, const float* query, size_t k,
                           uint32_t step, CodeFilter* filter, uint64_t& kept) {
  const Coded coded(vectors);
  TopK top;
  top.Reset(k, nullptr);
  for (uint32_t first = 0; first < vectors.count(); first += kBlock) {
    std::vector<uint32_t> ids;
    const auto end = std::min<uint32_t>(kBlock, static_cast<uint32_t>(vectors.count()) - first);
    for (uint32_t i = first % step; i < end; i += step) ids.push_back(i);
    auto count = static_cast<uint32_t>(ids.size());
    if (filter != nullptr) {
      count = filter->Keep(&coded.codes[first * coded.bytes], &coded.rows[first], top.bound(),
                           ids.data(), count);
    }
    kept += count;
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t row = first + ids[i];
      top.Push({KernelsFor(metric).pair(query, vectors.row(row), vectors.dim), row});
    }
  }
  std::vector<float> distances;
  for (const Neighbor& neighbor : top.Sorted()) distances.push_back(neighbor.distance);
  return distances;
}

TEST(CodeFilter, SavesWhereRowsAreLongerThanTheirCodes) {
  for (size_t dim = 1; dim < 32; ++dim) EXPECT_FALSE(CodeFilter::Saves(dim)) << dim;
  for (size_t dim = 32; dim <= 4096; ++dim) EXPECT_TRUE(CodeFilter::Saves(dim)) << dim;
}

TEST(CodeFilter, LeavesTheNearestAndFewOthers) {
  for (const Metric metric : kMetrics) {
    for (const size_t dim : {size_t{33}, size_t{128}, size_t{300}}) {
      Vectors vectors = Clustered(3000, dim, 1);
      Vectors queries = Clustered(20, dim, 2);
      for (Vectors* set : {&vectors, &queries}) {
        for (size_t i = 0; metric == Metric::kCosine && i < set->count(); ++i) {
          NormalizeL2({&set->data[i * dim], dim});
        }
      }
      for (const uint32_t step : {1U, 3U, 17U}) {
        uint64_t kept = 0, all = 0;
        for (size_t q = 0; q < queries.count(); ++q) {
          CodeFilter filter(metric, {queries.row(q), dim});
          EXPECT_EQ(Nearest(vectors, metric, queries.row(q), 10, step, &filter, kept),
                    Nearest(vectors, metric, queries.row(q), 10, step, nullptr, all))
              << MetricName(metric) << ", dim " << dim << ", every " << step;
        }
        // 10 of what the blocks before the first bound hold, and what comes near.
        if (step == 1) {
          EXPECT_LT(kept, all / 4) << MetricName(metric) << ", dim " << dim;
        }
      }
    }
  }
}

TEST(CodeFilter, LeavesAllWithoutABound) {
  const Vectors vectors = Clustered(kBlock, 64, 3);
  const Coded coded(vectors);
  CodeFilter filter(Metric::kL2, {vectors.row(0), 64});
  std::vector<uint32_t> ids(kBlock);
  std::iota(ids.begin(), ids.end(), 0U);
  const std::vector<uint32_t> before = ids;
  const uint32_t kept = filter.Keep(coded.codes.data(), coded.rows.data(),
                                    std::numeric_limits<float>::infinity(), ids.data(), kBlock);
  EXPECT_EQ(kept, kBlock);
  EXPECT_EQ(ids, before);
  EXPECT_EQ(filter.Keep(coded.codes.data(), coded.rows.data(), 0, ids.data(), 0), 0U);
}

// All rows lie as near as the nearest one: codes cannot tell them apart, and are given up.
TEST(CodeFilter, StaysExactWhereCodesSayNothing) {
  constexpr size_t kDim = 64;
  Vectors vectors{kDim, std::vector<float>(2000 * kDim)};
  for (size_t i = 0; i < vectors.count(); ++i) {
    for (size_t j = 0; j < kDim; ++j) {
      vectors.data[i * kDim + j] = 1000.0F + (j == i % kDim ? 0.001F * static_cast<float>(i) : 0);
    }
  }
  const std::vector<float> query(kDim, 1000.0F);
  uint64_t kept = 0, all = 0;
  CodeFilter filter(Metric::kL2, query);
  EXPECT_EQ(Nearest(vectors, Metric::kL2, query.data(), 10, 1, &filter, kept),
            Nearest(vectors, Metric::kL2, query.data(), 10, 1, nullptr, all));
  // Not even a bound that no row is within leaves one out any more.
  const Coded coded(vectors);
  std::vector<uint32_t> ids(kBlock);
  std::iota(ids.begin(), ids.end(), 0U);
  const std::vector<uint32_t> before = ids;
  constexpr float kNone = std::numeric_limits<float>::lowest();
  EXPECT_EQ(filter.Keep(coded.codes.data(), coded.rows.data(), kNone, ids.data(), kBlock), kBlock);
  EXPECT_EQ(ids, before);
  CodeFilter fresh(Metric::kL2, query);
  EXPECT_EQ(fresh.Keep(coded.codes.data(), coded.rows.data(), kNone, ids.data(), kBlock), 0U);
}

}  // namespace
}  // namespace azimuth::index
