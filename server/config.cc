#include "server/config.h"

#include "base/status.h"
#include "base/strings.h"

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>
#include <sstream>
#include <utility>

namespace azimuth::server {
namespace {

constexpr uint64_t kKiB = uint64_t{1} << 10;
constexpr uint64_t kMiB = uint64_t{1} << 20;

// True if `text` is four numbers of 0 to 255 with dots between them, the first of which is 127.
bool IsLoopback4(std::string_view text) {
  int part = 0;
  for (; part < 4; ++part) {
    const std::string_view digits = text.substr(0, text.find('.'));
    uint8_t number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || end != digits.data() + digits.size()) return false;
    if (part == 0 && number != 127) return false;
    text.remove_prefix(digits.size());
    if (text.empty()) break;
    text.remove_prefix(1);
  }
  return part == 3 && text.empty();
}

// What the options write to, in the units that the flags have.
struct Flags {
  std::string listen;
  bool insecure = false;
  bool health_check = false;
  int64_t grace_ms = 0;
  uint64_t memory_mb = 0;
  uint64_t block_cache_mb = 0;
  uint64_t write_buffer_mb = 0;
  uint64_t bulk_commit_kb = 0;
  uint64_t rpc_memory_mb = 0;
  uint64_t ballast_mb = 64;
  uint64_t disk_floor_mb = 0;
  uint64_t scrub_hours = 168;
  uint64_t accept_data_loss = 0;
  CLI::Option* accept_option = nullptr;
  std::string verify_dir = {};
  std::string restore_dir = {};
};

void AddServerOptions(CLI::App& app, Config& config, Flags& flags) {
  app.add_option("--data-dir", config.database.data_dir,
                 "The folder that holds all data; made if it is not there (required)")
      ->envname("AZIMUTH_DATA_DIR");
  app.add_option("--listen", flags.listen, "HOST:PORT to serve at; port 0 lets the system choose")
      ->envname("AZIMUTH_LISTEN")
      ->capture_default_str();
  app.add_flag("--insecure", flags.insecure,
               "Allow an address that other machines reach. There is no authentication and no "
               "encryption: only behind a firewall or a proxy that has both");
  const std::map<std::string, LogLevel> levels = {{"debug", LogLevel::kDebug},
                                                  {"info", LogLevel::kInfo},
                                                  {"warning", LogLevel::kWarning},
                                                  {"error", LogLevel::kError}};
  app.add_option("--log-level", config.log_level, "Least level of the lines on stderr")
      ->transform(CLI::CheckedTransformer(levels))
      ->default_str("info");
  app.add_option("--grace-ms", flags.grace_ms,
                 "How long running calls may take to finish when the server stops")
      ->check(CLI::Range(int64_t{0}, int64_t{3600} * 1000))
      ->capture_default_str();
  app.add_option("--rpc-threads", config.rpc_threads,
                 "Searches that run or wait at one time, and likewise other calls that run; more "
                 "are refused")
      ->check(CLI::Range(8, 4096))
      ->capture_default_str();
  app.add_option("--rpc-memory-mb", flags.rpc_memory_mb,
                 "Memory that requests on their way in may take, in MiB")
      ->check(CLI::Range(uint64_t{128}, uint64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--port-file", config.port_file,
                 "Write HOST:PORT to this file once the server listens");
  app.add_flag("--health-check", flags.health_check,
               "Do not serve: ask the server at --listen for its health; exit 0 if it serves");
}

void AddEngineOptions(CLI::App& app, engine::DatabaseOptions& options, Flags& flags) {
  app.add_option("--growing-rows-max", options.growing_rows_max,
                 "Rows that a growing segment takes before its index is built")
      ->check(CLI::Range(uint32_t{1}, uint32_t{1} << 24))
      ->capture_default_str();
  app.add_option("--graph-rows-min", options.graph_rows_min,
                 "Segments of fewer rows are scanned instead of indexed")
      ->check(CLI::Range(uint32_t{1}, uint32_t{1} << 24))
      ->capture_default_str();
  app.add_option("--growing-idle-ms", options.growing_idle_ms,
                 "A growing segment is closed when no write came for this long")
      ->check(CLI::Range(int64_t{0}, int64_t{3600} * 1000))
      ->capture_default_str();
  app.add_option("--segment-rows-max", options.segment_rows_max,
                 "Segments are not merged into one of more rows than this")
      ->check(CLI::Range(uint64_t{1}, (uint64_t{1} << 32) - 1))
      ->capture_default_str();
  app.add_option("--build-threads", options.build_threads,
                 "Threads that build indexes; 0 is one for each core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--memory-mb", flags.memory_mb,
                 "Memory for all that grows with data or load, in MiB; 0 is three fifths of what "
                 "the machine or the control group has")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 24))
      ->capture_default_str();
  app.add_option("--unindexed-rows-slow", options.unindexed_rows_slow,
                 "Writes are slowed down while more rows of a collection wait for their index; "
                 "not more than --unindexed-rows-max")
      ->check(CLI::Range(uint64_t{1}, (uint64_t{1} << 32) - 1))
      ->capture_default_str();
  app.add_option("--unindexed-rows-max", options.unindexed_rows_max,
                 "Writes but deletes are refused while as many rows of a collection wait for their "
                 "index")
      ->check(CLI::Range(uint64_t{1}, (uint64_t{1} << 32) - 1))
      ->capture_default_str();
  app.add_option("--block-cache-mb", flags.block_cache_mb, "Cache for blocks of rows, in MiB")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--write-buffer-mb", flags.write_buffer_mb,
                 "Memory for rows that are not flushed yet, in MiB")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 16))
      ->capture_default_str();
  app.add_option("--bulk-commit-kb", flags.bulk_commit_kb,
                 "Commits with at least so many vectors, in KiB, write them to table files of "
                 "their own")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 22))
      ->capture_default_str();
}

