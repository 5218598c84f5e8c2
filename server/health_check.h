// The client side of the standard health check, for containers and scripts: `azimuthd
// --health-check`.
//
// Thread safety: a free function.
#pragma once

#include "server/config.h"

#include "absl/status/status.h"

#include <chrono>

namespace azimuth::server {

// OK if the server at `address` says that it serves. An address that means all of a machine's
// (0.0.0.0, ::) is asked at loopback. Unavailable if nobody answers or the answer is NOT_SERVING.
absl::Status CheckHealth(const HostPort& address, std::chrono::milliseconds timeout);

}  // namespace azimuth::server
