// Goal: a schema is checked before it is kept, and comes back from its bytes as it was.
// Method: tables of bad schemas with the place that the message names; each truncation of the
// bytes.
#include "engine/schema.h"

#include "engine/limits.h"
#include "tests/support/matchers.h"

#include <functional>
#include <limits>
#include <random>
#include <string>

namespace azimuth::engine {
namespace {

using azimuth::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

Schema GoodSchema() {
  Schema schema;
  schema.key_type = KeyType::kString;
  schema.dynamic = false;
  schema.fields = {
      {.name = "title", .type = FieldType::kString, .default_value = Value{std::string("none")}},
      {.name = "count", .type = FieldType::kInt64, .nullable = false},
      {.name = "price", .type = FieldType::kDouble, .default_value = Value{}},
      {.name = "sold", .type = FieldType::kBool, .nullable = false, .default_value = Value{false}}};
  schema.vectors = {{.name = "image",
                     .dim = 512,
                     .metric = Metric::kCosine,
                     .index = {.kind = IndexKind::kHnsw,
                               .m = 32,
                               .ef_construction = 400,
                               .quantization = Quantization::kNone}},
                    {.name = "text", .dim = 1}};
  NumberFields(schema);
  return schema;
}

TEST(Schema, NumbersFieldsInOneSequenceThatGoesOn) {
  Schema schema = GoodSchema();
  EXPECT_EQ(schema.fields[0].id, FieldId{1});
  EXPECT_EQ(schema.fields[3].id, FieldId{4});
  EXPECT_EQ(schema.vectors[0].id, FieldId{5});
  EXPECT_EQ(schema.vectors[1].id, FieldId{6});
  EXPECT_EQ(schema.next_field, FieldId{7});
  NumberFields(schema);
  EXPECT_EQ(schema.fields[0].id, FieldId{7});
  EXPECT_EQ(schema.next_field, FieldId{13});
}

TEST(Schema, FindsFieldsByName) {
  const Schema schema = GoodSchema();
  ASSERT_NE(schema.FindField("price"), nullptr);
  EXPECT_EQ(schema.FindField("price")->type, FieldType::kDouble);
  EXPECT_EQ(schema.FindField("image"), nullptr);
  ASSERT_NE(schema.FindVector("image"), nullptr);
  EXPECT_EQ(schema.FindVector("image")->dim, 512u);
  EXPECT_EQ(schema.FindVector("price"), nullptr);
}

TEST(Schema, AcceptsNamesOfLettersDigitsAndUnderscores) {
  const std::string longest(kNameBytesMax, 'a');
  for (const std::string& name : {std::string("a"), std::string("_"), std::string("Price_2"),
                                  std::string("match"), std::string("Key"), longest}) {
    EXPECT_OK(CheckFieldName(name));
    EXPECT_OK(CheckCollectionName(name));
  }
  EXPECT_OK(CheckCollectionName("key"));
  EXPECT_OK(CheckCollectionName("and"));
  EXPECT_OK(CheckCollectionName("my-shoes-2"));
}

TEST(Schema, RefusesOtherNames) {
  using std::string_literals::operator""s;
  for (const std::string& name :
       {""s, "2nd"s, "-x"s, "."s, ".."s, "a/b"s, "a\\b"s, "a b"s, "a.b"s, "a\0"s,
        "gr\u00f6\u00dfe"s, "a\xff"s, "a\n"s, std::string(kNameBytesMax + 1, 'a')}) {
    EXPECT_THAT(CheckFieldName(name), StatusIs(kInvalid, HasSubstr("allowed are 1 to 255")))
        << name;
    EXPECT_THAT(CheckCollectionName(name), StatusIs(kInvalid, HasSubstr("allowed are 1 to 255")))
        << name;
  }
  EXPECT_THAT(CheckFieldName("a-b"), StatusIs(kInvalid, HasSubstr("'a-b'")));
}

TEST(Schema, KeepsTheWordsOfTheFilterLanguageFromFields) {
  for (const char* name : {"and", "OR", "Not", "in", "between", "is", "null", "true", "false",
                           "like", "contains", "nan", "inf", "Infinity"}) {
    EXPECT_THAT(CheckFieldName(name), StatusIs(kInvalid, HasSubstr("filter language"))) << name;
  }
  EXPECT_THAT(CheckFieldName("key"), StatusIs(kInvalid, HasSubstr("the record's key")));
}

TEST(ValidateSchema, AcceptsAGoodOne) {
  EXPECT_OK(ValidateSchema(GoodSchema()));
  Schema least;
  least.vectors = {{.name = "v", .dim = kDimensionMax}};
  EXPECT_OK(ValidateSchema(least));
  Schema most = least;
  for (size_t i = 0; i < kFieldsMax; ++i) {
    most.fields.push_back({.name = "f" + std::to_string(i)});
  }
  EXPECT_OK(ValidateSchema(most));
}

TEST(ValidateSchema, NamesThePlaceOfWhatIsWrong) {
  const auto expect = [](const std::function<void(Schema&)>& spoil, const std::string& message) {
    Schema schema = GoodSchema();
    spoil(schema);
    EXPECT_THAT(ValidateSchema(schema), StatusIs(kInvalid, StartsWith(message)));
  };
  expect([](Schema& s) { s.key_type = KeyType{9}; }, "schema.key_type: 9 is none of");
  expect([](Schema& s) { s.auto_id = true; },
         "schema.auto_id: the server makes keys of type int64 only, and key_type is string");
  expect([](Schema& s) { s.vectors.clear(); }, "schema.vectors: 0 vector fields; 1 to 64");
  expect([](Schema& s) { s.vectors.resize(kVectorFieldsMax + 1, s.vectors[0]); },
         "schema.vectors: 65 vector fields");
  expect([](Schema& s) { s.fields.resize(kFieldsMax + 1, s.fields[0]); },
         "schema.fields: 1025 fields; at most 1024");
  expect([](Schema& s) { s.fields[1].name = "a b"; }, "schema.fields[1].name: 'a b' is no name");
  expect([](Schema& s) { s.fields[1].name = "key"; }, "schema.fields[1].name: 'key' is no name");
  expect([](Schema& s) { s.vectors[1].name = ""; }, "schema.vectors[1].name: '' is no name");
  expect([](Schema& s) { s.fields[2].name = "title"; },
         "schema.fields[2].name: a second field has the name 'title'");
  expect([](Schema& s) { s.vectors[0].name = "title"; },
         "schema.vectors[0].name: a second field has the name 'title'");
  expect([](Schema& s) { s.fields[0].type = FieldType{0}; }, "schema.fields[\"title\"].type: 0");
  expect([](Schema& s) { s.vectors[0].dim = 0; },
         "schema.vectors[\"image\"].dimension: 0 is outside of 1 to 32768");
  expect([](Schema& s) { s.vectors[0].dim = kDimensionMax + 1; },
         "schema.vectors[\"image\"].dimension: 32769 is outside");
  expect([](Schema& s) { s.vectors[0].metric = Metric{4}; },
         "schema.vectors[\"image\"].metric: 4 is none of l2, ip, cosine");
  expect([](Schema& s) { s.vectors[0].index.kind = IndexKind{0}; },
         "schema.vectors[\"image\"].index.kind: 0");
  expect([](Schema& s) { s.vectors[0].index.m = 1; },
         "schema.vectors[\"image\"].index.m: 1 is outside of 2 to 128");
  expect([](Schema& s) { s.vectors[0].index.m = 129; }, "schema.vectors[\"image\"].index.m: 129");
  expect([](Schema& s) { s.vectors[0].index.ef_construction = 7; },
         "schema.vectors[\"image\"].index.ef_construction: 7 is outside of 8 to 4096");
  expect([](Schema& s) { s.vectors[1].index.ef_construction = 4097; },
         "schema.vectors[\"text\"].index.ef_construction: 4097");
  expect([](Schema& s) { s.vectors[0].index.quantization = Quantization{5}; },
         "schema.vectors[\"image\"].index.quantization: 5 is none of auto, none, sq8, sq4, "
         "rabitq4, pca4");
}

TEST(ValidateSchema, ChecksDefaults) {
  const auto expect = [](FieldType type, bool nullable, Value value, const std::string& message) {
    Schema schema = GoodSchema();
    schema.fields = {
        {.name = "f", .type = type, .nullable = nullable, .default_value = std::move(value)}};
    EXPECT_THAT(ValidateSchema(schema),
                StatusIs(kInvalid, StartsWith("schema.fields[\"f\"].default_value: " + message)));
  };
  expect(FieldType::kInt64, true, Value{1.0},
         "a value of kind double is no default for a field of type int64");
  expect(FieldType::kDouble, true, Value{int64_t{1}}, "a value of kind int64");
  expect(FieldType::kString, true, Value{ValueList{}}, "a value of kind list");
  expect(FieldType::kBool, false, Value{}, "null is no default");
  expect(FieldType::kDouble, true, Value{std::numeric_limits<double>::quiet_NaN()},
         "the number is not finite");
  expect(FieldType::kString, true, Value{std::string("\xff")}, "the string is not valid UTF-8");
  expect(FieldType::kString, true, Value{std::string(kRecordBytesMax + 1, 'x')},
         "the string has 1048577 bytes");
}

TEST(SameDefinition, LooksPastIdsAndOrderOnly) {
  const Schema schema = GoodSchema();
  Schema other = schema;
  std::swap(other.fields[0], other.fields[2]);
  std::swap(other.vectors[0], other.vectors[1]);
  NumberFields(other);
  EXPECT_TRUE(SameDefinition(schema, other));
  const auto expect_other = [&schema](const std::function<void(Schema&)>& change) {
    Schema changed = schema;
    change(changed);
    EXPECT_FALSE(SameDefinition(schema, changed));
    EXPECT_FALSE(SameDefinition(changed, schema));
  };
  expect_other([](Schema& s) { s.key_type = KeyType::kInt64; });
  expect_other([](Schema& s) { s.dynamic = true; });
  expect_other([](Schema& s) { s.fields.pop_back(); });
  expect_other([](Schema& s) { s.fields[0].name = "other"; });
  expect_other([](Schema& s) { s.fields[1].nullable = true; });
  expect_other([](Schema& s) { s.fields[0].default_value.reset(); });
  expect_other([](Schema& s) { s.vectors[0].metric = Metric::kL2; });
  expect_other([](Schema& s) { s.vectors[0].index.m = 16; });
  expect_other([](Schema& s) { s.ttl_seconds = 1; });
  expect_other([](Schema& s) { s.auto_id = true; });
}

TEST(SchemaCodec, BringsBackWhatWasEncoded) {
  Schema made = GoodSchema();
  made.auto_id = true;
  Schema coded = GoodSchema();
  coded.vectors[0].index.quantization = Quantization::kSq4;
  for (Schema schema : {GoodSchema(), Schema{}, made, coded}) {
    ASSERT_OK_AND_ASSIGN(const Schema decoded, DecodeSchema(EncodeSchema(schema)));
    EXPECT_EQ(decoded, schema);
  }
}

TEST(SchemaCodec, KeepsItsBytes) {
  Schema schema;
  schema.fields = {{.name = "a", .type = FieldType::kBool, .default_value = Value{true}}};
  schema.vectors = {{.name = "v", .dim = 3}};
  NumberFields(schema);
  schema.ttl_seconds = 258;
  schema.auto_id = true;
  const std::string expected(
      "\x03\0\x01\x01\x03\0\0\0\x01\0\0\0"
      "\x01\0\0\0\x01\0\0\0a\x01\x01\x01\x02\x01"
      "\x01\0\0\0\x02\0\0\0\x01\0\0\0v\x03\0\0\0\x01\x01"
      "\x10\0\0\0\xc8\0\0\0\x01"
      "\x02\x01\0\0\0\0\0\0\x01",
      12 + 14 + 19 + 9 + 9);
  EXPECT_EQ(EncodeSchema(schema), expected);
}

TEST(SchemaCodec, ReadsVersionsThatHadNoTtlAndNoMadeKeys) {
  Schema schema = GoodSchema();
  schema.ttl_seconds = 7;
  std::string bytes = EncodeSchema(schema);
  bytes.pop_back();
  bytes[0] = 2;
  ASSERT_OK_AND_ASSIGN(Schema decoded, DecodeSchema(bytes));
  EXPECT_EQ(decoded, schema);
  bytes.resize(bytes.size() - sizeof(int64_t));
  bytes[0] = 1;
  ASSERT_OK_AND_ASSIGN(decoded, DecodeSchema(bytes));
  schema.ttl_seconds = 0;
  EXPECT_EQ(decoded, schema);
}

TEST(SchemaCodec, HasVersion4WhereThereAreCodes) {
  for (const Quantization quantization :
       {Quantization::kSq8, Quantization::kRabitq4, Quantization::kSq4, Quantization::kPca4}) {
    Schema schema = GoodSchema();
    const std::string plain = EncodeSchema(schema);
    schema.vectors[1].index.quantization = quantization;
    std::string bytes = EncodeSchema(schema);
    ASSERT_EQ(bytes.size(), plain.size());
    EXPECT_EQ(bytes[0], 4);
    constexpr size_t kAfterIt = 8 + 1;  // The ttl, and whether keys are made.
    EXPECT_EQ(bytes[bytes.size() - kAfterIt - 1], static_cast<char>(quantization));
    ASSERT_OK_AND_ASSIGN(const Schema decoded, DecodeSchema(bytes));
    EXPECT_EQ(decoded, schema);
    bytes[0] = 3;
    EXPECT_THAT(DecodeSchema(bytes),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("quantization")));
  }
  std::string bytes = EncodeSchema(GoodSchema());
  ASSERT_EQ(bytes[0], 3);
  bytes[0] = 4;
  EXPECT_THAT(DecodeSchema(bytes), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(SchemaCodec, RefusesEveryTruncation) {
  const std::string bytes = EncodeSchema(GoodSchema());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(DecodeSchema(std::string_view(bytes).substr(0, size)),
                StatusIs(absl::StatusCode::kDataLoss))
        << size;
  }
}

TEST(SchemaCodec, RefusesBytesAfterTheEndAndOtherVersions) {
  std::string bytes = EncodeSchema(GoodSchema());
  EXPECT_THAT(DecodeSchema(bytes + '\0'),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("bytes after its end")));
  bytes[0] = 5;
  EXPECT_THAT(DecodeSchema(bytes),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("format version 5; this server reads 1 to 4")));
}