void AddDurabilityOptions(CLI::App& app, engine::DatabaseOptions& options, Flags& flags) {
  app.add_option("--disk-floor-mb", flags.disk_floor_mb,
                 "Writes but deletes are refused while less of the disk is free, in MiB; 0 is the "
                 "smaller of 5 % of the disk and 1024")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 24))
      ->capture_default_str();
  app.add_option("--ballast-mb", flags.ballast_mb,
                 "Size of a file that is given up when the disk is full, so that deletes still "
                 "fit, in MiB; 0 for none")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--scrub-hours", flags.scrub_hours,
                 "Every segment file is compared with its checksums so often")
      ->check(CLI::Range(uint64_t{1}, uint64_t{24} * 366))
      ->capture_default_str();
  flags.accept_option =
      app.add_option("--accept-data-loss", flags.accept_data_loss,
                     "Go on without commits that are missing, up to this sequence number: the one "
                     "that the refusal names");
  app.add_flag("--allow-network-fs", options.allow_network_files,
               "Allow a data directory on a network file system, whose locks and syncs may mean "
               "nothing");
}

CLI::App& AddVerifyCommand(CLI::App& app, Config& config, Flags& flags) {
  CLI::App& verify = *app.add_subcommand(
      "verify", "Compare a data directory that no server runs on with itself, and print a report");
  verify.add_flag("--deep", config.verify.deep,
                  "Compare the content of all rows with that of their segment files, not only that "
                  "of a sample");
  verify.add_flag("--repair", config.verify.repair,
                  "Make again what can be made from the rows; rows, keys and vectors are not "
                  "changed");
  verify.add_option("DIR", flags.verify_dir, "The data directory")->required();
  return verify;
}

CLI::App& AddRestoreCommand(CLI::App& app, Config& config, Flags& flags) {
  CLI::App& restore =
      *app.add_subcommand("restore", "Make a data directory of a snapshot; no server runs on it");
  restore.add_option("--from", config.restore_from, "The folder of the snapshot")->required();
  restore.add_option("--data", flags.restore_dir, "The data directory: a new or an empty one")
      ->required();
  return restore;
}

