#include "engine/write/record_commit.h"

#include "base/failpoint.h"
#include "base/mutex.h"
#include "base/status.h"
#include "engine/recover.h"
#include "engine/write/ddl_commit.h"
#include "engine/write/put_commit.h"
#include "tests/engine/open_database.h"

#include "gtest/gtest.h"

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::TempDir;
using testing::MakeRecord;
using testing::SmallOptions;
using testing::SmallSchema;

const CancelToken kNoCancel;

// Goal: a growing segment that is closed between two commits of one group does not answer for the
// rows of the second. Method: writers of single rows and a closer run against each other, so that
// groups mix them; then every row must be in the segment whose range holds it, and ranges must not
// overlap.
TEST(RecordCommit, ClosingTheGrowingSegmentInAGroupKeepsRangesApart) {
  TempDir dir;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Core> core, Recover(SmallOptions(dir.path())));
  core->workers = std::make_unique<WorkerPool>(1);
  core->workers->Stop();  // No builds: only ranges matter here.
  Schema schema = SmallSchema(2);
  NumberFields(schema);
  CreateCommit create(*core, "c", schema, false);
  ASSERT_OK(core->queue.Run(create, kNoCancel));
  ASSERT_OK_AND_ASSIGN(const auto collection, core->FindCollection("c"));

  constexpr int kWriters = 4;
  constexpr int64_t kRowsEach = 100;
  std::atomic<int> running{kWriters};
  std::vector<std::thread> threads;
  for (int writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      const std::vector<float> vector = {1.0F, 2.0F};
      for (int64_t i = 0; i < kRowsEach; ++i) {
        std::vector<RecordInput> records;
        records.push_back(MakeRecord(writer * kRowsEach + i, i, vector));
        auto checked = CheckRecords(collection->schema, std::move(records), {});
        EXPECT_OK(checked);
        PutCommit put(*core, collection, *std::move(checked), PutMode::kInsert, {}, 0);
        EXPECT_OK(core->queue.Run(put, kNoCancel));
      }
      running.fetch_sub(1);
    });
  }
  threads.emplace_back([&] {
    while (running.load() > 0) {
      CloseGrowingCommit close(*core, collection);
      EXPECT_OK(core->queue.Run(close, kNoCancel));
    }
  });
  for (std::thread& thread : threads) thread.join();

  const SegmentSet& set = collection->segments();
  for (size_t i = 1; i < set.segments.size(); ++i) {
    ASSERT_LE(set.segments[i - 1]->rows().end, set.segments[i]->rows().first);
  }
  for (uint64_t row = 0; row < kWriters * kRowsEach; ++row) {
    const Segment* segment = set.Find(RowId{row});
    ASSERT_NE(segment, nullptr) << row;
    ASSERT_TRUE(segment->Find(RowId{row}).has_value()) << row;
  }
}

// Holds the leader before its log write, so that what is sent meanwhile comes to stand in one
// group.
class HeldQueue final {
 public:
  // Its first commit is an upsert to `collection`.
  explicit HeldQueue(Database& db, const std::string& collection = "c") : db_(db) {
    SetFailpointHook(Failpoint::kCommitBeforeLog, [this] {
      MutexLock lock(mu_);
      ++groups_;
      entered_ = true;
      changed_.NotifyAll();
      while (!released_) changed_.Wait(mu_);
      return absl::OkStatus();
    });
    Send([collection](Database& held) {
      return held.Upsert(collection, {MakeRecord(1000, 0, kVector)}, kNoCancel).status();
    });
    MutexLock lock(mu_);
    while (!entered_) changed_.Wait(mu_);
  }
  ~HeldQueue() { SetFailpointHook(Failpoint::kCommitBeforeLog, nullptr); }

