// Memory that runs out at every k-th allocation, for every k: each operation is tried with its first allocation failing,
// then its second, until it needs no more; and again with none succeeding after the k-th. After each failure nothing is left behind (no block, no entry of any list),
// and the operation succeeds when it is tried again.
//
// pyrt's own containers throw std::bad_alloc, what is made one at a time returns a status or null: both count as a
// failure.

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/fork.h"
#include "pyrt/runtime/import_subsystem.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/thread.h"
#include "pyrt/sys/audit.h"
#include "pyrt/sys/sys_dict.h"
#include "pyrt/tstate/gil_state.h"

namespace {

// Of the calling thread. `countdown` allocations succeed; the one after them fails, and with `for_good` all that follow.
thread_local int64_t countdown = -1;
thread_local bool for_good = false;
thread_local int64_t living = 0;
thread_local uint64_t failed = 0;

// A tracing allocator: called at each allocation and each release, not for its own.
thread_local const std::function<void()>* tracer = nullptr;
thread_local bool tracing = false;

void Trace() {
  if (tracer == nullptr || tracing) return;
  tracing = true;
  (*tracer)();
  tracing = false;
}

void* Allocate(size_t size, size_t alignment) {
  Trace();
  if (countdown >= 0 && countdown-- == 0) {
    ++failed;
    if (for_good) countdown = 0;
    return nullptr;
  }
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment < sizeof(void*) ? sizeof(void*) : alignment, size == 0 ? 1 : size) !=
      0) {
    return nullptr;
  }
  ++living;
  return memory;
}
void* AllocateOrThrow(size_t size, size_t alignment) {
  void* const memory = Allocate(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void Free(void* memory) {
  if (memory != nullptr) Trace();
  if (memory != nullptr) --living;
  std::free(memory);
}

constexpr size_t kAlign = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace

void* operator new(size_t size) { return AllocateOrThrow(size, kAlign); }
void* operator new[](size_t size) { return AllocateOrThrow(size, kAlign); }
void* operator new(size_t size, std::align_val_t a) { return AllocateOrThrow(size, static_cast<size_t>(a)); }
void* operator new[](size_t size, std::align_val_t a) {
  return AllocateOrThrow(size, static_cast<size_t>(a));
}
void* operator new(size_t size, const std::nothrow_t&) noexcept { return Allocate(size, kAlign); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return Allocate(size, kAlign); }
void* operator new(size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
  return Allocate(size, static_cast<size_t>(a));
}
void* operator new[](size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
  return Allocate(size, static_cast<size_t>(a));
}
void operator delete(void* memory) noexcept { Free(memory); }
void operator delete[](void* memory) noexcept { Free(memory); }
void operator delete(void* memory, size_t) noexcept { Free(memory); }
void operator delete[](void* memory, size_t) noexcept { Free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { Free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { Free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { Free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { Free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { Free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { Free(memory); }

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct Operation {
  const char* name;
  // True: done. False, or an exception: it failed.
  std::function<bool()> attempt;
  std::function<void()> undo;
  // What must be as before when it failed.
  std::function<int64_t()> entries = [] { return int64_t{0}; };
  // Whether blocks are counted: not where some wait for readers, in a list that is nobody's business.
  bool counts_blocks = true;
};

void FailEverywhere(const Operation& operation, bool no_more = false) {
  SCOPED_TRACE(std::string(operation.name) + (no_more ? ", and no more" : ""));
  // Twice in peace: singletons, caches and lazily made tables exist afterwards.
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(operation.attempt());
    operation.undo();
  }
  int64_t k = 0;
  for (bool short_of_memory = true; short_of_memory; ++k) {
    ASSERT_LT(k, 1000) << "does not end";
    const int64_t entries = operation.entries();
    const int64_t before = living;
    const uint64_t failures = failed;
    for_good = no_more;
    countdown = k;
    bool done = false;
    try {
      done = operation.attempt();
    } catch (const std::bad_alloc&) {
    }
    countdown = -1;
    for_good = false;
    short_of_memory = failed != failures;
    if (done) {
      operation.undo();  // an allocation that it could do without
    } else {
      EXPECT_TRUE(short_of_memory) << "failed with memory";
      EXPECT_EQ(operation.entries(), entries) << "allocation " << k << " failed and left something half made";
    }
    const int64_t lost = living - before;
    if (operation.counts_blocks) {
      EXPECT_EQ(lost, 0) << "blocks were lost when allocation " << k << " failed";
    }
    ASSERT_TRUE(operation.attempt()) << "after the failure of allocation " << k;
    operation.undo();
    if (::testing::Test::HasFailure()) return;
  }
  std::cout << operation.name << ": " << k - 1 << " allocations" << std::endl;
  if (!no_more) FailEverywhere(operation, /*no_more=*/true);
}

// The block that the registry keeps for the next thread state is given up, before and after.
struct NoSpareState {
  NoSpareState() { ThreadRegistry::SetAllocator(nullptr); }
  ~NoSpareState() { ThreadRegistry::SetAllocator(nullptr); }
};

// ---- Below the runtime: a registry of one's own

class InterpreterAllocationTest : public ::testing::Test {
 protected:
  InterpreterAllocationTest() {
    registry_.Enable();
    main_ = *registry_.New(nullptr, InterpreterConfig::Main(), InterpreterWhence::kRuntime);
    thread_ = main_->threads().NewBound(Whence::kInit);
    thread_->Attach();
    registry_.SetMainThreadState(thread_);
  }
  ~InterpreterAllocationTest() override {
    main_->Clear(*thread_);
    registry_.Delete(main_);
  }

  InterpreterRegistry registry_;
  Interpreter* main_;
  ThreadState* thread_;
};

TEST_F(InterpreterAllocationTest, gh_155363_ThreadStates) {
  ThreadState* made = nullptr;
  FailEverywhere({.name = "thread state",
                  .attempt =
                      [&] {
                        ThreadRegistry::SetAllocator(nullptr);  // drops the spare state
                        made = main_->threads().New(Whence::kThreading);
                        return made != nullptr;
                      },
                  .undo =
                      [&] {
                        InterpreterThreads::Clear(*made);
                        InterpreterThreads::Delete(made);
                        ThreadRegistry::SetAllocator(nullptr);
                      },
                  .entries = [&] { return static_cast<int64_t>(main_->threads().size()); }});
}

TEST_F(InterpreterAllocationTest, RT35_Interpreters) {
  Interpreter* made = nullptr;
  FailEverywhere({.name = "interpreter",
                  .attempt =
                      [&] {
                        const auto created =
                            registry_.New(thread_, InterpreterConfig::Isolated(), InterpreterWhence::kCApi);
                        made = created.ok() ? *created : nullptr;
                        return created.ok();
                      },
                  .undo = [&] { registry_.Delete(made); },
                  .entries = [&] { return static_cast<int64_t>(registry_.size()); }});
}

TEST_F(InterpreterAllocationTest, B067_InterpretersWithTheirFirstThread) {
  Interpreter* made = nullptr;
  ThreadState* first = nullptr;
  FailEverywhere({.name = "interpreter with a thread",
                  .attempt =
                      [&] {
                        ThreadRegistry::SetAllocator(nullptr);
                        const auto created =
                            registry_.New(nullptr, InterpreterConfig::Legacy(), InterpreterWhence::kCApi);
                        if (!created.ok()) return false;
                        made = *created;
                        first = made->threads().New(Whence::kInit);
                        if (first == nullptr) registry_.Delete(made);
                        return first != nullptr;
                      },
                  .undo =
                      [&] {
                        first->Bind();
                        ThreadState::Swap(first);
                        made->Clear(*first);
                        registry_.Delete(made);
                        thread_->Attach();
                        ThreadRegistry::SetAllocator(nullptr);
                      },
                  .entries = [&] { return static_cast<int64_t>(registry_.size()); }});
}

// A pending call needs no memory: the queue is part of the interpreter, and a signal handler may add.
TEST_F(InterpreterAllocationTest, EB23_PendingCallsAllocateNothing) {
  static int ran;
  ran = 0;
  const auto call = [](void*) {
    ++ran;
    return absl::OkStatus();
  };
  countdown = 0;
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(main_->pending_calls().Add(call, nullptr), PendingCalls::AddResult::kAdded);
    EXPECT_EQ(registry_.AddMainCall(call, nullptr), PendingCalls::AddResult::kAdded);
  }
  while (thread_->breaker().AnyPending()) EXPECT_EQ(thread_->Poll(), 0);
  EXPECT_EQ(countdown, 0) << "an allocation was asked for";
  countdown = -1;
  EXPECT_EQ(ran, 20);
}

TEST_F(InterpreterAllocationTest, ExitCallbacks) {
  const Ref<Object> callback =
      NativeFunction::New("f", [](Args) -> absl::StatusOr<Ref<Object>> { return None(); });
  FailEverywhere({.name = "atexit",
                  .attempt = [&] { return main_->at_exit().Register(callback, {None()}).ok(); },
                  .undo = [&] { main_->at_exit().Clear(); },
                  .entries = [&] { return static_cast<int64_t>(main_->at_exit().size()); }});
}

TEST_F(InterpreterAllocationTest, AuditHooks) {
  NativeAuditHooks native;
  const auto hook = [](std::string_view, const Ref<Tuple>&, void*) { return absl::OkStatus(); };
  ASSERT_TRUE(native.Add(hook, nullptr, nullptr).value());
  Auditor auditor(native);
  const Ref<Object> object =
      NativeFunction::New("f", [](Args) -> absl::StatusOr<Ref<Object>> { return None(); });
  FailEverywhere({.name = "sys.addaudithook",
                  .attempt =
                      [&] {
                        const auto added = auditor.AddHook(object);
                        return added.ok() && *added;
                      },
                  .undo = [&] { auditor.Clear(); },
                  .entries = [&] { return static_cast<int64_t>(auditor.own_hooks()); }});
}

TEST_F(InterpreterAllocationTest, AuditEvents) {
  NativeAuditHooks native;
  static int seen;
  const auto hook = [](std::string_view, const Ref<Tuple>&, void*) {
    ++seen;
    return absl::OkStatus();
  };
  ASSERT_TRUE(native.Add(hook, nullptr, nullptr).value());
  Auditor auditor(native);
  FailEverywhere({.name = "audit event",
                  .attempt =
                      [&] {
                        seen = 0;
                        const bool raised =
                            auditor
                                .Audit("event", "s(iO)[z]", "a text for which no small string is enough",
                                       12345, None().get(), "another one of these texts, which are long")
                                .ok();
                        EXPECT_EQ(seen, raised ? 1 : 0);
                        return raised;
                      },
                  .undo = [] {}});
}

TEST_F(InterpreterAllocationTest, AsyncExceptions) {
  FailEverywhere({.name = "asynchronous exception",
                  .attempt =
                      [&] {
                        return main_->threads().SetAsyncException(
                                   CurrentThreadIdent(), Error::New(ErrorType::ValueError(), "x")) == 1;
                      },
                  .undo = [&] { main_->threads().SetAsyncException(CurrentThreadIdent(), nullptr); }});
}

TEST_F(InterpreterAllocationTest, EntriesOfSys) {
  FailEverywhere({.name = "sys.name = value",
                  .attempt =
                      [] {
                        SysDict dict;
                        size_t set = 0;
                        try {
                          // Enough for the table to grow once.
                          for (; set < 150; ++set)
                            dict.Set("a_name_that_is_long_" + std::to_string(set), None());
                        } catch (const std::bad_alloc&) {
                          countdown = -1;  // to look at it, and for its end, which needs memory, too
                          EXPECT_EQ(dict.size(), set);
                          EXPECT_EQ(dict.Snapshot().size(), set);
                          throw;
                        }
                        countdown = -1;
                        return dict.size() == set;
                      },
                  .undo = [] {}});
}

// gh-96071, gh-126914: the allocator looks at the runtime, as a memory profiler does, at each allocation and release.
// Whatever allocates under a lock that these looks take would lock it twice, which ends the process.
TEST_F(InterpreterAllocationTest, gh_96071_AnAllocatorThatCallsBack) {
  NativeAuditHooks native;
  Auditor auditor(native);
  SysDict dict;
  uint64_t calls = 0;
  const auto nothing = [](void*) { return absl::OkStatus(); };
  const std::function<void()> look = [&] {
    ++calls;
    registry_.size();
    registry_.Ids();
    static_cast<void>(registry_.Find(0));
    main_->threads().ForEach([](ThreadState& state) { static_cast<void>(state.ToString()); });
    if (ThreadState* const state = main_->threads().Find(CurrentThreadIdent())) state->DecRef();
    static_cast<void>(main_->pending_calls().Add(nothing, nullptr));
    dict.Snapshot();
    auditor.own_hooks();
    main_->at_exit().size();
  };
  tracer = &look;
  for (int i = 0; i < 3; ++i) {
    ThreadRegistry::SetAllocator(nullptr);
    std::vector<ThreadState*> states;
    for (int j = 0; j < 40; ++j) states.push_back(main_->threads().New(Whence::kThreading));
    Interpreter* const sub = *registry_.New(thread_, InterpreterConfig::Isolated(), InterpreterWhence::kCApi);
    for (ThreadState* state : states) {
      InterpreterThreads::Clear(*state);
      InterpreterThreads::Delete(state);
    }
    registry_.Delete(sub);
    for (int j = 0; j < 150; ++j) dict.Set("a_name_that_is_long_" + std::to_string(150 * i + j), None());
    ASSERT_TRUE(
        auditor.AddHook(NativeFunction::New("f", [](Args) -> absl::StatusOr<Ref<Object>> { return None(); }))
            .value());
    ASSERT_TRUE(auditor.Audit("event", "si", "text", 7).ok());
    ASSERT_TRUE(
        main_->threads().SetAsyncException(CurrentThreadIdent(), Error::New(ErrorType::ValueError(), "x")));
    ASSERT_TRUE(main_->threads().SetAsyncException(CurrentThreadIdent(), nullptr));
    ASSERT_TRUE(main_->BumpInstrumentationVersion().ok());
    main_->at_exit().RegisterLowLevel([](void*) {}, nullptr);
    const Ref<Object> callback =
        NativeFunction::New("f", [](Args) -> absl::StatusOr<Ref<Object>> { return None(); });
    for (int j = 0; j < 3; ++j) ASSERT_TRUE(main_->at_exit().Register(callback, {None()}).ok());
    main_->at_exit().Unregister(callback);
    main_->at_exit().RunLowLevel();
    static_cast<void>(thread_->Poll());
    thread_->data().current_exception.reset();
  }
  tracer = nullptr;
  EXPECT_GT(calls, 100u);
}

// ---- The runtime

class OneLoader final : public Loader {
 public:
  absl::Status Exec(const Ref<ModuleSpec>&, const Ref<Object>&) override {
    ++runs;
    return absl::OkStatus();
  }
  static inline int runs = 0;
};
class OneFinder final : public Finder {
 public:
  absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                           const Object*) override {
    ModuleSpec::Options options;
    options.loader = MakeRef<OneLoader>();
    options.is_package = name == "package";
    return ModuleSpec::New(name, std::move(options));
  }
};

class RuntimeAllocationTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { Runtime::AddSubsystem(ImportSubsystem()); }
  RuntimeAllocationTest() {
    EXPECT_TRUE(Runtime::Initialize().ok());
    importer().set_meta_path(List::Of({MakeRef<OneFinder>()}));
  }
  ~RuntimeAllocationTest() override { EXPECT_EQ(Runtime::Finalize(), 0); }
  static Importer& importer() { return *ImporterOf(Interpreter::Get()); }
};

TEST_F(RuntimeAllocationTest, Imports) {
  FailEverywhere({.name = "import",
                  .attempt = [] { return importer().Import("module").ok(); },
                  .undo = [] { importer().modules().Remove("module"); },
                  .entries =
                      [] {
                        return static_cast<int64_t>(importer().modules().size() +
                                                    importer().module_locks().size()) +
                               (importer().import_lock().Held() ? 1000 : 0);
                      },
                  .counts_blocks = kGilEnabled});
}

// A half-made module that is left in the table would be the next attempt's, and its body never run.
TEST_F(RuntimeAllocationTest, ImportsOfSubmodules) {
  ASSERT_TRUE(importer().Import("package").ok());
  FailEverywhere({.name = "import of a submodule",
                  .attempt =
                      [] {
                        OneLoader::runs = 0;
                        return importer().Import("package.module").ok() && OneLoader::runs == 1;
                      },
                  .undo =
                      [] {
                        // With the list of its submodules, which has room for one more afterwards.
                        importer().modules().Remove("package.module");
                        importer().modules().Remove("package");
                        ASSERT_TRUE(importer().Import("package").ok());
                      },
                  .entries = [] { return static_cast<int64_t>(importer().modules().size()); },
                  .counts_blocks = false});
}

TEST_F(RuntimeAllocationTest, gh_109746_Threads) {
  Interpreter& interp = Interpreter::Get();
  std::vector<Thread> threads;
  threads.reserve(1);
  // The new thread's blocks are freed by itself: only the lists are compared.
  for (int64_t k = 0, short_of_memory = 1; short_of_memory != 0; ++k) {
    ASSERT_LT(k, 100);
    const uint64_t failures = failed;
    countdown = k;
    try {
      auto thread = Thread::Start([] { return absl::OkStatus(); });
      if (thread.ok()) threads.push_back(std::move(*thread));
    } catch (const std::bad_alloc&) {
    }
    countdown = -1;
    short_of_memory = failed != failures;
    EXPECT_EQ(threads.empty(), short_of_memory != 0) << "allocation " << k;
    for (Thread& thread : threads) EXPECT_TRUE(thread.Join().ok());
    threads.clear();
    EXPECT_EQ(Thread::Joinable(interp), 0u) << "allocation " << k;
    while (interp.threads().size() > 1 && !::testing::Test::HasFailure()) {
      // The thread is done before its last reference is given up, never the other way round.
      interp.threads().ForEach(
          [](ThreadState& state) { EXPECT_NE(state.thread_id(), 0u) << "half a thread is left"; });
      DetachedScope detached;
      YieldCpu();
    }
    if (::testing::Test::HasFailure()) return;
  }
}

// A thread that pyrt does not know asks to be attached, and is told no.
TEST_F(RuntimeAllocationTest, PEP788_ForeignThreads) {
  const InterpreterView view = InterpreterView::FromCurrent();
  DetachedScope detached;
  std::thread foreign([&] {
    std::optional<EnsureToken> token;
    FailEverywhere({.name = "EnsureAttachedFromView",
                    .attempt =
                        [&] {
                          ThreadRegistry::SetAllocator(nullptr);
                          token.emplace(EnsureAttachedFromView(view));
                          return static_cast<bool>(*token);
                        },
                    .undo =
                        [&] {
                          ReleaseAttached(*token);
                          ThreadRegistry::SetAllocator(nullptr);
                        },
                    .entries = [] { return static_cast<int64_t>(ThreadState::Current() != nullptr); },
                    .counts_blocks = kGilEnabled});
  });
  foreign.join();
}

TEST_F(RuntimeAllocationTest, FK1_Forks) {
  FailEverywhere({.name = "fork",
                  .attempt =
                      [] {
                        const pid_t parent = ::getpid();
                        absl::StatusOr<pid_t> pid = -1;
                        try {
                          pid = Fork::Run();
                        } catch (const std::bad_alloc&) {
                          if (::getpid() != parent) ::_exit(2);
                          throw;
                        }
                        if (!pid.ok()) return false;
                        if (*pid == 0) ::_exit(Interpreter::Get().threads().size() == 1 ? 0 : 1);
                        int status = 0;
                        EXPECT_EQ(::waitpid(*pid, &status, 0), *pid);
                        EXPECT_EQ(status, 0);
                        return true;
                      },
                  .undo = [] {},
                  .entries = [] { return static_cast<int64_t>(Interpreter::Get().threads().size()); },
                  .counts_blocks = false});
}

TEST(RuntimeStartAllocationTest, B030_Starts) {
  FailEverywhere({.name = "start",
                  .attempt = [] { return Runtime::Initialize().ok(); },
                  .undo = [] { EXPECT_EQ(Runtime::Finalize(), 0); },
                  .entries =
                      [] {
                        return static_cast<int64_t>(Runtime::IsInitialized()) +
                               static_cast<int64_t>(ThreadState::Current() != nullptr);
                      },
                  .counts_blocks = false});
}

// What is made on first use is made by the start: a fork that met another thread in the middle of that would have a child
// that waits for it for ever.
TEST(RuntimeStartAllocationTest, FK2_AfterTheStartNoErrorTypeIsMade) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a process that has used none
  EXPECT_EXIT(
      {
        if (!Runtime::Initialize().ok()) std::_Exit(1);
        countdown = 0;
        for_good = true;
        ErrorType::MakeAll();  // all are there
        std::_Exit(failed == 0 ? 0 : 2);
      },
      testing::ExitedWithCode(0), "");
}

TEST_F(RuntimeAllocationTest, LC29_Subinterpreters) {
  ThreadState* const main_thread = ThreadState::Current();
  ThreadState* made = nullptr;
  FailEverywhere({.name = "subinterpreter",
                  .attempt =
                      [&] {
                        const NoSpareState none;
                        const auto created = Runtime::NewInterpreter(InterpreterConfig::Isolated());
                        made = created.ok() ? *created : nullptr;
                        EXPECT_TRUE(created.ok() || ThreadState::Current() == main_thread);
                        return created.ok();
                      },
                  .undo =
                      [&] {
                        Runtime::EndInterpreter(*made);
                        main_thread->Attach();
                        ThreadRegistry::SetAllocator(nullptr);
                      },
                  .entries = [] { return static_cast<int64_t>(Runtime::Get().interpreters().size()); }});
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
