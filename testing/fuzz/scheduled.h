// A fuzz target whose bytes are both a program for each of two or three threads and the schedule in which the
// deterministic scheduler runs them.
//
//   struct World {                                   // made anew for each input
//     World(uint8_t setup, const detsched::Options& options);
//     void Enter(int self);                          // on each thread, before its operations
//     void Leave(int self);                          // and after them: gives back what it has
//     bool Holds() const;                            // after every step; reads newest values, writes nothing
//     void Prepare(detsched::Schedule& schedule);    // optional: which thread may be interrupted, or die
//     void CheckEnd(detsched::Schedule& schedule);   // all have ended, or hang
//     static void Reset();                           // globals of the code under test, before each input
//   };
//   struct Take { std::string ToString() const; void Perform(World& world, int self) const; };
//   using Operation = std::variant<Take, Drop>;
//   Operation NextOperation(FuzzInput& input);
//
//   extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
//     return RunScheduled<World>(data, size, &NextOperation);
//   }
//
// What the threads share they keep in Atomic and Plain, as in a schedule test. The model (who has what) may be
// bare variables: code between two scheduling points is one step. A deadlock is a failure, so an operation
// that would make one without a mistake of the component does nothing.
//
// An input:
//
//   1 byte      bit 0: three threads, not two; 1: one usable CPU, so no spinning; 2: no membarrier;
//               3: no older values; 4-5: mishaps (none, spurious wake-ups, early timeouts, weak compare-exchanges)
//   1 byte      World's setup
//   per thread  1 byte: how many operations less one, modulo kMostOperations; the operations
//   1 byte      bits 0-4: how far apart the choices may be
//   the rest    1 byte per choice: bits 3-7 say how many choices before it are the dull one (go on with the
//               same thread, return the newest value, inject nothing), bits 0-2 which alternative this one is,
//               modulo their number; when they run out all are dull
//
// So a schedule with two preemptions is two bytes, and a byte more or less shifts no other choice far. The
// same bytes are the same run. Pairs of conflicting steps by different threads are counted where libFuzzer
// looks for coverage.
//
// A failure prints the operations as C++ and the interleaving, and aborts: nothing is left to clean up.
// PYRT_FUZZ_PRINT=1 prints the operations of every input.

#ifndef PYRT_TESTING_FUZZ_SCHEDULED_H_
#define PYRT_TESTING_FUZZ_SCHEDULED_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/testing/fuzz/operations.h"

namespace pyrt::inline PYRT_VARIANT {

inline constexpr int kMostThreads = 3;
inline constexpr int kMostOperations = 6;

namespace internal {

inline constexpr const char* kThreadNames[kMostThreads] = {"a", "b", "c"};

// The head of an input.
struct ScheduledShape {
  explicit ScheduledShape(FuzzInput& input);
  int threads;
  uint8_t setup;
  detsched::Options options;
};

// The rest of it as detsched's choices.
std::vector<uint8_t> ExpandSchedule(FuzzInput input);

// Prints the program when PYRT_FUZZ_PRINT asks for it.
void StartScheduled(const std::string& program);
// Prints what went wrong and aborts, if something did.
void FinishScheduled(const std::string& program, const detsched::Result& result);

}  // namespace internal

template <typename World, typename Operation>
int RunScheduled(const uint8_t* data, size_t size, Operation (*next)(FuzzInput& input)) {
  struct Step {
    Operation operation;
    std::string text;
  };
  FuzzInput input(data, size);
  internal::ScheduledShape shape(input);
  std::vector<Step> programs[kMostThreads];
  std::string text = "  World world(" + std::to_string(shape.setup) + ", options);\n";
  for (int self = 0; self < shape.threads; ++self) {
    const std::string number = std::to_string(self);
    text += std::string("  schedule.Spawn(\"") + internal::kThreadNames[self] +
            "\", [&] {\n    world.Enter(" + number + ");\n";
    for (int left = 1 + input.Below(kMostOperations); left > 0; --left) {
      Operation operation = next(input);
      std::string name = std::visit([](const auto& one) { return one.ToString(); }, operation);
      text += "    detsched::Point(\"" + name + "\");\n    " + name + ".Perform(world, " + number + ");\n";
      programs[self].push_back({std::move(operation), std::move(name)});
    }
    text += "    world.Leave(" + number + ");\n  });\n";
  }
  const std::vector<uint8_t> choices = internal::ExpandSchedule(input);
  shape.options.bytes = choices.data();
  shape.options.bytes_size = choices.size();
  shape.options.reset = &World::Reset;

  internal::StartScheduled(text);
  internal::FinishScheduled(text, detsched::Explore(shape.options, [&](detsched::Schedule& schedule) {
                              World world(shape.setup, shape.options);
                              for (int self = 0; self < shape.threads; ++self) {
                                schedule.Spawn(internal::kThreadNames[self], [&, self] {
                                  world.Enter(self);
                                  for (const Step& step : programs[self]) {
                                    detsched::Point(step.text.c_str());
                                    std::visit([&](const auto& one) { one.Perform(world, self); },
                                               step.operation);
                                  }
                                  world.Leave(self);
                                });
                              }
                              if constexpr (requires { world.Prepare(schedule); }) world.Prepare(schedule);
                              schedule.Invariant("World::Holds", [&] { return world.Holds(); });
                              schedule.Run();
                              world.CheckEnd(schedule);
                            }));
  return 0;
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TESTING_FUZZ_SCHEDULED_H_
