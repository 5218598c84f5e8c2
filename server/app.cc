#include "server/app.h"

#include "base/logging.h"
#include "base/status.h"
#include "engine/database.h"
#include "server/rpc/admin_service.h"
#include "server/rpc/collections_service.h"
#include "server/rpc/health_service.h"
#include "server/rpc/hot_calls.h"
#include "server/rpc/ingest_stream.h"
#include "server/rpc/records_service.h"
#include "server/rpc/search_service.h"

#include "absl/synchronization/mutex.h"
#include "grpc/grpc.h"
#include "grpc/support/log.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"

#include <atomic>
#include <string_view>
#include <utility>

namespace azimuth::server {
namespace {

constexpr int kRequestBytesMax = 64 << 20;
constexpr int kMetadataBytesMax = 8 << 10;
constexpr int kStreamsPerConnectionMax = 128;
// A name of the health service that is no service: whether writes are taken.
constexpr char kWritesHealthName[] = "azimuth.v1.writes";
constexpr const char* kHealthNames[] = {"",
                                        kWritesHealthName,
                                        kCollectionServiceName,
                                        kRecordServiceName,
                                        kSearchServiceName,
                                        kAdminServiceName};

// Of the process, like gRPC's log.
std::atomic<bool> listener_lost{false};

// gRPC's own lines go where ours go. Its errors are about peers or the network: warnings to us.
void LogGrpcLine(gpr_log_func_args* line) {
  // Its listener does not recover from this (out of descriptors), and tells nobody else.
  if (line->severity == GPR_LOG_SEVERITY_ERROR &&
      std::string_view(line->message).find("Failed accept4") != std::string_view::npos) {
    listener_lost.store(true);
  }
  const LogLevel level =
      line->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarning : LogLevel::kDebug;
  LogLine(level, absl::StrCat("grpc: ", line->message));
}

// Holds gRPC's library until the process ends. Its shutdown, which the end of the last server would
// start, waits up to 10 s for what connections have left behind, before the database is closed.
void KeepGrpcInitialized() {
  [[maybe_unused]] static const bool initialized = (grpc_init(), true);
}

// Limits that gRPC holds peers to. Compression is off because this version inflates a message
// before it looks at its size.
void SetLimits(const Config& config, grpc::ServerBuilder& builder) {
  grpc::ResourceQuota quota("azimuthd");
  quota.Resize(config.rpc_memory_bytes);
  quota.SetMaxThreads(config.rpc_threads);
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(kRequestBytesMax);
  builder.SetMaxSendMessageSize(-1);  // Handlers check replies and say what to do.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytesMax);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsPerConnectionMax);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Clients may ping as often as this themselves.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000);
  // Without this a second server would share the port and take half of the connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

}  // namespace

struct App::Rep {
  HostPort address;
  // Destroyed from the last to the first: the server ends before what its calls use.
  std::unique_ptr<engine::Database> database;
  IngestStreams ingest_streams;
  HealthService health;
  std::unique_ptr<grpc::Service> collections, records, admin;
  std::unique_ptr<HotCalls> searches;
  std::unique_ptr<grpc::Server> server;

  bool failed() const { return absl::IsFailedPrecondition(database->CheckWritable()); }

  // After a write failed: if it made the store read-only, the health says so at once. Reads go on
  // in a store that lacks commits.
  void CheckWritable() {
    const bool read_only = !database->CheckWritable().ok();
    if (!read_only) return;
    health.Set(kWritesHealthName, false);
    if (!failed()) return;
    for (const char* name : kHealthNames) health.Set(name, false);
  }

  absl::Status Listen(const Config& config);
  void Drain(std::chrono::milliseconds grace);
};

// Two forms of server in one. Searches, whose own cost counts, come by a queue of ours
// (rpc/hot_calls.h). All else is synchronous: a handler owns its thread, so engine calls that block
// (a synced commit, a scan) need no second pool, and the threads are bounded by the resource quota.
// The threads of our queue read the connections for both: with such a queue the synchronous ones
// only wait to be woken.
absl::Status App::Rep::Listen(const Config& config) {
  KeepGrpcInitialized();
  gpr_set_log_function(LogGrpcLine);
  // Debian builds abseil with its checks for debugging: each lock of gRPC's would be noted in a
  // graph that all threads share.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  grpc::EnableDefaultHealthCheckService(false);  // `health` is ours.
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  const auto on_failed_write = [this] { CheckWritable(); };
  collections = MakeCollectionService(*database, on_failed_write);
  records = MakeRecordService(*database, ingest_streams, on_failed_write);
  admin = MakeAdminService(
      *database,
      {.message_bytes = kRequestBytesMax, .unindexed_rows = config.database.unindexed_rows_max},
      on_failed_write);

  grpc::ServerBuilder builder;
  SetLimits(config, builder);
  // Threads that wait for calls: with the default of one to two, a burst makes and ends threads.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 2);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 8);
  builder.RegisterService(collections.get());
  builder.RegisterService(records.get());
  builder.RegisterService(admin.get());
  builder.RegisterService(&health);
  searches =
      std::make_unique<HotCalls>(*database, static_cast<size_t>(config.rpc_threads), builder);
  int port = 0;
  builder.AddListeningPort(config.listen.ToString(), grpc::InsecureServerCredentials(), &port);
  server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", config.listen.ToString(),
        ": the port is taken (is another server running?) or this machine has no such address"));
  }
  address = {config.listen.host, static_cast<uint16_t>(port)};
  for (const char* name : kHealthNames) health.Set(name, true);
  CheckWritable();  // A write may have failed before.
  return searches->Start();
}

void App::Rep::Drain(std::chrono::milliseconds grace) {
  if (server == nullptr) return;
  health.Shutdown();
  ingest_streams.Stop();
  searches->EndStreams();
  server->Shutdown(std::chrono::system_clock::now() + grace);
  server->Wait();
  searches->Stop();
  server.reset();
}

App::App(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}

App::~App() {
  rep_->Drain(std::chrono::milliseconds(0));
}

absl::StatusOr<std::unique_ptr<App>> App::Start(const Config& config) {
  auto rep = std::make_unique<Rep>();
  AZ_ASSIGN_OR_RETURN(rep->database, engine::Database::Open(config.database));
  if (absl::Status status = rep->Listen(config); !status.ok()) {
    rep->Drain(std::chrono::milliseconds(0));
    return status;
  }
  return std::unique_ptr<App>(new App(std::move(rep)));
}

const HostPort& App::address() const {
  return rep_->address;
}

std::string App::failure() const {
  if (listener_lost.load()) {
    return "the listener met the limit of open files, after which gRPC accepts no more connections";
  }
  if (!rep_->failed()) return "";
  return std::string(rep_->database->CheckWritable().message());
}

absl::Status App::Stop(std::chrono::milliseconds grace) {
  rep_->Drain(grace);
  return rep_->database->Close();
}

}  // namespace azimuth::server
