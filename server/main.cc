// azimuthd: reads the configuration, runs an App until a signal or a store that turned read-only,
// and says on stdout where it listens.
//
// Exit codes: 0 stopped by a signal, or healthy; 1 could not start, became read-only, could not
// close, or not healthy; 2 wrong command line or environment. Those of `azimuthd verify`:
// verify_command.h. Of `azimuthd restore`: 0 done, 1 not done, and there is no data directory.
#include "base/failpoint.h"
#include "base/logging.h"
#include "base/mutex.h"
#include "base/status.h"
#include "base/strings.h"
#include "engine/snapshot/restore_directory.h"
#include "server/app.h"
#include "server/config.h"
#include "server/health_check.h"
#include "server/verify_command.h"

#include "absl/strings/str_cat.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <latch>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

namespace azimuth::server {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr std::chrono::milliseconds kHealthTimeout{3000};
// What a close may take: it flushes memtables, unless the store has failed.
constexpr std::chrono::minutes kCloseMax{10};
constexpr std::chrono::seconds kCloseFailedMax{30};
// How often the store is asked whether it is still writable. Calls see to it as well (App).
constexpr int kWatchMillis = 200;

// Set once before the handler is installed. Written to by the first signal.
int g_stop_event = -1;
volatile std::sig_atomic_t g_stops = 0;
volatile std::sig_atomic_t g_bus_exit_code = kExitFailed;

extern "C" void HandleStopSignal(int) {
  if (g_stops != 0) _exit(kExitFailed);  // The second signal: at once.
  g_stops = 1;
  const int saved_errno = errno;
  const uint64_t one = 1;
  // Only fails if the counter is full, and then the event is set already.
  [[maybe_unused]] const ssize_t written = write(g_stop_event, &one, sizeof(one));
  errno = saved_errno;
}

// A page of a mapped file that the disk can no longer read, or that a cut file no longer has, and
// that could be read when it was checked. No answer can be given from it and none is. A restart
// checks the file by reading it, which only fails, and sets it aside.
extern "C" void HandleBusError(int) {
  static constexpr char kMessage[] =
      "azimuthd: a mapped file cannot be read (SIGBUS): the disk fails, or somebody cut the file; "
      "the next start names the file, sets it aside and builds it again\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  _exit(g_bus_exit_code);
}

void InstallBusHandler(int exit_code) {
  g_bus_exit_code = exit_code;
  struct sigaction action = {};
  action.sa_handler = HandleBusError;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

absl::Status InstallStopHandler() {
  g_stop_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (g_stop_event < 0) {
    return absl::InternalError(absl::StrCat("eventfd: ", std::generic_category().message(errno)));
  }
  struct sigaction action = {};
  action.sa_handler = HandleStopSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  return absl::OkStatus();
}

// Standard descriptors that were closed by who started us would be given to the next files that are
// opened, and lines of the log would be written into them.
void KeepStandardDescriptors() {
  int fd = -1;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

// gRPC ends the process when it cannot make its threads; this says why before. All of them are
// there at once: a thread that has ended counts no more.
absl::Status CheckThreads() {
  constexpr int kThreads = 32;
  std::vector<std::thread> threads;
  std::latch all_made(1);
  absl::Status status;
  try {
    for (int i = 0; i < kThreads; ++i) threads.emplace_back([&all_made] { all_made.wait(); });
  } catch (const std::system_error& error) {
    status = absl::ResourceExhaustedError(
        absl::StrCat("cannot make ", kThreads, " threads: ", error.what(),
                     " (ulimit -u, ulimit -v, and pids.max of the control group bound them)"));
  }
  all_made.count_down();
  for (std::thread& thread : threads) thread.join();
  return status;
}

// Once gRPC's listener has met the limit it stays deaf, so the limit is as high as it may be.
void RaiseOpenFileLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    LogWarning("cannot raise the limit of open files: %s", std::generic_category().message(errno));
  }
}

absl::Status ArmConfiguredFailpoints(const std::string& failpoints) {
  if (failpoints.empty()) return absl::OkStatus();
#ifdef AZ_FAILPOINTS_ENABLED
  LogWarning("failpoints are armed: %s", failpoints);
  return ArmFailpoints(failpoints);
#else
  return absl::InvalidArgumentError("this build has no failpoints");
#endif
}

// The file appears whole: whoever waits for it never reads half an address.
absl::Status WritePortFile(const std::string& path, const HostPort& address) {
  const std::string temporary = absl::StrCat(path, ".tmp");
  std::ofstream file(temporary, std::ios::trunc);
  file << address.ToString() << '\n';
  file.close();
  std::error_code error;
  if (file.good()) std::filesystem::rename(temporary, path, error);
  if (file.good() && !error) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("--port-file: cannot write ", path, error ? ": " : "",
                                          error ? error.message() : ""));
}

int Fail(std::string_view message, int exit_code = kExitFailed) {
  std::fprintf(stderr, "azimuthd: %s\n", std::string(message).c_str());
  return exit_code;
}

