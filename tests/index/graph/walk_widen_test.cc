// Walks that go on with a larger width: by pool and by heaps, and from the one to the other.
#include "index/graph/walk.h"
#include "tests/index/graph/graphs.h"
#include "tests/index/graph/tables.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::StatusIs;
using testing::Clustered;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Searchable;
using testing::SmallGraph;
using testing::Table;
using testing::Vectors;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr size_t kCount = 3000;
constexpr size_t kDim = 16;
constexpr size_t kQueries = 60;

using Candidates = std::vector<GraphScratch::Candidate>;
using Widen = std::function<size_t(std::span<const GraphScratch::Candidate>)>;

// Widths before and after: by pool; from pool to heaps; by heaps.
struct Widths {
  size_t from;
  size_t to;
};
constexpr Widths kWidths[] = {{1, 2},    {1, 64},   {10, 20},  {10, 80},
                              {64, 512}, {64, 700}, {600, 900}};

class WalkWidenTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    searchable_ = std::make_unique<Searchable>(Clustered(kCount, kDim, 1), Metric::kL2);
    queries_ = std::make_unique<Vectors>(Clustered(kQueries, kDim, 2));
  }
  static void TearDownTestSuite() {
    queries_.reset();
    searchable_.reset();
  }

  static std::vector<float> DistancesOf(size_t q) {
    std::vector<float> distances;
    for (size_t i = 0; i < kCount; ++i) {
      distances.push_back(
          searchable_->kernels.pair(queries_->row(q), searchable_->rows.row(i), kDim));
    }
    return distances;
  }

  // What a walk finds; into computed_, how many distances it took.
  Candidates Found(const FrozenGraph& graph, const NodeDistances& table,
                   const WalkOptions& options) {
    const auto result = WalkGraph(graph, table, options, scratch_, CancelToken());
    EXPECT_OK(result);
    if (!result.ok()) return {};
    EXPECT_FALSE(result->abandoned);
    computed_ = result->distances_computed;
    return {scratch_.found().begin(), scratch_.found().end()};
  }
  Candidates FoundFrom(const FrozenGraph& graph, const NodeDistances& table, size_t from, size_t to,
                       WalkOptions options = {}) {
    const Widen widen = [to](auto) { return to; };
    options.ef = from;
    options.widen = &widen;
    return Found(graph, table, options);
  }

  static std::unique_ptr<Searchable> searchable_;
  static std::unique_ptr<Vectors> queries_;
  GraphScratch scratch_;
  uint64_t computed_ = 0;
};

std::unique_ptr<Searchable> WalkWidenTest::searchable_;
std::unique_ptr<Vectors> WalkWidenTest::queries_;

// In order, once each, at the distance of the table; and there is no neighbour of theirs that is
// nearer than the last and missing.
void ExpectComplete(const FrozenGraph& graph, const std::vector<float>& table,
                    const Candidates& found, size_t ef) {
  std::set<uint32_t> nodes;
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].distance, table[found[i].node]);
    EXPECT_TRUE(i == 0 || found[i - 1].distance <= found[i].distance);
    EXPECT_TRUE(nodes.insert(found[i].node).second) << "twice";
  }
  EXPECT_LE(found.size(), ef);
  const float last = found.size() < ef ? kInfinity : found.back().distance;
  for (const uint32_t node : nodes) {
    for (const uint32_t neighbor : graph.Level0(node)) {
      EXPECT_TRUE(nodes.contains(neighbor) || !(table[neighbor] < last)) << neighbor;
    }
  }
}

