#include "server/rpc/status.h"

#include "base/strings.h"

#include "gtest/gtest.h"

#include <string>

namespace azimuth::server {
namespace {

TEST(ToGrpc, KeepsEveryCodeAndItsMessage) {
  // Both enums have google.rpc.Code's numbers, 0 to 16.
  for (int number = 1; number <= 16; ++number) {
    const grpc::Status status =
        ToGrpc(absl::Status(static_cast<absl::StatusCode>(number), "records[3].key: missing"));
    EXPECT_EQ(static_cast<int>(status.error_code()), number);
    EXPECT_EQ(status.error_message(), "records[3].key: missing");
  }
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
}

TEST(ToGrpc, CutsLongMessagesAtAWholeCharacter) {
  for (size_t lead = 0; lead < 3; ++lead) {
    std::string message(lead, 'a');
    while (message.size() < 2 * kStatusMessageBytesMax)
      message += "\xE2\x82\xAC";  // The euro sign.
    const grpc::Status status = ToGrpc(absl::InvalidArgumentError(message));
    EXPECT_LE(status.error_message().size(), kStatusMessageBytesMax);
    EXPECT_GE(status.error_message().size(), kStatusMessageBytesMax - 3);
    EXPECT_TRUE(IsValidUtf8(status.error_message()));
    EXPECT_EQ(status.error_message().substr(status.error_message().size() - 3), "...");
  }
}

TEST(ToGrpc, KeepsAMessageOfTheGreatestLengthWhole) {
  const std::string message(kStatusMessageBytesMax, 'x');
  EXPECT_EQ(ToGrpc(absl::InvalidArgumentError(message)).error_message(), message);
}

}  // namespace
}  // namespace azimuth::server