// Returns when a signal came (true), or the server can no longer do its work (false).
bool WaitForStop(const App& app) {
  while (app.failure().empty()) {
    pollfd event = {.fd = g_stop_event, .events = POLLIN, .revents = 0};
    if (poll(&event, 1, kWatchMillis) > 0) return true;
  }
  return false;
}

// A store may hang when it is closed; nothing would be lost by ending without it.
void EndInTime(std::chrono::milliseconds time) {
  std::thread([end = std::chrono::steady_clock::now() + time] {
    Mutex mu;
    CondVar nobody;
    MutexLock lock(mu);
    while (std::chrono::steady_clock::now() < end) nobody.WaitUntil(mu, end);
    LogError("the store cannot be closed; ending without it");
    _exit(kExitFailed);
  }).detach();
}

int Serve(const Config& config) {
  SetLogLevel(config.log_level);
  if (absl::Status status = ArmConfiguredFailpoints(config.failpoints); !status.ok()) {
    return Fail(absl::StrCat("AZIMUTH_FAILPOINTS: ", status.message()), kExitUsage);
  }
  // A terminal that goes, and what supervisors send to reload: nothing is reloaded yet.
  for (const int ignored : {SIGPIPE, SIGHUP, SIGUSR1, SIGUSR2}) std::signal(ignored, SIG_IGN);
  InstallBusHandler(kExitFailed);
  RaiseOpenFileLimit();
  if (const absl::Status status = CheckThreads(); !status.ok()) {
    return Fail(ToStd(status.message()));
  }
  absl::StatusOr<std::unique_ptr<App>> started = App::Start(config);
  if (!started.ok()) return Fail(ToStd(started.status().message()));
  App& app = **started;

  // Not before: until the server is up a signal ends the process at once, which loses nothing.
  if (absl::Status status = InstallStopHandler(); !status.ok()) {
    return Fail(ToStd(status.message()));
  }
  if (!config.port_file.empty()) {
    if (absl::Status status = WritePortFile(config.port_file, app.address()); !status.ok()) {
      return Fail(ToStd(status.message()));
    }
  }
  std::printf("azimuthd %s listening on %s, data in %s\n", std::string(Version()).c_str(),
              app.address().ToString().c_str(), config.database.data_dir.c_str());
  std::fflush(stdout);

  const bool asked_to_stop = WaitForStop(app);
  if (asked_to_stop) {
    LogInfo("stopping: calls that run have %d ms to finish", config.grace.count());
    EndInTime(config.grace + kCloseMax);
  } else {
    LogError("stopping, so that a restart recovers: %s", app.failure());
    EndInTime(config.grace + kCloseFailedMax);
  }
  const absl::Status closed = app.Stop(config.grace);
  if (!closed.ok()) return Fail(absl::StrCat("close: ", closed.message()));
  LogInfo("stopped");
  return asked_to_stop ? 0 : kExitFailed;
}

int Verify(const Config& config) {
  if (absl::Status status = ArmConfiguredFailpoints(config.failpoints); !status.ok()) {
    return Fail(ToStd(status.message()), kExitUsage);
  }
  InstallBusHandler(kExitUsage);  // It could not be checked.
  return RunVerify(config);
}

int Restore(const Config& config) {
  if (absl::Status status = ArmConfiguredFailpoints(config.failpoints); !status.ok()) {
    return Fail(ToStd(status.message()), kExitUsage);
  }
  SetLogLevel(config.log_level);
  InstallBusHandler(kExitFailed);
  const absl::StatusOr<engine::DirectoryRestore> restored =
      engine::RestoreDirectory(config.restore_from, config.database, CancelToken());
  if (!restored.ok()) return Fail(absl::StrCat("restore: ", restored.status().message()));
  for (const std::string& warning : restored->warnings) {
    LogWarning("restored all the same: %s", warning);
  }
  std::printf("%s: restored %s records of %s collections, as of %s\n",
              config.database.data_dir.c_str(), std::to_string(restored->snapshot.rows).c_str(),
              std::to_string(restored->collections).c_str(),
              std::to_string(Raw(restored->snapshot.as_of)).c_str());
  return std::fflush(stdout) == 0 ? 0 : kExitFailed;
}

int Main(int argc, char** argv) {
  KeepStandardDescriptors();
  const CommandLine command = ParseCommandLine(argc, argv);
  switch (command.action) {
    case Action::kExit:
      std::fputs(command.output.c_str(), stdout);
      std::fputs(command.error.c_str(), stderr);
      return command.exit_code;
    case Action::kCheckHealth: {
      const absl::Status status = CheckHealth(command.config.listen, kHealthTimeout);
      return status.ok() ? 0 : Fail(ToStd(status.message()));
    }
    case Action::kVerify:
      return Verify(command.config);
    case Action::kRestore:
      return Restore(command.config);
    case Action::kServe:
      return Serve(command.config);
  }
  return kExitUsage;
}

}  // namespace
}  // namespace azimuth::server

int main(int argc, char** argv) {
  return azimuth::server::Main(argc, argv);
}
