// What every RPC handler does around its own work: deadline and cancellation, the database's name,
// exceptions of libraries, the size of the reply.
//
// Thread safety: free functions; each call has its own context.
#pragma once

#include "base/deadline.h"
#include "base/status.h"
#include "server/rpc/status.h"

#include "absl/status/status.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"

#include <chrono>
#include <functional>
#include <string_view>

namespace azimuth::server {

// What clients are told to accept; a longer reply would fail in the client without a reason.
inline constexpr size_t kReplyBytesMax = size_t{64} << 20;

// A deadline by the wall clock as one by the steady clock. time_point::max(), which is no deadline,
// stays max; so does one of more than a year.
CancelToken::TimePoint ToSteady(std::chrono::system_clock::time_point deadline,
                                std::chrono::system_clock::time_point system_now,
                                CancelToken::TimePoint steady_now);

// The token lives no longer than `context`.
CancelToken MakeCancelToken(const grpc::ServerContext& context);

// OK for the one database there is: "" or "default". Unimplemented for other names, InvalidArgument
// for what is no name.
absl::Status CheckDatabase(std::string_view database);

// ResourceExhausted, saying what to ask less of, if `reply` is longer than `bytes_max`.
absl::Status CheckReplySize(const google::protobuf::MessageLite& reply,
                            size_t bytes_max = kReplyBytesMax);

// Of the exception that is being handled. REQUIRES: called from a catch block.
absl::Status CurrentExceptionToStatus();

// Runs `work(cancel)`, an absl::Status, unless the deadline has passed or there is no such
// database; no exception gets out.
template <typename Work>
grpc::Status HandleCall(const CancelToken& cancel, std::string_view database, const Work& work) {
  try {
    absl::Status status = cancel.Check();
    if (status.ok()) status = CheckDatabase(database);
    if (status.ok()) status = work(cancel);
    return ToGrpc(status);
  } catch (...) {
    return ToGrpc(CurrentExceptionToStatus());
  }
}

template <typename Work>
grpc::Status HandleCall(const grpc::ServerContext& context, std::string_view database,
                        const Work& work) {
  return HandleCall(MakeCancelToken(context), database, work);
}

// As HandleCall, for calls that change the database: `on_failed` hears of a failure, which may have
// made the store read-only.
template <typename Work>
grpc::Status HandleWrite(const grpc::ServerContext& context, std::string_view database,
                         const std::function<void()>& on_failed, const Work& work) {
  grpc::Status status = HandleCall(context, database, work);
  if (!status.ok()) on_failed();
  return status;
}

}  // namespace azimuth::server
