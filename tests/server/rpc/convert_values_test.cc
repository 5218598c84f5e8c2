#include "server/rpc/convert_values.h"

#include "tests/server/parse.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::server {
namespace {

using ::azimuth::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Little-endian binary32.
std::string Bytes(const std::vector<float>& floats) {
  std::string bytes(floats.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), floats.data(), bytes.size());
  return bytes;
}

Value Nested(int levels) {
  Value value{int64_t{1}};
  for (int i = 0; i < levels; ++i) {
    value = i % 2 == 0 ? Value{ValueList{std::move(value)}} : Value{ValueMap{{"m", value}}};
  }
  return value;
}

TEST(Place, EscapesNames) {
  EXPECT_EQ(Place("fields", "price"), "fields[\"price\"]");
  EXPECT_EQ(Place("fields", "a\nb"), "fields[\"a\\x0ab\"]");
  EXPECT_EQ(Place("records", size_t{3}), "records[3]");
}

TEST(KeyConversion, GoesBothWays) {
  for (const Key& key : {Key(int64_t{0}), Key(std::numeric_limits<int64_t>::min()),
                         Key(std::string("abc")), Key(std::string())}) {
    pb::Key wire;
    ToWire(key, wire);
    ASSERT_OK_AND_ASSIGN(const Key back, FromWire(wire));
    EXPECT_EQ(back, key);
  }
  EXPECT_THAT(FromWire(pb::Key()),
              StatusIs(absl::StatusCode::kInvalidArgument, "missing; set int64_key or string_key"));
}

TEST(KeyListConversion, GoesBothWays) {
  for (const std::vector<Key>& keys :
       {std::vector<Key>{int64_t{1}, int64_t{-2}},
        std::vector<Key>{std::string("a"), std::string("b"), std::string("a")}}) {
    pb::KeyList wire;
    ToWire(keys, wire);
    ASSERT_OK_AND_ASSIGN(const std::vector<Key> back, FromWire(wire));
    EXPECT_EQ(back, keys);
  }
}

TEST(KeyListConversion, HasNoCaseForNoKeys) {
  pb::KeyList wire;
  ToWire(std::span<const Key>(), wire);
  EXPECT_EQ(wire.kind_case(), pb::KeyList::KIND_NOT_SET);
  EXPECT_THAT(FromWire(wire), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("missing")));
  ASSERT_OK_AND_ASSIGN(const std::vector<Key> none, FromWire(Parse<pb::KeyList>("int64_keys {}")));
  EXPECT_THAT(none, IsEmpty());
}

TEST(ValueConversion, GoesBothWays) {
  const ValueMap map{{"a", Value{int64_t{1}}}, {"b", Value{ValueList{Value{}, Value{true}}}}};
  for (const Value& value :
       {Value{}, Value{true}, Value{false}, Value{std::numeric_limits<int64_t>::max()},
        Value{int64_t{0}}, Value{-0.5}, Value{std::string("grün")}, Value{std::string()},
        Value{ValueList{}}, Value{ValueMap{}}, Value{map}, Nested(kValueDepthMax)}) {
    pb::Value wire;
    ToWire(Value(value), wire);
    ASSERT_OK_AND_ASSIGN(const Value back, FromWire(wire));
    EXPECT_EQ(back, value) << wire.ShortDebugString();
  }
}

