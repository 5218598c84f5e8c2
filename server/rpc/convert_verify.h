// The report of a check as the wire has it; the command `azimuthd verify` prints the same as JSON.
//
// Thread safety: free functions.
#pragma once

#include "azimuth/v1/admin.pb.h"
#include "engine/database.h"
#include "server/rpc/convert_values.h"

#include <string>

namespace azimuth::server {

void ToWire(const engine::VerifyReport& report, pb::VerifyResponse& out);

// One line, with all fields, by their names in the contract. Numbers of 64 bits are strings.
std::string ToJson(const pb::VerifyResponse& report);

}  // namespace azimuth::server
