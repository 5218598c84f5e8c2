// Assertions about absl::Status and absl::StatusOr, which Debian's abseil does not bring along.
//
//   ASSERT_OK(store.Open());                          // Status or StatusOr
//   ASSERT_OK_AND_ASSIGN(auto row, store.Get(key));   // declares row, or ends the test
//   EXPECT_THAT(store.Get(key), StatusIs(absl::StatusCode::kNotFound));
//   EXPECT_THAT(store.Get(key), StatusIs(absl::StatusCode::kNotFound, HasSubstr("key 7")));
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <ostream>
#include <string>
#include <utility>

namespace azimuth::testing {

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

MATCHER(IsOk, negation ? "is an error" : "is OK") {
  const absl::Status& status = StatusOf(arg);
  *result_listener << "which is " << status.ToString();
  return status.ok();
}

MATCHER_P2(StatusIs, code, message,
           "has code " + absl::StatusCodeToString(code) + " and a message that " +
               ::testing::DescribeMatcher<std::string>(message, negation)) {
  const absl::Status& status = StatusOf(arg);
  *result_listener << "which is " << status.ToString();
  return status.code() == code &&
         ::testing::ExplainMatchResult(message, std::string(status.message()), result_listener);
}

// Without a word on the message.
inline auto StatusIs(absl::StatusCode code) {
  return StatusIs(code, ::testing::Matcher<std::string>(::testing::_));
}

}  // namespace azimuth::testing

#define EXPECT_OK(expression) EXPECT_THAT((expression), ::azimuth::testing::IsOk())
#define ASSERT_OK(expression) ASSERT_THAT((expression), ::azimuth::testing::IsOk())

#define AZ_TEST_CONCAT_INNER(a, b) a##b
#define AZ_TEST_CONCAT(a, b) AZ_TEST_CONCAT_INNER(a, b)
// Only in functions that return void, as ASSERT_* are.
#define ASSERT_OK_AND_ASSIGN(lhs, expression) \
  ASSERT_OK_AND_ASSIGN_IMPL(AZ_TEST_CONCAT(az_test_result_, __LINE__), lhs, expression)
#define ASSERT_OK_AND_ASSIGN_IMPL(result, lhs, expression)              \
  auto result = (expression);                                           \
  ASSERT_TRUE(result.ok()) << #expression << " is " << result.status(); \
  lhs = std::move(result).value()
