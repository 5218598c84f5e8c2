// A real server in this process, and a client of the generated code, for tests of the services.
#pragma once

#include "azimuth/v1/admin.grpc.pb.h"
#include "azimuth/v1/collections.grpc.pb.h"
#include "azimuth/v1/records.grpc.pb.h"
#include "azimuth/v1/search.grpc.pb.h"
#include "server/app.h"
#include "tests/server/parse.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "gtest/gtest.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace azimuth::server {

namespace pb = ::azimuth::v1;

inline std::string Bytes(const std::vector<float>& floats) {
  std::string bytes(floats.size() * sizeof(float), '\0');
  if (!floats.empty()) std::memcpy(bytes.data(), floats.data(), bytes.size());
  return bytes;
}

MATCHER_P2(GrpcIs, code, message, "") {
  *result_listener << arg.error_code() << " " << arg.error_message();
  return arg.error_code() == code &&
         ::testing::ExplainMatchResult(::testing::HasSubstr(message), arg.error_message(),
                                       result_listener);
}

class ServiceTest : public ::testing::Test {
 protected:
  virtual void Configure(Config&) {}

  void SetUp() override {
    Config config;
    config.database.data_dir = dir_.File("data");
    config.listen.port = 0;
    Configure(config);
    ASSERT_OK_AND_ASSIGN(app_, App::Start(config));
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetMaxSendMessageSize(-1);
    const auto channel = grpc::CreateCustomChannel(app_->address().ToString(),
                                                   grpc::InsecureChannelCredentials(), arguments);
    collections_ = pb::CollectionService::NewStub(channel);
    records_ = pb::RecordService::NewStub(channel);
    search_ = pb::SearchService::NewStub(channel);
    admin_ = pb::AdminService::NewStub(channel);
  }

  // Calls `method` of `stub` with the request that `text` says.
  template <typename Stub, typename Request, typename Reply>
  grpc::Status Call(Stub& stub,
                    grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Reply*),
                    const std::string& text, Reply& reply) {
    grpc::ClientContext context;
    return (stub.*method)(&context, Parse<Request>(text), &reply);
  }

#define AZ_TEST_CALL(name, stub, service)                                 \
  grpc::Status name(const std::string& text, pb::name##Response& reply) { \
    return Call(*stub, &pb::service::Stub::name, text, reply);            \
  }
  AZ_TEST_CALL(Insert, records_, RecordService)
  AZ_TEST_CALL(Upsert, records_, RecordService)
  AZ_TEST_CALL(Update, records_, RecordService)
  AZ_TEST_CALL(Delete, records_, RecordService)
  AZ_TEST_CALL(Get, records_, RecordService)
  AZ_TEST_CALL(Query, records_, RecordService)
  AZ_TEST_CALL(Count, records_, RecordService)
  AZ_TEST_CALL(Search, search_, SearchService)
  AZ_TEST_CALL(ServerInfo, admin_, AdminService)
#undef AZ_TEST_CALL

  grpc::Status Create(const std::string& text, pb::CreateCollectionResponse& reply) {
    return Call(*collections_, &pb::CollectionService::Stub::Create, text, reply);
  }

  // Collection `c` with an int64 field `price` and a 2-d vector field `v` (l2), and the rows 1 to 3
  // at (1, 0), (2, 0), (3, 0), of which row 3 has no price.
  void FillCollection() {
    pb::CreateCollectionResponse created;
    ASSERT_TRUE(Create(kCreate, created).ok());
    pb::InsertResponse inserted;
    const grpc::Status status = Insert(R"(
        collection: 'c' rows {
          records { key { int64_key: 1 } fields { key: 'price' value { int64_value: 10 } }
                    vectors { key: 'v' value { dense { values: [1, 0] } } } }
          records { key { int64_key: 2 } fields { key: 'price' value { int64_value: 20 } }
                    vectors { key: 'v' value { dense { values: [2, 0] } } } }
          records { key { int64_key: 3 }
                    vectors { key: 'v' value { dense { values: [3, 0] } } } } })",
                                       inserted);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(inserted.inserted(), 3U);
  }

  uint64_t CountAll() {
    pb::CountResponse count;
    EXPECT_TRUE(Count("collection: 'c'", count).ok());
    return count.count();
  }

  static constexpr char kCreate[] = R"(
      collection: 'c' schema { fields { name: 'price' type: FIELD_TYPE_INT64 }
                               vectors { name: 'v' dimension: 2 metric: METRIC_L2 } })";

  ::azimuth::testing::TempDir dir_;
  std::unique_ptr<App> app_;
  std::unique_ptr<pb::CollectionService::Stub> collections_;
  std::unique_ptr<pb::RecordService::Stub> records_;
  std::unique_ptr<pb::SearchService::Stub> search_;
  std::unique_ptr<pb::AdminService::Stub> admin_;
};

}  // namespace azimuth::server
