// main() of a fuzz target where the compiler brings no fuzzing engine.
//
//   x_fuzz [--random_inputs=N] [--seconds=S] [--seed=N] [FILE|FOLDER...]
//
// Runs every FILE (each file of a FOLDER), in the order of the names; then N random inputs, at most S seconds
// long. Every second one or so is a changed corpus file. The same seed and files yield the same inputs, another
// seed yields others. When the target dies, the input is saved beside the test's other outputs
// (TEST_UNDECLARED_OUTPUTS_DIR, else the current folder), and the last line on stderr says under which name
// (crash-seed-S.N for the random input N, counted from 0, of seed S): run the program with that file to see it
// again.
//
// Coverage of code is libFuzzer's; of interleavings, which a target on detsched counts in the section that
// libFuzzer reads too, the last line on stdout tells how many different ones there were.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) __attribute__((weak));
// The section's bounds, from the linker; null where nothing is in it.
extern "C" uint8_t __start___libfuzzer_extra_counters[] __attribute__((weak));
extern "C" uint8_t __stop___libfuzzer_extra_counters[] __attribute__((weak));

namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kLongestInput = 4096;
constexpr uint64_t kDefaultSeed = 1;

// SplitMix64: small, and the same on every machine, which std's distributions are not.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // In [0, limit).
  uint64_t Below(uint64_t limit) { return Next() % limit; }

  // For the input `number` of `seed`. Mixed, so that neighbouring seeds do not repeat each other's inputs.
  static Random ForInput(uint64_t seed, uint64_t number) { return Random(Random(seed).Next() + number); }

 private:
  uint64_t state_;
};

// What the signal handler needs, prepared before the target runs: it may neither allocate nor format.
struct CrashReport {
  const uint8_t* data = nullptr;
  size_t size = 0;
  std::array<char, 4096> path{};
};
CrashReport crash_report;

void WriteAll(int fd, const void* data, size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(fd, at, size);
    if (written <= 0) return;
    at += written;
    size -= static_cast<size_t>(written);
  }
}

void WriteText(std::string_view text) { WriteAll(STDERR_FILENO, text.data(), text.size()); }

void SaveInputAndDie(int signal_number) {
  if (crash_report.path[0] != '\0') {
    const int fd = ::open(crash_report.path.data(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd >= 0) {
      WriteAll(fd, crash_report.data, crash_report.size);
      ::close(fd);
      WriteText("\nfuzz: input saved as ");
      WriteText(crash_report.path.data());
      WriteText("\n");
    }
  }
  ::signal(signal_number, SIG_DFL);
  ::raise(signal_number);
}

// The counters of __libfuzzer_extra_counters: which of them were ever not zero.
class ExtraCounters {
 public:
  ExtraCounters()
      : first_(__start___libfuzzer_extra_counters),
        size_(static_cast<size_t>(reinterpret_cast<uintptr_t>(__stop___libfuzzer_extra_counters) -
                                  reinterpret_cast<uintptr_t>(__start___libfuzzer_extra_counters))),
        seen_(size_) {}
  bool exist() const { return size_ != 0; }
  size_t seen() const { return static_cast<size_t>(std::count(seen_.begin(), seen_.end(), true)); }
  void Take() {
    for (size_t i = 0; i < size_; ++i) {
      if (first_[i] != 0) seen_[i] = true;
      first_[i] = 0;
    }
  }

 private:
  uint8_t* const first_;
  const size_t size_;
  std::vector<bool> seen_;
};

void RunOne(const Bytes& input, const std::string& name, ExtraCounters& counters) {
  const char* folder = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  std::snprintf(crash_report.path.data(), crash_report.path.size(), "%s/crash-%s",
                folder == nullptr ? "." : folder, name.c_str());
  // A copy of the exact size, so that AddressSanitizer sees a read past the end.
  const Bytes exact(input);
  crash_report.data = exact.data();
  crash_report.size = exact.size();
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  counters.Take();
  crash_report.path[0] = '\0';
}

Bytes RandomInput(Random& random) {
  // Short ones are more likely: half of them have at most 64 bytes.
  const size_t limit = random.Below(2) == 0 ? 64 : kLongestInput;
  Bytes input(random.Below(limit + 1));
  for (uint8_t& byte : input) byte = static_cast<uint8_t>(random.Next());
  return input;
}

Bytes ChangedInput(Random& random, Bytes input) {
  for (uint64_t changes = 1 + random.Below(8); changes > 0; --changes) {
    const size_t at = input.empty() ? 0 : random.Below(input.size());
    const auto position = input.begin() + static_cast<ptrdiff_t>(at);
    switch (random.Below(input.empty() ? 1 : 4)) {
      case 0:
        input.insert(position, static_cast<uint8_t>(random.Next()));
        break;
      case 1:
        *position = static_cast<uint8_t>(random.Next());
        break;
      case 2:
        *position ^= static_cast<uint8_t>(1u << random.Below(8));
        break;
      default:
        input.erase(position);
        break;
    }
  }
  if (input.size() > kLongestInput) input.resize(kLongestInput);
  return input;
}

Bytes ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "fuzz: cannot read %s\n", path.c_str());
    std::exit(2);
  }
  return Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

