#include "pyrt/sys/error_display.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/exit_status.h"
#include "pyrt/sys/struct_sequence.h"
#include "pyrt/sys/sys_test_world.h"
#include "pyrt/sys/text_codec.h"
#include "pyrt/sys/text_stream.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// A stream object that is no file: collects what is written.
class Collector final : public Object {
 public:
  const char* TypeName() const override { return "Collector"; }
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override {
    if (name == "write") {
      return Ref<Object>(NativeFunction::New("write", [this](Args args) -> absl::StatusOr<Ref<Object>> {
        if (on_write) on_write();
        if (fail_write) return Raise(ErrorType::OSError(), "cannot write");
        text += As<String>(args[0])->value();
        return None();
      }));
    }
    if (name == "flush") {
      return Ref<Object>(NativeFunction::New("flush", [this](Args) -> absl::StatusOr<Ref<Object>> {
        if (fail_flush) return Raise(ErrorType::OSError(), "cannot flush");
        return None();
      }));
    }
    if (name == "closed" && fail_closed) return Raise(ErrorType::ValueError(), "cannot tell");
    if (name == "closed" && closed) return closed;
    return Object::GetAttr(name);
  }
  std::string Take() { return std::exchange(text, ""); }

  std::string text;
  bool fail_flush = false;
  bool fail_write = false;
  Ref<Object> closed;        // null: no such attribute
  bool fail_closed = false;  // the attribute cannot be read
  std::function<void()> on_write;
};

class ErrorDisplayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    world_.dict().Set("stdout", out_);
    world_.dict().Set("stderr", err_);
  }
  static Ref<Error> ValueError(const char* text) { return Error::New(ErrorType::ValueError(), text); }
  static Ref<Object> Raiser(const ErrorType& type, const char* text) {
    return NativeFunction::New(
        "raiser", [&type, text](Args) -> absl::StatusOr<Ref<Object>> { return Raise(type, "%s", text); });
  }

  SysTestWorld world_;
  Ref<Collector> out_ = MakeRef<Collector>();
  Ref<Collector> err_ = MakeRef<Collector>();
};

TEST_F(ErrorDisplayTest, ChainsPrintCausesAndContexts) {
  Ref<Error> first = ValueError("first");
  Ref<Error> second = Error::New(ErrorType::KeyError(), "second");
  second->set_context(first);
  EXPECT_EQ(FormatError(*second),
            "ValueError: first\n\nDuring handling of the above exception, another exception occurred:\n\n"
            "KeyError: 'second'\n");
  second->set_cause(first);
  EXPECT_EQ(FormatError(*second),
            "ValueError: first\n\nThe above exception was the direct cause of the following exception:\n\n"
            "KeyError: 'second'\n");
  second->set_cause(nullptr);
  EXPECT_EQ(FormatError(*second), "KeyError: 'second'\n") << "raise ... from None";
  EXPECT_EQ(ErrorLine(*Error::New(ErrorType::KeyboardInterrupt(), std::vector<Ref<Object>>{})),
            "KeyboardInterrupt\n");
}

TEST_F(ErrorDisplayTest, CausesInACirclePrintOnceEach) {
  Ref<Error> a = ValueError("a");
  Ref<Error> b = Error::New(ErrorType::KeyError(), "b");
  a->set_cause(b);
  b->set_cause(a);
  EXPECT_EQ(FormatError(*a),
            "KeyError: 'b'\n\nThe above exception was the direct cause of the following exception:\n\n"
            "ValueError: a\n");
  b->set_cause(b);
  EXPECT_EQ(FormatError(*b), "KeyError: 'b'\n");
  b->set_cause(nullptr);
}

TEST_F(ErrorDisplayTest, ALongChainPrintsWhole) {
  Ref<Error> last = ValueError("0");
  for (int i = 1; i < 10000; ++i) {
    Ref<Error> next = ValueError(std::to_string(i).c_str());
    i % 2 == 0 ? next->set_cause(last) : next->set_context(last);
    last = std::move(next);
  }
  const std::string text = FormatError(*last);
  EXPECT_EQ(text.substr(0, 14), "ValueError: 0\n");
  size_t blocks = 0;
  for (size_t at = 0; (at = text.find("ValueError: ", at)) != std::string::npos; ++at) ++blocks;
  EXPECT_EQ(blocks, 10000u);
}

