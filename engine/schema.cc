#include "engine/schema.h"

#include "base/bytes.h"
#include "base/status.h"
#include "base/strings.h"
#include "engine/filter/lexer.h"
#include "engine/limits.h"

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace azimuth::engine {
namespace {

// The versions that EncodeSchema writes; DecodeSchema reads those before, too. Version 4 only where
// a vector field has a quantization that servers of version 3 do not know, so that these refuse it
// and read all others.
constexpr uint16_t kFormatVersion = 3;
constexpr uint16_t kFormatVersionCodes = 4;

bool IsLetter(char c) {
  return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_';
}

// True for [A-Za-z_][A-Za-z0-9_]{0,254}, with '-' as well if `dashes`.
bool IsName(std::string_view name, bool dashes) {
  if (name.empty() || name.size() > kNameBytesMax || !IsLetter(name.front())) return false;
  return std::all_of(name.begin(), name.end(), [dashes](char c) {
    return IsLetter(c) || (c >= '0' && c <= '9') || (dashes && c == '-');
  });
}

bool IsKnown(KeyType type) {
  return type == KeyType::kInt64 || type == KeyType::kString;
}
bool IsKnown(FieldType type) {
  return type >= FieldType::kBool && type <= FieldType::kString;
}
bool IsKnown(Metric metric) {
  return metric >= Metric::kL2 && metric <= Metric::kCosine;
}
bool IsKnown(IndexKind kind) {
  return kind >= IndexKind::kAuto && kind <= IndexKind::kHnsw;
}
bool IsKnown(Quantization quantization) {
  switch (quantization) {
    case Quantization::kAuto:
    case Quantization::kNone:
    case Quantization::kSq8:
    case Quantization::kRabitq4:
    case Quantization::kSq4:
    case Quantization::kPca4:
      return true;
  }
  return false;
}

uint16_t FormatVersionOf(const Schema& schema) {
  const bool coded = std::any_of(
      schema.vectors.begin(), schema.vectors.end(),
      [](const VectorFieldDef& field) { return field.index.quantization > Quantization::kNone; });
  return coded ? kFormatVersionCodes : kFormatVersion;
}

ValueKind KindOf(FieldType type) {
  switch (type) {
    case FieldType::kBool:
      return ValueKind::kBool;
    case FieldType::kInt64:
      return ValueKind::kInt64;
    case FieldType::kDouble:
      return ValueKind::kDouble;
    case FieldType::kString:
      return ValueKind::kString;
  }
  return ValueKind::kMissing;
}

absl::Status ValidateDefault(const FieldDef& field) {
  const Value& value = *field.default_value;
  if (value.is_null()) {
    if (field.nullable) return absl::OkStatus();
    return InvalidArgument("null is no default for a field that is not nullable");
  }
  if (value.kind() != KindOf(field.type)) {
    return InvalidArgument("a value of kind %s is no default for a field of type %s",
                           ValueKindName(value.kind()), FieldTypeName(field.type));
  }
  if (const auto* number = std::get_if<double>(&value.data); number && !std::isfinite(*number)) {
    return InvalidArgument("the number is not finite");
  }
  if (const auto* text = std::get_if<std::string>(&value.data)) {
    if (text->size() > kRecordBytesMax) {
      return InvalidArgument("the string has %d bytes; at most %d are allowed", text->size(),
                             kRecordBytesMax);
    }
    if (!IsValidUtf8(*text)) return InvalidArgument("the string is not valid UTF-8");
  }
  return absl::OkStatus();
}

absl::Status ValidateField(const FieldDef& field) {
  if (!IsKnown(field.type)) {
    return InvalidArgument("type: %d is none of the field types bool, int64, double, string",
                           static_cast<int>(field.type));
  }
  if (!field.default_value) return absl::OkStatus();
  const absl::Status status = ValidateDefault(field);
  return status.ok() ? status : AtPlace("default_value", status);
}

absl::Status ValidateVector(const VectorFieldDef& vector) {
  if (vector.dim < 1 || vector.dim > kDimensionMax) {
    return InvalidArgument("dimension: %d is outside of 1 to %d", vector.dim, kDimensionMax);
  }
  if (!IsKnown(vector.metric)) {
    return InvalidArgument("metric: %d is none of l2, ip, cosine", static_cast<int>(vector.metric));
  }
  const IndexOptions& index = vector.index;
  if (!IsKnown(index.kind)) {
    return InvalidArgument("index.kind: %d is none of auto, flat, hnsw",
                           static_cast<int>(index.kind));
  }
  if (index.m < kGraphMMin || index.m > kGraphMMax) {
    return InvalidArgument("index.m: %d is outside of %d to %d", index.m, kGraphMMin, kGraphMMax);
  }
  if (index.ef_construction < kEfConstructionMin || index.ef_construction > kEfConstructionMax) {
    return InvalidArgument("index.ef_construction: %d is outside of %d to %d",
                           index.ef_construction, kEfConstructionMin, kEfConstructionMax);
  }
  if (!IsKnown(index.quantization)) {
    return InvalidArgument("index.quantization: %d is none of auto, none, sq8, sq4, rabitq4, pca4",
                           static_cast<int>(index.quantization));
  }
  return absl::OkStatus();
}

// Checks the names of `defs` and adds them to `names`, which has those of both kinds of field.
template <typename Def>
absl::Status ValidateNames(std::string_view list, const std::vector<Def>& defs,
                           absl::flat_hash_set<std::string>& names) {
  for (size_t i = 0; i < defs.size(); ++i) {
    const std::string place = absl::StrFormat("schema.%s[%d].name", list, i);
    if (const absl::Status status = CheckFieldName(defs[i].name); !status.ok()) {
      return AtPlace(place, status);
    }
    if (!names.insert(defs[i].name).second) {
      return AtPlace(place,
                     InvalidArgument("a second field has the name %s", Quoted(defs[i].name)));
    }
  }
  return absl::OkStatus();
}

// Edits (insert, remove, replace, swap neighbours) that make `b` of `a`; limit + 1 if more.
size_t EditDistance(std::string_view a, std::string_view b, size_t limit) {
  if ((a.size() > b.size() ? a.size() - b.size() : b.size() - a.size()) > limit) return limit + 1;
  std::vector<size_t> before, last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    if (*std::min_element(row.begin(), row.end()) > limit) return limit + 1;
    before = std::exchange(last, row);
  }
  return std::min(last[b.size()], limit + 1);
}

template <typename Def>
const Def* FindByName(const std::vector<Def>& defs, std::string_view name) {
  const auto it =
      std::find_if(defs.begin(), defs.end(), [name](const Def& def) { return def.name == name; });
  return it == defs.end() ? nullptr : &*it;
}

// True if each of `a` is in `b` and they are as many; ids do not count.
template <typename Def>
bool SameDefs(const std::vector<Def>& a, const std::vector<Def>& b) {
  return a.size() == b.size() && std::all_of(a.begin(), a.end(), [&b](Def def) {
           const Def* twin = FindByName(b, def.name);
           if (twin == nullptr) return false;
           def.id = twin->id;
           return def == *twin;
         });
}

absl::Status Malformed(std::string_view what) {
  return DataLoss("malformed collection definition: %s", what);
}

// Reads an enum and demands that its number is known.
template <typename Enum>
bool ReadEnum(ByteReader& reader, Enum& value) {
  std::underlying_type_t<Enum> number = 0;
  if (!reader.Little(number)) return false;
  value = static_cast<Enum>(number);
  return IsKnown(value);
}

bool ReadBool(ByteReader& reader, bool& value) {
  uint8_t number = 0;
  if (!reader.Little(number) || number > 1) return false;
  value = number == 1;
  return true;
}

template <typename Id>
bool ReadId(ByteReader& reader, Id& id) {
  std::underlying_type_t<Id> number = 0;
  if (!reader.Little(number)) return false;
  id = static_cast<Id>(number);
  return true;
}

bool ReadName(ByteReader& reader, std::string& name) {
  std::string_view bytes;
  if (!reader.LengthPrefixed(bytes)) return false;
  name = bytes;
  return true;
}

absl::StatusOr<FieldDef> DecodeField(ByteReader& reader) {
  FieldDef field;
  bool has_default = false;
  if (!ReadId(reader, field.id) || !ReadName(reader, field.name) || !ReadEnum(reader, field.type) ||
      !ReadBool(reader, field.nullable) || !ReadBool(reader, has_default)) {
    return Malformed("scalar field");
  }
  if (has_default) {
    std::string_view rest = reader.rest();
    AZ_ASSIGN_OR_RETURN(field.default_value, DecodeValue(rest));
    reader = ByteReader(rest);
    if (!field.default_value->is_null() && field.default_value->kind() != KindOf(field.type)) {
      return Malformed("default value of another type than its field");
    }
  }
  return field;
}

absl::StatusOr<VectorFieldDef> DecodeVector(ByteReader& reader) {
  VectorFieldDef vector;
  if (!ReadId(reader, vector.id) || !ReadName(reader, vector.name) || !reader.Little(vector.dim) ||
      !ReadEnum(reader, vector.metric) || !ReadEnum(reader, vector.index.kind) ||
      !reader.Little(vector.index.m) || !reader.Little(vector.index.ef_construction) ||
      !ReadEnum(reader, vector.index.quantization)) {
    return Malformed("vector field");
  }
  return vector;
}

}  // namespace

