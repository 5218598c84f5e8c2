#include "server/rpc/convert_verify.h"

#include "base/check.h"
#include "base/ids.h"
#include "base/strings.h"

#include "absl/strings/str_format.h"
#include "google/protobuf/util/json_util.h"

#include <string_view>

namespace azimuth::server {
namespace {

std::string_view SeverityName(engine::FindingSeverity severity) {
  switch (severity) {
    case engine::FindingSeverity::kNotice:
      return "notice";
    case engine::FindingSeverity::kDerived:
      return "derived";
    case engine::FindingSeverity::kSource:
      return "source";
  }
  return "source";
}

// Names and keys are bytes of the user's, and text of the wire is UTF-8.
std::string ToUtf8(const std::string& text) {
  if (IsValidUtf8(text)) return text;
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      out.push_back(c);
    } else {
      absl::StrAppendFormat(&out, "\\x%02x", byte);
    }
  }
  return out;
}

}  // namespace

void ToWire(const engine::VerifyReport& report, pb::VerifyResponse& out) {
  out.set_deep(report.deep);
  out.set_sound(report.sound());
  out.set_incarnation(report.incarnation);
  out.set_applied_seq(Raw(report.applied));
  out.set_watermark_seq(Raw(report.watermark));
  out.set_collections(report.collections);
  out.set_rows(report.rows);
  out.set_keys(report.keys);
  out.set_vectors(report.vectors);
  out.set_retired(report.retired);
  out.set_segments(report.segments);
  out.set_segment_rows_compared(report.segment_rows_compared);
  out.set_graph_nodes(report.graph_nodes);
  out.set_unreachable_nodes(report.unreachable_nodes);
  out.set_bytes_read(report.bytes_read);
  for (const engine::Finding& finding : report.findings) {
    pb::VerifyFinding& to = *out.add_findings();
    to.set_severity(std::string(SeverityName(finding.severity)));
    to.set_kind(finding.kind);
    to.set_place(ToUtf8(finding.place));
    to.set_message(ToUtf8(finding.message));
  }
  for (const std::string& repair : report.repairs) out.add_repairs(ToUtf8(repair));
}

std::string ToJson(const pb::VerifyResponse& report) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(report, &json, options);
  AZ_CHECK(status.ok());  // It has no types that could not be printed.
  return json;
}

}  // namespace azimuth::server
