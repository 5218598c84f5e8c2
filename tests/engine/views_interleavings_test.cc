// The interleavings that docs/VISIBILITY.md names, each made to happen: hooks at failpoints run one
// operation between two steps of another, on one thread, so that every run is the same.

#include "base/failpoint.h"
#include "engine/database.h"
#include "tests/engine/manual_database.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using testing::MakeRecord;
using testing::SmallSchema;

const CancelToken kNoCancel;
constexpr uint32_t kDim = 4;

// What a reader sees: the field `n` of each record.
using Contents = std::map<int64_t, int64_t>;

class Interleavings : public testing::ManualDatabaseTest {
 protected:
  Interleavings() { EXPECT_OK(db_->CreateCollection("c", SmallSchema(kDim), false, kNoCancel)); }
  ~Interleavings() override {
    for (int i = 0; i < static_cast<int>(Failpoint::kCount); ++i) {
      SetFailpointHook(static_cast<Failpoint>(i), nullptr);
    }
  }

  // Runs `action` at the next visit of `point` only.
  void Once(Failpoint point, std::function<void()> action) {
    SetFailpointHook(point, [this, point, action = std::move(action)] {
      if (done_[point]) return absl::OkStatus();
      done_[point] = true;
      action();
      return absl::OkStatus();
    });
    done_[point] = false;
  }
  bool Happened(Failpoint point) { return done_[point]; }

  void Put(int64_t first, int64_t count, int64_t n) {
    std::vector<RecordInput> batch;
    for (int64_t key = first; key < first + count; ++key) {
      batch.push_back(MakeRecord(key, n, vectors_.emplace_back(kDim, static_cast<float>(key))));
    }
    ASSERT_OK(db_->Upsert("c", std::move(batch), kNoCancel));
  }
  void Delete(int64_t first, int64_t count) {
    std::vector<Key> keys;
    for (int64_t key = first; key < first + count; ++key) keys.emplace_back(key);
    ASSERT_OK(db_->DeleteKeys("c", std::move(keys), kNoCancel));
  }
  static Contents Of(const std::vector<RecordOutput>& records) {
    Contents contents;
    for (const RecordOutput& record : records) {
      const bool fresh =
          contents
              .emplace(std::get<int64_t>(record.key), std::get<int64_t>(record.fields.at("n").data))
              .second;
      EXPECT_TRUE(fresh) << "a key came twice";
    }
    return contents;
  }
  Contents ByQuery() {
    const auto result = db_->Query("c", {}, 1000, {}, kNoCancel);
    EXPECT_OK(result);
    as_of_ = result->as_of;
    return Of(result->records);
  }
  Contents BySearch() {
    const std::vector<float> query(kDim, 0.0F);
    const auto result = db_->Search("c", query, {.limit = 1000}, kNoCancel);
    EXPECT_OK(result);
    std::vector<RecordOutput> records;
    for (const SearchHit& hit : result->queries[0].hits) records.push_back(hit.record);
    return Of(records);
  }
  Contents ByGet() {
    std::vector<Key> keys;
    for (int64_t key = 0; key < 300; ++key) keys.emplace_back(key);
    const auto result = db_->Get("c", keys, {}, kNoCancel);
    EXPECT_OK(result);
    return Of(result->records);
  }
  struct Way {
    const char* name;
    Contents (Interleavings::*read)();
  };
  static std::vector<Way> Ways() {
    return {{"query", &Interleavings::ByQuery},
            {"search", &Interleavings::BySearch},
            {"get", &Interleavings::ByGet}};
  }
  // What all ways of reading say, which must be the same.
  Contents Read() {
    Contents contents = ByQuery();
    EXPECT_EQ(BySearch(), contents);
    EXPECT_EQ(ByGet(), contents);
    const auto count = db_->Count("c", {}, kNoCancel);
    EXPECT_EQ(count->count, contents.size());
    return contents;
  }
  static Contents Range(int64_t first, int64_t count, int64_t n) {
    Contents contents;
    for (int64_t key = first; key < first + count; ++key) contents[key] = n;
    return contents;
  }

  std::deque<std::vector<float>> vectors_;
  std::map<Failpoint, bool> done_;
  Seq as_of_{};
};

