#include "pyrt/sys/sys_control.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/sys/sys_module.h"
#include "pyrt/tstate/stop_the_world.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

ThreadHook& HookOf(ThreadState& thread, HookKind kind) {
  return kind == HookKind::kTrace ? thread.data().trace : thread.data().profile;
}

// With the world stopped or the GIL held: fills `visit`'s results for all threads, into storage that was reserved before.
// Returns false when there were more threads than room.
template <typename Item, typename Visit>
bool Collect(InterpreterThreads& threads, std::vector<Item>& items, Visit visit) {
  bool fits = true;
  threads.ForEach([&](ThreadState& thread) {
    if (items.size() == items.capacity()) {
      fits = false;
    } else {
      visit(thread, items);
    }
  });
  return fits;
}

template <typename Item, typename Visit>
std::vector<Item> Snapshot(SysModule& sys, Visit visit) {
  InterpreterThreads& threads = sys.interp().threads();
  std::vector<Item> items;
  while (true) {
    items.clear();
    items.reserve(threads.size() + 4);
    StoppedWorld stopped(threads);
    if (Collect(threads, items, visit)) return items;
  }
}

// Counts the hooks of all threads, and lets instrumented code know when the first has come or the last is
// gone. Counted anew each time: a thread that ends takes its hooks along and tells nobody.
absl::Status CountHooks(SysModule& sys) {
  InterpreterThreads& threads = sys.interp().threads();
  int32_t before = 0;
  int32_t count = 0;
  {
    // Other threads change their own hooks as they run.
    StoppedWorld stopped(threads);
    threads.ForEach([&](ThreadState& thread) {
      for (const HookKind kind : {HookKind::kTrace, HookKind::kProfile}) {
        if (HookOf(thread, kind).function != nullptr) ++count;
      }
    });
    before = sys.tracing_threads().exchange(count, kRelaxed);
  }
  const bool crosses_zero = (before == 0) != (count == 0);
  return crosses_zero ? sys.interp().BumpInstrumentationVersion() : absl::OkStatus();
}

}  // namespace

absl::Status SetSwitchInterval(SysModule& sys, double seconds) {
  // The negated comparison refuses NaN too.
  if (!(seconds > 0)) return Raise(ErrorType::ValueError(), "switch interval must be strictly positive");
  if (std::isinf(seconds)) return Raise(ErrorType::ValueError(), "switch interval must be finite");
  const double micros = seconds * 1e6;
  sys.interp().gil().set_interval(micros >= 9.2e18 ? uint64_t{INT64_MAX} : static_cast<uint64_t>(micros));
  return absl::OkStatus();
}

double GetSwitchInterval(SysModule& sys) { return static_cast<double>(sys.interp().gil().interval()) * 1e-6; }

absl::Status SetRecursionLimit(SysModule& sys, int64_t limit) {
  if (limit < 1) return Raise(ErrorType::ValueError(), "recursion limit must be greater or equal than 1");
  if (limit > INT32_MAX) return Raise(ErrorType::OverflowError(), "Python int too large to convert to C int");
  const int32_t depth = ThreadState::Get("sys.setrecursionlimit").data().recursion.depth();
  if (depth >= limit) {
    return Raise(ErrorType::RecursionError(),
                 "cannot set the recursion limit to %lld at the recursion depth %d: the limit is too low",
                 static_cast<long long>(limit), depth);
  }
  sys.interp().SetRecursionLimit(static_cast<int32_t>(limit));
  return absl::OkStatus();
}

int32_t GetRecursionLimit(SysModule& sys) { return sys.interp().recursion_limit(); }

Ref<Object> CurrentException(ThreadState& thread) {
  const Ref<Error>& handled = thread.data().exc_info.Handled();
  return handled ? Ref<Object>(handled) : None();
}

Ref<Tuple> ExcInfoTuple(ThreadState& thread) {
  const Ref<Error>& handled = thread.data().exc_info.Handled();
  if (!handled) return Tuple::Of({None(), None(), None()});
  return Tuple::Of({Ref<Object>::Share(const_cast<ErrorType*>(&handled->type())), handled,
                    handled->traceback() ? handled->traceback() : None()});
}

absl::Status SetThreadHook(SysModule& sys, HookKind kind, TraceFunction function, Ref<Object> object) {
  absl::Status audit = sys.auditor().Audit(kind == HookKind::kTrace ? "sys.settrace" : "sys.setprofile");
  if (!audit.ok()) return audit;
  ThreadState& thread = ThreadState::Get("sys.settrace");
  ThreadHook& hook = HookOf(thread, kind);
  ThreadHook old = std::exchange(hook, ThreadHook{});
  hook.function = function;
  hook.object = std::move(object);
  // The old object goes at the end of the scope, when everything is in place.
  return (old.function != nullptr) == (function != nullptr) ? absl::OkStatus() : CountHooks(sys);
}

