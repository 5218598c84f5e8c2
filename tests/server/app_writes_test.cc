// Updates, conditions, ids of requests, expiry, truncate and optimize through a real server.
#include "base/failpoint.h"
#include "engine/limits.h"
#include "tests/server/service_fixture.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <chrono>
#include <limits>
#include <string>
#include <vector>

namespace azimuth::server {
namespace {

using ::testing::ElementsAre;

class WritesTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    FillCollection();
  }

  pb::Record Read(int64_t key) {
    pb::GetResponse got;
    const std::string keys = "keys { int64_keys { values: " + std::to_string(key) + " } }";
    EXPECT_TRUE(Get("collection: 'c' output_vectors: 'v' " + keys, got).ok());
    return got.records_size() == 1 ? got.records(0) : pb::Record();
  }

  grpc::Status Truncate(const std::string& text, pb::TruncateCollectionResponse& reply) {
    return Call(*collections_, &pb::CollectionService::Stub::Truncate, text, reply);
  }

  grpc::Status Optimize(const std::string& text, std::vector<pb::OptimizeResponse>& replies) {
    grpc::ClientContext context;
    const auto reader = collections_->Optimize(&context, Parse<pb::OptimizeRequest>(text));
    pb::OptimizeResponse reply;
    while (reader->Read(&reply)) replies.push_back(reply);
    return reader->Finish();
  }
};

TEST_F(WritesTest, UpdateChangesWhatItNamesAndKeepsTheRest) {
  pb::UpdateResponse updated;
  const grpc::Status status = Update(R"(
      collection: 'c' rows {
        records { key { int64_key: 1 } fields { key: 'note' value { string_value: 'x' } } }
        records { key { int64_key: 2 } fields { key: 'price' value { null_value {} } }
                  vectors { key: 'v' value { dense { values: [9, 9] } } } } })",
                                     updated);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(updated.updated(), 2U);
  EXPECT_EQ(updated.missing(), 0U);
  const pb::Record one = Read(1);
  EXPECT_EQ(one.fields().at("price").int64_value(), 10);
  EXPECT_EQ(one.fields().at("note").string_value(), "x");
  EXPECT_EQ(one.vectors().at("v").dense().f32(), Bytes({1, 0}));
  EXPECT_EQ(one.version(), updated.as_of());
  const pb::Record two = Read(2);
  EXPECT_TRUE(two.fields().at("price").has_null_value());
  EXPECT_EQ(two.vectors().at("v").dense().f32(), Bytes({9, 9}));
}

TEST_F(WritesTest, UpdateNamesOrSkipsKeysWithoutARecord) {
  pb::UpdateResponse updated;
  const std::string columns =
      "collection: 'c' columns { keys { int64_keys { values: [1, 77] } } "
      "fields { name: 'price' int64s { values: [5, 5] } } } ";
  EXPECT_THAT(Update(columns, updated), GrpcIs(grpc::StatusCode::NOT_FOUND, "77"));
  EXPECT_EQ(Read(1).fields().at("price").int64_value(), 10);
  ASSERT_TRUE(Update(columns + "skip_missing: true", updated).ok());
  EXPECT_EQ(updated.updated(), 1U);
  EXPECT_EQ(updated.missing(), 1U);
  EXPECT_EQ(Read(1).fields().at("price").int64_value(), 5);
}

TEST_F(WritesTest, AWriteWhoseConditionFailsIsAborted) {
  const uint64_t version = Read(1).version();
  const std::string stale = "if_version: " + std::to_string(version + 100);
  const std::string current = "if_version: " + std::to_string(version);
  const std::string record = "key { int64_key: 1 } ";
  const std::string rows = "collection: 'c' rows { records { " + record + "} } ";
  const std::string keys = "collection: 'c' keys { int64_keys { values: 1 } } ";
  pb::UpsertResponse upserted;
  pb::UpdateResponse updated;
  pb::DeleteResponse deleted;
  EXPECT_THAT(Upsert(rows + stale, upserted), GrpcIs(grpc::StatusCode::ABORTED, "if_version"));
  EXPECT_THAT(Update(rows + stale, updated), GrpcIs(grpc::StatusCode::ABORTED, "if_version"));
  EXPECT_THAT(Delete(keys + stale, deleted), GrpcIs(grpc::StatusCode::ABORTED, "if_version"));
  EXPECT_THAT(Update("collection: 'c' rows { records { " + record + stale + " } } ", updated),
              GrpcIs(grpc::StatusCode::ABORTED, "if_version"));
  EXPECT_THAT(Upsert(rows + "if_version: 0", upserted),
              GrpcIs(grpc::StatusCode::ABORTED, "if_version"));
  EXPECT_EQ(Read(1).version(), version);
  ASSERT_TRUE(Update(rows + current, updated).ok());
  EXPECT_EQ(updated.updated(), 1U);
  EXPECT_THAT(Delete(keys + current, deleted), GrpcIs(grpc::StatusCode::ABORTED, "if_version"));
}

