// A host of its own on pyrt's GIL: threads that count together, each with a word that it polls as an
// evaluation loop does. Nothing else of pyrt is needed: no thread states, no interpreter, no eval breaker.
//
// The GIL-disabled build has a GIL too, and this program turns it on, as CPython does for an extension that
// needs it; so the count is right in both.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "runtime/tally.h"
#include "sys/options.h"

#include "pyrt/gil/gil.h"

namespace {

constexpr uintptr_t kDropRequest = 1;

void Count(pyrt::Gil& gil, Tally& tally, int64_t increments) {
  pyrt::Atomic<uintptr_t> breaker{0};
  pyrt::GilHolder holder(&breaker, kDropRequest);
  if (gil.Take(holder) != pyrt::Gil::TakeResult::kTaken) return;
  for (int64_t i = 0; i < increments; ++i) {
    ++tally.value;
    // Somebody has waited for a switch interval and asks for the GIL.
    if (breaker.load(pyrt::kRelaxed) != 0 && gil.Yield(holder) != pyrt::Gil::TakeResult::kTaken) return;
  }
  gil.Drop(holder);
  gil.Forget(holder);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!ParseOptions(argc, argv, options)) return 2;

  pyrt::Gil gil(/*enabled=*/true);
  gil.set_interval(100);
  Tally tally;
  const auto start = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < options.threads; ++i) {
      threads.emplace_back([&] { Count(gil, tally, options.increments); });
    }
  }
  const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;

  const int64_t expected = options.threads * options.increments;
  std::printf("%s: %lld of %lld, %llu switches, %.1f ms\n", pyrt::kVariantName,
              static_cast<long long>(tally.value), static_cast<long long>(expected),
              static_cast<unsigned long long>(gil.switch_number()), elapsed.count());
  return tally.value == expected ? 0 : 1;
}
