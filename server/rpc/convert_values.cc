#include "server/rpc/convert_values.h"

#include "base/status.h"
#include "base/strings.h"

#include "absl/strings/str_cat.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>
#include <variant>

namespace azimuth::server {

static_assert(std::endian::native == std::endian::little, "f32 blocks are read where they are");

std::string Place(std::string_view list, std::string_view name) {
  std::string quoted = Quoted(name);
  quoted.front() = '"';
  quoted.back() = '"';
  return absl::StrCat(ToAbsl(list), "[", quoted, "]");
}

std::string Place(std::string_view list, size_t index) {
  return absl::StrCat(ToAbsl(list), "[", index, "]");
}

absl::Status UnknownEnum(std::string_view field, int number, std::string_view allowed) {
  return InvalidArgument("%s: %d is unknown; %s", field, number, allowed);
}

absl::StatusOr<Key> FromWire(const pb::Key& key) {
  switch (key.kind_case()) {
    case pb::Key::kInt64Key:
      return Key(key.int64_key());
    case pb::Key::kStringKey:
      return Key(key.string_key());
    case pb::Key::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("missing; set int64_key or string_key");
}

absl::StatusOr<std::vector<Key>> FromWire(const pb::KeyList& keys) {
  std::vector<Key> out;
  switch (keys.kind_case()) {
    case pb::KeyList::kInt64Keys:
      out.assign(keys.int64_keys().values().begin(), keys.int64_keys().values().end());
      return out;
    case pb::KeyList::kStringKeys:
      out.assign(keys.string_keys().values().begin(), keys.string_keys().values().end());
      return out;
    case pb::KeyList::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("missing; set int64_keys or string_keys");
}

void ToWire(const Key& key, pb::Key& out) {
  if (const auto* number = std::get_if<int64_t>(&key)) {
    out.set_int64_key(*number);
  } else {
    out.set_string_key(std::get<std::string>(key));
  }
}

void ToWire(std::span<const Key> keys, pb::KeyList& out) {
  if (keys.empty()) return;
  if (std::holds_alternative<int64_t>(keys[0])) {
    auto& values = *out.mutable_int64_keys()->mutable_values();
    values.Reserve(static_cast<int>(keys.size()));
    for (const Key& key : keys) values.Add(std::get<int64_t>(key));
  } else {
    auto& values = *out.mutable_string_keys()->mutable_values();
    values.Reserve(static_cast<int>(keys.size()));
    for (const Key& key : keys) *values.Add() = std::get<std::string>(key);
  }
}

namespace {

// `levels_left` is how many levels of lists and maps may still open.
absl::StatusOr<Value> ValueFromWire(const pb::Value& value, int levels_left);

absl::Status CheckLevels(int levels_left) {
  if (levels_left > 0) return absl::OkStatus();
  return InvalidArgument("lists and maps are nested deeper than %d levels", kValueDepthMax);
}

absl::StatusOr<Value> ListFromWire(const pb::ListValue& list, int levels_left) {
  AZ_RETURN_IF_ERROR(CheckLevels(levels_left));
  ValueList out;
  out.reserve(static_cast<size_t>(list.values_size()));
  for (const pb::Value& item : list.values()) {
    AZ_ASSIGN_OR_RETURN(Value converted, ValueFromWire(item, levels_left - 1));
    out.push_back(std::move(converted));
  }
  return Value{std::move(out)};
}

absl::StatusOr<Value> MapFromWire(const pb::MapValue& map, int levels_left) {
  AZ_RETURN_IF_ERROR(CheckLevels(levels_left));
  ValueMap out;
  for (const auto& [name, item] : map.entries()) {
    AZ_ASSIGN_OR_RETURN(Value converted, ValueFromWire(item, levels_left - 1));
    out.emplace(name, std::move(converted));
  }
  return Value{std::move(out)};
}

absl::StatusOr<Value> ValueFromWire(const pb::Value& value, int levels_left) {
  switch (value.kind_case()) {
    case pb::Value::kNullValue:
      return Value{};
    case pb::Value::kBoolValue:
      return Value{value.bool_value()};
    case pb::Value::kInt64Value:
      return Value{int64_t{value.int64_value()}};
    case pb::Value::kDoubleValue:
      return Value{value.double_value()};
    case pb::Value::kStringValue:
      return Value{value.string_value()};
    case pb::Value::kListValue:
      return ListFromWire(value.list_value(), levels_left);
    case pb::Value::kMapValue:
      return MapFromWire(value.map_value(), levels_left);
    case pb::Value::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("a value has no case set; null is null_value");
}

}  // namespace

absl::StatusOr<Value> FromWire(const pb::Value& value) {
  return ValueFromWire(value, kValueDepthMax);
}

void ToWire(Value&& value, pb::Value& out) {
  switch (value.kind()) {
    case ValueKind::kMissing:  // Not a kind that a Value has.
    case ValueKind::kNull:
      out.mutable_null_value();
      break;
    case ValueKind::kBool:
      out.set_bool_value(std::get<bool>(value.data));
      break;
    case ValueKind::kInt64:
      out.set_int64_value(std::get<int64_t>(value.data));
      break;
    case ValueKind::kDouble:
      out.set_double_value(std::get<double>(value.data));
      break;
    case ValueKind::kString:
      out.set_string_value(std::move(std::get<std::string>(value.data)));
      break;
    case ValueKind::kList: {
      auto& values = *out.mutable_list_value()->mutable_values();
      for (Value& item : std::get<ValueList>(value.data)) ToWire(std::move(item), *values.Add());
      break;
    }
    case ValueKind::kMap: {
      auto& entries = *out.mutable_map_value()->mutable_entries();
      for (auto& [name, item] : std::get<ValueMap>(value.data)) {
        ToWire(std::move(item), entries[name]);
      }
      break;
    }
  }
}

std::span<const float> FloatsOf(std::string_view bytes, FloatStore& store) {
  const size_t count = bytes.size() / sizeof(float);
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(float) == 0) {
    return {reinterpret_cast<const float*>(bytes.data()), count};
  }
  std::vector<float>& owned = store.emplace_back(count);
  std::memcpy(owned.data(), bytes.data(), count * sizeof(float));
  return owned;
}

absl::StatusOr<std::span<const float>> FromWire(const pb::Vector& vector, FloatStore& store) {
  if (!vector.has_dense()) return absl::InvalidArgumentError("missing; set dense");
  const pb::DenseVector& dense = vector.dense();
  if (dense.values().empty() == dense.f32().empty()) {
    return InvalidArgument("dense: %s of values and f32; set exactly one",
                           dense.f32().empty() ? "none" : "both");
  }
  if (!dense.values().empty()) {
    return std::span<const float>(dense.values().data(), static_cast<size_t>(dense.values_size()));
  }
  if (dense.f32().size() % sizeof(float) != 0) {
    return InvalidArgument("dense.f32: %d bytes are not a multiple of 4", dense.f32().size());
  }
  return FloatsOf(dense.f32(), store);
}

void AppendFloats(std::span<const float> floats, std::string& out) {
  out.append(reinterpret_cast<const char*>(floats.data()), floats.size_bytes());
}

absl::StatusOr<engine::FilterText> FromWire(const pb::Filter& filter) {
  engine::FilterText out;
  out.text = filter.expression();
  for (const auto& [name, value] : filter.parameters()) {
    absl::StatusOr<Value> converted = FromWire(value);
    if (!converted.ok()) return AtPlace(Place("parameters", name), converted.status());
    out.parameters.emplace(name, *std::move(converted));
  }
  return out;
}

engine::Projection ToProjection(const pb::FieldSelection* fields,
                                const google::protobuf::RepeatedPtrField<std::string>& vectors) {
  engine::Projection out;
  if (fields != nullptr) out.fields.emplace(fields->names().begin(), fields->names().end());
  out.vectors.assign(vectors.begin(), vectors.end());
  return out;
}

}  // namespace azimuth::server
