// The services end to end: a real server in this process, a client of the generated code.
#include "tests/server/service_fixture.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <chrono>
#include <string>
#include <vector>

namespace azimuth::server {
namespace {

using ::testing::ElementsAre;

TEST_F(ServiceTest, CollectionsLiveFromCreateToDrop) {
  pb::CreateCollectionResponse created;
  ASSERT_TRUE(Create(kCreate, created).ok());
  EXPECT_TRUE(created.created());
  EXPECT_GT(created.as_of(), 0U);
  EXPECT_THAT(Create(kCreate, created), GrpcIs(grpc::StatusCode::ALREADY_EXISTS, "c"));
  EXPECT_TRUE(Create(std::string(kCreate) + " if_not_exists: true", created).ok());
  EXPECT_FALSE(created.created());

  pb::DescribeCollectionResponse described;
  ASSERT_TRUE(
      Call(*collections_, &pb::CollectionService::Stub::Describe, "collection: 'c'", described)
          .ok());
  EXPECT_EQ(described.collection_id(), created.collection_id());
  EXPECT_EQ(described.schema().vectors(0).index().m(), 16U);
  EXPECT_TRUE(described.schema().fields(0).nullable());

  pb::ListCollectionsResponse list;
  ASSERT_TRUE(Call(*collections_, &pb::CollectionService::Stub::List, "", list).ok());
  ASSERT_EQ(list.collections_size(), 1);
  EXPECT_EQ(list.collections(0).collection(), "c");

  pb::DropCollectionResponse dropped;
  const auto drop = &pb::CollectionService::Stub::Drop;
  EXPECT_TRUE(Call(*collections_, drop, "collection: 'c'", dropped).ok());
  EXPECT_TRUE(dropped.dropped());
  EXPECT_THAT(Call(*collections_, drop, "collection: 'c'", dropped),
              GrpcIs(grpc::StatusCode::NOT_FOUND, "c"));
  EXPECT_TRUE(Call(*collections_, drop, "collection: 'c' if_exists: true", dropped).ok());
  EXPECT_FALSE(dropped.dropped());
}

TEST_F(ServiceTest, StatsCountRowsAndSegments) {
  FillCollection();
  pb::CollectionStatsResponse stats;
  ASSERT_TRUE(
      Call(*collections_, &pb::CollectionService::Stub::Stats, "collection: 'c'", stats).ok());
  EXPECT_EQ(stats.row_count(), 3U);
  EXPECT_GE(stats.segments_size(), 1);
  EXPECT_EQ(stats.index_error(), "");
}

TEST_F(ServiceTest, GetReadsWhatInsertWrote) {
  FillCollection();
  pb::GetResponse got;
  ASSERT_TRUE(
      Get("collection: 'c' keys { int64_keys { values: [2, 9, 1] } } output_vectors: 'v'", got)
          .ok());
  ASSERT_EQ(got.records_size(), 2);
  EXPECT_EQ(got.records(0).key().int64_key(), 2);
  EXPECT_EQ(got.records(0).fields().at("price").int64_value(), 20);
  EXPECT_EQ(got.records(0).vectors().at("v").dense().f32(), Bytes({2, 0}));
  EXPECT_GT(got.records(0).version(), 0U);
  EXPECT_EQ(got.records(1).key().int64_key(), 1);
  EXPECT_THAT(got.missing().int64_keys().values(), ElementsAre(9));
}

TEST_F(ServiceTest, UpsertTakesColumns) {
  FillCollection();
  auto request = Parse<pb::UpsertRequest>(R"(
      collection: 'c' columns {
        keys { int64_keys { values: [3, 4] } }
        fields { name: 'price' present: '\x02' int64s { values: [0, 40] } }
        vectors { name: 'v' } })");
  request.mutable_columns()->mutable_vectors(0)->set_f32(Bytes({30, 0, 40, 0}));
  grpc::ClientContext context;
  pb::UpsertResponse reply;
  const grpc::Status status = records_->Upsert(&context, request, &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(reply.inserted(), 1U);
  EXPECT_EQ(reply.replaced(), 1U);
  pb::GetResponse got;
  ASSERT_TRUE(
      Get("collection: 'c' keys { int64_keys { values: [3, 4] } } output_vectors: 'v'", got).ok());
  ASSERT_EQ(got.records_size(), 2);
  EXPECT_EQ(got.records(0).vectors().at("v").dense().f32(), Bytes({30, 0}));
  EXPECT_EQ(got.records(1).fields().at("price").int64_value(), 40);
}

TEST_F(ServiceTest, QueryAndCountFilter) {
  FillCollection();
  pb::QueryResponse found;
  ASSERT_TRUE(Query(R"(collection: 'c' limit: 10 filter {
                         expression: 'price > $least'
                         parameters { key: 'least' value { int64_value: 10 } } })",
                    found)
                  .ok());
  ASSERT_EQ(found.records_size(), 1);
  EXPECT_EQ(found.records(0).key().int64_key(), 2);
  pb::CountResponse count;
  ASSERT_TRUE(Count("collection: 'c' filter { expression: 'price >= 10' }", count).ok());
  EXPECT_EQ(count.count(), 2U);
  EXPECT_THAT(Count("collection: 'c' filter { expression: 'price >=' }", count),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, "1:"));
}