TEST_F(ErrorDisplayTest, TheExcepthookShowsTheTracebackThatItIsGiven) {
  const Ref<Error> error = ValueError("x");
  const Ref<Object> traceback = String::Of("  somewhere\n");
  EXPECT_EQ(world_.Shown("excepthook", {None(), error, None()}), "None");
  EXPECT_EQ(err_->Take(), "ValueError: x\n");
  EXPECT_EQ(error->traceback(), nullptr);
  EXPECT_EQ(world_.Shown("excepthook", {None(), error, traceback}), "None");
  EXPECT_EQ(err_->Take(), "Traceback (most recent call last):\n  somewhere\nValueError: x\n");
  EXPECT_EQ(error->traceback(), traceback);
  EXPECT_EQ(world_.Shown("excepthook", {None(), error, String::Of("  elsewhere\n")}), "None");
  EXPECT_EQ(err_->Take(), "Traceback (most recent call last):\n  somewhere\nValueError: x\n") << "its own";
}

TEST_F(ErrorDisplayTest, TheExcepthookComplainsOfWhatIsNoException) {
  EXPECT_EQ(world_.Shown("excepthook", {None(), Int::Of(5), None()}), "None");
  EXPECT_EQ(err_->Take(), "TypeError: print_exception(): Exception expected for value, int found\n");
  EXPECT_EQ(world_.Shown("excepthook", {None(), None(), None()}), "None");
  EXPECT_EQ(err_->Take(), "TypeError: print_exception(): Exception expected for value, NoneType found\n");
}

TEST_F(ErrorDisplayTest, B126_UncaughtGoesThroughExcepthookAndIsKept) {
  Ref<Error> error = ValueError("x");
  EXPECT_EQ(PrintUncaught(world_.sys(), error), std::nullopt);
  EXPECT_EQ(err_->Take(), "ValueError: x\n");
  EXPECT_EQ(world_.dict().Find("last_exc"), error);
  EXPECT_EQ(world_.dict().Find("last_value"), error);
}

TEST_F(ErrorDisplayTest, B126_MissingHookNoneHookAndFailingHook) {
  world_.dict().Delete("excepthook");
  EXPECT_EQ(PrintUncaught(world_.sys(), ValueError("x")), std::nullopt);
  EXPECT_EQ(err_->Take(), "sys.excepthook is missing\nValueError: x\n");
  world_.dict().Set("excepthook", None());
  (void)PrintUncaught(world_.sys(), ValueError("x"));
  EXPECT_EQ(
      err_->Take(),
      "Error in sys.excepthook:\nTypeError: 'NoneType' object is not callable\n\nOriginal exception was:\n"
      "ValueError: x\n");
  world_.dict().Set("excepthook", Raiser(ErrorType::SystemExit(), "bye"));
  EXPECT_EQ(PrintUncaught(world_.sys(), ValueError("x")), 1);
  EXPECT_EQ(err_->Take(), "bye\n");
}

TEST_F(ErrorDisplayTest, B126_StderrNoneIsSilentAndMissingIsNot) {
  world_.dict().Set("stderr", None());
  (void)PrintUncaught(world_.sys(), ValueError("x"));
  world_.dict().Delete("stderr");
  ::testing::internal::CaptureStderr();
  (void)PrintUncaught(world_.sys(), ValueError("x"));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "object repr     : ValueError('x')\nlost sys.stderr\n");
}

TEST_F(ErrorDisplayTest, SY23_HeadingsGoToTheCStreamWhereThereIsNoStderr) {
  const auto shown = [&] {
    ::testing::internal::CaptureStderr();
    (void)PrintUncaught(world_.sys(), ValueError("x"));
    return ::testing::internal::GetCapturedStderr();
  };
  const std::string dump = "object repr     : ValueError('x')\nlost sys.stderr\n";
  world_.dict().Delete("stderr");
  world_.dict().Set("excepthook", Raiser(ErrorType::KeyError(), "hook"));
  EXPECT_EQ(shown(),
            "Error in sys.excepthook:\nobject repr     : KeyError('hook')\nlost sys.stderr\n"
            "\nOriginal exception was:\n" +
                dump);
  world_.dict().Delete("excepthook");
  EXPECT_EQ(shown(), "sys.excepthook is missing\n" + dump);
  world_.dict().Set("stderr", None());
  EXPECT_EQ(shown(), "sys.excepthook is missing\n")
      << "the heading as in CPython, the exception is not shown";
}

