#include "server/rpc/call.h"

#include "base/logging.h"
#include "base/strings.h"
#include "engine/schema.h"

#include <exception>
#include <new>

namespace azimuth::server {

CancelToken::TimePoint ToSteady(std::chrono::system_clock::time_point deadline,
                                std::chrono::system_clock::time_point system_now,
                                CancelToken::TimePoint steady_now) {
  // A difference to max() would overflow, so compare first.
  constexpr auto kYear = std::chrono::hours(24 * 365);
  if (deadline >= system_now + kYear) return CancelToken::TimePoint::max();
  if (deadline <= system_now) return steady_now;
  return steady_now + (deadline - system_now);
}

CancelToken MakeCancelToken(const grpc::ServerContext& context) {
  return CancelToken(ToSteady(context.deadline(), std::chrono::system_clock::now(),
                              std::chrono::steady_clock::now()),
                     [&context] { return context.IsCancelled(); });
}

absl::Status CheckDatabase(std::string_view database) {
  if (database.empty() || database == "default") return absl::OkStatus();
  // Databases are named as collections are.
  if (absl::Status status = engine::CheckCollectionName(database); !status.ok()) {
    return AtPlace("database", status);
  }
  return Unimplemented("database: %s is not served yet; leave it empty or say 'default'",
                       Quoted(database));
}

absl::Status CheckReplySize(const google::protobuf::MessageLite& reply, size_t bytes_max) {
  const size_t bytes = reply.ByteSizeLong();
  if (bytes <= bytes_max) return absl::OkStatus();
  return ResourceExhausted(
      "the reply would have %d bytes, and %d is the most: ask for fewer records at a time, or for "
      "fewer output_fields and output_vectors",
      bytes, bytes_max);
}

absl::Status CurrentExceptionToStatus() {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    LogError("a call ran out of memory");
    return ResourceExhausted("the server has too little memory for this call");
  } catch (const std::exception& error) {
    LogError("a call ended by an exception: %s", error.what());
    return absl::InternalError("the server failed unexpectedly; its log has the reason");
  } catch (...) {
    LogError("a call ended by an exception of unknown type");
    return absl::InternalError("the server failed unexpectedly; its log has the reason");
  }
}

}  // namespace azimuth::server
