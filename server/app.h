// App: the running server. Opens the database, serves the services, drains and closes.
//
// Start, drain and stop are here, and so is the choice of gRPC's server forms: nothing but the
// services themselves knows which of them is in use.
// Thread safety: one thread starts and stops; the rest may be called from any thread meanwhile.
#pragma once

#include "server/config.h"

#include "absl/status/statusor.h"

#include <chrono>
#include <memory>
#include <string>

namespace azimuth::server {

class App final {
 public:
  // Opens the database, then listens; serving when it returns. Errors: those of Database::Open;
  // Unavailable if the address cannot be had, for example because a port is taken.
  static absl::StatusOr<std::unique_ptr<App>> Start(const Config& config);
  ~App();  // Stops without grace if Stop was not called.
  App(const App&) = delete;
  App& operator=(const App&) = delete;

  // Where it listens, with the port that the system chose if port 0 was asked for.
  const HostPort& address() const;
  // Why only a restart can help, once that is so: a failed write made the store read-only, or the
  // listener is lost. Then drain and exit. Empty otherwise. (A store that lacks commits is
  // read-only, too, and stays.)
  std::string failure() const;

  // Says NOT_SERVING, takes no more calls, gives those that run `grace` to finish, cancels the
  // rest, and closes the database. Errors: those of Database::Close. Call once.
  absl::Status Stop(std::chrono::milliseconds grace);

 private:
  struct Rep;
  explicit App(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

}  // namespace azimuth::server
