// The health service as a client sees it: raw messages, as Debian has no code of that package.
#include "server/rpc/health_service.h"

#include "tests/server/service_fixture.h"

#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::server {
namespace {

constexpr char kServing[] = "\x08\x01";
constexpr char kNotServing[] = "\x08\x02";
constexpr char kUnknown[] = "\x08\x03";

std::string Text(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string out;
  if (!buffer.Dump(&slices).ok()) return out;
  for (const grpc::Slice& slice : slices) {
    out.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return out;
}

grpc::ByteBuffer Buffer(const std::string& bytes) {
  grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// A HealthCheckRequest.
grpc::ByteBuffer Ask(const std::string& name) {
  if (name.empty()) return Buffer("");
  return Buffer(std::string("\x0a") + static_cast<char>(name.size()) + name);
}

class HealthServiceTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    stub_ = std::make_unique<grpc::GenericStub>(
        grpc::CreateChannel(app_->address().ToString(), grpc::InsecureChannelCredentials()));
  }

  bool Next() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::Status Check(const grpc::ByteBuffer& request, std::string& reply) {
    grpc::ClientContext context;
    const auto call =
        stub_->PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue_);
    call->StartCall();
    grpc::ByteBuffer bytes;
    grpc::Status status;
    call->Finish(&bytes, &status, this);
    Next();
    reply = Text(bytes);
    return status;
  }

  std::unique_ptr<grpc::GenericStub> stub_;
  grpc::CompletionQueue queue_;
};

TEST_F(HealthServiceTest, ChecksByName) {
  std::string reply;
  for (const char* name : {"", "azimuth.v1.writes", "azimuth.v1.SearchService"}) {
    ASSERT_TRUE(Check(Ask(name), reply).ok()) << name;
    EXPECT_EQ(reply, kServing) << name;
  }
  EXPECT_THAT(Check(Ask("nothing"), reply), GrpcIs(grpc::StatusCode::NOT_FOUND, "unknown"));
  EXPECT_THAT(Check(Buffer("\x0a\x7f"), reply),
              GrpcIs(grpc::StatusCode::INVALID_ARGUMENT, "parse"));
  EXPECT_THAT(Check(Ask(std::string(120, 'x') + std::string(7, 'y')), reply),
              GrpcIs(grpc::StatusCode::NOT_FOUND, ""));
}

TEST_F(HealthServiceTest, TellsAWatchOfTheEnd) {
  grpc::ClientContext known_context, unknown_context;
  auto known = stub_->PrepareCall(&known_context, "/grpc.health.v1.Health/Watch", &queue_);
  auto unknown = stub_->PrepareCall(&unknown_context, "/grpc.health.v1.Health/Watch", &queue_);
  grpc::ByteBuffer reply;
  for (auto* call : {known.get(), unknown.get()}) {
    call->StartCall(this);
    ASSERT_TRUE(Next());
    call->WriteLast(Ask(call == known.get() ? "" : "nothing"), grpc::WriteOptions(), this);
    ASSERT_TRUE(Next());
    call->Read(&reply, this);
    ASSERT_TRUE(Next());
    EXPECT_EQ(Text(reply), call == known.get() ? kServing : kUnknown);
  }
  unknown_context.TryCancel();
  grpc::Status status;
  unknown->Finish(&status, this);
  Next();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);

  known->Read(&reply, this);
  ASSERT_OK(app_->Stop(std::chrono::seconds(30)));
  ASSERT_TRUE(Next());
  EXPECT_EQ(Text(reply), kNotServing);
  known->Finish(&status, this);
  Next();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace azimuth::server
