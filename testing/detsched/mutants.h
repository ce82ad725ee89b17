// Mistakes that are compiled into detsched builds at PYRT_MUTANT(name), and made on request. Part of
// scheduler.h.

#ifndef PYRT_TESTING_DETSCHED_MUTANTS_H_
#define PYRT_TESTING_DETSCHED_MUTANTS_H_

#include <cstdint>
#include <string>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT::detsched {

// PYRT_MUTANT(name) is true while `name` is active. Initially those of the environment variable
// PYRT_MUTANT, a list with commas.
void SetMutants(const std::string& names);
// How often an active mutant's line was reached since SetMutants().
uint64_t MutantHits();

class ScopedMutant {
 public:
  explicit ScopedMutant(const std::string& name) { SetMutants(name); }
  ~ScopedMutant() { SetMutants(""); }
  ScopedMutant(const ScopedMutant&) = delete;
  ScopedMutant& operator=(const ScopedMutant&) = delete;
};

}  // namespace pyrt::inline PYRT_VARIANT::detsched

#endif  // PYRT_TESTING_DETSCHED_MUTANTS_H_