TEST_F(WalkWidenTest, FindsWhatAWalkOfThatWidthFinds) {
  for (const auto& [from, to] : kWidths) {
    size_t missed = 0;
    size_t missed_from_scratch = 0;
    uint64_t computed = 0;
    uint64_t computed_from_scratch = 0;
    for (size_t q = 0; q < kQueries; ++q) {
      const Table table(DistancesOf(q));
      const Candidates expected = Found(searchable_->graph, table, {.ef = to});
      computed_from_scratch += computed_;
      const Candidates found = FoundFrom(searchable_->graph, table, from, to);
      computed += computed_;
      ASSERT_EQ(found.size(), to);
      ExpectComplete(searchable_->graph, table.distances(), found, to);
      std::vector<float> sorted = table.distances();
      std::sort(sorted.begin(), sorted.end());
      for (const auto& one : found) missed += one.distance > sorted[to - 1] ? 1 : 0;
      for (const auto& one : expected) missed_from_scratch += one.distance > sorted[to - 1] ? 1 : 0;
    }
    // Two are measured together, so that the order is not quite the same.
    EXPECT_LE(missed, missed_from_scratch + kQueries / 10 + to * kQueries / 200)
        << from << " to " << to;
    if (to <= 512) {
      // What the narrow walk measured is not measured again.
      EXPECT_LE(computed, computed_from_scratch + computed_from_scratch / 20)
          << from << " to " << to;
    }
  }
}

TEST_F(WalkWidenTest, IsAskedOnceOfWhatWasFound) {
  for (const size_t ef : {10, 600}) {
    for (size_t q = 0; q < 10; ++q) {
      const Table table(DistancesOf(q));
      const Candidates narrow = Found(searchable_->graph, table, {.ef = ef});
      int asked = 0;
      const Widen widen = [&](std::span<const GraphScratch::Candidate> found) {
        ++asked;
        EXPECT_EQ(found.size(), narrow.size());
        for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i].node, narrow[i].node);
        return 2 * ef;
      };
      EXPECT_EQ(Found(searchable_->graph, table, {.ef = ef, .widen = &widen}).size(), 2 * ef);
      EXPECT_EQ(asked, 1);
    }
  }
}

TEST_F(WalkWidenTest, NoLargerWidthChangesNothing) {
  for (const size_t ef : {10, 600}) {
    for (const size_t wider : {size_t{0}, size_t{1}, ef - 1, ef}) {
      const Table table(DistancesOf(0));
      const Candidates expected = Found(searchable_->graph, table, {.ef = ef});
      const uint64_t computed = computed_;
      const Candidates found = FoundFrom(searchable_->graph, table, ef, wider);
      EXPECT_EQ(computed_, computed);
      ASSERT_EQ(found.size(), expected.size());
      for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i].node, expected[i].node);
    }
  }
}

TEST_F(WalkWidenTest, FindsAllOfASmallGraph) {
  const Vectors few = Clustered(200, kDim, 3);
  const Searchable small(few, Metric::kL2);
  std::vector<float> distances;
  for (size_t i = 0; i < 200; ++i) distances.push_back(small.rows.row(i)[0]);
  for (const size_t to : {size_t{199}, size_t{200}, size_t{201}, size_t{512}, size_t{5000}}) {
    const Candidates found = FoundFrom(small.graph, Table(distances), 5, to);
    EXPECT_EQ(found.size(), std::min<size_t>(to, 200));
    ExpectComplete(small.graph, distances, found, to);
  }
}

TEST_F(WalkWidenTest, ByAFilterFindsWhatIsAdmitted) {
  Bitset admitted(kCount);
  for (size_t i = 0; i < kCount; i += 3) admitted.Set(i);
  for (size_t q = 0; q < 10; ++q) {
    const Table table(DistancesOf(q));
    const Candidates expected = Found(searchable_->graph, table, {.ef = 50, .admitted = &admitted});
    const Candidates found = FoundFrom(searchable_->graph, table, 10, 50, {.admitted = &admitted});
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i].node, expected[i].node);
  }
}

// --- Distances that are not as others
// -------------------------------------------------------------

