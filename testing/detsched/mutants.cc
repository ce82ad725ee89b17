#include "pyrt/testing/detsched/mutants.h"

#include <cstdlib>
#include <string>

#include "pyrt/testing/detsched/internal/access.h"

namespace pyrt::inline PYRT_VARIANT::detsched {
namespace {

struct ActiveMutants {
  std::string names;  // with a comma at both ends
  uint32_t generation = 1;
  uint64_t hits = 0;

  ActiveMutants() {
    if (const char* environment = std::getenv("PYRT_MUTANT")) Set(environment);
  }
  void Set(const std::string& list) {
    names = "," + list + ",";
    ++generation;
    hits = 0;
  }
};

ActiveMutants& Mutants() {
  static ActiveMutants& mutants = *new ActiveMutants;  // never destroyed: sites may be reached at exit
  return mutants;
}

}  // namespace

void SetMutants(const std::string& names) { Mutants().Set(names); }

uint64_t MutantHits() { return Mutants().hits; }

namespace internal {

bool MutantSite::Active() {
  ActiveMutants& mutants = Mutants();
  if (generation_ != mutants.generation) {
    generation_ = mutants.generation;
    active_ =
        mutants.names.size() > 2 && mutants.names.find("," + std::string(name_) + ",") != std::string::npos;
  }
  mutants.hits += active_;
  return active_;
}

}  // namespace internal
}  // namespace pyrt::inline PYRT_VARIANT::detsched
