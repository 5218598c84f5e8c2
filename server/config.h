// The command line and environment of azimuthd. The only place that reads either.
//
// A flag wins over its environment variable, which wins over the default.
// Thread safety: ParseCommandLine reads the environment: call it before threads start.
#pragma once

#include "base/logging.h"
#include "engine/database.h"

#include "absl/status/statusor.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace azimuth::server {

struct HostPort {
  std::string host;  // A name or an address; IPv6 without its brackets.
  uint16_t port = 0;

  // "host:port", with brackets where IPv6 needs them.
  std::string ToString() const;
  friend bool operator==(const HostPort&, const HostPort&) = default;
};

struct Config {
  engine::DatabaseOptions database;
  HostPort listen{"127.0.0.1", 7600};  // Port 0: the system chooses one.
  LogLevel log_level = LogLevel::kInfo;
  // How long calls that run may take to finish once the server stops.
  std::chrono::milliseconds grace{10000};
  int rpc_threads = 1024;
  uint64_t rpc_memory_bytes = uint64_t{1} << 30;
  std::string port_file;   // Empty: none.
  std::string failpoints;  // Empty: none armed.
  struct Verify {
    bool deep = false;
    bool repair = false;
  };
  Verify verify;             // For kVerify.
  std::string restore_from;  // For kRestore: the folder of a snapshot.
};

enum class Action { kServe, kCheckHealth, kVerify, kRestore, kExit };

struct CommandLine {
  Action action = Action::kExit;
  Config config;       // For all but kExit.
  int exit_code = 0;   // For kExit, like the texts.
  std::string output;  // For stdout: help or version.
  std::string error;   // For stderr.
};

// Exit code 2 for what is wrong in the command line or the environment.
CommandLine ParseCommandLine(int argc, const char* const* argv);

// "host:port" or "[ipv6]:port". InvalidArgument.
absl::StatusOr<HostPort> ParseHostPort(std::string_view text);
// True for localhost, 127.0.0.0/8 and ::1.
bool IsLoopback(std::string_view host);

std::string_view Version();

}  // namespace azimuth::server