TEST(ValueConversion, RefusesAValueWithoutACaseAtAnyLevel) {
  for (const char* text : {"", "list_value { values { bool_value: true } values {} }",
                           "map_value { entries { key: 'a' value {} } }"}) {
    EXPECT_THAT(FromWire(Parse<pb::Value>(text)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no case set")))
        << text;
  }
}

TEST(ValueConversion, RefusesTooManyLevels) {
  pb::Value wire;
  ToWire(Nested(kValueDepthMax + 1), wire);
  EXPECT_THAT(FromWire(wire),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("deeper than 16 levels")));
  // An empty list is a level as well.
  pb::Value lists;
  pb::Value* innermost = &lists;
  for (int i = 0; i < kValueDepthMax; ++i)
    innermost = innermost->mutable_list_value()->add_values();
  innermost->mutable_list_value();
  EXPECT_THAT(FromWire(lists), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(VectorConversion, ReadsBothFormsOfADenseVector) {
  FloatStore store;
  const auto values = Parse<pb::Vector>("dense { values: [1.5, -2] }");
  ASSERT_OK_AND_ASSIGN(std::span<const float> floats, FromWire(values, store));
  EXPECT_THAT(floats, ElementsAre(1.5F, -2.0F));

  pb::Vector f32;
  f32.mutable_dense()->set_f32(Bytes({3, 4, 5, 6, 7}));
  ASSERT_OK_AND_ASSIGN(floats, FromWire(f32, store));
  EXPECT_THAT(floats, ElementsAre(3, 4, 5, 6, 7));
  EXPECT_THAT(store, IsEmpty()) << "aligned floats are read where they are";
}

TEST(VectorConversion, RefusesWhatIsNotExactlyOneWholeVector) {
  FloatStore store;
  const auto expect_refused = [&](const pb::Vector& vector, const std::string& message) {
    EXPECT_THAT(FromWire(vector, store), StatusIs(absl::StatusCode::kInvalidArgument, message));
  };
  expect_refused(pb::Vector(), "missing; set dense");
  expect_refused(Parse<pb::Vector>("dense {}"), "dense: none of values and f32; set exactly one");
  expect_refused(Parse<pb::Vector>("dense { values: 1 f32: 'abcd' }"),
                 "dense: both of values and f32; set exactly one");
  expect_refused(Parse<pb::Vector>("dense { f32: 'abcde' }"),
                 "dense.f32: 5 bytes are not a multiple of 4");
}

TEST(FloatsOf, CopiesBytesThatNoFloatMayBeReadFrom) {
  const std::string bytes = std::string("padding!") + Bytes({1, 2});
  FloatStore store;
  EXPECT_THAT(FloatsOf(std::string_view(bytes).substr(8), store), ElementsAre(1, 2));
  EXPECT_THAT(store, IsEmpty());
  for (size_t shift = 1; shift < sizeof(float); ++shift) {
    const std::string shifted = std::string(8 + shift, 'p') + Bytes({1, 2});
    EXPECT_THAT(FloatsOf(std::string_view(shifted).substr(8 + shift), store), ElementsAre(1, 2));
    EXPECT_THAT(store, SizeIs(shift));
  }
}

TEST(FilterConversion, TakesTextAndParameters) {
  const auto wire =
      Parse<pb::Filter>("expression: 'a == $x' parameters { key: 'x' value { int64_value: 7 } }");
  ASSERT_OK_AND_ASSIGN(const engine::FilterText filter, FromWire(wire));
  EXPECT_EQ(filter.text, "a == $x");
  ASSERT_EQ(filter.parameters.size(), 1U);
  EXPECT_EQ(filter.parameters.at("x"), Value{int64_t{7}});
  EXPECT_THAT(FromWire(Parse<pb::Filter>("parameters { key: 'x' value {} }")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("parameters[\"x\"]: ")));
}

TEST(ToProjection, TellsAllFieldsFromNone) {
  const auto search = Parse<pb::FieldSelection>("names: ['a', 'b']");
  google::protobuf::RepeatedPtrField<std::string> vectors;
  vectors.Add("v");
  EXPECT_FALSE(ToProjection(nullptr, vectors).fields.has_value());
  EXPECT_THAT(ToProjection(nullptr, vectors).vectors, ElementsAre("v"));
  const pb::FieldSelection none;
  ASSERT_TRUE(ToProjection(&none, vectors).fields.has_value());
  EXPECT_THAT(*ToProjection(&none, vectors).fields, IsEmpty());
  EXPECT_THAT(*ToProjection(&search, vectors).fields, ElementsAre("a", "b"));
}

}  // namespace
}  // namespace azimuth::server