TEST(SchemaCodec, RefusesNumbersThatStandForNothing) {
  const auto expect = [](const std::function<void(Schema&)>& spoil) {
    Schema schema = GoodSchema();
    spoil(schema);
    EXPECT_THAT(DecodeSchema(EncodeSchema(schema)), StatusIs(absl::StatusCode::kDataLoss));
  };
  expect([](Schema& s) { s.key_type = KeyType{0}; });
  expect([](Schema& s) { s.fields[0].type = FieldType{5}; });
  expect([](Schema& s) { s.fields[0].default_value = Value{1.0}; });
  expect([](Schema& s) { s.vectors[0].metric = Metric{0}; });
  expect([](Schema& s) { s.vectors[0].index.kind = IndexKind{4}; });
  expect([](Schema& s) { s.vectors[0].index.quantization = Quantization{0}; });
}

TEST(SchemaCodec, SurvivesRandomDamage) {
  const std::string good = EncodeSchema(GoodSchema());
  std::mt19937 random(7);
  const auto below = [&random](size_t bound) {
    return std::uniform_int_distribution<size_t>(0, bound - 1)(random);
  };
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = good;
    for (size_t i = 1 + below(3); i > 0; --i) {
      bytes[below(bytes.size())] = static_cast<char>(below(256));
    }
    const auto decoded = DecodeSchema(bytes);
    if (decoded.ok()) {
      EXPECT_EQ(EncodeSchema(*decoded), bytes);
    } else {
      EXPECT_TRUE(absl::IsDataLoss(decoded.status()) ||
                  absl::IsFailedPrecondition(decoded.status()))
          << decoded.status();
    }
  }
}

TEST(ClosestFieldName, SuggestsOneNameThatIsNear) {
  const Schema schema = GoodSchema();
  EXPECT_EQ(ClosestFieldName(schema, "pric"), "price");
  EXPECT_EQ(ClosestFieldName(schema, "prcie"), "price");
  EXPECT_EQ(ClosestFieldName(schema, "PRICE"), "price");
  EXPECT_EQ(ClosestFieldName(schema, "imagee"), "image");
  EXPECT_EQ(ClosestFieldName(schema, "x"), std::nullopt);
  EXPECT_EQ(ClosestFieldName(schema, "description"), std::nullopt);
  EXPECT_EQ(ClosestFieldName(schema, ""), std::nullopt);
  EXPECT_EQ(ClosestFieldName(schema, std::string(100000, 'a')), std::nullopt);
}

}  // namespace
}  // namespace azimuth::engine
