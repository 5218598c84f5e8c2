#include "server/verify_command.h"

#include "base/logging.h"
#include "engine/admin/verify.h"
#include "server/rpc/convert_verify.h"

#include <cstdio>
#include <string>

namespace azimuth::server {
namespace {

constexpr int kExitFindings = 1;
constexpr int kExitNotChecked = 2;

}  // namespace

int RunVerify(const Config& config) {
  SetLogLevel(config.log_level);
  const bool deep = config.verify.deep;
  const absl::StatusOr<engine::VerifyReport> report =
      config.verify.repair ? engine::RepairDirectory(config.database, deep, CancelToken())
                           : engine::VerifyDirectory(config.database, deep, CancelToken());
  if (!report.ok()) {
    const std::string message(report.status().message());
    std::fprintf(stderr, "azimuthd: verify: %s\n", message.c_str());
    return kExitNotChecked;
  }
  pb::VerifyResponse response;
  response.set_directory(config.database.data_dir);
  response.set_repair(config.verify.repair);
  ToWire(*report, response);
  const bool printed =
      std::printf("%s\n", ToJson(response).c_str()) > 0 && std::fflush(stdout) == 0;
  if (!printed) {
    std::fprintf(stderr, "azimuthd: verify: cannot write the report\n");
    return kExitNotChecked;
  }
  return report->sound() ? 0 : kExitFindings;
}

}  // namespace azimuth::server
