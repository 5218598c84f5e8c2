// `azimuthd verify DIR`: the check, and the repair, of a data directory that no server runs on. One
// JSON object on stdout (azimuth.v1.VerifyResponse); docs/OPERATIONS.md says what to do about it.
//
// Thread safety: called once, by main.
#pragma once

#include "server/config.h"

namespace azimuth::server {

// The exit code: 0 sound (with notices, perhaps), 1 something is wrong, 2 it could not be checked;
// then the reason is on stderr.
int RunVerify(const Config& config);

}  // namespace azimuth::server
