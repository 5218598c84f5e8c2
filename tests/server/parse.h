// Wire messages in tests, written as protobuf text.
//
// Thread safety: a free function.
#pragma once

#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

#include <string>
#include <string_view>

namespace azimuth::server {

// A text that does not parse fails the test.
template <typename Message>
Message Parse(std::string_view text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(std::string(text), &message)) << text;
  return message;
}

}  // namespace azimuth::server
