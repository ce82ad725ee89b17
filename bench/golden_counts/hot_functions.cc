// The hot paths, each in a function of its own, for hot_functions.py to look at the instructions. Never run, but for
// its smoke test, which only starts it.

#include <string_view>

#include "pyrt/ceval_breaker/pending_calls.h"
#include "pyrt/gil/gil.h"
#include "pyrt/importlock/import_lock.h"
#include "pyrt/importlock/importer.h"
#include "pyrt/importlock/module_lock.h"
#include "pyrt/sys/audit.h"
#include "pyrt/sys/sys_dict.h"
#include "pyrt/tstate/gil_state.h"
#include "pyrt/tstate/thread_state.h"

#define HOT extern "C" [[gnu::noinline, gnu::used]]

using pyrt::Object;
using pyrt::Ref;

HOT pyrt::ThreadState* hot_current() { return pyrt::ThreadState::Current(); }
HOT int hot_poll(pyrt::ThreadState& thread) { return thread.Poll(); }
HOT void hot_attach(pyrt::ThreadState& thread) { thread.Attach(); }
HOT void hot_detach(pyrt::ThreadState& thread) { thread.Detach(); }
HOT bool hot_gil_take(pyrt::Gil& gil, pyrt::GilHolder& holder) {
  return gil.Take(holder) == pyrt::Gil::TakeResult::kTaken;
}
HOT void hot_gil_drop(pyrt::Gil& gil, pyrt::GilHolder& holder) { gil.Drop(holder); }
HOT pyrt::GilStateBefore hot_ensure() { return pyrt::GilStateEnsure(); }
HOT void hot_ensure_release(pyrt::GilStateBefore before) { pyrt::GilStateRelease(before); }
HOT bool hot_pending_idle(pyrt::PendingCallHandler& handler, pyrt::EvalBreaker& breaker) {
  return handler.Run(breaker, true).ok();
}
HOT void hot_import_lock(pyrt::ImportLock& lock) { lock.Acquire(); }
HOT bool hot_import_unlock(pyrt::ImportLock& lock) { return lock.Release().ok(); }
// All of it is in the library; hot_functions.py counts those functions too.
HOT bool hot_module_lock(pyrt::ModuleLockRegistry& locks, std::string_view name) {
  pyrt::ModuleLock lock(locks, name);
  return lock.Acquire() == pyrt::ModuleLockStatus::kAcquired;
}
HOT Object* hot_module_peek(const pyrt::ModuleTable& table, std::string_view name) {
  return table.Peek(name);
}
HOT bool hot_import_cached(pyrt::Importer& importer, std::string_view name) {
  return importer.Import(name).ok();
}
HOT bool hot_sys_attribute(const pyrt::SysDict& dict) {
  static constexpr pyrt::SysName kPath("path");
  return dict.Find(kPath) != nullptr;
}
HOT bool hot_audit(pyrt::Auditor& auditor) { return auditor.Audit("open", "sii", "path", 1, 2).ok(); }

template <typename... Functions>
void Keep(Functions... functions) {
  (..., [](auto function) { asm volatile("" : : "r"(function)); }(functions));
}

// The linker drops what nobody refers to.
int main() {
  Keep(hot_current, hot_poll, hot_attach, hot_detach, hot_gil_take, hot_gil_drop, hot_ensure,
       hot_ensure_release, hot_pending_idle, hot_import_lock, hot_import_unlock, hot_module_lock,
       hot_module_peek, hot_import_cached, hot_sys_attribute, hot_audit);
  return 0;
}
