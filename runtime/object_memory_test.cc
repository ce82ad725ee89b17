#include "pyrt/runtime/object_memory.h"

#include <cstdlib>

#include "gtest/gtest.h"

#include "pyrt/runtime/runtime.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// Counts the blocks of whoever uses it.
Atomic<int> counted{0};
constexpr Allocator kCounting = {
    .context = nullptr,
    .malloc = [](void*, size_t size) -> void* {
      return counted.fetch_add(1, kRelaxed), std::malloc(size + 1);
    },
    .calloc = [](void*, size_t elements, size_t size) -> void* {
      return counted.fetch_add(1, kRelaxed), std::calloc(elements + 1, size + 1);
    },
    .realloc = [](void*, void* block, size_t size) -> void* {
      counted.fetch_add(block == nullptr ? 1 : 0, kRelaxed);
      return std::realloc(block, size + 1);
    },
    .free =
        [](void*, void* block) {
          counted.fetch_sub(block == nullptr ? 0 : 1, kRelaxed);
          std::free(block);
        },
};

class ObjectMemoryTest : public testing::Test {
 public:
  static void SetUpTestSuite() {  // once for each of the two names
    static const bool added = (Runtime::AddSubsystem(ObjectMemory::AsSubsystem()), true);
    static_cast<void>(added);
  }
  ObjectMemoryTest() {
    counted.store(0, kRelaxed);
    EXPECT_TRUE(Runtime::Initialize({.warn = [](void*, const char*, const char*) {}}).ok());
    main_ = ThreadState::Current();
  }
  ~ObjectMemoryTest() override {
    Runtime::Finalize();
    ResetAllocators();
  }

  ThreadState* NewInterpreter(const InterpreterConfig& config) {
    const auto thread = Runtime::NewInterpreter(config);
    EXPECT_TRUE(thread.ok()) << thread.status();
    return *thread;
  }
  ThreadState* main_;
};

TEST_F(ObjectMemoryTest, RT33_WhoSharesSeesTheMainInterpretersAllocator) {
  EXPECT_FALSE(ObjectMemory::IsOwn(*main_->interp()));
  ThreadState* const legacy = NewInterpreter(InterpreterConfig::Legacy());
  EXPECT_FALSE(ObjectMemory::IsOwn(*legacy->interp()));
  EXPECT_EQ(ObjectMemory::SetAllocator(*legacy->interp(), kCounting).message(),
            "interpreter 1 uses the main interpreter's object allocator");
  SetAllocator(AllocatorDomain::kObject, kCounting);
  void* const block = ObjectMemory::Allocate(10);
  EXPECT_EQ(counted.load(kRelaxed), 1);
  ThreadState::Swap(main_);
  ObjectMemory::Free(block);  // one domain
  EXPECT_EQ(counted.load(kRelaxed), 0);
  ThreadState::Swap(legacy);
  Runtime::EndInterpreter(*legacy);
  main_->Attach();
}

TEST_F(ObjectMemoryTest, RT33_WhoDoesNotHasOneOfItsOwn) {
  ThreadState* const isolated = NewInterpreter(InterpreterConfig::Isolated());
  Interpreter& interp = *isolated->interp();
  ASSERT_TRUE(ObjectMemory::IsOwn(interp));
  ASSERT_TRUE(ObjectMemory::SetAllocator(interp, kCounting).ok());
  void* block = ObjectMemory::Allocate(10);
  EXPECT_EQ(ObjectMemory::Blocks(interp), 1);
  block = ObjectMemory::Reallocate(block, 1000);
  void* const second = ObjectMemory::Reallocate(nullptr, 5);
  EXPECT_EQ(ObjectMemory::Blocks(interp), 2);
  EXPECT_EQ(counted.load(kRelaxed), 2);
  ObjectMemory::Free(nullptr);
  EXPECT_EQ(ObjectMemory::Allocate(SIZE_MAX), nullptr);
  EXPECT_EQ(ObjectMemory::Blocks(interp), 2);

  // The main interpreter notices nothing of it.
  ThreadState::Swap(main_);
  void* const of_main = ObjectMemory::Allocate(3);
  EXPECT_EQ(counted.load(kRelaxed), 2);
  EXPECT_EQ(ObjectMemory::Blocks(*main_->interp()), 0);
  ObjectMemory::Free(of_main);
  ThreadState::Swap(isolated);

  // One block is lost with the interpreter, and counted.
  ObjectMemory::Free(second);
  const int64_t leaked = ObjectMemory::Leaked();
  Runtime::EndInterpreter(*isolated);
  main_->Attach();
  EXPECT_EQ(ObjectMemory::Leaked(), leaked + 1);
  std::free(block);
}

TEST_F(ObjectMemoryTest, AnOwnAllocatorBeginsAsTheObjectDomainIs) {
  SetAllocator(AllocatorDomain::kObject, kCounting);
  ThreadState* const isolated = NewInterpreter(InterpreterConfig::Isolated());
  SetAllocator(AllocatorDomain::kObject, DefaultAllocator());
  void* const block = ObjectMemory::Allocate(1);
  EXPECT_EQ(counted.load(kRelaxed), 1) << "later changes are not its own";
  ObjectMemory::Free(block);
  Runtime::EndInterpreter(*isolated);
  main_->Attach();
}

using ObjectMemoryDeathTest = ObjectMemoryTest;

TEST_F(ObjectMemoryDeathTest, DetachedOrWithLiveBlocks) {
  EXPECT_DEATH(
      {
        DetachedScope detached;
        static_cast<void>(ObjectMemory::Allocate(1));
      },
      "PyObject_Malloc: the function must be called");
  ThreadState* const isolated = NewInterpreter(InterpreterConfig::Isolated());
  void* const block = ObjectMemory::Allocate(1);
  EXPECT_DEATH(static_cast<void>(ObjectMemory::SetAllocator(*isolated->interp(), kCounting)),
               "interpreter 1 has 1 live blocks of its object allocator");
  ObjectMemory::Free(block);
  Runtime::EndInterpreter(*isolated);
  main_->Attach();
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
