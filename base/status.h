// Errors: absl::Status everywhere, with macros to hand them up and one function to say where.
//
// Codes: InvalidArgument = wrong whatever the state; NotFound, AlreadyExists; FailedPrecondition =
// wrong now; Aborted = lost a race; ResourceExhausted = limits, memory, disk; DataLoss = checksum;
// Unavailable = draining or outcome unknown; DeadlineExceeded, Cancelled; Unimplemented; Internal =
// our own bug only.
#pragma once

#include "base/strings.h"

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include <string>
#include <string_view>
#include <utility>

namespace azimuth {

// The same error with "`where`: " before its message. REQUIRES: !status.ok().
inline absl::Status AtPlace(std::string_view where, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(ToAbsl(where), ": ", status.message()));
}

// StrFormat to a status of each code that is used.
template <typename... Args>
absl::Status InvalidArgument(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::InvalidArgumentError(absl::StrFormat(format, args...));
}
template <typename... Args>
absl::Status FailedPrecondition(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::FailedPreconditionError(absl::StrFormat(format, args...));
}
template <typename... Args>
absl::Status NotFound(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::NotFoundError(absl::StrFormat(format, args...));
}
template <typename... Args>
absl::Status AlreadyExists(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::AlreadyExistsError(absl::StrFormat(format, args...));
}
template <typename... Args>
absl::Status DataLoss(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::DataLossError(absl::StrFormat(format, args...));
}
template <typename... Args>
absl::Status Unimplemented(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::UnimplementedError(absl::StrFormat(format, args...));
}
template <typename... Args>
absl::Status ResourceExhausted(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return absl::ResourceExhaustedError(absl::StrFormat(format, args...));
}

}  // namespace azimuth

#define AZ_STATUS_CONCAT_INNER(a, b) a##b
#define AZ_STATUS_CONCAT(a, b) AZ_STATUS_CONCAT_INNER(a, b)

// Returns from the enclosing function if `expression` (an absl::Status) is not OK.
#define AZ_RETURN_IF_ERROR(expression)                                \
  do {                                                                \
    if (::absl::Status az_status_ = (expression); !az_status_.ok()) { \
      return az_status_;                                              \
    }                                                                 \
  } while (false)

// AZ_ASSIGN_OR_RETURN(auto x, F()): declares or assigns x, or returns F's error.
#define AZ_ASSIGN_OR_RETURN(lhs, expression) \
  AZ_ASSIGN_OR_RETURN_IMPL(AZ_STATUS_CONCAT(az_statusor_, __LINE__), lhs, expression)
#define AZ_ASSIGN_OR_RETURN_IMPL(statusor, lhs, expression) \
  auto statusor = (expression);                             \
  if (!statusor.ok()) return std::move(statusor).status();  \
  lhs = std::move(statusor).value()