TEST_F(ServiceTest, SearchFindsTheNearestFirst) {
  FillCollection();
  pb::SearchResponse found;
  ASSERT_TRUE(
      Search("collection: 'c' query { dense { values: [2.9, 0] } } options { limit: 2 }", found)
          .ok());
  ASSERT_EQ(found.hits_size(), 2);
  EXPECT_EQ(found.hits(0).key().int64_key(), 3);
  EXPECT_EQ(found.hits(1).key().int64_key(), 2);
  EXPECT_EQ(found.hits(1).fields().at("price").int64_value(), 20);
  EXPECT_EQ(found.hits(1).score(), -found.hits(1).distance());
  EXPECT_TRUE(found.work().complete());
  EXPECT_GT(found.as_of(), 0U);
}

TEST_F(ServiceTest, SearchBatchAnswersInColumns) {
  FillCollection();
  auto request = Parse<pb::SearchBatchRequest>(
      "collection: 'c' options { limit: 2 output_vectors: 'v' params { exact: true } }");
  request.set_queries_f32(Bytes({0, 0, 4, 0}));
  grpc::ClientContext context;
  pb::SearchBatchResponse reply;
  const grpc::Status status = search_->SearchBatch(&context, request, &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(reply.results_size(), 2);
  EXPECT_THAT(reply.results(0).keys().int64_keys().values(), ElementsAre(1, 2));
  EXPECT_THAT(reply.results(0).distances(), ElementsAre(1, 4));
  EXPECT_THAT(reply.results(0).fields(0).int64s().values(), ElementsAre(10, 20));
  EXPECT_EQ(reply.results(0).fields(0).present(), "");
  EXPECT_THAT(reply.results(1).keys().int64_keys().values(), ElementsAre(3, 2));
  EXPECT_EQ(reply.results(1).fields(0).present(), "\x02");
  EXPECT_EQ(reply.results(1).vectors(0).f32(), Bytes({3, 0, 2, 0}));
  EXPECT_EQ(reply.results(1).work().path(), pb::SEARCH_PATH_SCAN);
}

TEST_F(ServiceTest, DeleteTakesKeysOrAFilterOrAll) {
  FillCollection();
  pb::DeleteResponse deleted;
  ASSERT_TRUE(Delete("collection: 'c' keys { int64_keys { values: [1, 9] } }", deleted).ok());
  EXPECT_EQ(deleted.deleted(), 1U);
  ASSERT_TRUE(Delete("collection: 'c' filter { expression: 'price == 20' }", deleted).ok());
  EXPECT_EQ(deleted.deleted(), 1U);
  EXPECT_EQ(CountAll(), 1U);
  ASSERT_TRUE(Delete("collection: 'c' delete_all: true", deleted).ok());
  EXPECT_EQ(deleted.deleted(), 1U);
  EXPECT_EQ(CountAll(), 0U);
}

TEST_F(ServiceTest, DeleteRefusesNoneAndTwoOfThem) {
  FillCollection();
  pb::DeleteResponse deleted;
  const auto expect_refused = [&](const std::string& text, const std::string& message) {
    EXPECT_THAT(Delete("collection: 'c' " + text, deleted),
                GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, message))
        << text;
  };
  expect_refused("", "0 of keys, filter and delete_all");
  expect_refused("delete_all: true filter { expression: 'price == 20' }",
                 "2 of keys, filter and delete_all");
  expect_refused("keys { int64_keys { values: 1 } } delete_all: true", "2 of keys");
  expect_refused("keys {}", "keys: missing");
  expect_refused("filter {}", "filter");
  EXPECT_EQ(CountAll(), 3U);
}

