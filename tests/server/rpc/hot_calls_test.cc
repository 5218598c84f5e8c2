// Searches as they come by the queue of their own: many at a time, more than are allowed, ones that
// wait, cancelled ones, and ones that run while the server stops.
#include "server/rpc/hot_calls.h"

#include "tests/server/service_fixture.h"

#include "grpcpp/client_context.h"
#include "gtest/gtest.h"

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace azimuth::server {
namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

constexpr char kQuery[] = "collection: 'c' query { dense { values: [1, 0] } } options { limit: 3 }";

class HotCallsTest : public ServiceTest {
 protected:
  // A search that waits for a commit which does not come.
  grpc::Status SearchLater(grpc::ClientContext& context) {
    auto request = Parse<pb::SearchRequest>(kQuery);
    request.mutable_options()->set_min_seq(1'000'000);
    pb::SearchResponse reply;
    return search_->Search(&context, request, &reply);
  }
};

class FewHotCallsTest : public HotCallsTest {
 protected:
  void Configure(Config& config) override { config.rpc_threads = 8; }
};

TEST_F(HotCallsTest, AnswersManyAtATime) {
  FillCollection();
  constexpr int kThreads = 8;
  constexpr int kCalls = 200;  // More than there are slots.
  std::atomic<int> right{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < kThreads; ++i) {
    clients.emplace_back([&] {
      for (int call = 0; call < kCalls; ++call) {
        pb::SearchResponse reply;
        if (Search(kQuery, reply).ok() && reply.hits_size() == 3 &&
            reply.hits(0).key().int64_key() == 1) {
          ++right;
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(right.load(), kThreads * kCalls);
}

TEST_F(HotCallsTest, CallsThatWaitKeepNoOtherCallFromRunning) {
  FillCollection();
  constexpr int kWaiting = 50;
  std::vector<grpc::ClientContext> contexts(kWaiting);
  std::atomic<int> cancelled{0};
  std::vector<std::thread> clients;
  for (grpc::ClientContext& context : contexts) {
    clients.emplace_back([&] {
      if (SearchLater(context).error_code() == grpc::StatusCode::CANCELLED) ++cancelled;
    });
  }
  for (int i = 0; i < 50; ++i) {
    pb::SearchResponse reply;
    EXPECT_TRUE(Search(kQuery, reply).ok());
    pb::SearchBatchResponse batch;
    auto request = Parse<pb::SearchBatchRequest>("collection: 'c' options { limit: 1 }");
    request.set_queries_f32(Bytes({1, 0, 2, 0}));
    grpc::ClientContext context;
    EXPECT_TRUE(search_->SearchBatch(&context, request, &batch).ok());
    EXPECT_EQ(batch.results_size(), 2);
  }
  EXPECT_EQ(CountAll(), 3U);
  for (grpc::ClientContext& context : contexts) context.TryCancel();
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(cancelled.load(), kWaiting);
}

TEST_F(FewHotCallsTest, RefusesMoreThanAreAllowedAndGoesOn) {
  FillCollection();
  // A stream is a call that runs.
  std::vector<grpc::ClientContext> contexts(8);
  for (grpc::ClientContext& context : contexts) {
    const auto stream = search_->SearchStream(&context);
    auto request = Parse<pb::SearchStreamRequest>("start { collection: 'c' options { limit: 1 } }");
    request.set_queries_f32(Bytes({1, 0}));
    ASSERT_TRUE(stream->Write(request));
    pb::SearchStreamResponse answer;
    ASSERT_TRUE(stream->Read(&answer));
  }
  pb::SearchResponse reply;
  EXPECT_THAT(Search(kQuery, reply), GrpcIs(grpc::StatusCode::RESOURCE_EXHAUSTED, "8 searches"));
  EXPECT_EQ(CountAll(), 3U) << "other calls are served";
  for (grpc::ClientContext& context : contexts) context.TryCancel();
  grpc::Status status;
  const auto end = system_clock::now() + seconds(30);
  do {
    status = Search(kQuery, reply);
  } while (!status.ok() && system_clock::now() < end);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(HotCallsTest, KeepsToTheDeadline) {
  FillCollection();
  grpc::ClientContext context;
  context.set_deadline(system_clock::now() + std::chrono::milliseconds(100));
  EXPECT_EQ(SearchLater(context).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  pb::SearchResponse reply;
  EXPECT_TRUE(Search(kQuery, reply).ok());
}

TEST_F(HotCallsTest, CallsThatRunAtTheStopAreCancelledAfterTheGrace) {
  FillCollection();
  grpc::ClientContext context;
  grpc::Status status;
  std::thread client([&] { status = SearchLater(context); });
  pb::SearchResponse reply;
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(Search(kQuery, reply).ok());
  EXPECT_OK(app_->Stop(std::chrono::milliseconds(50)));
  client.join();
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(Search(kQuery, reply).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(HotCallsTest, ALongMessageIsReadElsewhereAndAnswered) {
  FillCollection();
  auto request = Parse<pb::SearchBatchRequest>("collection: 'c' options { limit: 1 }");
  std::vector<float> floats;
  for (int i = 0; i < 10000; ++i) floats.insert(floats.end(), {static_cast<float>(i % 3 + 1), 0});
  request.set_queries_f32(Bytes(floats));
  for (const uint64_t min_seq : {0, 1}) {
    request.mutable_options()->set_min_seq(min_seq);
    // Unknown bytes, to make it long enough.
    request.GetReflection()->MutableUnknownFields(&request)->Clear();
    request.GetReflection()->MutableUnknownFields(&request)->AddLengthDelimited(
        1000, std::string(400'000, 'x'));
    grpc::ClientContext context;
    pb::SearchBatchResponse reply;
    const grpc::Status status = search_->SearchBatch(&context, request, &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(reply.results_size(), 10000);
    EXPECT_EQ(reply.results(4).keys().int64_keys().values(0), 2);
  }
}

}  // namespace
}  // namespace azimuth::server
