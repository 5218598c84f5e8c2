#include "server/rpc/search_stream.h"

#include "tests/server/service_fixture.h"

#include "grpcpp/client_context.h"
#include "gtest/gtest.h"

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace azimuth::server {
namespace {

constexpr char kStart[] = "start { collection: 'c' options { limit: 2 output_fields {} } }";

class SearchStreamTest : public ServiceTest {
 protected:
  // One stream of a client.
  struct Stream {
    explicit Stream(pb::SearchService::Stub& stub) : call(stub.SearchStream(&context)) {}

    bool Send(const std::string& text, const std::vector<float>& floats = {}) {
      auto request = Parse<pb::SearchStreamRequest>(text);
      request.set_queries_f32(Bytes(floats));
      return call->Write(request);
    }
    // The end of the stream, after answers that nobody waited for.
    grpc::Status Finish() {
      pb::SearchStreamResponse rest;
      while (call->Read(&rest)) ++unread;
      return call->Finish();
    }

    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReaderWriter<pb::SearchStreamRequest, pb::SearchStreamResponse>>
        call;
    int unread = 0;
  };

  static int64_t FirstKey(const pb::SearchStreamResponse& answer, int query = 0) {
    return answer.results(query).keys().int64_keys().values(0);
  }
};

class FewSearchStreamsTest : public SearchStreamTest {
 protected:
  void Configure(Config& config) override { config.rpc_threads = 8; }
};

TEST_F(SearchStreamTest, AnswersInOrder) {
  FillCollection();
  Stream stream(*search_);
  ASSERT_TRUE(stream.Send(kStart));
  constexpr int kMessages = 500;
  std::thread sender([&] {
    for (int i = 0; i < kMessages; ++i) {
      const auto x = static_cast<float>(i % 3 + 1);
      // Some messages are much longer than others.
      std::vector<float> floats;
      for (int query = 0; query < (i % 7 == 0 ? 400 : 1); ++query)
        floats.insert(floats.end(), {x, 0});
      EXPECT_TRUE(stream.Send("", floats));
    }
    stream.call->WritesDone();
  });
  for (int i = 0; i < kMessages; ++i) {
    pb::SearchStreamResponse answer;
    ASSERT_TRUE(stream.call->Read(&answer)) << i;
    EXPECT_EQ(answer.code(), 0);
    ASSERT_EQ(answer.results_size(), i % 7 == 0 ? 400 : 1);
    EXPECT_EQ(FirstKey(answer), i % 3 + 1) << i;
    EXPECT_EQ(answer.results(0).distances_size(), 2);
    EXPECT_EQ(answer.results(0).fields_size(), 0);
    EXPECT_GT(answer.as_of(), 0U);
  }
  sender.join();
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(stream.unread, 0);
}

TEST_F(SearchStreamTest, TheFirstMessageMayHaveQueries) {
  FillCollection();
  Stream stream(*search_);
  ASSERT_TRUE(stream.Send(kStart, {3, 0, 1, 0}));
  pb::SearchStreamResponse answer;
  ASSERT_TRUE(stream.call->Read(&answer));
  ASSERT_EQ(answer.results_size(), 2);
  EXPECT_EQ(FirstKey(answer, 0), 3);
  EXPECT_EQ(FirstKey(answer, 1), 1);
  stream.call->WritesDone();
  EXPECT_TRUE(stream.Finish().ok());
}

TEST_F(SearchStreamTest, AMessageSeesWhatWasWrittenBeforeIt) {
  FillCollection();
  Stream stream(*search_);
  ASSERT_TRUE(stream.Send(kStart, {9, 0}));
  pb::SearchStreamResponse answer;
  ASSERT_TRUE(stream.call->Read(&answer));
  EXPECT_EQ(FirstKey(answer), 3);
  pb::UpsertResponse written;
  ASSERT_TRUE(Upsert("collection: 'c' rows { records { key { int64_key: 9 } vectors { key: 'v' "
                     "value { dense { values: [9, 0] } } } } }",
                     written)
                  .ok());
  ASSERT_TRUE(stream.Send("", {9, 0}));
  ASSERT_TRUE(stream.call->Read(&answer));
  EXPECT_EQ(FirstKey(answer), 9);
  EXPECT_GE(answer.as_of(), written.as_of());
  stream.call->WritesDone();
  EXPECT_TRUE(stream.Finish().ok());
}

TEST_F(SearchStreamTest, AFaultOfOneMessageIsItsAnswer) {
  FillCollection();
  Stream stream(*search_);
  ASSERT_TRUE(stream.Send(kStart));
  ASSERT_TRUE(stream.Send("", {1, 0, 0}));
  ASSERT_TRUE(stream.Send(""));
  ASSERT_TRUE(stream.Send("", {NAN, 0}));
  ASSERT_TRUE(stream.Send("", {2, 0}));
  stream.call->WritesDone();
  for (const char* reason : {"not a multiple of 8", "no queries", "query"}) {
    pb::SearchStreamResponse answer;
    ASSERT_TRUE(stream.call->Read(&answer)) << reason;
    EXPECT_EQ(answer.code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(answer.message(), ::testing::HasSubstr(reason));
    EXPECT_EQ(answer.results_size(), 0);
  }
  pb::SearchStreamResponse answer;
  ASSERT_TRUE(stream.call->Read(&answer));
  EXPECT_EQ(answer.code(), 0);
  EXPECT_EQ(FirstKey(answer), 2);
  EXPECT_TRUE(stream.Finish().ok());
}

TEST_F(SearchStreamTest, WhatIsNoStartEndsTheStream) {
  FillCollection();
  using grpc::StatusCode;
  struct Case {
    std::string first;
    StatusCode code;
    std::string message;
  };
  const std::vector<Case> cases = {
      {"", StatusCode::INVALID_ARGUMENT, "start: the first message"},
      {"start { collection: 'nothing' options { limit: 1 } }", StatusCode::NOT_FOUND, "nothing"},
      {"start { collection: 'c' options { limit: 1 vector_field: 'w' } }",
       StatusCode::INVALID_ARGUMENT, "w"},
      {"start { collection: 'c' options { limit: 1 offset: 1 } }", StatusCode::UNIMPLEMENTED,
       "start: options.offset"},
      {"start { collection: 'c' database: 'other' options { limit: 1 } }",
       StatusCode::UNIMPLEMENTED, "start: database"},
      {"start { collection: 'c' options { limit: 1 params { ef: 1 exact: true } } }",
       StatusCode::INVALID_ARGUMENT, "more than one of recall, ef and exact"}};
  for (const Case& wrong : cases) {
    Stream stream(*search_);
    stream.Send(wrong.first, {1, 0});
    EXPECT_THAT(stream.Finish(), GrpcIs(wrong.code, wrong.message)) << wrong.first;
    EXPECT_EQ(stream.unread, 0);
  }
  Stream empty(*search_);
  empty.call->WritesDone();
  EXPECT_THAT(empty.Finish(), GrpcIs(StatusCode::INVALID_ARGUMENT, "start"));
  Stream twice(*search_);
  twice.Send(kStart, {1, 0});
  twice.Send(kStart, {1, 0});
  EXPECT_THAT(twice.Finish(), GrpcIs(StatusCode::INVALID_ARGUMENT, "only the first"));
  EXPECT_EQ(twice.unread, 1) << "what came before is answered";
}

TEST_F(SearchStreamTest, ADropInItsMidstEndsTheStream) {
  FillCollection();
  Stream stream(*search_);
  ASSERT_TRUE(stream.Send(kStart, {1, 0}));
  pb::SearchStreamResponse answer;
  ASSERT_TRUE(stream.call->Read(&answer));
  pb::DropCollectionResponse dropped;
  ASSERT_TRUE(
      Call(*collections_, &pb::CollectionService::Stub::Drop, "collection: 'c'", dropped).ok());
  stream.Send("", {1, 0});
  stream.Send("", {1, 0});
  EXPECT_THAT(stream.Finish(), GrpcIs(grpc::StatusCode::NOT_FOUND, "c"));
  EXPECT_EQ(stream.unread, 0);
}

TEST_F(SearchStreamTest, ACollectionThatIsMadeAgainIsSearchedOn) {
  FillCollection();
  Stream stream(*search_);
  ASSERT_TRUE(stream.Send(kStart, {1, 0}));
  pb::SearchStreamResponse answer;
  ASSERT_TRUE(stream.call->Read(&answer));
  pb::DropCollectionResponse dropped;
  ASSERT_TRUE(
      Call(*collections_, &pb::CollectionService::Stub::Drop, "collection: 'c'", dropped).ok());
  pb::CreateCollectionResponse created;
  ASSERT_TRUE(Create("collection: 'c' schema { vectors { name: 'v' dimension: 3 metric: METRIC_L2 "
                     "} }",
                     created)
                  .ok());
  ASSERT_TRUE(stream.Send("", {1, 0}));
  ASSERT_TRUE(stream.call->Read(&answer));
  EXPECT_EQ(answer.code(), grpc::StatusCode::INVALID_ARGUMENT);
  ASSERT_TRUE(stream.Send("", {1, 0, 0}));
  ASSERT_TRUE(stream.call->Read(&answer));
  EXPECT_EQ(answer.code(), 0);
  stream.call->WritesDone();
  EXPECT_TRUE(stream.Finish().ok());
}

TEST_F(SearchStreamTest, CancelsAndDeadlinesEndIt) {
  FillCollection();
  for (int i = 0; i < 50; ++i) {
    Stream stream(*search_);
    for (int message = 0; message <= i % 5; ++message) {
      stream.Send(message == 0 ? kStart : "", {1, 0});
    }
    stream.context.TryCancel();
    EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  Stream late(*search_);
  late.Send(kStart, {1, 0});
  pb::SearchStreamResponse answer;
  ASSERT_TRUE(late.call->Read(&answer));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  const auto call = search_->SearchStream(&context);
  call->Write(Parse<pb::SearchStreamRequest>(kStart));
  EXPECT_FALSE(call->Read(&answer));
  EXPECT_EQ(call->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  late.call->WritesDone();
  EXPECT_TRUE(late.Finish().ok());
}

TEST_F(SearchStreamTest, AClientThatReadsNothingIsNotReadFrom) {
  FillCollection();
  Stream stream(*search_);
  std::string start = kStart;
  ASSERT_TRUE(stream.Send(start));
  // Each answer is some 200 KiB: all of them are more than connection and server take.
  constexpr int kMessages = 400;
  const std::vector<float> queries(2 * 4000, 1.0F);
  std::atomic<int> sent{0};
  std::thread sender([&] {
    for (int i = 0; i < kMessages && stream.Send("", queries); ++i) ++sent;
    stream.call->WritesDone();
  });
  // Other calls go on meanwhile.
  for (int i = 0; i < 20; ++i) {
    pb::SearchResponse reply;
    EXPECT_TRUE(
        Search("collection: 'c' query { dense { values: [1, 0] } } options { limit: 1 }", reply)
            .ok());
  }
  pb::SearchStreamResponse answer;
  int answers = 0;
  while (stream.call->Read(&answer)) {
    EXPECT_EQ(answer.results_size(), 4000);
    ++answers;
  }
  sender.join();
  EXPECT_EQ(sent.load(), kMessages);
  EXPECT_EQ(answers, kMessages);
  EXPECT_TRUE(stream.call->Finish().ok());
}

TEST_F(SearchStreamTest, TheStopOfTheServerEndsStreamsAtOnce) {
  FillCollection();
  Stream used(*search_), unused(*search_);
  ASSERT_TRUE(used.Send(kStart, {1, 0}));
  pb::SearchStreamResponse answer;
  ASSERT_TRUE(used.call->Read(&answer));
  const auto start = std::chrono::steady_clock::now();
  ASSERT_OK(app_->Stop(std::chrono::seconds(60)));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
  EXPECT_EQ(used.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_FALSE(unused.Finish().ok());
}

TEST_F(FewSearchStreamsTest, MoreStreamsThanAreAllowedAreRefused) {
  FillCollection();
  std::vector<std::unique_ptr<Stream>> streams;
  pb::SearchStreamResponse answer;
  for (int i = 0; i < 8; ++i) {
    streams.push_back(std::make_unique<Stream>(*search_));
    ASSERT_TRUE(streams.back()->Send(kStart, {1, 0}));
    ASSERT_TRUE(streams.back()->call->Read(&answer));
  }
  Stream more(*search_);
  more.Send(kStart, {1, 0});
  EXPECT_THAT(more.Finish(), GrpcIs(grpc::StatusCode::RESOURCE_EXHAUSTED, "8 searches"));
  for (const auto& stream : streams) {
    stream->call->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
  }
}

}  // namespace
}  // namespace azimuth::server
