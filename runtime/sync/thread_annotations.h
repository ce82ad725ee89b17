// Clang's thread-safety analysis (-Wthread-safety), spelled for pyrt. Nothing on other compilers.
//
// A lock class is a PYRT_CAPABILITY, a scoped lock a PYRT_SCOPED_CAPABILITY; data says what guards it
// (PYRT_GUARDED_BY), a function what it needs held (PYRT_REQUIRES) or must not have held (PYRT_EXCLUDES).

#ifndef PYRT_RUNTIME_SYNC_THREAD_ANNOTATIONS_H_
#define PYRT_RUNTIME_SYNC_THREAD_ANNOTATIONS_H_

#if defined(__clang__)
#define PYRT_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define PYRT_THREAD_ANNOTATION(x)
#endif

#define PYRT_CAPABILITY(name) PYRT_THREAD_ANNOTATION(capability(name))
#define PYRT_SCOPED_CAPABILITY PYRT_THREAD_ANNOTATION(scoped_lockable)

#define PYRT_GUARDED_BY(lock) PYRT_THREAD_ANNOTATION(guarded_by(lock))
#define PYRT_PT_GUARDED_BY(lock) PYRT_THREAD_ANNOTATION(pt_guarded_by(lock))
#define PYRT_ACQUIRED_BEFORE(...) PYRT_THREAD_ANNOTATION(acquired_before(__VA_ARGS__))
#define PYRT_ACQUIRED_AFTER(...) PYRT_THREAD_ANNOTATION(acquired_after(__VA_ARGS__))

#define PYRT_REQUIRES(...) PYRT_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define PYRT_REQUIRES_SHARED(...) PYRT_THREAD_ANNOTATION(requires_shared_capability(__VA_ARGS__))
#define PYRT_EXCLUDES(...) PYRT_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))

#define PYRT_ACQUIRE(...) PYRT_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define PYRT_ACQUIRE_SHARED(...) PYRT_THREAD_ANNOTATION(acquire_shared_capability(__VA_ARGS__))
#define PYRT_RELEASE(...) PYRT_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define PYRT_RELEASE_SHARED(...) PYRT_THREAD_ANNOTATION(release_shared_capability(__VA_ARGS__))
#define PYRT_TRY_ACQUIRE(...) PYRT_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define PYRT_TRY_ACQUIRE_SHARED(...) PYRT_THREAD_ANNOTATION(try_acquire_shared_capability(__VA_ARGS__))

#define PYRT_ASSERT_CAPABILITY(...) PYRT_THREAD_ANNOTATION(assert_capability(__VA_ARGS__))
#define PYRT_RETURN_CAPABILITY(lock) PYRT_THREAD_ANNOTATION(lock_returned(lock))
#define PYRT_NO_THREAD_SAFETY_ANALYSIS PYRT_THREAD_ANNOTATION(no_thread_safety_analysis)

#endif  // PYRT_RUNTIME_SYNC_THREAD_ANNOTATIONS_H_
