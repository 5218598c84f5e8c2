#include "server/rpc/request_digest.h"

#include "azimuth/v1/records.pb.h"
#include "tests/server/parse.h"
#include "tests/support/matchers.h"

#include "absl/strings/escaping.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <set>
#include <string>

namespace azimuth::server {
namespace {

namespace pb = ::azimuth::v1;

std::string Digest(std::string_view rpc, const google::protobuf::MessageLite& request) {
  absl::StatusOr<std::string> digest = RequestDigest(rpc, request);
  EXPECT_OK(digest);
  return *digest;
}

// Fields in the order from `first` on, which is an order of insertion into the map.
pb::UpsertRequest WithFields(int first) {
  pb::UpsertRequest request;
  auto& fields = *request.mutable_rows()->add_records()->mutable_fields();
  for (int i = 0; i < 50; ++i) {
    fields["f" + std::to_string((first + i * 7) % 50)].set_int64_value((first + i * 7) % 50);
  }
  return request;
}

TEST(RequestDigest, IsSha256OfTheNameItsEndAndTheBytes) {
  // printf 'Upsert\0\022\001c' | sha256sum
  EXPECT_EQ(absl::BytesToHexString(Digest("Upsert", Parse<pb::UpsertRequest>("collection: 'c'"))),
            "7a26253075e2c0e70ac68b1b962394a641659d688e781047037b0b4f4a8f18fb");
}

TEST(RequestDigest, DoesNotDependOnTheOrderOfMaps) {
  const std::string digest = Digest("Upsert", WithFields(0));
  EXPECT_EQ(digest.size(), 32U);
  for (int first = 1; first < 50; ++first) EXPECT_EQ(Digest("Upsert", WithFields(first)), digest);
}

TEST(RequestDigest, DiffersWithTheMethodAndWithEveryPartOfTheRequest) {
  std::set<std::string> digests = {Digest("Insert", pb::UpsertRequest()),
                                   Digest("Upsert", pb::UpsertRequest())};
  for (const char* text : {"collection: 'c'", "collection: 'd'", "if_version: 0", "if_version: 1",
                           "rows {}", "columns {}", "durability: DURABILITY_SYNCED"}) {
    digests.insert(Digest("Upsert", Parse<pb::UpsertRequest>(text)));
  }
  EXPECT_EQ(digests.size(), 9U);
}

TEST(RequestDigest, TakesRequestsOfManyBlocks) {
  pb::UpsertRequest request;
  request.mutable_columns()->add_vectors()->set_f32(std::string(1 << 20, 'x'));
  const std::string digest = Digest("Upsert", request);
  request.mutable_columns()->mutable_vectors(0)->mutable_f32()->back() = 'y';
  EXPECT_NE(Digest("Upsert", request), digest);
}

}  // namespace
}  // namespace azimuth::server
