// A binary of its own: it replaces operator new in order to count what a walk and a scan allocate.
#include "index/flat/scan.h"
#include "index/graph/search.h"
#include "tests/index/graph/graphs.h"
#include "tests/support/matchers.h"

#include <atomic>
#include <cstdlib>
#include <new>
#include <vector>

namespace {
std::atomic<uint64_t> g_allocations{0};
}  // namespace

// Not inlined: g++ would take the pair of new and free for a mistake.
__attribute__((noinline)) void* operator new(size_t size) {
  ++g_allocations;
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) std::abort();
  return memory;
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace azimuth::index {
namespace {

using testing::Clustered;
using testing::Searchable;
using testing::Vectors;

TEST(SearchAllocation, TheCounterSeesAnAllocation) {
  const uint64_t before = g_allocations;
  const std::vector<int> numbers(10);
  EXPECT_GT(g_allocations, before) << numbers.size();
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
  const uint64_t before = g_allocations;
  round();
  EXPECT_EQ(g_allocations - before, 0u);
  EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace azimuth::index
