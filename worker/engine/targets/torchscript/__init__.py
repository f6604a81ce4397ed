"""TorchScript files of programs, and the C++ program that runs them."""
