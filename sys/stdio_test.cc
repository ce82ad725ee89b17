#include "pyrt/sys/stdio.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <algorithm>
#include <string>

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
  EXPECT_TRUE(IsNone(OpenPreliminaryStderr(nullptr, gone)));
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
  auto* const output = As<TextStream>(streams_.standard_output);
  EXPECT_TRUE(output->IsTty());
  ::fcntl(master, F_SETFL, O_NONBLOCK);
  char text[64];
  ASSERT_TRUE(output->Write("half").ok());
  EXPECT_LT(::read(master, text, sizeof(text)), 0) << "not before the line ends";
  ASSERT_TRUE(output->Write(" line\n").ok());
  const ssize_t size = ::read(master, text, sizeof(text));
  EXPECT_EQ(std::string(text, static_cast<size_t>(std::max<ssize_t>(size, 0))), "half line\r\n")
      << "the terminal's own translation";
  streams_ = {};
  ::close(slave);
  ::close(master);
}

TEST_F(StdioTest, SY10_BytesThatDoNotDecodeComeOutAgain) {
  RuntimeConfig config;
  config.stdio_errors = "surrogateescape";
  int input[2];
  int output[2];
  ASSERT_EQ(::pipe(input), 0);
  ASSERT_EQ(::pipe(output), 0);
  ASSERT_TRUE(Open(config, {input[0], output[1], null_}).ok());
  const std::string bytes = "a\xff\xc3(\xe2\x82\n";
  ASSERT_EQ(::write(input[1], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  const absl::StatusOr<std::string> line = As<TextStream>(streams_.standard_input)->ReadLine();
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_NE(*line, bytes);
  ASSERT_TRUE(As<TextStream>(streams_.standard_output)->Write(*line).ok());
  ASSERT_TRUE(As<TextStream>(streams_.standard_output)->Flush().ok());
  char back[32];
  const ssize_t size = ::read(output[0], back, sizeof(back));
  EXPECT_EQ(std::string(back, static_cast<size_t>(std::max<ssize_t>(size, 0))), bytes);
  streams_ = {};
  for (const int fd : {input[0], input[1], output[0], output[1]}) ::close(fd);
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
