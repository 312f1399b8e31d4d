// Nothing: what is compiled with it is the headers that tests have in common (CMakeLists.txt).