  // Sends behind all that were sent before.
  void Send(std::function<absl::Status(Database&)> write) {
    const size_t place = threads_.size();
    statuses_.emplace_back();
    threads_.emplace_back(
        [this, place, write = std::move(write)] { statuses_[place] = write(db_); });
    while (db_.GetInfo().commits_waiting < threads_.size()) std::this_thread::yield();
  }
  // Lets all go, and says how each ended; the first is that of the commit that was held.
  std::vector<absl::Status> Release() {
    {
      MutexLock lock(mu_);
      released_ = true;
      changed_.NotifyAll();
    }
    for (std::thread& thread : threads_) thread.join();
    return {statuses_.begin(), statuses_.end()};
  }
  int groups() {
    MutexLock lock(mu_);
    return groups_;
  }

  static inline const std::vector<float> kVector = {1.0F, 2.0F};

 private:
  Database& db_;
  Mutex mu_;
  CondVar changed_;
  bool entered_ AZ_GUARDED_BY(mu_) = false;
  bool released_ AZ_GUARDED_BY(mu_) = false;
  int groups_ AZ_GUARDED_BY(mu_) = 0;
  std::deque<absl::Status> statuses_;
  std::vector<std::thread> threads_;
};

TEST(RecordCommit, CommitsOfOneGroupSeeEachOtherAndOneThatFailsDropsOutAlone) {
  TempDir dir;
  const auto db = testing::OpenOrDie(SmallOptions(dir.path()));
  ASSERT_OK(db->CreateCollection("c", SmallSchema(2), false, kNoCancel));
  const std::vector<Key> key = {Key{int64_t{1}}};
  const auto put = [](int64_t n) {
    return std::vector<RecordInput>{MakeRecord(1, n, HeldQueue::kVector)};
  };
  WriteResult updated;
  WriteResult deleted;
  WriteResult twice;
  HeldQueue queue(*db);
  queue.Send([&](Database& d) { return d.Insert("c", put(1), kNoCancel).status(); });
  queue.Send([&](Database& d) { return d.Insert("c", put(2), kNoCancel).status(); });
  queue.Send([&](Database& d) {
    RecordInput change;
    change.key = int64_t{1};
    change.fields.push_back({"n", Value{int64_t{3}}});
    AZ_ASSIGN_OR_RETURN(updated, d.Update("c", {change}, MissingKeys::kRefuse, kNoCancel));
    return absl::OkStatus();
  });
  queue.Send([&](Database& d) {
    return d.Upsert("c", put(4), kNoCancel, {.if_version = kSeqZero}).status();
  });
  queue.Send([&](Database& d) {
    AZ_ASSIGN_OR_RETURN(
        deleted, d.DeleteKeys("c", key, kNoCancel, {.request_id = "r", .request_digest = "d"}));
    return absl::OkStatus();
  });
  queue.Send([&](Database& d) { return d.Insert("c", put(5), kNoCancel).status(); });
  queue.Send([&](Database& d) {
    AZ_ASSIGN_OR_RETURN(
        twice, d.DeleteKeys("c", key, kNoCancel, {.request_id = "r", .request_digest = "d"}));
    return absl::OkStatus();
  });
  const std::vector<absl::Status> statuses = queue.Release();
  EXPECT_EQ(queue.groups(), 2);  // The one that was held, and all others.
  EXPECT_OK(statuses[1]);
  EXPECT_EQ(statuses[2].code(), absl::StatusCode::kAlreadyExists);
  EXPECT_OK(statuses[3]);
  EXPECT_EQ(updated.updated, 1u);
  EXPECT_EQ(statuses[4].code(), absl::StatusCode::kAborted);
  EXPECT_OK(statuses[5]);
  EXPECT_EQ(deleted.deleted, 1u);
  EXPECT_OK(statuses[6]);
  EXPECT_OK(statuses[7]);
  EXPECT_TRUE(twice.repeated);
  EXPECT_EQ(twice.as_of, deleted.as_of);
  ASSERT_OK_AND_ASSIGN(const GetResult got, db->Get("c", key, {.vectors = {"v"}}, kNoCancel));
  ASSERT_EQ(got.records.size(), 1u);
  EXPECT_EQ(got.records[0].fields.at("n"), Value{int64_t{5}});
  // The update kept the vector of the insert before it, which the store did not have yet: its row
  // is retired, but the next one shows that the group left the segment in order.
  EXPECT_EQ(got.records[0].vectors.at("v"), HeldQueue::kVector);
  EXPECT_EQ(db->Count("c", {}, kNoCancel)->count, 2u);
}

