#include "pyrt/runtime/phase.h"

#include <unistd.h>

#include <cstdio>

#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {

void PrintPhase(int fd) {
  char line[80];
  int size;
  const PhaseFlags& phase = process_phase;
  // In CPython's order: the first that holds names the phase.
  if (const uintptr_t finalizing = phase.finalizing.load(kRelaxed); finalizing != 0) {
    size = std::snprintf(line, sizeof(line), "Python runtime state: finalizing (tstate=0x%016zx)\n",
                         static_cast<size_t>(finalizing));
  } else {
    const char* name = "unknown";
    if (phase.initialized.load(kRelaxed)) {
      name = "initialized";
    } else if (phase.core_initialized.load(kRelaxed)) {
      name = "core initialized";
    } else if (phase.preinitialized.load(kRelaxed)) {
      name = "preinitialized";
    } else if (phase.preinitializing.load(kRelaxed)) {
      name = "preinitializing";
    }
    size = std::snprintf(line, sizeof(line), "Python runtime state: %s\n", name);
  }
  // A failing write has nobody to tell.
  if (::write(fd, line, static_cast<size_t>(size)) < 0) return;
}

void InstallPhaseFatalHook() { SetFatalHook(&PrintPhase); }

}  // namespace pyrt::inline PYRT_VARIANT