TEST_F(ErrorDisplayTest, B126_AuditVetoOfExcepthook) {
  const ErrorType* veto = &ErrorType::RuntimeError();
  ASSERT_TRUE(world_.sys()
                  .auditor()
                  .AddHook(NativeFunction::New("h",
                                               [&](Args args) -> absl::StatusOr<Ref<Object>> {
                                                 if (As<String>(args[0])->value() != "sys.excepthook")
                                                   return None();
                                                 return Raise(*veto, "veto");
                                               }))
                  .value());
  (void)PrintUncaught(world_.sys(), ValueError("x"));
  EXPECT_EQ(err_->Take(), "") << "RuntimeError stops it silently";
  veto = &ErrorType::KeyError();
  (void)PrintUncaught(world_.sys(), ValueError("x"));
  EXPECT_EQ(err_->Take(), "Exception ignored in audit hook:\nKeyError: 'veto'\nValueError: x\n");
}

TEST_F(ErrorDisplayTest, B125_SystemExitPrintsItsMessage) {
  EXPECT_EQ(PrintUncaught(world_.sys(), Error::New(ErrorType::SystemExit(), {Int::Of(3)})), 3);
  EXPECT_EQ(err_->Take(), "");
  EXPECT_EQ(PrintUncaught(world_.sys(), Error::New(ErrorType::SystemExit(), "text")), 1);
  EXPECT_EQ(err_->Take(), "text\n");
  EXPECT_FALSE(world_.dict().Contains("last_exc"));
}

TEST_F(ErrorDisplayTest, B127_UnraisableHookChain) {
  WriteUnraisable(world_.sys(), ValueError("x"), nullptr, Int::Of(7));
  EXPECT_EQ(err_->Take(), "Exception ignored in: 7\nValueError: x\n");
  WriteUnraisable(world_.sys(), ValueError("x"), "Exception ignored on threading shutdown", nullptr);
  EXPECT_EQ(err_->Take(), "Exception ignored on threading shutdown:\nValueError: x\n");
  for (const bool missing : {false, true}) {
    if (missing) {
      world_.dict().Delete("unraisablehook");
    } else {
      world_.dict().Set("unraisablehook", None());
    }
    WriteUnraisable(world_.sys(), ValueError("x"), nullptr, Int::Of(7));
    EXPECT_EQ(err_->Take(), "Exception ignored in: 7\nValueError: x\n");
  }
  world_.dict().Set("unraisablehook", Raiser(ErrorType::KeyError(), "hook"));
  WriteUnraisable(world_.sys(), ValueError("x"), nullptr, Int::Of(7));
  EXPECT_EQ(err_->Take(),
            "Exception ignored in sys.unraisablehook: <built-in function raiser>\nKeyError: 'hook'\n")
      << "the original is lost";
}

TEST_F(ErrorDisplayTest, SY33_EveryUnraisablehookThatIsThereIsAudited) {
  std::vector<std::string> events;
  ASSERT_TRUE(world_.native()
                  .Add(
                      [](std::string_view event, const Ref<Tuple>& arguments, void* log) {
                        const auto* const shown = As<StructSequence>((*arguments)[1]);
                        static_cast<std::vector<std::string>*>(log)->push_back(
                            std::string(event) + " " + (*arguments)[0]->Repr().value() + " " +
                            shown->Field("object")->Repr().value());
                        return absl::OkStatus();
                      },
                      &events, nullptr)
                  .value());
  WriteUnraisable(world_.sys(), ValueError("x"), nullptr, Int::Of(7));
  world_.dict().Set("unraisablehook", None());
  WriteUnraisable(world_.sys(), ValueError("x"), nullptr, Int::Of(7));
  world_.dict().Delete("unraisablehook");
  WriteUnraisable(world_.sys(), ValueError("x"), nullptr, Int::Of(7));
  EXPECT_EQ(events, (std::vector<std::string>{"sys.unraisablehook <built-in function unraisablehook> 7",
                                              "sys.unraisablehook None 7"}));
}

TEST_F(ErrorDisplayTest, SY33_AVetoOfTheUnraisablehookIsShownInstead) {
  bool called = false;
  ASSERT_TRUE(world_.native()
                  .Add(
                      [](std::string_view event, const Ref<Tuple>&, void*) {
                        return event == "sys.unraisablehook" ? Raise(ErrorType::RuntimeError(), "veto")
                                                             : absl::OkStatus();
                      },
                      nullptr, nullptr)
                  .value());
  world_.dict().Set("unraisablehook", NativeFunction::New("h", [&](Args) -> absl::StatusOr<Ref<Object>> {
                      called = true;
                      return None();
                    }));
  WriteUnraisable(world_.sys(), ValueError("x"), "msg", Int::Of(7));
  EXPECT_EQ(err_->Take(), "Exception ignored in audit hook:\nRuntimeError: veto\n");
  EXPECT_FALSE(called);
}

