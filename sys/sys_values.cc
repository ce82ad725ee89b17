#include "pyrt/sys/sys_values.h"

#include <bit>
#include <cfloat>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/struct_sequence.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class Namespace final : public Object {
 public:
  Namespace(std::string_view kind, std::vector<std::pair<std::string, Ref<Object>>> attributes)
      : kind_(kind), attributes_(std::move(attributes)) {}

  const char* TypeName() const override { return "types.SimpleNamespace"; }
  absl::StatusOr<std::string> Repr() const override {
    std::string text = kind_ + "(";
    for (size_t i = 0; i < attributes_.size(); ++i) {
      absl::StatusOr<std::string> value = attributes_[i].second->Repr();
      if (!value.ok()) return value.status();
      text += (i > 0 ? ", " : "") + attributes_[i].first + "=" + *value;
    }
    return text + ")";
  }
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override {
    for (const auto& [key, value] : attributes_) {
      if (key == name) return value;
    }
    return Object::GetAttr(name);
  }

 private:
  const std::string kind_;
  const std::vector<std::pair<std::string, Ref<Object>>> attributes_;
};

Ref<Object> Number(int64_t value) { return Int::Of(value); }
Ref<Object> Text(std::string_view value) { return String::Of(value); }

const char* ByteOrder() { return std::endian::native == std::endian::little ? "little" : "big"; }

}  // namespace

Ref<StructSequence> MakeFlags(const RuntimeConfig& config) {
  static const Ref<StructSequenceType> type = StructSequenceType::New(
      "sys.flags",
      {"debug", "inspect", "interactive", "optimize", "dont_write_bytecode", "no_user_site", "no_site",
       "ignore_environment", "verbose", "bytes_warning", "quiet", "hash_randomization", "isolated",
       "dev_mode", "utf8_mode", "warn_default_encoding", "safe_path", "int_max_str_digits",
       // By name only.
       "gil", "thread_inherit_context", "context_aware_warnings"},
      18);
  const Ref<Object> gil = kGilEnabled                       ? Number(1)
                          : config.gil == GilMode::kDefault ? None()
                                                            : Number(static_cast<int>(config.gil));
  return type->Make({Number(config.parser_debug),
                     Number(config.inspect),
                     Number(config.interactive),
                     Number(config.optimization_level),
                     Number(!config.write_bytecode),
                     Number(!config.user_site_directory),
                     Number(!config.site_import),
                     Number(!config.use_environment),
                     Number(config.verbose),
                     Number(config.bytes_warning),
                     Number(config.quiet),
                     Number(!config.use_hash_seed || config.hash_seed != 0),
                     Number(config.isolated),
                     BoolOf(config.dev_mode),
                     Number(config.utf8_mode),
                     Number(config.warn_default_encoding),
                     BoolOf(config.safe_path),
                     Number(config.int_max_str_digits),
                     gil,
                     Number(config.thread_inherit_context),
                     Number(config.context_aware_warnings)});
}

Ref<StructSequence> MakeVersionInfo(const LanguageVersion& version) {
  static const Ref<StructSequenceType> type =
      StructSequenceType::New("sys.version_info", {"major", "minor", "micro", "releaselevel", "serial"}, 5);
  return type->Make({Number(version.major), Number(version.minor), Number(version.micro),
                     Text(version.release_level), Number(version.serial)});
}

Ref<StructSequence> MakeIntInfo() {
  static const Ref<StructSequenceType> type = StructSequenceType::New(
      "sys.int_info",
      {"bits_per_digit", "sizeof_digit", "default_max_str_digits", "str_digits_check_threshold"}, 4);
  return type->Make({Number(30), Number(4), Number(4300), Number(640)});
}

Ref<StructSequence> MakeFloatInfo() {
  static const Ref<StructSequenceType> type =
      StructSequenceType::New("sys.float_info",
                              {"max", "max_exp", "max_10_exp", "min", "min_exp", "min_10_exp", "dig",
                               "mant_dig", "epsilon", "radix", "rounds"},
                              11);
  return type->Make({Float::Of(DBL_MAX), Number(DBL_MAX_EXP), Number(DBL_MAX_10_EXP), Float::Of(DBL_MIN),
                     Number(DBL_MIN_EXP), Number(DBL_MIN_10_EXP), Number(DBL_DIG), Number(DBL_MANT_DIG),
                     Float::Of(DBL_EPSILON), Number(FLT_RADIX), Number(FLT_ROUNDS)});
}

Ref<StructSequence> MakeHashInfo() {
  static const Ref<StructSequenceType> type = StructSequenceType::New(
      "sys.hash_info",
      {"width", "modulus", "inf", "nan", "imag", "algorithm", "hash_bits", "seed_bits", "cutoff"}, 9);
  constexpr int64_t kMersennePrime61 = (int64_t{1} << 61) - 1;
  return type->Make({Number(64), Number(kMersennePrime61), Number(314159), Number(0), Number(1000003),
                     Text("siphash13"), Number(64), Number(128), Number(0)});
}

Ref<StructSequence> MakeThreadInfo() {
  static const Ref<StructSequenceType> type =
      StructSequenceType::New("sys.thread_info", {"name", "lock", "version"}, 3);
  return type->Make({Text("pthread"), Text("pymutex"), None()});
}

Ref<Object> MakeImplementation(const RuntimeConfig& config) {
  const LanguageVersion& version = config.language;
  const std::string tag = config.implementation_name + "-" + std::to_string(version.major) +
                          std::to_string(version.minor) + AbiFlags();
  return MakeNamespace("namespace", {{"name", Text(config.implementation_name)},
                                     {"cache_tag", Text(tag)},
                                     {"version", MakeVersionInfo(version)},
                                     {"hexversion", Number(version.Hex())}});
}

Ref<Object> MakeAbiInfo() {
  return MakeNamespace("namespace", {{"pointer_bits", Number(static_cast<int64_t>(8 * sizeof(void*)))},
                                     {"free_threaded", BoolOf(!kGilEnabled)},
                                     {"debug", BoolOf(kDebug)},
                                     {"byteorder", Text(ByteOrder())}});
}

std::string VersionText(const RuntimeConfig& config) {
  std::string compiler;
#if defined(__clang__)
  compiler = "Clang " __clang_version__;
#elif defined(__GNUC__)
  compiler = "GCC " __VERSION__;
#endif
  return config.language.Short() + " (" + config.implementation_name + ", " + kVariantName + ") [" +
         compiler + "]";
}

std::string AbiFlags() { return std::string(kGilEnabled ? "" : "t") + (kDebug ? "d" : ""); }

Ref<Object> MakeNamespace(std::string_view kind,
                          std::vector<std::pair<std::string, Ref<Object>>> attributes) {
  return MakeRef<Namespace>(kind, std::move(attributes));
}

}  // namespace pyrt::inline PYRT_VARIANT
