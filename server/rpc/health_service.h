// grpc.health.v1.Health: what the server says of its health, as a whole and by name of service.
//
// In place of gRPC's own, which brings two threads along that wait for events as well: at each
// event of a search one of them would be woken. Debian has no generated code of that package, so
// the two messages, one field each, are read and written here.
//
// Thread safety: any number of threads.
#pragma once

#include "base/mutex.h"

#include "grpcpp/impl/service_type.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/sync_stream.h"

#include <map>
#include <string>

namespace azimuth::server {

class HealthService final : public grpc::Service {
 public:
  // Watches that are answered at a time: each has a thread. More are refused.
  static constexpr int kWatchesMax = 64;

  // Serves "", and no other name before it is set.
  HealthService();

  // The server as a whole is the name "".
  void Set(const std::string& name, bool serving);
  // Of all names. What they are does not change any more, and watches end.
  void Shutdown();

 private:
  enum class State { kServing = 1, kNotServing = 2, kUnknown = 3 };

  grpc::Status Check(const grpc::ByteBuffer& request, grpc::ByteBuffer& reply);
  grpc::Status Watch(const grpc::ServerContext& context, const grpc::ByteBuffer& request,
                     grpc::ServerWriter<grpc::ByteBuffer>& replies);
  State StateOf(const std::string& name) const AZ_REQUIRES(mu_);

  Mutex mu_;
  CondVar changed_;
  std::map<std::string, bool> serving_ AZ_GUARDED_BY(mu_);
  int watches_ AZ_GUARDED_BY(mu_) = 0;
  bool shut_down_ AZ_GUARDED_BY(mu_) = false;
};

}  // namespace azimuth::server