TEST_F(Interleavings, AnAppliedCommitIsInvisibleUntilItIsPublished) {
  Put(0, 10, 1);
  const Contents before = Read();
  const Seq before_seq = as_of_;
  Contents during;
  Seq during_seq{};
  Once(Failpoint::kCommitBeforePublish, [&] {
    during = Read();
    during_seq = as_of_;
  });
  Put(5, 10, 2);
  ASSERT_TRUE(Happened(Failpoint::kCommitBeforePublish));
  EXPECT_EQ(during, before);
  EXPECT_EQ(during_seq, before_seq);
  const Contents after = Read();
  EXPECT_EQ(after.size(), 15u);
  EXPECT_EQ(after.at(5), 2);
  EXPECT_EQ(as_of_, Seq{Raw(before_seq) + 1});
}

TEST_F(Interleavings, AReaderKeepsItsVersionsWhileTheyAreReplacedAndDeleted) {
  Put(0, 40, 1);
  for (const Failpoint point : {Failpoint::kReadAfterPin, Failpoint::kReadBeforeFetch}) {
    for (const Way& way : Ways()) {
      SCOPED_TRACE(std::string(FailpointName(point)) + " " + way.name);
      Put(0, 40, 1);
      Once(point, [&] {
        Put(0, 20, 2);
        Delete(20, 20);
      });
      EXPECT_EQ((this->*way.read)(), Range(0, 40, 1));
      ASSERT_TRUE(Happened(point));
      EXPECT_EQ(Read(), Range(0, 20, 2));
    }
  }
}

TEST_F(Interleavings, AMergeKeepsTheRowsThatAnOlderReaderSees) {
  for (const Failpoint point : {Failpoint::kReadAfterPin, Failpoint::kReadBeforeFetch}) {
    for (const Way& way : Ways()) {
      SCOPED_TRACE(std::string(FailpointName(point)) + " " + way.name);
      Put(0, 150, 1);
      Settle();
      Once(point, [&] {
        Delete(0, 100);
        Put(100, 20, 2);
        Settle();
      });
      EXPECT_EQ((this->*way.read)(), Range(0, 150, 1));
      ASSERT_TRUE(Happened(point));
      Contents expected = Range(100, 20, 2);
      expected.merge(Range(120, 30, 1));
      EXPECT_EQ(Read(), expected);
      // The reader is gone: what it held back is dropped now, and its numbers are forgotten.
      Settle();
      Put(200, 40, 3);
      Settle();
      expected.merge(Range(200, 40, 3));
      EXPECT_EQ(Read(), expected);
      Delete(200, 40);
    }
  }
}

TEST_F(Interleavings, DeletesAndUpsertsAtEachStepOfABuildAreInItsResult) {
  const std::vector<Failpoint> steps = {
      Failpoint::kSegmentBeforeBuild,   Failpoint::kSegmentAfterGather,
      Failpoint::kSegmentMidWrite,      Failpoint::kSegmentBeforeRename,
      Failpoint::kSegmentBeforeDirSync, Failpoint::kSegmentMidDrop,
      Failpoint::kSegmentBeforeCatalog, Failpoint::kSegmentAfterCatalog};
  for (const Failpoint step : steps) {
    SCOPED_TRACE(FailpointName(step));
    Put(0, 150, 1);
    Settle();
    Put(0, 60, 2);  // Rows to drop, so that every step comes.
    Once(step, [&] {
      Delete(10, 5);
      Put(20, 5, 3);
      Delete(140, 5);
      Put(145, 10, 3);
    });
    Settle();
    ASSERT_TRUE(Happened(step));
    Contents expected;
    for (int64_t key = 0; key < 155; ++key) {
      if ((key >= 10 && key < 15) || (key >= 140 && key < 145)) continue;
      const bool late = (key >= 20 && key < 25) || key >= 145;
      expected[key] = late ? 3 : key < 60 ? 2 : 1;
    }
    EXPECT_EQ(Read(), expected);
    Reopen();
    EXPECT_EQ(Read(), expected) << "after a restart";
    Delete(0, 155);
    Settle();
    EXPECT_EQ(Read(), Contents{});
  }
}

