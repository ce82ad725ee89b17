error("a deliberate mistake")
