#include "base/status.h"

#include "tests/support/matchers.h"

#include <memory>
#include <string>

namespace azimuth {
namespace {

using testing::StatusIs;

absl::StatusOr<std::unique_ptr<int>> Half(int number) {
  if (number % 2 != 0) return InvalidArgument("%d is odd", number);
  return std::make_unique<int>(number / 2);
}

absl::StatusOr<int> Quarter(int number) {
  AZ_ASSIGN_OR_RETURN(const auto half, Half(number));
  std::unique_ptr<int> quarter;
  AZ_ASSIGN_OR_RETURN(quarter, Half(*half));
  return *quarter;
}

absl::Status Both(const absl::Status& a, const absl::Status& b) {
  AZ_RETURN_IF_ERROR(a);
  AZ_RETURN_IF_ERROR(b);
  return absl::OkStatus();
}

TEST(AssignOrReturn, MovesTheValueOutOrReturnsTheError) {
  ASSERT_OK_AND_ASSIGN(const int one, Quarter(4));
  EXPECT_EQ(one, 1);
  EXPECT_THAT(Quarter(6), StatusIs(absl::StatusCode::kInvalidArgument, "3 is odd"));
  EXPECT_THAT(Quarter(5), StatusIs(absl::StatusCode::kInvalidArgument, "5 is odd"));
}

TEST(ReturnIfError, ReturnsTheFirstError) {
  EXPECT_OK(Both(absl::OkStatus(), absl::OkStatus()));
  EXPECT_THAT(Both(NotFound("a"), DataLoss("b")), StatusIs(absl::StatusCode::kNotFound, "a"));
  EXPECT_THAT(Both(absl::OkStatus(), DataLoss("b")), StatusIs(absl::StatusCode::kDataLoss, "b"));
}

TEST(AtPlace, PutsThePlaceBeforeTheMessageAndKeepsTheCode) {
  EXPECT_THAT(AtPlace("records[17]", AlreadyExists("key %d", 4)),
              StatusIs(absl::StatusCode::kAlreadyExists, "records[17]: key 4"));
}

TEST(StatusMakers, HaveTheCodeOfTheirName) {
  EXPECT_THAT(FailedPrecondition("x"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(Unimplemented("x"), StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_THAT(ResourceExhausted("x"), StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace azimuth