TEST_F(ErrorDisplayTest, SY36_AnUnraisableErrorWithoutAThreadStateIsFatal) {
  EXPECT_DEATH(
      {
        DetachedScope detached(world_.thread());
        WriteUnraisable(world_.sys(), ValueError("x"), nullptr, nullptr);
      },
      "PyErr_WriteUnraisable");
}

TEST_F(ErrorDisplayTest, B127_UnraisableArgumentsAreChecked) {
  EXPECT_EQ(world_.Shown("unraisablehook", {Int::Of(1)}),
            "TypeError: sys.unraisablehook argument type must be UnraisableHookArgs");
  std::string seen;
  world_.dict().Set("unraisablehook", NativeFunction::New("h", [&](Args args) -> absl::StatusOr<Ref<Object>> {
                      seen = args[0]->Repr().value();
                      return None();
                    }));
  WriteUnraisable(world_.sys(), ValueError("x"), "msg", nullptr);
  EXPECT_EQ(
      seen,
      "UnraisableHookArgs(exc_type=<class 'ValueError'>, exc_value=ValueError('x'), exc_traceback=None, "
      "err_msg='msg', object=None)");
}

TEST_F(ErrorDisplayTest, SY19_DisplayHook) {
  Ref<Object> builtins = world_.interp().table(Interpreter::Table::kBuiltins);
  EXPECT_EQ(world_.Shown("displayhook", {None()}), "None");
  EXPECT_EQ(out_->Take(), "");
  EXPECT_EQ(world_.Shown("displayhook", {String::Of("v")}), "None");
  EXPECT_EQ(out_->Take(), "'v'\n");
  EXPECT_EQ(As<Dict>(builtins)->Get("_")->Repr().value(), "'v'");
  struct Bad final : Object {
    const char* TypeName() const override { return "Bad"; }
    absl::StatusOr<std::string> Repr() const override { return Raise(ErrorType::KeyError(), "repr"); }
  };
  EXPECT_EQ(world_.Shown("displayhook", {MakeRef<Bad>()}), "KeyError: 'repr'");
  EXPECT_TRUE(IsNone(As<Dict>(builtins)->Get("_"))) << "no stale value";
  world_.dict().Set("stdout", None());
  EXPECT_EQ(world_.Shown("displayhook", {Int::Of(1)}), "RuntimeError: lost sys.stdout");
  world_.interp().set_table(Interpreter::Table::kBuiltins, nullptr);
  EXPECT_EQ(world_.Shown("displayhook", {Int::Of(1)}), "RuntimeError: lost builtins module");
}

TEST_F(ErrorDisplayTest, SY22_APromptCallsTheDisplayhookThatIsThere) {
  ASSERT_TRUE(CallDisplayHook(world_.sys(), String::Of("v")).ok());
  EXPECT_EQ(out_->Take(), "'v'\n");
  world_.dict().Set("displayhook", Raiser(ErrorType::KeyError(), "hook"));
  EXPECT_TRUE(IsError(CallDisplayHook(world_.sys(), None()), ErrorType::KeyError()));
  world_.dict().Delete("displayhook");
  const absl::Status lost = CallDisplayHook(world_.sys(), String::Of("v"));
  EXPECT_TRUE(IsError(lost, ErrorType::RuntimeError()));
  EXPECT_EQ(lost.message(), "lost sys.displayhook");
}

// A text stream of a host that has no UTF-8, with or without bytes below it.
struct AsciiStream final : Object {
  explicit AsciiStream(bool has_buffer) : has_buffer(has_buffer) {}
  const char* TypeName() const override { return "AsciiStream"; }
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override {
    if (name == "encoding") return Ref<Object>(String::Of("ascii"));
    if (name == "buffer" && has_buffer) return Ref<Object>::Share(this);
    if (name != "write") return Object::GetAttr(name);
    return Ref<Object>(NativeFunction::New(name, [this](Args args) -> absl::StatusOr<Ref<Object>> {
      if (const auto* const bytes = As<Bytes>(args[0])) {
        written += "bytes:" + bytes->value();
        return None();
      }
      const std::string& text = As<String>(args[0])->value();
      for (const char c : text) {
        if ((c & 0x80) != 0) return ToStatus(Error::New(ErrorType::UnicodeEncodeError(), "ascii"));
      }
      written += text;
      return None();
    }));
  }
  const bool has_buffer;
  std::string written;
};

