#include "pyrt/runtime/allocator.h"

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr AllocatorDomain kDomains[] = {AllocatorDomain::kRaw, AllocatorDomain::kMem,
                                        AllocatorDomain::kObject};

class AllocatorTest : public testing::Test {
 public:
  ~AllocatorTest() override { ResetAllocators(); }
};

TEST_F(AllocatorTest, EachDomainAllocatesGrowsAndFrees) {
  for (const AllocatorDomain domain : kDomains) {
    char* block = static_cast<char*>(Allocate(domain, 10));
    ASSERT_NE(block, nullptr);
    std::strcpy(block, "123456789");
    block = static_cast<char*>(Reallocate(domain, block, 100'000));
    ASSERT_NE(block, nullptr);
    EXPECT_STREQ(block, "123456789");
    Free(domain, block);
    char* zeroed = static_cast<char*>(AllocateZeroed(domain, 1000, 3));
    ASSERT_NE(zeroed, nullptr);
    for (int i = 0; i < 3000; ++i) ASSERT_EQ(zeroed[i], 0);
    Free(domain, zeroed);
    Free(domain, nullptr);
  }
}

TEST_F(AllocatorTest, NothingIsABlockOfItsOwn) {
  for (const AllocatorDomain domain : kDomains) {
    void* const first = Allocate(domain, 0);
    void* const second = AllocateZeroed(domain, 0, 5);
    void* const third = AllocateZeroed(domain, 5, 0);
    void* const fourth = Reallocate(domain, nullptr, 0);
    for (void* const block : {first, second, third, fourth}) EXPECT_NE(block, nullptr);
    EXPECT_NE(first, second);
    for (void* const block : {first, second, third, fourth}) Free(domain, block);
  }
}

TEST_F(AllocatorTest, TooMuchIsRefusedBeforeTheAllocatorIsAsked) {
  static bool asked;
  asked = false;
  const Allocator spy = {
      .malloc = [](void*, size_t) -> void* { return asked = true, nullptr; },
      .calloc = [](void*, size_t, size_t) -> void* { return asked = true, nullptr; },
      .realloc = [](void*, void*, size_t) -> void* { return asked = true, nullptr; },
      .free = [](void*, void*) {},
  };
  SetAllocator(AllocatorDomain::kMem, spy);
  constexpr size_t kTooMuch = static_cast<size_t>(PTRDIFF_MAX) + 1;
  EXPECT_EQ(Allocate(AllocatorDomain::kMem, kTooMuch), nullptr);
  EXPECT_EQ(AllocateZeroed(AllocatorDomain::kMem, kTooMuch / 2, 3), nullptr);
  EXPECT_EQ(AllocateZeroed(AllocatorDomain::kMem, SIZE_MAX, SIZE_MAX), nullptr);
  EXPECT_EQ(Reallocate(AllocatorDomain::kMem, nullptr, kTooMuch), nullptr);
  EXPECT_FALSE(asked);
  EXPECT_EQ(Allocate(AllocatorDomain::kMem, 1), nullptr);
  EXPECT_TRUE(asked);
}

// A hook: counts, and passes on to what it replaced.
struct Hook {
  explicit Hook(AllocatorDomain domain) : before(GetAllocator(domain)) {
    SetAllocator(domain, {
                             .context = this,
                             .malloc = [](void* hook, size_t size) -> void* {
                               Hook& self = *static_cast<Hook*>(hook);
                               self.live.fetch_add(1, kRelaxed);
                               return self.before.malloc(self.before.context, size);
                             },
                             .calloc = [](void* hook, size_t n, size_t size) -> void* {
                               Hook& self = *static_cast<Hook*>(hook);
                               self.live.fetch_add(1, kRelaxed);
                               return self.before.calloc(self.before.context, n, size);
                             },
                             .realloc = [](void* hook, void* block, size_t size) -> void* {
                               Hook& self = *static_cast<Hook*>(hook);
                               return self.before.realloc(self.before.context, block, size);
                             },
                             .free =
                                 [](void* hook, void* block) {
                                   Hook& self = *static_cast<Hook*>(hook);
                                   self.live.fetch_sub(1, kRelaxed);
                                   self.before.free(self.before.context, block);
                                 },
                         });
  }
  const Allocator before;
  Atomic<int> live{0};
};

TEST_F(AllocatorTest, HooksSeeTheirDomainOnlyAndNest) {
  Hook inner(AllocatorDomain::kObject);
  Hook outer(AllocatorDomain::kObject);
  void* const object = Allocate(AllocatorDomain::kObject, 8);
  void* const raw = Allocate(AllocatorDomain::kRaw, 8);
  EXPECT_EQ(inner.live.load(kRelaxed), 1);
  EXPECT_EQ(outer.live.load(kRelaxed), 1);
  Free(AllocatorDomain::kObject, object);
  Free(AllocatorDomain::kRaw, raw);
  EXPECT_EQ(inner.live.load(kRelaxed), 0);
  EXPECT_EQ(outer.live.load(kRelaxed), 0);
  EXPECT_EQ(GetAllocator(AllocatorDomain::kRaw).malloc, DefaultAllocator().malloc);
}

TEST_F(AllocatorTest, AHookMayComeWhileOtherThreadsAllocate) {
  std::vector<std::jthread> threads;
  Atomic<bool> stop{false};
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (!stop.load(kRelaxed)) Free(AllocatorDomain::kRaw, Allocate(AllocatorDomain::kRaw, 16));
    });
  }
  Hook hook(AllocatorDomain::kRaw);
  for (int i = 0; i < 10'000; ++i) Free(AllocatorDomain::kRaw, Allocate(AllocatorDomain::kRaw, 16));
  stop.store(true, kRelaxed);
  threads.clear();
  SetAllocator(AllocatorDomain::kRaw, hook.before);
}

using AllocatorDeathTest = AllocatorTest;

TEST_F(AllocatorDeathTest, AnIncompleteTableIsRefused) {
  EXPECT_DEATH(SetAllocator(AllocatorDomain::kMem, {}), "PyMem_SetAllocator: the table for domain 1 lacks");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
