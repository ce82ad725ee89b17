// Imports the standard library's dependency graph, as one thread of CPython would and by many threads at once.
//
//   import_graph_test GRAPH-FILE

#include "pyrt/importlock/examples/graph/import_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "pyrt/importlock/importer_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

std::string graph_file;  // NOLINT: the argument of the program

class ImportGraphTest : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<ImportGraph> read = ImportGraph::Read(graph_file);
    ASSERT_TRUE(read.ok()) << read.status();
    graph = *std::move(read);
    std::printf("%zu modules, %zu imports, %zu modules in cycles\n", graph.nodes.size(), graph.edges(),
                graph.cyclic());
    ASSERT_GT(graph.nodes.size(), 300u) << "that is not a standard library";
    ASSERT_GT(graph.cyclic(), 1u);
  }

  ImportGraph graph;
};

TEST_F(ImportGraphTest, OneThreadCompletesModulesInCPythonsOrderAndSeesTheSameHalfMadeOnes) {
  TestInterpreter interpreter;
  interpreter.host.record = false;
  const auto finder = MakeRef<GraphFinder>(graph);
  finder->set_importer(interpreter.importer.get());
  interpreter.importer->set_meta_path(List::Of({finder}));
  const InterpreterAttached attached(interpreter);
  for (const ImportGraph::Node& node : graph.nodes) {
    const auto module = interpreter.importer->Import(node.name);
    ASSERT_TRUE(module.ok()) << node.name << ": " << module.status();
  }
  EXPECT_EQ(finder->completed(), graph.completed);
  EXPECT_EQ(finder->partial(), graph.partial);
}

class ImportGraphThreadsTest : public ImportGraphTest, public ::testing::WithParamInterface<int> {};

TEST_P(ImportGraphThreadsTest, EveryThreadSeesEveryModuleCompleteAndEachBodyRunsOnce) {
  const int threads = GetParam();
  const int rounds = threads == 64 ? 2 : 4;
  for (int round = 0; round < rounds; ++round) {
    TestInterpreter interpreter;
    interpreter.host.record = false;
    const auto finder = MakeRef<GraphFinder>(graph);
    finder->set_importer(interpreter.importer.get());
    finder->set_pause([&] {
      interpreter.gil.Detach();
      std::this_thread::yield();
      interpreter.gil.Attach();
    });
    interpreter.importer->set_meta_path(List::Of({finder}));

    Atomic<bool> go{false};
    std::vector<std::thread> running;
    for (int t = 0; t < threads; ++t) {
      running.emplace_back([&, t] {
        std::vector<size_t> order(graph.nodes.size());
        for (size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::shuffle(order.begin(), order.end(), std::mt19937(static_cast<unsigned>(t + 1000 * round)));
        while (!go.load(kAcquire)) std::this_thread::yield();
        InterpreterAttached attached(interpreter);
        for (const size_t node : order) {
          const auto module = interpreter.importer->Import(graph.nodes[node].name);
          ASSERT_TRUE(module.ok()) << graph.nodes[node].name << ": " << module.status();
          ASSERT_TRUE(finder->complete(node)) << graph.nodes[node].name;
          attached.Quiescent();
        }
      });
    }
    go.store(true, kRelease);
    for (std::thread& thread : running) thread.join();

    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      EXPECT_EQ(finder->runs(i), 1) << graph.nodes[i].name;
    }
    // Half-made modules are seen in circles only.
    for (const auto& [importer, name] : finder->partial()) {
      EXPECT_EQ(graph.Find(importer)->component, graph.Find(name)->component)
          << importer << " imports " << name;
    }
    EXPECT_EQ(interpreter.importer->module_locks().size(), 0u);
    EXPECT_EQ(interpreter.importer->modules().size(), graph.nodes.size());
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ImportGraphThreadsTest, ::testing::Values(1, 2, 8, 64));

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s GRAPH-FILE (the output of extract_graph.py)\n", argv[0]);
    return 2;
  }
  pyrt::graph_file = argv[1];
  return RUN_ALL_TESTS();
}
