#include "pyrt/runtime/allocator_debug.h"

#include <cstring>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/allocator_names.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/state_allocator.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr AllocatorDomain kRaw = AllocatorDomain::kRaw;
constexpr AllocatorDomain kMem = AllocatorDomain::kMem;
constexpr AllocatorDomain kObject = AllocatorDomain::kObject;

// With the hooks, and attached to a main interpreter.
class AllocatorDebugTest : public testing::Test {
 public:
  AllocatorDebugTest() {
    EXPECT_TRUE(SetAllocatorsByName("malloc_debug").ok());
    EXPECT_TRUE(Runtime::Initialize({.state_allocator = &RawDomainForStates()}).ok());
  }
  ~AllocatorDebugTest() override {
    Runtime::Finalize();
    for (const AllocatorDomain domain : {kRaw, kMem, kObject}) {
      EXPECT_EQ(DebugLiveBlocks(domain), 0u) << static_cast<int>(domain);
    }
    ResetAllocators();
  }

  static unsigned char* New(AllocatorDomain domain, size_t size) {
    return static_cast<unsigned char*>(Allocate(domain, size));
  }
};

TEST_F(AllocatorDebugTest, BlocksAreFilledFencedAndCounted) {
  const size_t live = DebugLiveBlocks(kMem);
  unsigned char* const block = New(kMem, 5);
  EXPECT_EQ(DebugLiveBlocks(kMem), live + 1);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(block[i], kCleanByte);
  EXPECT_EQ(block[5], kForbiddenByte);
  EXPECT_EQ(block[-1], kForbiddenByte);
  EXPECT_EQ(block[-8], 'm');
  unsigned char* const zeroed = static_cast<unsigned char*>(AllocateZeroed(kObject, 3, 5));
  for (int i = 0; i < 15; ++i) EXPECT_EQ(zeroed[i], 0);
  Free(kObject, zeroed);
  EXPECT_EQ(zeroed[0], kDeadByte) << "kept back for a while, so that this may be read";
  Free(kMem, block);
  Free(kMem, nullptr);
  EXPECT_EQ(DebugLiveBlocks(kMem), live);
}

TEST_F(AllocatorDebugTest, ReallocMovesKeepsAndFills) {
  unsigned char* const small = New(kMem, 4);
  std::memcpy(small, "abcd", 4);
  unsigned char* const large = static_cast<unsigned char*>(Reallocate(kMem, small, 8));
  EXPECT_NE(large, small);
  EXPECT_EQ(std::memcmp(large, "abcd", 4), 0);
  EXPECT_EQ(large[7], kCleanByte);
  EXPECT_EQ(small[0], kDeadByte);
  unsigned char* const cut = static_cast<unsigned char*>(Reallocate(kMem, large, 2));
  EXPECT_EQ(std::memcmp(cut, "ab", 2), 0);
  EXPECT_EQ(cut[2], kForbiddenByte);
  Free(kMem, cut);
  Free(kMem, Reallocate(kMem, nullptr, 3));
}

TEST_F(AllocatorDebugTest, FreedBlocksLeaveInTurn) {
  std::vector<void*> blocks;
  for (int i = 0; i < 1000; ++i) blocks.push_back(Allocate(kObject, static_cast<size_t>(i)));
  for (void* block : blocks) Free(kObject, block);
  void* const huge = Allocate(kObject, 1 << 20);
  Free(kObject, huge);
}

TEST_F(AllocatorDebugTest, AskedForTwiceTheyAreThereOnceAndSetAllocatorTakesThemAway) {
  SetupDebugHooks();
  EXPECT_EQ(CurrentAllocatorName(), "malloc_debug");
  EXPECT_TRUE(HasDebugHooks(kMem));
  const Allocator before = GetAllocator(kMem);
  SetAllocator(kMem, DefaultAllocator());
  EXPECT_FALSE(HasDebugHooks(kMem));
  EXPECT_EQ(CurrentAllocatorName(), "") << "not all the same";
  SetupDebugHooks();
  EXPECT_TRUE(HasDebugHooks(kMem));
  SetAllocator(kMem, before);
}

