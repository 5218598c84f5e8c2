#include "base/value.h"

#include "base/bytes.h"
#include "base/status.h"
#include "base/strings.h"

#include "absl/strings/str_format.h"

#include <cmath>
#include <utility>

namespace azimuth {

bool operator==(const Value& a, const Value& b) {
  return a.data == b.data;
}

std::string_view ValueKindName(ValueKind kind) {
  switch (kind) {
    case ValueKind::kMissing:
      return "missing";
    case ValueKind::kNull:
      return "null";
    case ValueKind::kBool:
      return "bool";
    case ValueKind::kInt64:
      return "int64";
    case ValueKind::kDouble:
      return "double";
    case ValueKind::kString:
      return "string";
    case ValueKind::kList:
      return "list";
    case ValueKind::kMap:
      return "map";
  }
  return "unknown";
}

std::string KeyToText(const Key& key) {
  if (const auto* number = std::get_if<int64_t>(&key)) return absl::StrFormat("%d", *number);
  return Quoted(std::get<std::string>(key));
}

void EncodeValue(const Value& value, std::string& out) {
  out.push_back(static_cast<char>(value.kind()));
  switch (value.kind()) {
    case ValueKind::kMissing:
    case ValueKind::kNull:
      break;
    case ValueKind::kBool:
      out.push_back(std::get<bool>(value.data) ? 1 : 0);
      break;
    case ValueKind::kInt64:
      PutLittle(out, std::get<int64_t>(value.data));
      break;
    case ValueKind::kDouble:
      PutLittle(out, std::get<double>(value.data));
      break;
    case ValueKind::kString:
      PutLengthPrefixed(out, std::get<std::string>(value.data));
      break;
    case ValueKind::kList: {
      const auto& list = std::get<ValueList>(value.data);
      PutLittle(out, static_cast<uint32_t>(list.size()));
      for (const Value& item : list) EncodeValue(item, out);
      break;
    }
    case ValueKind::kMap: {
      const auto& map = std::get<ValueMap>(value.data);
      PutLittle(out, static_cast<uint32_t>(map.size()));
      for (const auto& [name, item] : map) {
        PutLengthPrefixed(out, name);
        EncodeValue(item, out);
      }
      break;
    }
  }
}

namespace {

absl::Status Malformed(std::string_view what) {
  return DataLoss("malformed value: %s", std::string(what));
}

absl::StatusOr<Value> Decode(ByteReader& reader, int depth);

absl::StatusOr<Value> DecodeList(ByteReader& reader, int depth) {
  uint32_t count = 0;
  if (!reader.Little(count) || count > reader.rest().size()) return Malformed("list length");
  ValueList list;
  list.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    AZ_ASSIGN_OR_RETURN(Value item, Decode(reader, depth + 1));
    list.push_back(std::move(item));
  }
  return Value{std::move(list)};
}

absl::StatusOr<Value> DecodeMap(ByteReader& reader, int depth) {
  uint32_t count = 0;
  if (!reader.Little(count)) return Malformed("map length");
  ValueMap map;
  for (uint32_t i = 0; i < count; ++i) {
    std::string_view name;
    if (!reader.LengthPrefixed(name)) return Malformed("map name");
    AZ_ASSIGN_OR_RETURN(Value item, Decode(reader, depth + 1));
    map.emplace_hint(map.end(), std::string(name), std::move(item));
  }
  return Value{std::move(map)};
}

absl::StatusOr<Value> Decode(ByteReader& reader, int depth) {
  if (depth > kValueDepthMax) return Malformed("nested too deep");
  uint8_t tag = 0;
  if (!reader.Little(tag)) return Malformed("no tag");
  switch (static_cast<ValueKind>(tag)) {
    case ValueKind::kMissing:
      return Malformed("missing as a value");
    case ValueKind::kNull:
      return Value{};
    case ValueKind::kBool: {
      uint8_t bit = 0;
      if (!reader.Little(bit) || bit > 1) return Malformed("bool");
      return Value{bit == 1};
    }
    case ValueKind::kInt64: {
      int64_t number = 0;
      if (!reader.Little(number)) return Malformed("int64");
      return Value{number};
    }
    case ValueKind::kDouble: {
      double number = 0;
      if (!reader.Little(number)) return Malformed("double");
      return Value{number};
    }
    case ValueKind::kString: {
      std::string_view text;
      if (!reader.LengthPrefixed(text)) return Malformed("string");
      return Value{std::string(text)};
    }
    case ValueKind::kList:
      return DecodeList(reader, depth);
    case ValueKind::kMap:
      return DecodeMap(reader, depth);
  }
  return Malformed("unknown tag");
}

}  // namespace

absl::StatusOr<Value> DecodeValue(std::string_view& bytes) {
  ByteReader reader(bytes);
  AZ_ASSIGN_OR_RETURN(Value value, Decode(reader, 0));
  bytes = reader.rest();
  return value;
}

}  // namespace azimuth
