// This workspace's own runtime folder; pyrt's is included as "pyrt/runtime/...", so the two never meet.

#ifndef RUNTIME_TALLY_H_
#define RUNTIME_TALLY_H_

#include <cstdint>

// A counter without any synchronisation of its own: whoever changes it holds the GIL.
struct Tally {
  int64_t value = 0;
};

#endif  // RUNTIME_TALLY_H_
