#include "base/strings.h"

#include "gtest/gtest.h"

#include <string>

namespace azimuth {
namespace {

TEST(StringViews, PassBetweenTheTwoTypesWithoutACopy) {
  const std::string text = "abc";
  EXPECT_EQ(ToAbsl(text).data(), text.data());
  EXPECT_EQ(ToStd(ToAbsl(text)), text);
}

TEST(StringMap, IsLookedUpByViewsOfAnyOrigin) {
  StringMap<int> map;
  map["one"] = 1;
  EXPECT_EQ(map.find(std::string_view("one!").substr(0, 3))->second, 1);
  EXPECT_TRUE(map.contains("one"));
  EXPECT_FALSE(map.contains(std::string_view("two")));
}

TEST(IsValidUtf8, TakesEverythingThatIsWellFormed) {
  for (const char* text : {"", "abc", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF",
                           "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF",
                           "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"}) {
    EXPECT_TRUE(IsValidUtf8(text)) << text;
  }
  EXPECT_TRUE(IsValidUtf8(std::string_view("a\0b", 3)));
}

TEST(IsValidUtf8, RejectsOverlongFormsSurrogatesAndWhatIsPastTheEnd) {
  for (const char* text :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x41", "\xE0\x9F\xBF", "\xE2\x82",
        "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF0\x9F\x98", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFF", "ok\xFE"}) {
    EXPECT_FALSE(IsValidUtf8(text)) << Quoted(text);
  }
}

TEST(Quoted, EscapesWhatWouldHarmAMessage) {
  EXPECT_EQ(Quoted("abc"), "'abc'");
  EXPECT_EQ(Quoted(""), "''");
  EXPECT_EQ(Quoted("a\nb\x7F"), "'a\\x0ab\\x7f'");
  EXPECT_EQ(Quoted("\xFF\xC3\xA9"), "'\\xff\xC3\xA9'");
}

TEST(Quoted, CutsLongTextBetweenCharacters) {
  EXPECT_EQ(Quoted(std::string(64, 'a')), "'" + std::string(64, 'a') + "'");
  EXPECT_EQ(Quoted(std::string(65, 'a')), "'" + std::string(64, 'a') + "...'");
  // 63 bytes and a character of two: it does not fit whole.
  EXPECT_EQ(Quoted(std::string(63, 'a') + "\xC3\xA9"), "'" + std::string(63, 'a') + "...'");
}

}  // namespace
}  // namespace azimuth
