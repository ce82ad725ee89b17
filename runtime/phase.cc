#include "pyrt/runtime/phase.h"

#include <unistd.h>

#include <cstdio>

#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {

const char* PhaseName() {
  const PhaseFlags& phase = process_phase;
  // In CPython's order: the first that holds names the phase.
  if (phase.finalizing.load(kRelaxed) != 0) return "finalizing";
  if (phase.initialized.load(kRelaxed)) return "initialized";
  if (phase.core_initialized.load(kRelaxed)) return "core initialized";
  if (phase.preinitialized.load(kRelaxed)) return "preinitialized";
  if (phase.preinitializing.load(kRelaxed)) return "preinitializing";
  return "unknown";
}

void PrintPhase(int fd) {
  char line[80];
  int size;
  if (const uintptr_t finalizing = process_phase.finalizing.load(kRelaxed); finalizing != 0) {
    size = std::snprintf(line, sizeof(line), "Python runtime state: finalizing (tstate=0x%016zx)\n",
                         static_cast<size_t>(finalizing));
  } else {
    size = std::snprintf(line, sizeof(line), "Python runtime state: %s\n", PhaseName());
  }
  // A failing write has nobody to tell.
  if (::write(fd, line, static_cast<size_t>(size)) < 0) return;
}

void InstallPhaseFatalHook() { SetFatalHook(&PrintPhase); }

}  // namespace pyrt::inline PYRT_VARIANT
