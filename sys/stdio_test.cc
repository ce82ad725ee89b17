#include "pyrt/sys/stdio.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/text_stream.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class StdioTest : public ::testing::Test {
 protected:
  void SetUp() override {
    null_ = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    ASSERT_GE(null_, 0);
  }
  void TearDown() override { ::close(null_); }

  ConfigStatus Open(const RuntimeConfig& config, StandardDescriptors descriptors) {
    return OpenStandardStreams(config, nullptr, &streams_, descriptors);
  }
  const TextStream::Options& Output() { return As<TextStream>(streams_.standard_output)->options(); }
  const TextStream::Options& Errors() { return As<TextStream>(streams_.standard_error)->options(); }

  int null_ = -1;
  StandardStreams streams_;
};

TEST_F(StdioTest, SY8_ClosedDescriptorsGiveNone) {
  const int gone = ::dup(null_);
  ::close(gone);
  ASSERT_TRUE(Open(RuntimeConfig(), {gone, gone, gone}).ok());
  EXPECT_TRUE(IsNone(streams_.standard_input));
  EXPECT_TRUE(IsNone(streams_.standard_output));
  EXPECT_TRUE(IsNone(streams_.standard_error));
  EXPECT_TRUE(IsNone(OpenPreliminaryStderr(gone)));
}

TEST_F(StdioTest, SY10_StderrAlwaysEscapesAndIsLineBuffered) {
  RuntimeConfig config;
  config.stdio_encoding = "ascii";
  config.stdio_errors = "replace";
  ASSERT_TRUE(Open(config, {null_, null_, null_}).ok());
  EXPECT_EQ(Output().errors, TextErrors::kReplace);
  EXPECT_FALSE(Output().line_buffering);
  EXPECT_EQ(Errors().errors, TextErrors::kBackslashReplace);
  EXPECT_EQ(Errors().encoding, TextEncoding::kAscii);
  EXPECT_TRUE(Errors().line_buffering);
}

TEST_F(StdioTest, SY9_UnbufferedWritesThrough) {
  RuntimeConfig config;
  config.buffered_stdio = false;
  ASSERT_TRUE(Open(config, {null_, null_, null_}).ok());
  EXPECT_TRUE(Output().write_through);
  EXPECT_TRUE(Errors().write_through);
}

TEST_F(StdioTest, SY9_StdoutIsLineBufferedOnATerminal) {
  int master = -1;
  int slave = -1;
  ASSERT_EQ(::openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  ASSERT_TRUE(Open(RuntimeConfig(), {null_, slave, null_}).ok());
  EXPECT_TRUE(Output().line_buffering);
  EXPECT_TRUE(As<TextStream>(streams_.standard_output)->IsTty());
  streams_ = {};
  ::close(slave);
  ::close(master);
}

TEST_F(StdioTest, SY13_StdinThatIsADirectoryIsFatal) {
  const int directory = ::open("/", O_RDONLY | O_CLOEXEC);
  const ConfigStatus status = Open(RuntimeConfig(), {directory, null_, null_});
  EXPECT_EQ(status.Text().substr(0, status.Text().find('\n')),
            "Fatal Python error: init_sys_streams: <stdin> is a directory, cannot continue");
  EXPECT_EQ(status.exit_code(), 1);
  ::close(directory);
}

TEST_F(StdioTest, UnknownErrorHandlerIsAnError) {
  RuntimeConfig config;
  config.stdio_errors = "bogus";
  EXPECT_EQ(Open(config, {null_, null_, null_}).message(), "unknown error handler name 'bogus'");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
