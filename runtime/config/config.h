// The build variant, and the only header of pyrt that asks the preprocessor about it.
//
// A variant is a pair: whether the GIL is enabled (`--@pyrt//runtime/config:gil=enabled|disabled`) and which
// platform the primitives of runtime/sync stand on (`--@pyrt//runtime/config:platform=native|detsched`).
// Bazel turns the two flags into PYRT_GIL_DISABLED and PYRT_DETSCHED, both always defined to 0 or 1 by
// `//runtime/config`, whose defines reach everything that depends on it.
//
// Code says `if constexpr (kGilEnabled)`. Layout differences go through a specialised struct.
//
// CPython counterpart: Py_GIL_DISABLED (there, an #ifdef in every function body).

#ifndef PYRT_RUNTIME_CONFIG_CONFIG_H_
#define PYRT_RUNTIME_CONFIG_CONFIG_H_

#if !defined(PYRT_GIL_DISABLED) || !defined(PYRT_DETSCHED)
#error "PYRT_GIL_DISABLED and PYRT_DETSCHED must be defined: depend on @pyrt//runtime/config"
#endif

// The inline namespace of this variant. Everything of pyrt is declared in
//
//   namespace pyrt::inline PYRT_VARIANT {
//
// so that an object of one variant and an object of another do not link: an unresolved
// `pyrt::gil_disabled::Gil::TakeSlow` names the mistake, where mixed layouts would only crash.
#if PYRT_DETSCHED && PYRT_GIL_DISABLED
#define PYRT_VARIANT gil_disabled_detsched
#define PYRT_VARIANT_NAME "gil_disabled_detsched"
#elif PYRT_DETSCHED
#define PYRT_VARIANT gil_enabled_detsched
#define PYRT_VARIANT_NAME "gil_enabled_detsched"
#elif PYRT_GIL_DISABLED
#define PYRT_VARIANT gil_disabled
#define PYRT_VARIANT_NAME "gil_disabled"
#else
#define PYRT_VARIANT gil_enabled
#define PYRT_VARIANT_NAME "gil_enabled"
#endif

// The header that provides the platform's half of runtime/sync/platform.h.
#if PYRT_DETSCHED
#define PYRT_PLATFORM_HEADER "pyrt/testing/detsched/platform.h"
#else
#define PYRT_PLATFORM_HEADER "pyrt/runtime/sync/internal/native_platform.h"
#endif

#if defined(__SANITIZE_THREAD__)
#define PYRT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PYRT_TSAN 1
#endif
#endif
#ifndef PYRT_TSAN
#define PYRT_TSAN 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define PYRT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PYRT_ASAN 1
#endif
#endif
#ifndef PYRT_ASAN
#define PYRT_ASAN 0
#endif

// Whether locks are announced to ThreadSanitizer: not on fibers, which it would take for one thread.
#if PYRT_TSAN && !PYRT_DETSCHED
#define PYRT_TSAN_HOOKS 1
#else
#define PYRT_TSAN_HOOKS 0
#endif

namespace pyrt::inline PYRT_VARIANT {

// True in a build where one lock per interpreter serialises its threads (CPython's default build). False in a
// free-threaded build, where a GIL still exists and can be enabled at run time for a module that needs it.
inline constexpr bool kGilEnabled = PYRT_GIL_DISABLED == 0;

// True where threads are fibers of the deterministic scheduler (testing/detsched) and time is virtual.
inline constexpr bool kDetsched = PYRT_DETSCHED != 0;

// True under ThreadSanitizer, which sees neither membarrier nor stand-alone fences.
inline constexpr bool kTsan = PYRT_TSAN != 0;

// True under AddressSanitizer, whose quarantine grows, and whose allocator has locks that a fork copies as they are.
inline constexpr bool kAsan = PYRT_ASAN != 0;

// True where PYRT_DCHECK is checked.
#ifdef NDEBUG
inline constexpr bool kDebug = false;
#else
inline constexpr bool kDebug = true;
#endif

// "gil_enabled", "gil_disabled", and with the suffix "_detsched" on the deterministic scheduler.
inline constexpr char kVariantName[] = PYRT_VARIANT_NAME;

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_CONFIG_CONFIG_H_