TEST_F(WritesTest, AWriteWithAnIdIsDoneOnce) {
  pb::InsertResponse first, again;
  const std::string insert =
      "collection: 'c' request_id: 'a' rows { records { key { int64_key: 9 } } }";
  ASSERT_TRUE(Insert(insert, first).ok());
  EXPECT_FALSE(first.replayed());
  ASSERT_TRUE(Insert(insert, again).ok());
  EXPECT_TRUE(again.replayed());
  EXPECT_EQ(again.inserted(), 1U);
  EXPECT_EQ(again.as_of(), first.as_of());

  pb::DeleteResponse deleted;
  const std::string erase = "collection: 'c' request_id: 'b' filter { expression: 'price > 0' }";
  ASSERT_TRUE(Delete(erase, deleted).ok());
  EXPECT_EQ(deleted.deleted(), 2U);
  EXPECT_EQ(deleted.commits(), 1U);
  ASSERT_TRUE(Delete(erase, deleted).ok());
  EXPECT_EQ(deleted.deleted(), 2U);
  EXPECT_TRUE(deleted.replayed());
  EXPECT_EQ(CountAll(), 2U);
}

TEST_F(WritesTest, AnIdIsRefusedWithAnotherRequest) {
  const std::string rows = "collection: 'c' request_id: 'a' rows { records { ";
  pb::UpsertResponse upserted;
  pb::UpdateResponse updated;
  ASSERT_TRUE(Upsert(rows + "key { int64_key: 9 } } }", upserted).ok());
  EXPECT_THAT(Upsert(rows + "key { int64_key: 8 } } }", upserted),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, "request_id"));
  // The same bytes, another method.
  EXPECT_THAT(Update(rows + "key { int64_key: 9 } } }", updated),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, "request_id"));
  EXPECT_EQ(CountAll(), 4U);
}

TEST_F(WritesTest, DryRunCountsAndDeletesNothing) {
  pb::DeleteResponse deleted;
  ASSERT_TRUE(
      Delete("collection: 'c' dry_run: true filter { expression: 'price > 0' }", deleted).ok());
  EXPECT_EQ(deleted.deleted(), 2U);
  ASSERT_TRUE(Delete("collection: 'c' dry_run: true delete_all: true", deleted).ok());
  EXPECT_EQ(deleted.deleted(), 3U);
  EXPECT_EQ(CountAll(), 3U);
  EXPECT_THAT(Delete("collection: 'c' dry_run: true keys { int64_keys { values: 1 } }", deleted),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, "dry_run"));
}

TEST_F(WritesTest, ARecordWhoseTimeHasPassedIsAbsent) {
  pb::UpsertResponse upserted;
  ASSERT_TRUE(Upsert(R"(collection: 'c' rows {
                          records { key { int64_key: 1 } expires_at_unix_us: 1 }
                          records { key { int64_key: 2 } expires_at_unix_us: 9000000000000000 } })",
                     upserted)
                  .ok());
  EXPECT_EQ(CountAll(), 2U);
  EXPECT_FALSE(Read(1).has_key());
  EXPECT_EQ(Read(2).expires_at_unix_us(), 9000000000000000);
  EXPECT_FALSE(Read(3).has_expires_at_unix_us());
  pb::InsertResponse inserted;
  EXPECT_TRUE(Insert("collection: 'c' rows { records { key { int64_key: 1 } } }", inserted).ok());
  EXPECT_EQ(CountAll(), 3U);
  EXPECT_THAT(
      Insert("collection: 'c' rows { records { key { int64_key: 5 } expires_at_unix_us: -1 } }",
             inserted),
      GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, "records[0].expires_at_unix_us"));
}

TEST_F(WritesTest, TruncateLeavesAnEmptyCollection) {
  pb::TruncateCollectionResponse truncated;
  ASSERT_TRUE(Truncate("collection: 'c'", truncated).ok());
  EXPECT_EQ(truncated.removed(), 3U);
  EXPECT_GT(truncated.as_of(), 0U);
  EXPECT_EQ(CountAll(), 0U);
  EXPECT_THAT(Truncate("collection: 'none'", truncated),
              GrpcIs(grpc::StatusCode::NOT_FOUND, "none"));
}

TEST_F(WritesTest, OptimizeReportsUntilOneSegmentIsLeft) {
  std::vector<pb::OptimizeResponse> replies;
  const grpc::Status status = Optimize("collection: 'c'", replies);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_FALSE(replies.empty());
  for (size_t i = 0; i < replies.size(); ++i) EXPECT_EQ(replies[i].done(), i + 1 == replies.size());
  EXPECT_EQ(replies.back().segments(), 1U);
  EXPECT_EQ(replies.back().rows(), 3U);
  EXPECT_EQ(replies.back().rows_waiting(), 0U);
  replies.clear();
  EXPECT_THAT(Optimize("collection: 'none'", replies), GrpcIs(grpc::StatusCode::NOT_FOUND, "none"));
  EXPECT_THAT(Optimize("collection: 'c' database: 'other'", replies),
              GrpcIs(grpc::StatusCode::UNIMPLEMENTED, "database: 'other'"));
}

