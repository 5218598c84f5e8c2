#include "server/health_check.h"

#include "absl/strings/str_cat.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/security/credentials.h"

#include <string>
#include <vector>

namespace azimuth::server {
namespace {

// grpc.health.v1.HealthCheckResponse with status (field 1) SERVING (1). Debian has no generated
// code of that package, and this is all there is to it: the request is empty.
constexpr char kServing[] = "\x08\x01";

std::string ToString(grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string out;
  if (!buffer.Dump(&slices).ok()) return out;
  for (const grpc::Slice& slice : slices) {
    out.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return out;
}

}  // namespace

absl::Status CheckHealth(const HostPort& address, std::chrono::milliseconds timeout) {
  HostPort target = address;
  if (target.host == "0.0.0.0") target.host = "127.0.0.1";
  if (target.host == "::") target.host = "::1";
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // A proxy of the environment is not meant.
  grpc::GenericStub stub(
      grpc::CreateCustomChannel(target.ToString(), grpc::InsecureChannelCredentials(), arguments));

  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  grpc::CompletionQueue queue;
  const grpc::ByteBuffer request(nullptr, 0);
  const auto call =
      stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  grpc::ByteBuffer reply;
  grpc::Status status;
  call->Finish(&reply, &status, &queue);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  queue.Shutdown();
  if (!status.ok()) {
    return absl::UnavailableError(
        absl::StrCat(target.ToString(), " does not answer: ", status.error_message()));
  }
  if (ToString(reply) != kServing) {
    return absl::UnavailableError(absl::StrCat(target.ToString(), " says NOT_SERVING"));
  }
  return absl::OkStatus();
}

}  // namespace azimuth::server