absl::Status Finish(const Flags& flags, Action action, Config& config) {
  absl::StatusOr<HostPort> listen = ParseHostPort(flags.listen);
  if (!listen.ok()) return AtPlace("--listen", listen.status());
  config.listen = *std::move(listen);
  config.grace = std::chrono::milliseconds(flags.grace_ms);
  config.database.unindexed_rows_slow =
      std::min(config.database.unindexed_rows_slow, config.database.unindexed_rows_max);
  config.database.memory_bytes = flags.memory_mb * kMiB;
  config.database.block_cache_bytes = flags.block_cache_mb * kMiB;
  config.database.write_buffer_bytes = flags.write_buffer_mb * kMiB;
  config.database.bulk_commit_bytes = flags.bulk_commit_kb * kKiB;
  config.database.disk_floor_bytes = flags.disk_floor_mb * kMiB;
  config.database.ballast_bytes = flags.ballast_mb * kMiB;
  config.database.scrub_interval_ms = static_cast<int64_t>(flags.scrub_hours) * 3600 * 1000;
  if (flags.accept_option->count() > 0) {
    config.database.accept_data_loss = Seq{flags.accept_data_loss};
  }
  config.rpc_memory_bytes = flags.rpc_memory_mb * kMiB;
  if (const char* failpoints = std::getenv("AZIMUTH_FAILPOINTS"); failpoints != nullptr) {
    config.failpoints = failpoints;
  }
  if (action == Action::kVerify || action == Action::kRestore) {
    config.database.data_dir = action == Action::kVerify ? flags.verify_dir : flags.restore_dir;
    return absl::OkStatus();
  }
  if (action == Action::kCheckHealth) {
    if (config.listen.port != 0) return absl::OkStatus();
    return absl::InvalidArgumentError("--listen: port 0 cannot be asked for its health");
  }
  if (config.database.data_dir.empty()) {
    return absl::InvalidArgumentError("--data-dir (or AZIMUTH_DATA_DIR) is required");
  }
  if (!flags.insecure && !IsLoopback(config.listen.host)) {
    return InvalidArgument(
        "--listen: other machines may reach %s, and there is no authentication and no encryption "
        "yet; serve at 127.0.0.1, or say --insecure if a firewall or a proxy protects the server",
        config.listen.ToString());
  }
  return absl::OkStatus();
}

}  // namespace

std::string HostPort::ToString() const {
  if (host.find(':') == std::string::npos) return absl::StrCat(host, ":", port);
  return absl::StrCat("[", host, "]:", port);
}

absl::StatusOr<HostPort> ParseHostPort(std::string_view text) {
  const absl::Status malformed =
      InvalidArgument("expected HOST:PORT or [IPV6]:PORT, got %s", Quoted(text));
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return malformed;
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of(":[]/") != std::string_view::npos) {
    return malformed;
  }
  HostPort out;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.port);
  if (host.empty() || error != std::errc() || end != digits.data() + digits.size()) {
    return malformed;
  }
  out.host = host;
  return out;
}

bool IsLoopback(std::string_view host) {
  return host == "localhost" || host == "::1" || IsLoopback4(host);
}

std::string_view Version() {
  return AZIMUTH_VERSION;
}

CommandLine ParseCommandLine(int argc, const char* const* argv) {
  CommandLine out;
  Config& config = out.config;
  Flags flags{.listen = config.listen.ToString(),
              .grace_ms = config.grace.count(),
              .memory_mb = config.database.memory_bytes / kMiB,
              .block_cache_mb = config.database.block_cache_bytes / kMiB,
              .write_buffer_mb = config.database.write_buffer_bytes / kMiB,
              .bulk_commit_kb = config.database.bulk_commit_bytes / kKiB,
              .rpc_memory_mb = config.rpc_memory_bytes / kMiB};
  CLI::App app("Azimuth, a vector database server", "azimuthd");
  app.set_version_flag("--version", absl::StrCat("azimuthd ", ToAbsl(Version())));
  AddServerOptions(app, config, flags);
  AddEngineOptions(app, config.database, flags);
  AddDurabilityOptions(app, config.database, flags);
  const CLI::App& verify = AddVerifyCommand(app, config, flags);
  const CLI::App& restore = AddRestoreCommand(app, config, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream output, errors;
    const bool is_error = app.exit(error, output, errors) != 0;
    out.exit_code = is_error ? 2 : 0;
    out.output = output.str();
    if (is_error) out.error = absl::StrCat("azimuthd: ", errors.str());
    return out;
  }
  const Action action = verify.parsed()      ? Action::kVerify
                        : restore.parsed()   ? Action::kRestore
                        : flags.health_check ? Action::kCheckHealth
                                             : Action::kServe;
  if (absl::Status status = Finish(flags, action, config); !status.ok()) {
    out.exit_code = 2;
    out.error = absl::StrCat("azimuthd: ", status.message(), "\n");
    return out;
  }
  out.action = action;
  return out;
}

}  // namespace azimuth::server
