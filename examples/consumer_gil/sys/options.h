// This workspace's own sys folder. <sys/types.h> and "pyrt/sys/..." are still what they were.

#ifndef SYS_OPTIONS_H_
#define SYS_OPTIONS_H_

#include <sys/types.h>

#include <cstdint>

struct Options {
  int threads = 4;
  int64_t increments = 1'000'000;  // of each thread
};

// Reads [THREADS [INCREMENTS]]. Prints a line to stderr and returns false if they are not positive numbers.
bool ParseOptions(int argc, char** argv, Options& options);

#endif  // SYS_OPTIONS_H_