TEST(RecordCommit, AnUpdateInAGroupBuildsOnWhatTheGroupWrote) {
  TempDir dir;
  const auto db = testing::OpenOrDie(SmallOptions(dir.path()));
  ASSERT_OK(db->CreateCollection("c", SmallSchema(2), false, kNoCancel));
  const std::vector<float> vector = {3.0F, 4.0F};
  HeldQueue queue(*db);
  queue.Send(
      [&](Database& d) { return d.Insert("c", {MakeRecord(1, 1, vector)}, kNoCancel).status(); });
  for (int64_t n = 2; n < 5; ++n) {
    queue.Send([n](Database& d) {
      RecordInput change;
      change.key = int64_t{1};
      const std::string name = absl::StrCat("f", n);
      change.fields.push_back({name, Value{n}});
      return d.Update("c", {change}, MissingKeys::kRefuse, kNoCancel).status();
    });
  }
  for (const absl::Status& status : queue.Release()) EXPECT_OK(status);
  EXPECT_EQ(queue.groups(), 2);
  const std::vector<Key> key = {Key{int64_t{1}}};
  ASSERT_OK_AND_ASSIGN(const GetResult got, db->Get("c", key, {.vectors = {"v"}}, kNoCancel));
  EXPECT_EQ(got.records[0].fields, (ValueMap{{"n", Value{int64_t{1}}},
                                             {"f2", Value{int64_t{2}}},
                                             {"f3", Value{int64_t{3}}},
                                             {"f4", Value{int64_t{4}}}}));
  EXPECT_EQ(got.records[0].vectors.at("v"), vector);
}