std::string_view KeyTypeName(KeyType type) {
  switch (type) {
    case KeyType::kInt64:
      return "int64";
    case KeyType::kString:
      return "string";
  }
  return "unknown";
}

std::string_view FieldTypeName(FieldType type) {
  switch (type) {
    case FieldType::kBool:
      return "bool";
    case FieldType::kInt64:
      return "int64";
    case FieldType::kDouble:
      return "double";
    case FieldType::kString:
      return "string";
  }
  return "unknown";
}

const FieldDef* Schema::FindField(std::string_view name) const {
  return FindByName(fields, name);
}

const VectorFieldDef* Schema::FindVector(std::string_view name) const {
  return FindByName(vectors, name);
}

absl::Status CheckCollectionName(std::string_view name) {
  if (IsName(name, /*dashes=*/true)) return absl::OkStatus();
  return InvalidArgument(
      "%s is no name for a collection; allowed are 1 to %d of A-Z a-z 0-9 _ -, the first one a "
      "letter or _",
      Quoted(name), kNameBytesMax);
}

absl::Status CheckFieldName(std::string_view name) {
  if (!IsName(name, /*dashes=*/false)) {
    return InvalidArgument(
        "%s is no name for a field; allowed are 1 to %d of A-Z a-z 0-9 _, the first one a letter "
        "or _",
        Quoted(name), kNameBytesMax);
  }
  if (name == kKeyFieldName) {
    return InvalidArgument("%s is no name for a field: it stands for the record's key",
                           Quoted(name));
  }
  if (IsFilterKeyword(name)) {
    return InvalidArgument("%s is no name for a field: it is a word of the filter language",
                           Quoted(name));
  }
  return absl::OkStatus();
}

