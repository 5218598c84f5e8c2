// A binary of its own: allocation_counter.cc replaces operator new for all of it.
#include "index/flat/scan.h"
#include "index/graph/search.h"
#include "tests/index/graph/allocation_counter.h"
#include "tests/index/graph/graphs.h"
#include "tests/support/matchers.h"

#include <vector>

namespace azimuth::index {
namespace {

using testing::Clustered;
using testing::Searchable;
using testing::Vectors;

TEST(SearchAllocation, TheCounterSeesAnAllocation) {
  const uint64_t before = testing::AllocationCount();
  GraphScratch scratch;
  scratch.Begin(1000);
  EXPECT_GT(testing::AllocationCount(), before);
}

TEST(SearchAllocation, NeitherWalkNorScanAllocatesAfterTheFirstRound) {
  const Vectors queries = Clustered(50, 16, 2);
  const Searchable searchable(Clustered(3000, 16, 1), Metric::kL2);
  const Bitset half = [] {
    Bitset bits(3000);
    for (size_t i = 0; i < 3000; i += 2) bits.Set(i);
    return bits;
  }();
  TopK top;
  GraphScratch scratch;
  bool ok = true;
  const auto round = [&] {
    for (size_t q = 0; q < queries.count(); ++q) {
      const Bitset* const filters[] = {nullptr, &half};
      for (const Bitset* admitted : filters) {
        top.Reset(10, nullptr);
        GraphSearchOptions options;
        options.ef = 64;
        options.admitted = admitted;
        ok &= SearchGraph(searchable.graph, searchable.nodes(), searchable.kernels, queries.row(q),
                          options, top, scratch, CancelToken())
                  .ok();
        ScanOptions scan;
        scan.admitted = admitted;
        ok &= ScanRows(searchable.kernels, queries.row(q), searchable.rows.data.data(), 16, 16,
                       3000, scan, top, CancelToken())
                  .ok();
        top.Sorted();
      }
    }
  };
  round();
  const uint64_t before = testing::AllocationCount();
  round();
  EXPECT_EQ(testing::AllocationCount() - before, 0u);
  EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace azimuth::index
