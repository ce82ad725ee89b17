// What platform.h asks of the engine: one call per shared access. Nothing here is for tests.

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_ACCESS_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_ACCESS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform_types.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

// Where an access stands in the source.
struct Site {
  const char* file = nullptr;
  int line = 0;
};

// True while fibers run and their accesses are scheduling points. False in static initialisation, in a
// schedule's body, in invariants: accesses are then plain memory of one thread.
extern bool running;

enum class Rmw : uint8_t { kExchange, kAdd, kSub, kOr, kAnd };

// Called only while running. `size` is 1, 2, 4 or 8; values are zero-extended.
uint64_t AtomicLoad(const void* address, size_t size, std::memory_order order, Site site);
void AtomicStore(void* address, size_t size, uint64_t value, std::memory_order order, Site site);
uint64_t AtomicRmw(void* address, size_t size, Rmw operation, uint64_t operand, std::memory_order order,
                   Site site);
bool AtomicCompareExchange(void* address, size_t size, uint64_t* expected, uint64_t desired,
                           std::memory_order success, std::memory_order failure, bool weak, Site site);
void PlainRead(const void* address, Site site);
void PlainWrite(const void* address, Site site);
void ConstructAtomic(const void* address, size_t size, Site site);
void ConstructPlain(const void* address, Site site);

// Fences, and turns of a spinning loop. No effect while not running.
void LightFence(Site site);
void HeavyFence(Site site);
void Relax(bool yield, Site site);

FutexResult FutexWait(const void* word, uint32_t expected, Deadline deadline, Site site);
int FutexWake(const void* word, int count, Site site);

// A variable of which every fiber has a copy. Registered before main, by the constructor.
class FiberLocal {
 public:
  FiberLocal(void* address, size_t size);
};

// One PYRT_MUTANT in the source.
class MutantSite {
 public:
  explicit constexpr MutantSite(const char* name) : name_(name) {}
  bool Active();

 private:
  const char* name_;
  uint32_t generation_ = 0;
  bool active_ = false;
};

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_ACCESS_H_
