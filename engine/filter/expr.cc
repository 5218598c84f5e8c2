#include "engine/filter/expr.h"

#include "base/strings.h"
#include "engine/filter/diagnostic.h"

#include "absl/strings/str_format.h"

#include <charconv>
#include <cmath>
#include <string_view>

namespace azimuth::engine {
namespace {

std::string_view Spelling(CompareOp op) {
  switch (op) {
    case CompareOp::kEq:
      return "==";
    case CompareOp::kNe:
      return "!=";
    case CompareOp::kLt:
      return "<";
    case CompareOp::kLe:
      return "<=";
    case CompareOp::kGt:
      return ">";
    case CompareOp::kGe:
      return ">=";
  }
  return "?";
}

// The shortest text that reads back as the same double, and as a double.
void AppendDouble(double number, std::string& out) {
  char digits[32];
  const auto result = std::to_chars(digits, digits + sizeof(digits), number);
  const std::string_view text(digits, static_cast<size_t>(result.ptr - digits));
  out += text;
  if (text.find_first_of(".en") == std::string_view::npos) out += ".0";
}

void AppendString(std::string_view text, std::string& out) {
  out += '"';
  while (!text.empty()) {
    const size_t length = CharacterLength(text);
    const std::string_view character = text.substr(0, length);
    const auto first = static_cast<uint8_t>(character.front());
    if (character == "\\" || character == "\"") {
      out += '\\';
      out += character;
    } else if (character == "\n") {
      out += "\\n";
    } else if (character == "\t") {
      out += "\\t";
    } else if (character == "\r") {
      out += "\\r";
    } else if (first < 0x20 || first == 0x7F) {
      out += absl::StrFormat("\\u%04X", first);
    } else if (character == "\xD8\x9C") {
      out += "\\u061C";
    } else if (IsBidiControl(character)) {
      out += absl::StrFormat("\\u20%02X", (static_cast<uint8_t>(character[1]) & 3u) << 6 |
                                              (static_cast<uint8_t>(character[2]) & 0x3Fu));
    } else {
      out += character;
    }
    text.remove_prefix(length);
  }
  out += '"';
}

void AppendLiteral(const Value& value, std::string& out) {
  switch (value.kind()) {
    case ValueKind::kBool:
      out += std::get<bool>(value.data) ? "true" : "false";
      break;
    case ValueKind::kInt64:
      absl::StrAppendFormat(&out, "%d", std::get<int64_t>(value.data));
      break;
    case ValueKind::kDouble:
      AppendDouble(std::get<double>(value.data), out);
      break;
    case ValueKind::kString:
      AppendString(std::get<std::string>(value.data), out);
      break;
    case ValueKind::kMissing:
    case ValueKind::kNull:
    case ValueKind::kList:
    case ValueKind::kMap:
      out += ValueKindName(value.kind());
      break;
  }
}

void AppendExpr(const Expr& expr, std::string& out);

void AppendChildren(const Expr& expr, std::string_view separator, std::string& out) {
  for (size_t i = 0; i < expr.children.size(); ++i) {
    if (i > 0) out += separator;
    AppendExpr(expr.children[i], out);
  }
}

void AppendLiterals(const Expr& expr, std::string& out) {
  for (size_t i = 0; i < expr.literals.size(); ++i) {
    if (i > 0) out += ", ";
    AppendLiteral(expr.literals[i], out);
  }
}

void AppendExpr(const Expr& expr, std::string& out) {
  out += '(';
  switch (expr.kind) {
    case Expr::Kind::kTrue:
      out += "true";
      break;
    case Expr::Kind::kAnd:
      AppendChildren(expr, " and ", out);
      break;
    case Expr::Kind::kOr:
      AppendChildren(expr, " or ", out);
      break;
    case Expr::Kind::kNot:
      out += "not ";
      AppendChildren(expr, "", out);
      break;
    case Expr::Kind::kCompare:
      absl::StrAppendFormat(&out, "%s %s ", expr.field, Spelling(expr.op));
      AppendLiterals(expr, out);
      break;
    case Expr::Kind::kCompareFields:
      absl::StrAppendFormat(&out, "%s %s %s", expr.field, Spelling(expr.op), expr.other_field);
      break;
    case Expr::Kind::kIn:
      absl::StrAppendFormat(&out, "%s in [", expr.field);
      AppendLiterals(expr, out);
      out += ']';
      break;
    case Expr::Kind::kIsNull:
      absl::StrAppendFormat(&out, "%s is null", expr.field);
      break;
    case Expr::Kind::kBoolField:
      out += expr.field;
      break;
  }
  out += ')';
}

}  // namespace

std::string ToString(const Expr& expr) {
  std::string out;
  AppendExpr(expr, out);
  return out;
}

}  // namespace azimuth::engine
