// absl::Status to grpc::Status: the only place where one becomes the other.
//
// Thread safety: free functions.
#pragma once

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace azimuth::server {

// The same code, and the message cut to kStatusMessageBytesMax bytes (at a whole UTF-8 character).
// Messages travel percent-encoded in the trailing metadata, of which clients accept 8 KiB.
grpc::Status ToGrpc(const absl::Status& status);

inline constexpr size_t kStatusMessageBytesMax = 2000;

}  // namespace azimuth::server
