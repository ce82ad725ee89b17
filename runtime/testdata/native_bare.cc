// A shared object that is no module.

extern "C" int PyrtNothingOfTheKind() { return 0; }