TEST_F(AllocatorDebugTest, TheRawDomainNeedsNoThreadState) {
  DetachedScope detached;
  Free(kRaw, Allocate(kRaw, 10));
}

TEST(AllocatorNamesTest, EachNameAndNoOther) {
  for (const char* name : {"mimalloc", "mimalloc_debug", "malloc", "malloc_debug"}) {
    EXPECT_TRUE(SetAllocatorsByName(name).ok());
    EXPECT_EQ(CurrentAllocatorName(), name);
    Free(kRaw, Reallocate(kRaw, AllocateZeroed(kRaw, 0, 3), 17));
  }
  for (const char* name :
       {"pymalloc", "pymalloc_debug", "", "_debug", "default_debug", "Malloc", "debug_debug"}) {
    EXPECT_EQ(SetAllocatorsByName(name).message(), "PYTHONMALLOC: unknown allocator") << name;
    EXPECT_EQ(CurrentAllocatorName(), "malloc_debug") << "nothing has changed";
  }
  EXPECT_TRUE(SetAllocatorsByName("default").ok());
  EXPECT_EQ(CurrentAllocatorName(), "mimalloc");
  EXPECT_TRUE(SetAllocatorsByName("debug").ok());
  EXPECT_EQ(CurrentAllocatorName(), "mimalloc_debug");
  ResetAllocators();
}

// ---- What they find

using AllocatorDebugDeathTest = AllocatorDebugTest;

TEST_F(AllocatorDebugDeathTest, AnotherDomain) {
  void* const block = Allocate(kMem, 3);
  EXPECT_DEATH(
      Free(kObject, block),
      "Debug memory block at address p=0x[0-9a-f]+: API 'm'\n"
      "    3 bytes originally requested\n"
      "    The 7 pad bytes at p-7 are FORBIDDENBYTE, as expected.\n"
      "    The 8 pad bytes at tail are FORBIDDENBYTE, as expected.\n"
      "    The block was made by call #[0-9]+ to debug malloc/realloc.\n"
      "    Data at p: cd cd cd\n"
      "Fatal Python error: _PyMem_DebugRawFree: bad ID: Allocated using API 'm', verified using API 'o'\n");
  EXPECT_DEATH(static_cast<void>(Reallocate(kRaw, block, 5)),
               "_PyMem_DebugRawRealloc: bad ID: Allocated using API 'm', verified using API 'r'");
  Free(kMem, block);
}

TEST_F(AllocatorDebugDeathTest, WrittenInFrontAndBehind) {
  unsigned char* const block = New(kMem, 3);
  EXPECT_DEATH(
      {
        block[3] = 0;
        Free(kMem, block);
      },
      "at tail\\+0: 0x00 \\*\\*\\* OUCH(.|\n)*bad trailing pad byte");
  EXPECT_DEATH(
      {
        block[-1] = 7;
        Free(kMem, block);
      },
      "at p-7\\+6: 0x07 \\*\\*\\* OUCH(.|\n)*bad leading pad byte");
  Free(kMem, block);
}

TEST_F(AllocatorDebugDeathTest, FreedTwiceAndWrittenAfterwards) {
  unsigned char* const block = New(kMem, 3);
  Free(kMem, block);
  EXPECT_DEATH(Free(kMem, block),
               "bad ID: Allocated using API '.xdd', verified using API 'm' .freed already.");
  EXPECT_DEATH(
      {
        block[1] = 1;
        for (int i = 0; i < 100; ++i) Free(kMem, Allocate(kMem, 1));
      },
      "freed block was written to");
}

TEST_F(AllocatorDebugDeathTest, DetachedThreadsMayNotAskForObjects) {
  EXPECT_DEATH(
      {
        DetachedScope detached;
        static_cast<void>(Allocate(kObject, 1));
      },
      kGilEnabled ? "_PyMem_DebugMalloc: Python memory allocator called without holding the GIL"
                  : "_PyMem_DebugMalloc: Python memory allocator called without an active thread state");
  EXPECT_DEATH(
      {
        DetachedScope detached;
        Free(kMem, nullptr);
      },
      "_PyMem_DebugFree: Python memory allocator called without");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