TEST(RecordCommit, KeysThatAGroupMadeAreKeysForThoseBehindThem) {
  TempDir dir;
  const auto db = testing::OpenOrDie(SmallOptions(dir.path()));
  Schema schema = SmallSchema(2);
  schema.auto_id = true;
  ASSERT_OK(db->CreateCollection("c", schema, false, kNoCancel));
  const auto record = [](std::optional<int64_t> key, int64_t n) {
    RecordInput input = MakeRecord(0, n, HeldQueue::kVector);
    input.key = key.has_value() ? std::optional<Key>(*key) : std::nullopt;
    return input;
  };
  ASSERT_OK(db->Upsert("c", {record({}, 0)}, kNoCancel));
  ASSERT_OK(db->CreateCollection("held", SmallSchema(2), false, kNoCancel));
  std::vector<MadeKeys> made(3);
  WriteResult deleted;
  HeldQueue queue(*db, "held");
  const auto insert = [&](size_t i, int64_t n) {
    queue.Send([&, i, n](Database& d) {
      AZ_ASSIGN_OR_RETURN(const WriteResult result,
                          d.Insert("c", {record({}, n), record({}, n + 1)}, kNoCancel));
      made[i] = result.made;
      return absl::OkStatus();
    });
  };
  insert(0, 10);
  queue.Send([&](Database& d) { return d.Upsert("c", {record(2, 20)}, kNoCancel).status(); });
  queue.Send([&](Database& d) {
    return d.Update("c", {record(3, 30)}, MissingKeys::kRefuse, kNoCancel).status();
  });
  insert(1, 40);
  queue.Send([&](Database& d) {
    AZ_ASSIGN_OR_RETURN(deleted, d.DeleteKeys("c", {Key{int64_t{2}}}, kNoCancel));
    return absl::OkStatus();
  });
  queue.Send([&](Database& d) { return d.Upsert("c", {record(2, 50)}, kNoCancel).status(); });
  insert(2, 60);
  const std::vector<absl::Status> statuses = queue.Release();
  EXPECT_EQ(queue.groups(), 2);
  for (const size_t i : {1U, 2U, 3U, 4U, 5U, 7U}) EXPECT_OK(statuses[i]);
  EXPECT_EQ(statuses[6].code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(deleted.deleted, 1U);
  // A replacement and an update have taken a row each.
  EXPECT_EQ(made, (std::vector<MadeKeys>{{2, 2}, {6, 2}, {8, 2}}));
  ASSERT_OK_AND_ASSIGN(const QueryResult all, db->Query("c", {}, 100, {}, kNoCancel));
  std::vector<std::pair<int64_t, int64_t>> found;
  for (const RecordOutput& output : all.records) {
    found.emplace_back(std::get<int64_t>(output.key),
                       std::get<int64_t>(output.fields.at("n").data));
  }
  const std::vector<std::pair<int64_t, int64_t>> wanted = {{1, 0},  {3, 30}, {6, 40},
                                                           {7, 41}, {8, 60}, {9, 61}};
  EXPECT_EQ(found, wanted);
}

TEST(RecordCommit, AWriteThatWaitsBehindATruncationGoesToTheNewRows) {
  TempDir dir;
  const auto db = testing::OpenOrDie(SmallOptions(dir.path()));
  ASSERT_OK(db->CreateCollection("c", SmallSchema(2), false, kNoCancel));
  ASSERT_OK(db->Insert("c", {MakeRecord(1, 1, HeldQueue::kVector)}, kNoCancel));
  HeldQueue queue(*db);
  queue.Send([](Database& d) { return d.TruncateCollection("c", kNoCancel).status(); });
  queue.Send([](Database& d) {
    return d.Insert("c", {MakeRecord(1, 2, HeldQueue::kVector)}, kNoCancel).status();
  });
  queue.Send([](Database& d) {
    return d.Update("c", {MakeRecord(1000, 3, HeldQueue::kVector)}, MissingKeys::kRefuse, kNoCancel)
        .status();
  });
  const std::vector<absl::Status> statuses = queue.Release();
  EXPECT_OK(statuses[1]);
  EXPECT_OK(statuses[2]);
  EXPECT_EQ(statuses[3].code(), absl::StatusCode::kNotFound);  // 1000 was truncated away.
  EXPECT_EQ(db->Count("c", {}, kNoCancel)->count, 1u);
}

TEST(RecordCommit, ALoadThatIsOpenedBehindATruncationBeginsAnew) {
  TempDir dir;
  const auto db = testing::OpenOrDie(SmallOptions(dir.path()));
  ASSERT_OK(db->CreateCollection("c", SmallSchema(2), false, kNoCancel));
  const IngestSpec spec{.collection = "c", .load = "load"};
  std::vector<IngestBatch> batches;
  batches.push_back({.number = 1, .records = {MakeRecord(1, 1, HeldQueue::kVector)}});
  ASSERT_OK(db->Ingest(spec, std::move(batches), kNoCancel)[0]);
  IngestState state{.last_batch = 7};
  HeldQueue queue(*db);
  queue.Send([](Database& d) { return d.TruncateCollection("c", kNoCancel).status(); });
  queue.Send([&](Database& d) {
    const auto opened = d.OpenIngest(spec, kNoCancel);
    if (opened.ok()) state = *opened;
    return opened.status();
  });
  queue.Send([](Database& d) { return d.DropCollection("c", false, kNoCancel).status(); });
  queue.Send([&](Database& d) { return d.OpenIngest(spec, kNoCancel).status(); });
  const std::vector<absl::Status> statuses = queue.Release();
  EXPECT_OK(statuses[1]);
  EXPECT_OK(statuses[2]);
  EXPECT_EQ(state.last_batch, 0U);
  EXPECT_OK(statuses[3]);
  EXPECT_EQ(statuses[4].code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace azimuth::engine