TEST_F(WalkWidenTest, LeavesOutWhatIsNotANumber) {
  for (const auto& [from, to] : kWidths) {
    for (size_t q = 0; q < 5; ++q) {
      Table table(DistancesOf(q));
      for (size_t node = 0; node < kCount; node += 3) table.distances()[node] = kNan;
      const Candidates found = FoundFrom(searchable_->graph, table, from, to);
      EXPECT_GT(found.size(), to * 9 / 10);
      for (const auto& candidate : found) EXPECT_NE(candidate.node % 3, 0U);
      ExpectComplete(searchable_->graph, table.distances(), found, to);
    }
    const Table nothing(std::vector<float>(kCount, kNan));
    EXPECT_TRUE(FoundFrom(searchable_->graph, nothing, from, to).empty());
  }
}

TEST_F(WalkWidenTest, LeavesOutAnEntryNodeThatIsNotANumber) {
  const SmallGraph chain({{1}, {0, 2}, {1, 3}, {2}});
  const auto nodes = [&](const Table& table, size_t from, size_t to) {
    std::vector<uint32_t> all;
    for (const auto& one : FoundFrom(chain.graph, table, from, to)) all.push_back(one.node);
    return all;
  };
  for (const size_t from : {1, 2, 600}) {
    EXPECT_THAT(nodes(Table({kNan, 5, 1, 2}), from, 1000), ElementsAre(2, 3, 1)) << from;
    EXPECT_THAT(nodes(Table({kNan, 5, 1, 2}), from, 10), ElementsAre(2, 3, 1)) << from;
    EXPECT_THAT(nodes(Table({kInfinity, 5, 1, 2}), from, 10), ElementsAre(2, 3, 1, 0)) << from;
  }
  // The narrow walk found nothing to go on from.
  EXPECT_TRUE(nodes(Table({kNan, kNan, 1, 2}), 1, 10).empty());
}

TEST_F(WalkWidenTest, GoesOnAmongTies) {
  for (const auto& [from, to] : kWidths) {
    Table table(std::vector<float>(kCount, 1));
    EXPECT_EQ(FoundFrom(searchable_->graph, table, from, to).size(), to);
    for (size_t node = 0; node < kCount; node += 40) table.distances()[node] = 0;
    const Candidates found = FoundFrom(searchable_->graph, table, from, to);
    EXPECT_EQ(found.size(), to);
    ExpectComplete(searchable_->graph, table.distances(), found, to);
    std::fill(table.distances().begin(), table.distances().end(), kInfinity);
    EXPECT_EQ(FoundFrom(searchable_->graph, table, from, to).size(), to);
    std::fill(table.distances().begin(), table.distances().end(), -kInfinity);
    EXPECT_EQ(FoundFrom(searchable_->graph, table, from, to).size(), to);
  }
}

// Rows of few values each: pairs at the same distance, and copies.
TEST_F(WalkWidenTest, FindsDuplicates) {
  Vectors vectors = Clustered(100, kDim, 5);
  const Vectors once = vectors;
  for (int copy = 0; copy < 9; ++copy) {
    vectors.data.insert(vectors.data.end(), once.data.begin(), once.data.end());
  }
  const Searchable copies(vectors, Metric::kL2);
  for (size_t q = 0; q < 10; ++q) {
    std::vector<float> distances;
    for (size_t i = 0; i < vectors.count(); ++i) {
      distances.push_back(copies.kernels.pair(queries_->row(q), copies.rows.row(i), kDim));
    }
    for (const auto& [from, to] : {Widths{5, 20}, Widths{20, 400}, Widths{20, 900}}) {
      const Candidates found = FoundFrom(copies.graph, Table(distances), from, to);
      ExpectComplete(copies.graph, distances, found, to);
      EXPECT_EQ(found.size(), to);
    }
  }
}

// --- Walks that end early
// -------------------------------------------------------------------------