TEST_F(ServiceTest, AnswersBadRequestsWithTheirCodes) {
  FillCollection();
  pb::InsertResponse inserted;
  pb::SearchResponse found;
  pb::CreateCollectionResponse created;
  pb::CountResponse count;
  EXPECT_THAT(Insert("collection: 'c'", inserted),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, "records: empty batch"));
  EXPECT_THAT(Insert("collection: 'c' rows { records { key { int64_key: 1 } } }", inserted),
              GrpcIs(grpc::StatusCode::ALREADY_EXISTS, "1"));
  EXPECT_THAT(Insert("collection: 'c' partition: 'p'", inserted),
              GrpcIs(grpc::StatusCode::UNIMPLEMENTED, "partition: not served yet"));
  EXPECT_THAT(Insert("collection: 'none' rows { records { key { int64_key: 1 } } }", inserted),
              GrpcIs(grpc::StatusCode::NOT_FOUND, "none"));
  EXPECT_THAT(Search("collection: 'c' query { dense { values: 1 } } options { limit: 1 }", found),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, "expected 2 dimensions, got 1"));
  EXPECT_THAT(Search("collection: 'c' query { dense { values: [1, 2] } }", found),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, "limit"));
  EXPECT_THAT(Create("collection: 'd'", created),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, "schema: missing"));
  EXPECT_THAT(Create("collection: 'd' schema {}", created),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, "schema"));
  EXPECT_THAT(Count("database: 'other' collection: 'c'", count),
              GrpcIs(grpc::StatusCode::UNIMPLEMENTED, "database: 'other'"));
  EXPECT_EQ(CountAll(), 3U);
}

TEST_F(ServiceTest, DoesNoWorkAfterTheDeadline) {
  FillCollection();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() - std::chrono::seconds(1));
  pb::DeleteResponse deleted;
  EXPECT_EQ(
      records_
          ->Delete(&context, Parse<pb::DeleteRequest>("collection: 'c' delete_all: true"), &deleted)
          .error_code(),
      grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(CountAll(), 3U);
}

TEST_F(ServiceTest, RefusesMessagesThatAreCompressedOrTooLong) {
  FillCollection();
  pb::CountResponse count;
  grpc::ClientContext compressed;
  compressed.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  const auto long_name = "collection: '" + std::string(4096, 'c') + "'";
  EXPECT_EQ(records_->Count(&compressed, Parse<pb::CountRequest>(long_name), &count).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  grpc::ClientContext context;
  pb::CountRequest request;
  request.set_collection(std::string((64 << 20) + 1, 'c'));
  EXPECT_EQ(records_->Count(&context, request, &count).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(CountAll(), 3U);
}

TEST_F(ServiceTest, RefusesToSendAReplyThatClientsWouldNotTake) {
  pb::CreateCollectionResponse created;
  ASSERT_TRUE(Create(R"(collection: 'c' schema {
                          vectors { name: 'v' dimension: 32768 metric: METRIC_L2 } })",
                     created)
                  .ok());
  pb::UpsertRequest upsert;
  upsert.set_collection("c");
  pb::Record& record = *upsert.mutable_rows()->add_records();
  record.mutable_key()->set_int64_key(1);
  (*record.mutable_vectors())["v"].mutable_dense()->set_f32(Bytes(std::vector<float>(32768, 1.0F)));
  grpc::ClientContext upsert_context;
  pb::UpsertResponse upserted;
  const grpc::Status status = records_->Upsert(&upsert_context, upsert, &upserted);
  ASSERT_TRUE(status.ok()) << status.error_message();

  // The same record, 128 KiB long, 600 times.
  pb::GetRequest request;
  request.set_collection("c");
  for (int i = 0; i < 600; ++i) request.mutable_keys()->mutable_int64_keys()->add_values(1);
  request.add_output_vectors("v");
  grpc::ClientContext context;
  pb::GetResponse got;
  EXPECT_THAT(records_->Get(&context, request, &got),
              GrpcIs(grpc::StatusCode::RESOURCE_EXHAUSTED, "ask for fewer records"));
}