std::vector<std::filesystem::path> FilesOf(const std::filesystem::path& path) {
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(path)) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(path);
  }
  return files;
}

// If `argument` is --name=N, stores N and returns true. A value that is no number ends the program.
bool ParseFlag(std::string_view argument, std::string_view name, uint64_t& value) {
  if (!argument.starts_with("--") || !argument.substr(2).starts_with(name)) return false;
  argument.remove_prefix(2 + name.size());
  if (!argument.starts_with('=')) return false;
  argument.remove_prefix(1);
  const auto [end, error] = std::from_chars(argument.data(), argument.data() + argument.size(), value);
  if (error != std::errc() || end != argument.data() + argument.size()) {
    std::fprintf(stderr, "fuzz: --%.*s takes a number, not \"%.*s\"\n", static_cast<int>(name.size()),
                 name.data(), static_cast<int>(argument.size()), argument.data());
    std::exit(2);
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (LLVMFuzzerInitialize != nullptr) LLVMFuzzerInitialize(&argc, &argv);

  uint64_t random_inputs = 0;
  uint64_t seconds = 60;
  uint64_t seed = kDefaultSeed;
  std::vector<Bytes> corpus;
  std::vector<std::string> names;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (ParseFlag(argument, "random_inputs", random_inputs) || ParseFlag(argument, "seconds", seconds) ||
        ParseFlag(argument, "seed", seed)) {
      continue;
    }
    if (argument.starts_with("-")) {
      std::fprintf(stderr, "fuzz: unknown option %s; known: --random_inputs=N --seconds=S --seed=N\n",
                   argv[i]);
      return 2;
    }
    for (const auto& file : FilesOf(argument)) {
      corpus.push_back(ReadFile(file));
      names.push_back(file.filename().string());
    }
  }

  for (const int signal_number : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGALRM}) {
    ::signal(signal_number, SaveInputAndDie);
  }

  ExtraCounters counters;
  for (size_t i = 0; i < corpus.size(); ++i) RunOne(corpus[i], names[i], counters);

  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  uint64_t done = 0;
  while (done < random_inputs && std::chrono::steady_clock::now() < deadline) {
    // Each input has its own Random, so that one can be made again without those before it.
    Random random = Random::ForInput(seed, done);
    const bool change = !corpus.empty() && random.Below(2) == 1;
    RunOne(change ? ChangedInput(random, corpus[random.Below(corpus.size())]) : RandomInput(random),
           "seed-" + std::to_string(seed) + "." + std::to_string(done), counters);
    ++done;
  }
  std::printf("fuzz: %zu corpus files and %llu random inputs (seed %llu) passed", corpus.size(),
              static_cast<unsigned long long>(done), static_cast<unsigned long long>(seed));
  if (counters.exist()) std::printf(", %zu pairs of steps by different threads", counters.seen());
  std::printf("\n");
  return 0;
}