absl::Status SetAllThreadsHook(SysModule& sys, HookKind kind, TraceFunction function, Ref<Object> object) {
  absl::Status audit = sys.auditor().Audit(kind == HookKind::kTrace ? "sys.settrace" : "sys.setprofile");
  if (!audit.ok()) return audit;
  InterpreterThreads& threads = sys.interp().threads();
  std::vector<ThreadHook> old;
  for (bool done = false; !done;) {
    old.reserve(threads.size() + 4);
    StoppedWorld stopped(threads);
    if (old.capacity() < threads.size()) continue;
    threads.ForEach([&](ThreadState& thread) {
      ThreadHook& hook = HookOf(thread, kind);
      old.push_back(std::exchange(hook, ThreadHook{}));
      hook.function = function;
      hook.object = object;
    });
    done = true;
  }
  // gh-137400, gh-137433: the old objects are released with the world running and no lock held.
  old.clear();
  return CountHooks(sys);
}

Ref<Object> GetThreadHook(ThreadState& thread, HookKind kind) {
  const ThreadHook& hook = HookOf(thread, kind);
  return hook.object ? hook.object : None();
}

absl::StatusOr<std::vector<std::pair<uint64_t, Ref<Object>>>> CurrentFrames(SysModule& sys) {
  absl::Status audit = sys.auditor().Audit("sys._current_frames");
  if (!audit.ok()) return audit;
  using Frame = std::pair<uint64_t, void*>;
  InterpreterThreads& threads = sys.interp().threads();
  std::vector<Frame> frames;
  std::vector<std::pair<uint64_t, Ref<Object>>> objects;
  while (true) {
    frames.clear();
    frames.reserve(threads.size() + 4);
    objects.reserve(frames.capacity());
    StoppedWorld stopped(threads);
    // Newest thread first, as the list is.
    const bool fits = Collect(threads, frames, [](ThreadState& thread, std::vector<Frame>& items) {
      void* const frame = thread.data().current_frame.load(kAcquire);
      if (frame != nullptr) items.emplace_back(thread.thread_id(), frame);
    });
    if (!fits) continue;
    // Under no lock, but before any thread may leave its frame.
    for (const auto& [ident, frame] : frames) {
      Ref<Object> object = sys.host().FrameObject(frame);
      if (object) objects.emplace_back(ident, std::move(object));
    }
    return objects;
  }
}

absl::StatusOr<std::vector<std::pair<uint64_t, Ref<Error>>>> CurrentExceptions(SysModule& sys) {
  absl::Status audit = sys.auditor().Audit("sys._current_exceptions");
  if (!audit.ok()) return audit;
  using Item = std::pair<uint64_t, Ref<Error>>;
  return Snapshot<Item>(sys, [](ThreadState& thread, std::vector<Item>& items) {
    if (thread.thread_id() != 0) items.emplace_back(thread.thread_id(), thread.data().exc_info.Handled());
  });
}

absl::Status SetAsyncGenHooks(SysModule& sys, ThreadState& thread, const Ref<Object>& firstiter,
                              const Ref<Object>& finalizer) {
  if (finalizer && !IsNone(finalizer) && !finalizer->IsCallable()) {
    return Raise(ErrorType::TypeError(), "callable finalizer expected, got %.50s", finalizer->TypeName());
  }
  if (firstiter && !IsNone(firstiter) && !firstiter->IsCallable()) {
    return Raise(ErrorType::TypeError(), "callable firstiter expected, got %.50s", firstiter->TypeName());
  }
  const auto to_store = [](const Ref<Object>& hook) { return IsNone(hook) ? Ref<Object>() : hook; };
  const Ref<Object> old_finalizer = thread.data().async_gen_finalizer;
  if (finalizer) {
    absl::Status audit = sys.auditor().Audit("sys.set_asyncgen_hook_finalizer");
    if (!audit.ok()) return audit;
    thread.data().async_gen_finalizer = to_store(finalizer);
  }
  if (firstiter) {
    absl::Status audit = sys.auditor().Audit("sys.set_asyncgen_hook_firstiter");
    if (!audit.ok()) {
      thread.data().async_gen_finalizer = old_finalizer;
      return audit;
    }
    thread.data().async_gen_firstiter = to_store(firstiter);
  }
  return absl::OkStatus();
}

absl::Status SetCoroutineOriginTrackingDepth(ThreadState& thread, int64_t depth) {
  if (depth < 0) return Raise(ErrorType::ValueError(), "depth must be >= 0");
  if (depth > INT32_MAX) return Raise(ErrorType::OverflowError(), "Python int too large to convert to C int");
  thread.data().coroutine_origin_tracking_depth = static_cast<int32_t>(depth);
  return absl::OkStatus();
}

bool IsFinalizing(SysModule& sys) { return sys.interp().registry().IsFinalizing(); }

bool IsGilEnabled(SysModule& sys) { return kGilEnabled || sys.interp().gil().enabled(); }

}  // namespace pyrt::inline PYRT_VARIANT
