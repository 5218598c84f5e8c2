// What makes a request the same as an earlier one with its request_id.
//
// Thread safety: a free function.
#pragma once

#include "absl/status/statusor.h"
#include "google/protobuf/message_lite.h"

#include <string>
#include <string_view>

namespace azimuth::server {

// SHA-256, 32 bytes, of the method's name and of all of `request` in one order of its maps: equal
// for requests that say the same. The request_id is in it as well, which changes nothing: digests
// are compared under one id. Internal if OpenSSL fails.
absl::StatusOr<std::string> RequestDigest(std::string_view rpc,
                                          const google::protobuf::MessageLite& request);

}  // namespace azimuth::server
