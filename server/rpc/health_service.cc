#include "server/rpc/health_service.h"

#include "azimuth/v1/types.pb.h"

#include "google/protobuf/unknown_field_set.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/impl/rpc_service_method.h"
#include "grpcpp/support/method_handler.h"

#include <chrono>
#include <memory>

namespace azimuth::server {
namespace {

// How often a watch looks whether its client is still there.
constexpr std::chrono::milliseconds kLookForClient{200};
constexpr size_t kNameBytesMax = 200;

// Field 1 of HealthCheckRequest, `service`. The message is read as one without fields.
grpc::Status ReadName(const grpc::ByteBuffer& request, std::string& name) {
  grpc::ByteBuffer bytes = request;
  v1::NullValue message;
  grpc::Status status = grpc::SerializationTraits<v1::NullValue>::Deserialize(&bytes, &message);
  if (!status.ok()) return {grpc::StatusCode::INVALID_ARGUMENT, "could not parse request"};
  const google::protobuf::UnknownFieldSet& fields =
      message.GetReflection()->GetUnknownFields(message);
  for (int i = 0; i < fields.field_count(); ++i) {
    const google::protobuf::UnknownField& field = fields.field(i);
    if (field.number() == 1 &&
        field.type() == google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED) {
      name = field.length_delimited();
    }
  }
  if (name.size() <= kNameBytesMax) return grpc::Status::OK;
  return {grpc::StatusCode::INVALID_ARGUMENT, "service: longer than the name of any service"};
}

// HealthCheckResponse, of which `status` is field 1.
grpc::ByteBuffer WriteStatus(int status) {
  const char bytes[] = {'\x08', static_cast<char>(status)};
  grpc::Slice slice(bytes, sizeof(bytes));
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

HealthService::HealthService() {
  using grpc::ByteBuffer;
  using grpc::internal::RpcMethod;
  using grpc::internal::RpcServiceMethod;
  using CheckHandler = grpc::internal::RpcMethodHandler<HealthService, ByteBuffer, ByteBuffer,
                                                        ByteBuffer, ByteBuffer>;
  using WatchHandler =
      grpc::internal::ServerStreamingHandler<HealthService, ByteBuffer, ByteBuffer>;
  {
    MutexLock lock(mu_);
    serving_[""] = true;
  }
  auto check = std::make_unique<CheckHandler>(
      [](HealthService* service, grpc::ServerContext*, const ByteBuffer* request,
         ByteBuffer* reply) { return service->Check(*request, *reply); },
      this);
  auto watch = std::make_unique<WatchHandler>(
      [](HealthService* service, grpc::ServerContext* context, const ByteBuffer* request,
         grpc::ServerWriter<ByteBuffer>* replies) {
        return service->Watch(*context, *request, *replies);
      },
      this);
  // gRPC takes over both, the method and its handler.
  AddMethod(std::make_unique<RpcServiceMethod>("/grpc.health.v1.Health/Check",
                                               RpcMethod::NORMAL_RPC, check.release())
                .release());
  AddMethod(std::make_unique<RpcServiceMethod>("/grpc.health.v1.Health/Watch",
                                               RpcMethod::SERVER_STREAMING, watch.release())
                .release());
}

void HealthService::Set(const std::string& name, bool serving) {
  MutexLock lock(mu_);
  if (shut_down_) return;
  serving_[name] = serving;
  changed_.NotifyAll();
}

void HealthService::Shutdown() {
  MutexLock lock(mu_);
  shut_down_ = true;
  for (auto& [name, serving] : serving_) serving = false;
  changed_.NotifyAll();
}

HealthService::State HealthService::StateOf(const std::string& name) const {
  const auto it = serving_.find(name);
  if (it == serving_.end()) return State::kUnknown;
  return it->second ? State::kServing : State::kNotServing;
}

grpc::Status HealthService::Check(const grpc::ByteBuffer& request, grpc::ByteBuffer& reply) {
  std::string name;
  if (grpc::Status status = ReadName(request, name); !status.ok()) return status;
  MutexLock lock(mu_);
  const State state = StateOf(name);
  if (state == State::kUnknown) return {grpc::StatusCode::NOT_FOUND, "service name unknown"};
  reply = WriteStatus(static_cast<int>(state));
  return grpc::Status::OK;
}

grpc::Status HealthService::Watch(const grpc::ServerContext& context,
                                  const grpc::ByteBuffer& request,
                                  grpc::ServerWriter<grpc::ByteBuffer>& replies) {
  std::string name;
  if (grpc::Status status = ReadName(request, name); !status.ok()) return status;
  MutexLock lock(mu_);
  if (watches_ >= kWatchesMax) {
    return {grpc::StatusCode::RESOURCE_EXHAUSTED, "as many watches run as are allowed"};
  }
  ++watches_;
  int told = 0;
  bool reads = true;
  while (reads && !context.IsCancelled()) {
    const int state = static_cast<int>(StateOf(name));
    if (state != told) {
      mu_.Unlock();
      reads = replies.Write(WriteStatus(state));
      mu_.Lock();
      told = state;
      continue;
    }
    if (shut_down_) break;
    changed_.WaitUntil(mu_, std::chrono::steady_clock::now() + kLookForClient);
  }
  --watches_;
  return shut_down_ ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server stops")
                    : grpc::Status::OK;
}

}  // namespace azimuth::server