TEST_F(Interleavings, AReaderSeesATruncationWholeOrNotAtAll) {
  Put(0, 120, 1);
  Settle();
  Put(120, 10, 1);
  const Contents all = Read();
  Contents before_publish;
  uint64_t dry_run = 0;
  Once(Failpoint::kCommitBeforePublish, [&] {
    before_publish = Read();
    dry_run = db_->DeleteMatching("c", {"n == 1", {}}, false, kNoCancel, {}, true)->deleted;
  });
  ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
  ASSERT_TRUE(Happened(Failpoint::kCommitBeforePublish));
  EXPECT_EQ(before_publish, all);
  EXPECT_EQ(dry_run, all.size());
  EXPECT_EQ(Read(), Contents{});
  for (const Way& way : Ways()) {
    for (const Failpoint point : {Failpoint::kReadAfterPin, Failpoint::kReadBeforeFetch}) {
      SCOPED_TRACE(std::string(FailpointName(point)) + " " + way.name);
      Put(0, 120, 2);
      Settle();
      Put(120, 10, 2);
      Once(point, [&] {
        ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
        ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
        Put(0, 5, 3);
      });
      EXPECT_EQ((this->*way.read)(), Range(0, 130, 2));
      ASSERT_TRUE(Happened(point));
      EXPECT_EQ(Read(), Range(0, 5, 3));
    }
  }
}

TEST_F(Interleavings, ADeleteByFilterLeavesWhatWasReplacedAfterItChose) {
  Put(0, 20, 1);
  Once(Failpoint::kDeleteAfterChoose, [&] {
    Put(0, 5, 1);  // The same again, but another version.
    Delete(5, 5);
  });
  const auto result = db_->DeleteMatching("c", {"n == 1", {}}, false, kNoCancel);
  ASSERT_OK(result);
  ASSERT_TRUE(Happened(Failpoint::kDeleteAfterChoose));
  EXPECT_EQ(result->deleted, 10u);
  EXPECT_EQ(Read(), Range(0, 5, 1));
}

TEST_F(Interleavings, ADeleteByFilterThatMeetsATruncationDeletesNothing) {
  Put(0, 20, 1);
  Once(Failpoint::kDeleteAfterChoose, [&] {
    ASSERT_OK(db_->TruncateCollection("c", kNoCancel));
    Put(0, 20, 1);  // Row ids begin anew: those that were chosen name other rows now.
  });
  const auto result = db_->DeleteMatching("c", {"n == 1", {}}, false, kNoCancel);
  ASSERT_OK(result);
  EXPECT_EQ(result->deleted, 0u);
  EXPECT_EQ(Read(), Range(0, 20, 1));
}

TEST_F(Interleavings, OneTimeDecidesForAWholeRequest) {
  Put(0, 10, 1);
  auto record = MakeRecord(10, 1, vectors_.emplace_back(kDim, 10.0F));
  record.expires_at_unix_us = clock_.NowUnixMicros() + 1000;
  ASSERT_OK(db_->Upsert("c", {record}, kNoCancel));
  for (const Way& way : Ways()) {
    SCOPED_TRACE(way.name);
    record.expires_at_unix_us = clock_.NowUnixMicros() + 1000;
    ASSERT_OK(db_->Upsert("c", {record}, kNoCancel));
    Once(Failpoint::kReadBeforeFetch, [&] {
      clock_.AdvanceMicros(2000);
      workers_->Tick();  // The sweeper retires it.
    });
    EXPECT_EQ((this->*way.read)(), Range(0, 11, 1));
    ASSERT_TRUE(Happened(Failpoint::kReadBeforeFetch));
    EXPECT_EQ(Read(), Range(0, 10, 1));
  }
}

TEST_F(Interleavings, TheSweeperLeavesARecordThatWasWrittenAnewAfterItChose) {
  auto record = MakeRecord(1, 1, vectors_.emplace_back(kDim, 1.0F));
  record.expires_at_unix_us = clock_.NowUnixMicros() + 1000;
  ASSERT_OK(db_->Upsert("c", {record}, kNoCancel));
  clock_.AdvanceMicros(2000);
  EXPECT_EQ(Read(), Contents{});
  Once(Failpoint::kSweepAfterChoose, [&] { Put(1, 1, 2); });
  workers_->Tick();
  ASSERT_TRUE(Happened(Failpoint::kSweepAfterChoose));
  EXPECT_EQ(Read(), Range(1, 1, 2));
}

}  // namespace
}  // namespace azimuth::engine