TEST_F(ErrorDisplayTest, SY21_DisplayHookEscapesWhatTheStreamCannotEncode) {
  for (const bool has_buffer : {true, false}) {
    const Ref<AsciiStream> stream = MakeRef<AsciiStream>(has_buffer);
    world_.dict().Set("stdout", stream);
    EXPECT_EQ(world_.Shown("displayhook", {String::Of("\u00e9\u20ac")}), "None");
    EXPECT_EQ(stream->written, has_buffer ? "bytes:'\\xe9\\u20ac'\n" : "'\\xe9\\u20ac'\n");
  }
  // A real stream has a buffer.
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  TextStream::Options options;
  options.encoding = TextEncoding::kAscii;
  world_.dict().Set("stdout", TextStream::Open(ends[1], options));
  EXPECT_EQ(world_.Shown("displayhook", {String::Of("\u00e9")}), "None");
  ASSERT_TRUE(FlushStream(world_.dict().Find("stdout")).ok());
  char text[16];
  const ssize_t size = ::read(ends[0], text, sizeof(text));
  EXPECT_EQ(std::string(text, static_cast<size_t>(size)), "'\\xe9'\n");
  world_.dict().Set("stdout", None());
  ::close(ends[0]), ::close(ends[1]);
}

TEST_F(ErrorDisplayTest, WarningsAreOneLineUnlessCPythonIgnoresTheirCategory) {
  ASSERT_TRUE(world_.sys().host().Warn(ErrorType::RuntimeWarning(), "shown").ok());
  EXPECT_EQ(err_->Take(), "<sys>:0: RuntimeWarning: shown\n");
  ASSERT_TRUE(world_.sys().host().Warn(ErrorType::ImportWarning(), "hidden").ok());
  ASSERT_TRUE(world_.sys().host().Warn(ErrorType::ResourceWarning(), "hidden").ok());
  EXPECT_EQ(err_->Take(), "");
  ASSERT_TRUE(world_.sys().host().Warn(ErrorType::UserWarning(), "shown too").ok());
  EXPECT_EQ(err_->Take(), "<sys>:0: UserWarning: shown too\n");
}

TEST_F(ErrorDisplayTest, SY17_RedirectAndRestore) {
  const Ref<Object> original = world_.dict().Find("stdout");
  const Ref<Collector> other = MakeRef<Collector>();
  world_.dict().Set("stdout", other);
  WriteStdout(world_.sys(), "a");
  EXPECT_EQ(world_.Shown("displayhook", {Int::Of(1)}), "None");
  EXPECT_EQ(other->Take(), "a1\n");
  world_.dict().Set("stdout", original);
  WriteStdout(world_.sys(), "b");
  EXPECT_EQ(other->Take(), "");
  EXPECT_EQ(out_->Take(), "b");
}

// gh-130163: write() replaces sys.stdout, whose last reference that was, while it is being used.
TEST_F(ErrorDisplayTest, B120_StreamThatReplacesItselfDuringWrite) {
  Collector* collector = out_.get();
  collector->on_write = [this] { world_.dict().Set("stdout", None()); };
  out_ = nullptr;
  EXPECT_EQ(world_.Shown("displayhook", {Int::Of(1)}), "None") << "both writes went to the old stream";
  EXPECT_TRUE(IsNone(world_.dict().Find("stdout")));
}

TEST_F(ErrorDisplayTest, SY18_WritesAreLimitedAndKeepThePendingException) {
  Ref<Error> pending = ValueError("pending");
  world_.thread().data().current_exception = pending;
  WriteStdout(world_.sys(), std::string(1001, 'x'));
  EXPECT_EQ(out_->Take(), std::string(1000, 'x') + "... truncated");
  FormatStdout(world_.sys(), std::string(1001, 'x'));
  EXPECT_EQ(out_->Take(), std::string(1001, 'x'));
  EXPECT_EQ(std::exchange(world_.thread().data().current_exception, nullptr), pending);
  world_.dict().Delete("stderr");
  ::testing::internal::CaptureStderr();
  WriteStderr(world_.sys(), "to the C stream");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "to the C stream");
  world_.dict().Set("stderr", err_);
  err_->fail_write = true;
  world_.thread().data().current_exception = pending;
  ::testing::internal::CaptureStderr();
  WriteStderr(world_.sys(), std::string(1001, 'x'));
  FormatStderr(world_.sys(), "y");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), std::string(1000, 'x') + "... truncatedy")
      << "so it does when the write fails";
  EXPECT_EQ(err_->Take(), "");
  EXPECT_EQ(std::exchange(world_.thread().data().current_exception, nullptr), pending);
}