TEST_F(WalkWidenTest, GivesUpAfterDistancesMaxInEitherPart) {
  for (const auto& [from, to] : {Widths{10, 200}, Widths{10, 800}, Widths{600, 900}}) {
    const Table table(DistancesOf(0));
    Found(searchable_->graph, table, {.ef = from});
    const uint64_t narrow = computed_;
    FoundFrom(searchable_->graph, table, from, to);
    const uint64_t whole = computed_;
    ASSERT_GT(whole, narrow + 10);
    for (const uint64_t most : {uint64_t{0}, uint64_t{5}, narrow / 2, narrow + 1, whole - 1}) {
      int asked = 0;
      const Widen widen = [&, wider = to](auto) {
        ++asked;
        return wider;
      };
      ASSERT_OK_AND_ASSIGN(
          const GraphSearchResult result,
          WalkGraph(searchable_->graph, table, {.ef = from, .distances_max = most, .widen = &widen},
                    scratch_, CancelToken()));
      EXPECT_EQ(asked, most > narrow ? 1 : 0) << most;
      EXPECT_TRUE(!result.abandoned || scratch_.found().empty());
      EXPECT_TRUE(result.abandoned || most == whole - 1) << most;
      EXPECT_LE(result.distances_computed, most + 2 * searchable_->graph.degree0());
    }
    // The scratch is as good as new.
    EXPECT_EQ(FoundFrom(searchable_->graph, table, from, to).size(), to);
    EXPECT_EQ(computed_, whole);
  }
}

TEST_F(WalkWidenTest, StopsWhenCancelledAfterItWasAsked) {
  for (const size_t to : {500, 2900}) {
    const Table table(DistancesOf(0));
    bool cancelled = false;
    const Widen widen = [&](auto) {
      cancelled = true;
      return to;
    };
    const CancelToken cancel(CancelToken::TimePoint::max(), [&] { return cancelled; });
    EXPECT_THAT(WalkGraph(searchable_->graph, table, {.ef = 10, .widen = &widen}, scratch_, cancel),
                StatusIs(absl::StatusCode::kCancelled));
  }
}

// Where the narrow walk did not come.
TEST_F(WalkWidenTest, ReportsANeighborOutOfRange) {
  const SmallGraph chain({{1}, {0, 2}, {1, 3}, {2, 4}, {3}});
  const uint32_t outside = 77;
  constexpr size_t kSlots = 4;
  std::memcpy(chain.bytes->span().data() + 64 + (4 * kSlots + 1) * sizeof(outside), &outside,
              sizeof(outside));
  const Table table({1, 2, 3, 4, 5});
  ASSERT_EQ(Found(chain.graph, table, {.ef = 1}).size(), 1U);
  for (const size_t to : {10, 600}) {
    const Widen widen = [&](auto) { return to; };
    EXPECT_THAT(WalkGraph(chain.graph, table, {.ef = 1, .widen = &widen}, scratch_, CancelToken()),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("node 4 of 5 has neighbour 77")));
  }
}

TEST_F(WalkWidenTest, FindsTheSameWhateverTheScratchWasUsedFor) {
  const Table table(DistancesOf(0));
  const Table other(DistancesOf(1));
  GraphScratch fresh;
  const Widen widen = [](auto) { return size_t{200}; };
  const WalkOptions options{.ef = 10, .widen = &widen};
  ASSERT_OK(WalkGraph(searchable_->graph, table, options, fresh, CancelToken()));
  const Candidates expected(fresh.found().begin(), fresh.found().end());
  for (const auto& [from, to] : kWidths) {
    FoundFrom(searchable_->graph, other, from, to);
    Found(searchable_->graph, other, {.ef = to});
    const Candidates found = Found(searchable_->graph, table, options);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i].node, expected[i].node);
  }
}

TEST_F(WalkWidenTest, OfNoNodesIsNotAsked) {
  const Widen widen = [](auto) {
    ADD_FAILURE() << "asked";
    return size_t{10};
  };
  EXPECT_TRUE(Found(FrozenGraph(), Table({}), {.ef = 5, .widen = &widen}).empty());
}

}  // namespace
}  // namespace azimuth::index