TEST_F(ServiceTest, VerifyComparesTheStoreWithItself) {
  FillCollection();
  const auto verify = &pb::AdminService::Stub::Verify;
  pb::VerifyResponse all;
  ASSERT_TRUE(Call(*admin_, verify, "deep: true", all).ok());
  EXPECT_TRUE(all.sound());
  EXPECT_TRUE(all.deep());
  EXPECT_EQ(all.findings_size(), 0);
  EXPECT_EQ(all.keys(), 3U);
  EXPECT_GT(all.applied_seq(), 0U);
  EXPECT_NE(all.incarnation(), 0U);
  EXPECT_EQ(all.directory(), "");
  pb::VerifyResponse one;
  ASSERT_TRUE(Call(*admin_, verify, "collection: 'c'", one).ok());
  EXPECT_EQ(one.collections(), 1U);
  EXPECT_THAT(Call(*admin_, verify, "collection: 'none'", one),
              GrpcIs(grpc::StatusCode::NOT_FOUND, "none"));
  EXPECT_THAT(Call(*admin_, verify, "database: 'other'", one),
              GrpcIs(grpc::StatusCode::UNIMPLEMENTED, "other"));
}

TEST_F(ServiceTest, SnapshotsAreMadeListedCheckedRestoredAndDeleted) {
  FillCollection();
  using Stub = pb::AdminService::Stub;
  pb::CreateSnapshotResponse made;
  ASSERT_TRUE(Call(*admin_, &Stub::CreateSnapshot, "collection: 'c' name: 's'", made).ok());
  EXPECT_EQ(made.snapshot().name(), "s");
  EXPECT_EQ(made.snapshot().collection(), "c");
  EXPECT_EQ(made.snapshot().rows(), 3U);
  EXPECT_GT(made.snapshot().as_of(), 0U);
  EXPECT_GT(made.snapshot().created_unix_us(), 0);
  EXPECT_THAT(Call(*admin_, &Stub::CreateSnapshot, "collection: 'c' name: 's'", made),
              GrpcIs(grpc::StatusCode::ALREADY_EXISTS, "'s'"));
  pb::ListSnapshotsResponse listed;
  ASSERT_TRUE(Call(*admin_, &Stub::ListSnapshots, "", listed).ok());
  ASSERT_EQ(listed.snapshots_size(), 1);
  EXPECT_EQ(listed.snapshots(0).id(), made.snapshot().id());
  pb::VerifySnapshotResponse verified;
  ASSERT_TRUE(Call(*admin_, &Stub::VerifySnapshot, "snapshot: 's'", verified).ok());
  EXPECT_TRUE(verified.sound());
  EXPECT_TRUE(verified.restorable());
  EXPECT_EQ(verified.keys(), 3U);
  EXPECT_EQ(verified.snapshot().name(), "s");
  pb::RestoreSnapshotResponse restored;
  EXPECT_THAT(Call(*admin_, &Stub::RestoreSnapshot, "snapshot: 's'", restored),
              GrpcIs(grpc::StatusCode::ALREADY_EXISTS, "'c'"));
  ASSERT_TRUE(
      Call(*admin_, &Stub::RestoreSnapshot, "snapshot: 's' target_name: 'd'", restored).ok());
  EXPECT_EQ(restored.collection(), "d");
  EXPECT_EQ(restored.rows(), 3U);
  EXPECT_GT(restored.as_of(), made.snapshot().as_of());
  EXPECT_GT(restored.collection_id(), 0U);
  ASSERT_TRUE(
      Call(*admin_, &Stub::RestoreSnapshot, "snapshot: 's' overwrite: true", restored).ok());
  EXPECT_EQ(restored.collection(), "c");
  pb::DeleteSnapshotResponse deleted;
  ASSERT_TRUE(Call(*admin_, &Stub::DeleteSnapshot, "snapshot: 's'", deleted).ok());
  EXPECT_THAT(Call(*admin_, &Stub::DeleteSnapshot, "snapshot: 's'", deleted),
              GrpcIs(grpc::StatusCode::NOT_FOUND, "'s'"));
  EXPECT_THAT(Call(*admin_, &Stub::DeleteSnapshot, "snapshot: '../s'", deleted),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, "no name"));
  EXPECT_THAT(Call(*admin_, &Stub::ListSnapshots, "database: 'other'", listed),
              GrpcIs(grpc::StatusCode::UNIMPLEMENTED, "other"));
}

}  // namespace
}  // namespace azimuth::server