absl::Status ValidateSchema(const Schema& schema) {
  if (!IsKnown(schema.key_type)) {
    return InvalidArgument("schema.key_type: %d is none of the key types int64, string",
                           static_cast<int>(schema.key_type));
  }
  if (schema.auto_id && schema.key_type != KeyType::kInt64) {
    return InvalidArgument(
        "schema.auto_id: the server makes keys of type int64 only, and key_type is %s",
        std::string(KeyTypeName(schema.key_type)));
  }
  if (schema.ttl_seconds < 0 || schema.ttl_seconds > kTtlSecondsMax) {
    return InvalidArgument("schema.ttl_seconds: %d; allowed are 0 (for ever) to %d",
                           schema.ttl_seconds, kTtlSecondsMax);
  }
  if (schema.fields.size() > kFieldsMax) {
    return InvalidArgument("schema.fields: %d fields; at most %d are allowed", schema.fields.size(),
                           kFieldsMax);
  }
  if (schema.vectors.empty() || schema.vectors.size() > kVectorFieldsMax) {
    return InvalidArgument("schema.vectors: %d vector fields; 1 to %d are allowed",
                           schema.vectors.size(), kVectorFieldsMax);
  }
  absl::flat_hash_set<std::string> names;
  AZ_RETURN_IF_ERROR(ValidateNames("fields", schema.fields, names));
  AZ_RETURN_IF_ERROR(ValidateNames("vectors", schema.vectors, names));
  for (const FieldDef& field : schema.fields) {
    if (const absl::Status status = ValidateField(field); !status.ok()) {
      return absl::Status(status.code(), absl::StrFormat("schema.fields[\"%s\"].%s", field.name,
                                                         std::string(status.message())));
    }
  }
  for (const VectorFieldDef& vector : schema.vectors) {
    if (const absl::Status status = ValidateVector(vector); !status.ok()) {
      return absl::Status(status.code(), absl::StrFormat("schema.vectors[\"%s\"].%s", vector.name,
                                                         std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

void NumberFields(Schema& schema) {
  for (FieldDef& field : schema.fields)
    field.id = std::exchange(schema.next_field, Next(schema.next_field));
  for (VectorFieldDef& vector : schema.vectors)
    vector.id = std::exchange(schema.next_field, Next(schema.next_field));
}

bool SameDefinition(const Schema& a, const Schema& b) {
  return a.key_type == b.key_type && a.dynamic == b.dynamic && a.auto_id == b.auto_id &&
         a.ttl_seconds == b.ttl_seconds && SameDefs(a.fields, b.fields) &&
         SameDefs(a.vectors, b.vectors);
}

std::string EncodeSchema(const Schema& schema) {
  std::string out;
  PutLittle(out, FormatVersionOf(schema));
  PutLittle(out, static_cast<uint8_t>(schema.key_type));
  PutLittle(out, static_cast<uint8_t>(schema.dynamic));
  PutLittle(out, Raw(schema.next_field));
  PutLittle(out, static_cast<uint32_t>(schema.fields.size()));
  for (const FieldDef& field : schema.fields) {
    PutLittle(out, Raw(field.id));
    PutLengthPrefixed(out, field.name);
    PutLittle(out, static_cast<uint8_t>(field.type));
    PutLittle(out, static_cast<uint8_t>(field.nullable));
    PutLittle(out, static_cast<uint8_t>(field.default_value.has_value()));
    if (field.default_value) EncodeValue(*field.default_value, out);
  }
  PutLittle(out, static_cast<uint32_t>(schema.vectors.size()));
  for (const VectorFieldDef& vector : schema.vectors) {
    PutLittle(out, Raw(vector.id));
    PutLengthPrefixed(out, vector.name);
    PutLittle(out, vector.dim);
    PutLittle(out, static_cast<uint8_t>(vector.metric));
    PutLittle(out, static_cast<uint8_t>(vector.index.kind));
    PutLittle(out, vector.index.m);
    PutLittle(out, vector.index.ef_construction);
    PutLittle(out, static_cast<uint8_t>(vector.index.quantization));
  }
  PutLittle(out, schema.ttl_seconds);
  PutLittle(out, static_cast<uint8_t>(schema.auto_id));
  return out;
}

absl::StatusOr<Schema> DecodeSchema(std::string_view bytes) {
  ByteReader reader(bytes);
  uint16_t version = 0;
  if (!reader.Little(version)) return Malformed("truncated before its version");
  if (version < 1 || version > kFormatVersionCodes) {
    return FailedPrecondition(
        "collection definition has format version %d; this server reads 1 to %d", version,
        kFormatVersionCodes);
  }
  Schema schema;
  uint32_t count = 0;
  if (!ReadEnum(reader, schema.key_type) || !ReadBool(reader, schema.dynamic) ||
      !ReadId(reader, schema.next_field) || !reader.Little(count)) {
    return Malformed("header");
  }
  // A count is not trusted with memory: each round reads bytes or ends the loop.
  for (uint32_t i = 0; i < count; ++i) {
    AZ_ASSIGN_OR_RETURN(FieldDef field, DecodeField(reader));
    schema.fields.push_back(std::move(field));
  }
  if (!reader.Little(count)) return Malformed("number of vector fields");
  for (uint32_t i = 0; i < count; ++i) {
    AZ_ASSIGN_OR_RETURN(VectorFieldDef vector, DecodeVector(reader));
    schema.vectors.push_back(std::move(vector));
  }
  // Version 1 had no ttl.
  if (version >= 2 && !reader.Little(schema.ttl_seconds)) return Malformed("ttl");
  // Nor version 2 keys that the server makes.
  if (version >= 3 && !ReadBool(reader, schema.auto_id)) return Malformed("auto_id");
  if (!reader.empty()) return Malformed("bytes after its end");
  if (std::max(version, kFormatVersion) != FormatVersionOf(schema)) {
    return Malformed("quantization that its version does not have");
  }
  return schema;
}

std::optional<std::string> ClosestFieldName(const Schema& schema, std::string_view name) {
  if (name.size() > kNameBytesMax) return std::nullopt;
  const std::string lower = absl::AsciiStrToLower(ToAbsl(name));
  // A third of the letters may be wrong, three at most: farther names are guesses.
  size_t limit = std::clamp<size_t>(name.size() / 3, 1, 3);
  std::optional<std::string> closest;
  const auto consider = [&](const std::string& candidate) {
    const size_t distance = EditDistance(lower, absl::AsciiStrToLower(candidate), limit);
    if (distance > limit || (closest && distance == limit)) return;
    closest = candidate;
    limit = distance;
  };
  for (const FieldDef& field : schema.fields) consider(field.name);
  for (const VectorFieldDef& vector : schema.vectors) consider(vector.name);
  return closest;
}

}  // namespace azimuth::engine
