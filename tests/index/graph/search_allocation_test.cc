// A binary of its own: allocation_counter.cc replaces operator new for all of it.
#include "index/codes/coded_vectors.h"
#include "index/flat/scan.h"
#include "index/graph/search.h"
#include "tests/index/codes/coded.h"
#include "tests/index/graph/allocation_counter.h"
#include "tests/index/graph/graphs.h"
#include "tests/support/matchers.h"

#include <functional>
#include <span>
#include <utility>
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

TEST(SearchAllocation, NoSearchByCodesAllocatesAfterTheFirstRound) {
  const Vectors queries = Clustered(50, 48, 2);
  const Searchable searchable(Clustered(3000, 48, 1), Metric::kL2);
  const std::vector<const float*> rows = searchable.rows.rows();
  Bitset half(3000);
  for (size_t i = 0; i < 3000; i += 2) half.Set(i);
  // By pool; by heaps, which are wider, or of a filter.
  const std::pair<size_t, const Bitset*> walks[] = {{64, nullptr}, {600, nullptr}, {64, &half}};
  // Some go on: with the pool, from the pool to heaps, or with heaps.
  size_t wider = 0;
  const std::function<size_t(std::span<const GraphScratch::Candidate>)> widen =
      [&wider](std::span<const GraphScratch::Candidate> found) {
        return found.size() * (1 + ++wider % 16);
      };
  TopK top;
  GraphScratch scratch;
  for (const testing::CodeKind kind : testing::kCodeKinds) {
    const Quantizer quantizer =
        Quantizer::Train(Metric::kL2, 48, rows, {kind.bits, kind.transform, 1});
    const AlignedBytes bytes = EncodeVectors(quantizer, rows, testing::OneThread);
    ASSERT_OK_AND_ASSIGN(const CodedVectors codes,
                         CodedVectors::Open(Metric::kL2, 48, bytes.span()));
    bool ok = true;
    const auto round = [&] {
      wider = 0;
      for (size_t q = 0; q < queries.count(); ++q) {
        for (const auto& [ef, admitted] : walks) {
          top.Reset(10, nullptr);
          GraphSearchOptions options;
          options.ef = ef;
          options.admitted = admitted;
          if (q % 2 == 0) options.widen = &widen;
          codes.EncodeQuery(queries.row(q), scratch.query);
          ok &=
              SearchGraphByCodes(
                  searchable.graph,
                  CodeDistances(codes.rows(), codes.kernels(), scratch.query.view()),
                  VectorDistances(searchable.nodes(), searchable.kernels, queries.row(q)), options,
                  {.least = 10, .slack = scratch.query.norm()}, top, scratch, CancelToken())
                  .ok();
          top.Sorted();
        }
      }
    };
    round();
    const uint64_t before = testing::AllocationCount();
    round();
    EXPECT_EQ(testing::AllocationCount() - before, 0u) << testing::NameOf(kind);
    EXPECT_TRUE(ok);
  }
}

}  // namespace
}  // namespace azimuth::index
