// What -h, --help-env and --help-xoptions print. Whatever stands here has an effect, and every option of one letter stands
// here (runtime_config_test looks).

#ifndef PYRT_SYS_INTERNAL_USAGE_TEXT_H_
#define PYRT_SYS_INTERNAL_USAGE_TEXT_H_

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT::internal {

inline constexpr char kUsageOptions[] =
    "Options, with the environment variables that do the same:\n"
    "-b     : warn when bytes are turned into str or compared with it (-bb: fail)\n"
    "-B     : write no .pyc files; PYTHONDONTWRITEBYTECODE\n"
    "-c cmd : the program is the text `cmd`; ends the options\n"
    "-d     : debug the parser; PYTHONDEBUG\n"
    "-E     : ignore all PYTHON* variables\n"
    "-h     : print this and exit (also -? and --help)\n"
    "-i     : give a prompt after the program has ended, terminal or not; PYTHONINSPECT\n"
    "-I     : isolated: ignore the user's environment and directories (implies -E, -P, -s)\n"
    "-m mod : the program is the module `mod`; ends the options\n"
    "-O     : drop assertions and code under __debug__; PYTHONOPTIMIZE\n"
    "-OO    : drop docstrings as well\n"
    "-P     : keep the script's or current directory out of sys.path; PYTHONSAFEPATH\n"
    "-q     : start a prompt without version and copyright\n"
    "-R     : randomize hashes even if PYTHONHASHSEED is 0\n"
    "-s     : leave the user's site directory out of sys.path; PYTHONNOUSERSITE\n"
    "-S     : do not import site\n"
    "-u     : do not buffer stdout and stderr; PYTHONUNBUFFERED\n"
    "-v     : say what is imported, more of it the more often it is given; PYTHONVERBOSE\n"
    "-V     : print the version and exit (also --version); twice: with the build\n"
    "-W arg : control warnings: action:message:category:module:line; PYTHONWARNINGS\n"
    "-x     : skip the first line of the script\n"
    "-X opt : set an option of the implementation, see --help-xoptions\n"
    "--check-hash-based-pycs always|default|never:\n"
    "         when .pyc files that name a hash are checked against their source\n"
    "--help-env:      print the environment variables and exit\n"
    "--help-xoptions: print the -X options and exit\n"
    "--help-all:      print all of this and exit\n"
    "\n"
    "Arguments:\n"
    "file   : the program is in this file\n"
    "-      : the program comes from standard input, which is the default; on a terminal: a prompt\n"
    "arg ...: become sys.argv[1:]\n";

inline constexpr char kUsageEnvironment[] =
    "Environment variables that are read:\n"
    "PYTHONBREAKPOINT: what breakpoint() calls; 0: nothing\n"
    "PYTHONHASHSEED  : seed of the hashes of str and bytes, 0 to 4294967295, or random\n"
    "PYTHONHOME      : where the standard library is: prefix[:exec_prefix]\n"
    "PYTHONIOENCODING: encoding[:errors] of stdin and stdout, encoding of stderr\n"
    "PYTHONMALLOC    : allocators: default, debug, pymalloc, malloc, mimalloc, and each with _debug\n"
    "PYTHONPATH      : directories in front of the module search path, separated by ':'\n"
    "PYTHONPLATLIBDIR: sys.platlibdir\n"
    "\n"
    "Variables that options can be used instead of:\n"
    "PYTHONDEBUG               : -d\n"
    "PYTHONDEVMODE             : -X dev\n"
    "PYTHONDONTWRITEBYTECODE   : -B\n"
    "PYTHONFAULTHANDLER        : -X faulthandler\n"
    "PYTHONINSPECT             : -i\n"
    "PYTHONINTMAXSTRDIGITS     : -X int_max_str_digits\n"
    "PYTHONNODEBUGRANGES       : -X no_debug_ranges\n"
    "PYTHONNOUSERSITE          : -s\n"
    "PYTHONOPTIMIZE            : -O\n"
    "PYTHONPERFSUPPORT         : -X perf\n"
    "PYTHONPROFILEIMPORTTIME   : -X importtime\n"
    "PYTHONPYCACHEPREFIX       : -X pycache_prefix\n"
    "PYTHONSAFEPATH            : -P\n"
    "PYTHONTRACEMALLOC         : -X tracemalloc\n"
    "PYTHONUNBUFFERED          : -u\n"
    "PYTHONUTF8                : -X utf8\n"
    "PYTHONVERBOSE             : -v\n"
    "PYTHONWARNDEFAULTENCODING : -X warn_default_encoding\n"
    "PYTHONWARNINGS            : -W\n"
    "PYTHON_CONTEXT_AWARE_WARNINGS : -X context_aware_warnings\n"
    "PYTHON_CPU_COUNT          : -X cpu_count\n"
    "PYTHON_DISABLE_REMOTE_DEBUG : -X disable-remote-debug\n"
    "PYTHON_FROZEN_MODULES     : -X frozen_modules\n"
    "PYTHON_GIL                : -X gil\n"
    "PYTHON_LAZY_IMPORTS       : -X lazy_imports\n"
    "PYTHON_PERF_JIT_SUPPORT   : -X perf_jit\n"
    "PYTHON_THREAD_INHERIT_CONTEXT : -X thread_inherit_context\n";

inline constexpr char kUsageXOptions[] =
    "Options of the implementation:\n"
    "-X context_aware_warnings=0|1: filters of warnings belong to the context; 1 without a GIL\n"
    "-X cpu_count=N|default: what os.cpu_count() answers\n"
    "-X dev: development mode: more checks and warnings\n"
    "-X disable-remote-debug: let no other process run a script here\n"
    "-X faulthandler: show tracebacks when the process crashes\n"
    "-X frozen_modules=on|off: whether frozen modules are used\n"
    "-X gil=0|1: without or with the GIL; 0 in builds that can do without only\n"
    "-X importtime[=1|2]: show how long imports take; 2: also those that were there already\n"
    "-X int_max_str_digits=N: longest int that is converted to or from str, 640 or more; 0: no limit\n"
    "-X lazy_imports=all|normal: whether every import is lazy, or those that say so\n"
    "-X no_debug_ranges: code objects without columns\n"
    "-X perf: support for Linux perf\n"
    "-X perf_jit: support for Linux perf by a JIT map\n"
    "-X pycache_prefix=PATH: .pyc files go into a tree below PATH\n"
    "-X showrefcount: print the number of references at the end, in debug builds\n"
    "-X thread_inherit_context=0|1: threads start with a copy of their starter's context; 1 without a GIL\n"
    "-X tracemalloc[=N]: trace allocations, N frames deep\n"
    "-X utf8[=0|1]: UTF-8 mode\n"
    "-X warn_default_encoding: warn where a text file is opened without an encoding\n";

}  // namespace pyrt::inline PYRT_VARIANT::internal

#endif  // PYRT_SYS_INTERNAL_USAGE_TEXT_H_