TEST_F(WritesTest, AReadWaitsForItsSequenceNumberAtMostUntilTheDeadline) {
  pb::UpsertResponse upserted;
  ASSERT_TRUE(Upsert("collection: 'c' rows { records { key { int64_key: 9 } } }", upserted).ok());
  const std::string seen = "min_seq: " + std::to_string(upserted.as_of());
  pb::CountResponse count;
  pb::SearchResponse found;
  ASSERT_TRUE(Count("collection: 'c' " + seen, count).ok());
  EXPECT_GE(count.as_of(), upserted.as_of());
  const std::string search =
      "collection: 'c' query { dense { values: [1, 0] } } options { limit: 1 ";
  EXPECT_TRUE(Search(search + seen + " }", found).ok());

  const std::string never = " min_seq: 18446744073709551615 ";
  const auto expect_late = [&](const auto& call) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
    EXPECT_EQ(call(&context).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  };
  pb::GetResponse got;
  pb::QueryResponse records;
  pb::SearchBatchResponse batch;
  expect_late([&](auto* context) {
    const std::string get = "collection: 'c' keys { int64_keys { values: 1 } }";
    return records_->Get(context, Parse<pb::GetRequest>(get + never), &got);
  });
  expect_late([&](auto* context) {
    const auto request = Parse<pb::QueryRequest>("collection: 'c' limit: 1" + never);
    return records_->Query(context, request, &records);
  });
  expect_late([&](auto* context) {
    return records_->Count(context, Parse<pb::CountRequest>("collection: 'c'" + never), &count);
  });
  expect_late([&](auto* context) {
    return search_->Search(context, Parse<pb::SearchRequest>(search + never + "}"), &found);
  });
  expect_late([&](auto* context) {
    auto request =
        Parse<pb::SearchBatchRequest>("collection: 'c' options { limit: 1" + never + "}");
    request.set_queries_f32(Bytes({1, 0}));
    return search_->SearchBatch(context, request, &batch);
  });
}

TEST_F(WritesTest, ServerInfoSaysLimitsAndMemory) {
  pb::ServerInfoResponse info;
  ASSERT_TRUE(ServerInfo("", info).ok());
  EXPECT_EQ(info.version(), Version());
  EXPECT_EQ(info.limits().message_bytes(), uint64_t{64} << 20);
  EXPECT_EQ(info.limits().batch_records(), engine::kBatchRecordsMax);
  EXPECT_EQ(info.limits().unindexed_rows(), engine::DatabaseOptions().unindexed_rows_max);
  EXPECT_EQ(info.limits().request_memory_us(), 600000000U);
  EXPECT_GT(info.memory().budget_bytes(), info.memory().rocks_bytes());
  EXPECT_GT(info.memory().rocks_bytes(), 0U);
  EXPECT_EQ(info.unindexed_rows(), 3U);
  EXPECT_GT(info.as_of(), 0U);
}

// Two rows may wait, and no build comes to an end.
class RefusingTest : public WritesTest {
 protected:
  static void SetUpTestSuite() {
    SetFailpointHook(Failpoint::kSegmentBeforeBuild,
                     [] { return absl::UnavailableError("no build ends here"); });
  }
  static void TearDownTestSuite() { SetFailpointHook(Failpoint::kSegmentBeforeBuild, nullptr); }
  void Configure(Config& config) override {
    config.database.unindexed_rows_slow = 2;
    config.database.unindexed_rows_max = 3;
  }
};

TEST_F(RefusingTest, TooManyRowsWithoutAnIndexRefuseWritesButNoDeletes) {
  pb::InsertResponse inserted;
  pb::UpdateResponse updated;
  EXPECT_THAT(Insert("collection: 'c' rows { records { key { int64_key: 9 } } }", inserted),
              GrpcIs(grpc::StatusCode::RESOURCE_EXHAUSTED, "wait"));
  EXPECT_THAT(Update("collection: 'c' rows { records { key { int64_key: 1 } } }", updated),
              GrpcIs(grpc::StatusCode::RESOURCE_EXHAUSTED, "wait"));
  pb::DeleteResponse deleted;
  ASSERT_TRUE(Delete("collection: 'c' keys { int64_keys { values: 1 } }", deleted).ok());
  EXPECT_EQ(deleted.deleted(), 1U);
  EXPECT_EQ(CountAll(), 2U);
}

}  // namespace
}  // namespace azimuth::server
