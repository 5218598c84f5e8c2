#include "server/config.h"

#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <cstdlib>
#include <string>
#include <vector>

namespace azimuth::server {
namespace {

using ::azimuth::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Environment variables of one test, taken back at its end.
class Environment final {
 public:
  ~Environment() {
    for (const std::string& name : names_) unsetenv(name.c_str());
  }
  void Set(const std::string& name, const std::string& value) {
    setenv(name.c_str(), value.c_str(), 1);
    names_.push_back(name);
  }

 private:
  std::vector<std::string> names_;
};

CommandLine ParseArguments(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "azimuthd");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
}

void ExpectRefused(const std::vector<const char*>& arguments, const std::string& message) {
  const CommandLine command = ParseArguments(arguments);
  EXPECT_EQ(command.action, Action::kExit);
  EXPECT_EQ(command.exit_code, 2);
  EXPECT_THAT(command.output, IsEmpty());
  EXPECT_THAT(command.error, HasSubstr(message));
}

TEST(ParseCommandLine, FillsInDefaults) {
  const CommandLine command = ParseArguments({"--data-dir", "/data"});
  ASSERT_EQ(command.action, Action::kServe) << command.error;
  const engine::DatabaseOptions defaults;
  EXPECT_EQ(command.config.database.data_dir, "/data");
  EXPECT_EQ(command.config.listen.ToString(), "127.0.0.1:7600");
  EXPECT_EQ(command.config.database.growing_rows_max, defaults.growing_rows_max);
  EXPECT_EQ(command.config.database.block_cache_bytes, defaults.block_cache_bytes);
  EXPECT_EQ(command.config.database.write_buffer_bytes, defaults.write_buffer_bytes);
  EXPECT_EQ(command.config.log_level, LogLevel::kInfo);
  EXPECT_EQ(command.config.grace, std::chrono::milliseconds(10000));
  EXPECT_THAT(command.config.failpoints, IsEmpty());
}

TEST(ParseCommandLine, ReadsEveryOption) {
  const CommandLine command = ParseArguments(
      {"--data-dir=/d", "--listen=[::1]:0", "--log-level=debug", "--grace-ms=5", "--rpc-threads=16",
       "--rpc-memory-mb=256", "--port-file=/p", "--growing-rows-max=7", "--graph-rows-min=3",
       "--growing-idle-ms=0", "--segment-rows-max=99", "--build-threads=2", "--block-cache-mb=8",
       "--write-buffer-mb=4", "--memory-mb=500", "--unindexed-rows-slow=10",
       "--unindexed-rows-max=20", "--bulk-commit-kb=3"});
  ASSERT_EQ(command.action, Action::kServe) << command.error;
  const Config& config = command.config;
  EXPECT_EQ(config.listen, (HostPort{"::1", 0}));
  EXPECT_EQ(config.log_level, LogLevel::kDebug);
  EXPECT_EQ(config.grace, std::chrono::milliseconds(5));
  EXPECT_EQ(config.rpc_threads, 16);
  EXPECT_EQ(config.rpc_memory_bytes, uint64_t{256} << 20);
  EXPECT_EQ(config.port_file, "/p");
  EXPECT_EQ(config.database.growing_rows_max, 7U);
  EXPECT_EQ(config.database.graph_rows_min, 3U);
  EXPECT_EQ(config.database.growing_idle_ms, 0);
  EXPECT_EQ(config.database.segment_rows_max, 99U);
  EXPECT_EQ(config.database.build_threads, 2);
  EXPECT_EQ(config.database.block_cache_bytes, uint64_t{8} << 20);
  EXPECT_EQ(config.database.write_buffer_bytes, uint64_t{4} << 20);
  EXPECT_EQ(config.database.memory_bytes, uint64_t{500} << 20);
  EXPECT_EQ(config.database.unindexed_rows_slow, 10U);
  EXPECT_EQ(config.database.unindexed_rows_max, 20U);
  EXPECT_EQ(config.database.bulk_commit_bytes, 3072U);
}

TEST(ParseCommandLine, SlowsWritesDownBeforeItRefusesThem) {
  const CommandLine command = ParseArguments({"--data-dir=/d", "--unindexed-rows-max=20"});
  ASSERT_EQ(command.action, Action::kServe) << command.error;
  EXPECT_EQ(command.config.database.unindexed_rows_slow, 20U);
}

TEST(ParseCommandLine, TakesTheEnvironmentWhereThereIsNoFlag) {
  Environment environment;
  environment.Set("AZIMUTH_DATA_DIR", "/from-env");
  environment.Set("AZIMUTH_LISTEN", "127.0.0.1:1");
  environment.Set("AZIMUTH_FAILPOINTS", "commit.after_log=kill");
  const CommandLine command = ParseArguments({});
  ASSERT_EQ(command.action, Action::kServe) << command.error;
  EXPECT_EQ(command.config.database.data_dir, "/from-env");
  EXPECT_EQ(command.config.listen.port, 1);
  EXPECT_EQ(command.config.failpoints, "commit.after_log=kill");
}

TEST(ParseCommandLine, PrefersAFlagToTheEnvironment) {
  Environment environment;
  environment.Set("AZIMUTH_DATA_DIR", "/from-env");
  environment.Set("AZIMUTH_LISTEN", "127.0.0.1:1");
  const CommandLine command = ParseArguments({"--data-dir=/flag", "--listen=127.0.0.1:2"});
  ASSERT_EQ(command.action, Action::kServe) << command.error;
  EXPECT_EQ(command.config.database.data_dir, "/flag");
  EXPECT_EQ(command.config.listen.port, 2);
}

TEST(ParseCommandLine, HoldsTheEnvironmentToTheSameRules) {
  Environment environment;
  environment.Set("AZIMUTH_LISTEN", "0.0.0.0:7600");
  ExpectRefused({"--data-dir=/d"}, "--insecure");
}

TEST(ParseCommandLine, ServesOtherMachinesOnlyWhenToldThatThisIsInsecure) {
  for (const char* listen : {"0.0.0.0:7600", "[::]:7600", "192.168.1.2:7600", "db.example:7600"}) {
    const std::string flag = std::string("--listen=") + listen;
    ExpectRefused({"--data-dir=/d", flag.c_str()}, "no authentication");
    const CommandLine command = ParseArguments({"--data-dir=/d", flag.c_str(), "--insecure"});
    EXPECT_EQ(command.action, Action::kServe) << command.error;
  }
}

TEST(ParseCommandLine, RefusesWhatIsWrong) {
  ExpectRefused({}, "--data-dir");
  ExpectRefused({"--data-dir=/d", "--listen=7600"}, "--listen: expected HOST:PORT");
  ExpectRefused({"--data-dir=/d", "--grace-ms=-1"}, "--grace-ms");
  ExpectRefused({"--data-dir=/d", "--growing-rows-max=0"}, "--growing-rows-max");
  ExpectRefused({"--data-dir=/d", "--unindexed-rows-max=0"}, "--unindexed-rows-max");
  ExpectRefused({"--data-dir=/d", "--memory-mb=-1"}, "--memory-mb");
  ExpectRefused({"--data-dir=/d", "--build-threads=many"}, "--build-threads");
  ExpectRefused({"--data-dir=/d", "--log-level=loud"}, "--log-level");
  ExpectRefused({"--data-dir=/d", "--shards=3"}, "--shards");
  ExpectRefused({"--data-dir=/d", "stray"}, "stray");
}

TEST(ParseCommandLine, PrintsHelpAndVersionWithoutAnError) {
  const CommandLine version = ParseArguments({"--version"});
  EXPECT_EQ(version.action, Action::kExit);
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(version.output, "azimuthd " + std::string(Version()) + "\n");
  const CommandLine help = ParseArguments({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.output, HasSubstr("--data-dir"));
  EXPECT_THAT(help.error, IsEmpty());
}

TEST(ParseCommandLine, ChecksHealthWithoutADataDirectory) {
  const CommandLine command = ParseArguments({"--health-check", "--listen=0.0.0.0:7700"});
  EXPECT_EQ(command.action, Action::kCheckHealth) << command.error;
  EXPECT_EQ(command.config.listen.port, 7700);
  ExpectRefused({"--health-check", "--listen=127.0.0.1:0"}, "port 0");
}

TEST(ParseHostPort, ReadsNamesAddressesAndBracketedAddresses) {
  for (const char* text : {"localhost:1", "127.0.0.1:0", "[::1]:65535"}) {
    ASSERT_OK_AND_ASSIGN(const HostPort parsed, ParseHostPort(text));
    EXPECT_EQ(parsed.ToString(), text);
  }
}

TEST(ParseHostPort, RefusesWhatIsNoAddressWithPort) {
  for (const char* text :
       {"", "localhost", ":7600", "localhost:", "localhost:x", "localhost:-1", "localhost:65536",
        "localhost:1 ", "::1:7600", "[::1]", "[]:1", "http://localhost:1", "unix:/socket:1"}) {
    EXPECT_THAT(ParseHostPort(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
  }
}

TEST(IsLoopback, KnowsWhichAddressesStayOnTheMachine) {
  for (const char* host : {"localhost", "127.0.0.1", "127.255.0.9", "::1"}) {
    EXPECT_TRUE(IsLoopback(host)) << host;
  }
  for (const char* host :
       {"0.0.0.0", "128.0.0.1", "10.127.0.1", "127.0.0.1.example", "127.0.0", "127.0.0.1.",
        "127.0.0.256", "127.evil.example", "localhost.example", "::", "", "127"}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

TEST(ParseCommandLine, VerifiesADirectory) {
  CommandLine command = ParseArguments({"verify", "/data"});
  ASSERT_EQ(command.action, Action::kVerify) << command.error;
  EXPECT_EQ(command.config.database.data_dir, "/data");
  EXPECT_FALSE(command.config.verify.deep);
  EXPECT_FALSE(command.config.verify.repair);
  Environment environment;
  environment.Set("AZIMUTH_DATA_DIR", "/other");
  command = ParseArguments({"verify", "--deep", "--repair", "/data"});
  ASSERT_EQ(command.action, Action::kVerify) << command.error;
  EXPECT_EQ(command.config.database.data_dir, "/data");
  EXPECT_TRUE(command.config.verify.deep);
  EXPECT_TRUE(command.config.verify.repair);
  ExpectRefused({"verify"}, "DIR");
  ExpectRefused({"verify", "--deeper", "/data"}, "--deeper");
}

TEST(ParseCommandLine, RestoreTakesTheFolderOfASnapshotAndADirectory) {
  const CommandLine command = ParseArguments({"restore", "--from", "/backup", "--data", "/data"});
  ASSERT_EQ(command.action, Action::kRestore) << command.error;
  EXPECT_EQ(command.config.restore_from, "/backup");
  EXPECT_EQ(command.config.database.data_dir, "/data");
  ExpectRefused({"restore"}, "--from");
  ExpectRefused({"restore", "--from", "/backup"}, "--data");
  ExpectRefused({"restore", "--from", "/backup", "--data", "/data", "more"}, "more");
}

}  // namespace
}  // namespace azimuth::server