TEST_F(ErrorDisplayTest, B135_FlushFailureIsReportedAndCounts) {
  EXPECT_EQ(FlushStandardStreams(world_.sys()), 0);
  out_->fail_flush = true;
  EXPECT_EQ(FlushStandardStreams(world_.sys()), -1);
  EXPECT_EQ(err_->Take(), "Exception ignored while flushing sys.stdout:\nOSError: cannot flush\n");
  out_->fail_flush = false;
  err_->fail_flush = true;
  EXPECT_EQ(FlushStandardStreams(world_.sys()), -1) << "stderr counts too, without a report";
  EXPECT_EQ(kFlushFailureStatus, 120);
}

TEST_F(ErrorDisplayTest, SY16_AFlushThatFailsAgainIsNotReportedAgain) {
  out_->fail_flush = true;
  EXPECT_EQ(FlushStandardStreams(world_.sys()), -1);
  EXPECT_NE(err_->Take(), "");
  EXPECT_EQ(FlushStandardStreams(world_.sys()), -1);
  EXPECT_EQ(err_->Take(), "");
  const Ref<Collector> other = MakeRef<Collector>();
  other->fail_flush = true;
  world_.dict().Set("stdout", other);
  EXPECT_EQ(FlushStandardStreams(world_.sys()), -1);
  EXPECT_NE(err_->Take(), "") << "another stream";
}

TEST_F(ErrorDisplayTest, SY16_OnlyAStreamThatSaysItIsClosedIsSkipped) {
  struct Undecided final : Object {
    const char* TypeName() const override { return "Undecided"; }
    absl::StatusOr<bool> IsTrue() const override { return Raise(ErrorType::KeyError(), "neither"); }
  };
  out_->fail_flush = true;  // tells that it was asked
  out_->closed = True();
  EXPECT_EQ(FlushStandardStreams(world_.sys()), 0);
  out_->closed = MakeRef<Undecided>();
  EXPECT_EQ(FlushStandardStreams(world_.sys()), -1);
  out_->fail_closed = true;
  EXPECT_EQ(FlushStandardStreams(world_.sys()), -1);
}

TEST_F(ErrorDisplayTest, SY29_InspectingShowsSystemExitUntilThePrompt) {
  world_.sys().set_inspect(1);
  EXPECT_EQ(PrintUncaught(world_.sys(), Error::New(ErrorType::SystemExit(), {Int::Of(3)})), std::nullopt);
  EXPECT_EQ(err_->Take(), "SystemExit: 3\n");
  world_.sys().set_inspect(0);
  EXPECT_EQ(PrintUncaught(world_.sys(), Error::New(ErrorType::SystemExit(), {Int::Of(3)})), 3);
}

TEST_F(ErrorDisplayTest, B135_ClosedAndFullFiles) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  TextStream::Options options;
  options.name = "<stdout>";
  Ref<TextStream> stream = TextStream::Open(full, options);
  world_.dict().Set("stdout", stream);
  ASSERT_TRUE(stream->Write("text").ok());
  EXPECT_EQ(FlushStandardStreams(world_.sys()), -1);
  EXPECT_NE(err_->Take().find("OSError: [Errno 28] No space left on device"), std::string::npos);
  EXPECT_FALSE(stream->Close().ok());
  EXPECT_EQ(FlushStandardStreams(world_.sys()), 0) << "a closed file is skipped";
  ::close(full);
}

TEST_F(ErrorDisplayTest, SY15_OriginalStreamsComeBack) {
  StandardStreams streams{None(), out_, err_};
  world_.sys().SetStreams(streams);
  world_.dict().Set("stdout", Int::Of(1));
  world_.sys().PrepareForEnd();
  EXPECT_EQ(world_.dict().Find("stdout"), out_);
  EXPECT_TRUE(IsNone(world_.dict().Find("stdin")));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
