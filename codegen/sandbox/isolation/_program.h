// The functions of _launcher that are not in _launcher.c.
#pragma once
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

// Keeps references to program.py's objects: see prepare_program in _launcher.pyi.
PyObject* prepare_program(PyObject* module, PyObject* arguments);

// Runs the program of a payload and ends the process.
_Noreturn void run_program(const char* payload, size_t length, int channel, int printed);
