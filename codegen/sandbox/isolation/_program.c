// A program's side of the wire in mode isolated: compiles and executes the program, sends its
// names, and processes calls. program.py has the same in Python, and is called for rare cases:
// failures, values that are not of the common built-in types, other modes.
//
// The process is the program's own: it can change any object here. The other side does not trust
// its messages.
#include "_program.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

// wire.py
enum { MAX_DEPTH = 100, MAX_FRAME_BYTES = 8 << 20, LENGTH_BYTES = 4, READ_BYTES = 16384 };
enum { MAX_NAMES = 10000 };

// Objects of program.py and the builtins, in the order of prepare_program's arguments.
static struct {
    PyObject *namespace, *compile, *loads, *flush, *stdout_, *file_name, *exec_, *main, *failed,
        *names, *answer, *raised, *reply;
} of;

PyObject* prepare_program(PyObject* module, PyObject* arguments) {
    (void)module;
    PyObject** all = (PyObject**)&of;
    const Py_ssize_t count = (Py_ssize_t)(sizeof of / sizeof(PyObject*));
    if (PyTuple_Size(arguments) != count) {
        PyErr_Format(PyExc_TypeError, "prepare_program takes %zd objects", count);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        all[i] = PyTuple_GetItem(arguments, i);
        Py_INCREF(all[i]);
    }
    Py_RETURN_NONE;
}

// A growing frame; its first bytes are the length of the rest.
typedef struct {
    char* bytes;
    size_t length, room;
    int full;  // no memory, or too long: Python reports it
} Frame;

static void put(Frame* frame, const char* bytes, size_t length) {
    if (frame->length + length > frame->room) {
        const size_t room = 2 * (frame->length + length) + 256;
        char* more = room > 2 * MAX_FRAME_BYTES ? NULL : realloc(frame->bytes, room);
        if (more == NULL) {
            frame->full = 1;
            return;
        }
        frame->bytes = more;
        frame->room = room;
    }
    memcpy(frame->bytes + frame->length, bytes, length);
    frame->length += length;
}

static void put_text(Frame* frame, const char* text) { put(frame, text, strlen(text)); }

// Starts a frame with a string, after the bytes of its length.
static Frame frame_of(const char* text) {
    static const char unknown[LENGTH_BYTES];
    Frame frame = {0};
    put(&frame, unknown, LENGTH_BYTES);
    put_text(&frame, text);
    return frame;
}

// Returns 0, or -1 if the other side is gone.
static int send_frame(Frame* frame, int channel) {
    const uint32_t length = (uint32_t)(frame->length - LENGTH_BYTES);
    for (int i = 0; i < LENGTH_BYTES; i++)
        frame->bytes[i] = (char)(length >> (8 * (LENGTH_BYTES - 1 - i)));
    PyThreadState* state = PyEval_SaveThread();
    ssize_t more = 0;
    for (size_t sent = 0; sent < frame->length && more >= 0; sent += more > 0 ? (size_t)more : 0)
        do more = write(channel, frame->bytes + sent, frame->length - sent);
        while (more < 0 && errno == EINTR);
    PyEval_RestoreThread(state);
    return more < 0 ? -1 : 0;
}

// Reads like os.read: other threads of the program continue, and its signal handlers run.
static ssize_t read_some(int channel, char* bytes, size_t most) {
    for (;;) {
        PyThreadState* state = PyEval_SaveThread();
        const ssize_t length = read(channel, bytes, most);
        const int number = errno;
        PyEval_RestoreThread(state);
        if (length >= 0) return length;
        if (number != EINTR || PyErr_CheckSignals() < 0) return -1;
    }
}

// Received data that is not yet used.
static struct {
    char* bytes;
    size_t begin, end, room;
} ahead;

// Finds the next frame, valid until the next call; returns its length, or -1 at the end.
static ssize_t receive_frame(int channel, const char** frame) {
    size_t wanted = LENGTH_BYTES;
    for (;;) {
        const size_t held = ahead.end - ahead.begin;
        const unsigned char* head = (const unsigned char*)ahead.bytes + ahead.begin;
        if (held >= LENGTH_BYTES)
            wanted = LENGTH_BYTES + ((size_t)head[0] << 24 | (size_t)head[1] << 16 |
                                     (size_t)head[2] << 8 | (size_t)head[3]);
        if (held >= wanted) break;
        if (ahead.begin > 0) {
            memmove(ahead.bytes, ahead.bytes + ahead.begin, held);
            ahead.begin = 0;
            ahead.end = held;
        }
        if (ahead.room < wanted + READ_BYTES) {
            char* more = realloc(ahead.bytes, wanted + READ_BYTES);
            if (more == NULL) return -1;
            ahead.bytes = more;
            ahead.room = wanted + READ_BYTES;
        }
        const ssize_t part = read_some(channel, ahead.bytes + ahead.end, ahead.room - ahead.end);
        if (part <= 0) return -1;
        ahead.end += (size_t)part;
    }
    *frame = ahead.bytes + ahead.begin + LENGTH_BYTES;
    ahead.begin += wanted;
    return (ssize_t)(wanted - LENGTH_BYTES);
}

// Values as JSON: wire.pack of the common types.

static void put_escape(Frame* frame, unsigned code) {
    static const char digits[] = "0123456789abcdef";
    const char text[] = {'\\',
                         'u',
                         digits[code >> 12 & 15],
                         digits[code >> 8 & 15],
                         digits[code >> 4 & 15],
                         digits[code & 15]};
    put(frame, text, sizeof text);
}

// Writes a string in quotes; 0 if it cannot be encoded as UTF-8 (a lone surrogate).
static int put_quoted(Frame* frame, PyObject* value) {
    Py_ssize_t length;
    const char* text = PyUnicode_AsUTF8AndSize(value, &length);
    if (text == NULL) {
        PyErr_Clear();
        return 0;
    }
    const unsigned char *at = (const unsigned char*)text, *end = at + length;
    while (at < end) {
        const unsigned char* from = at;
        while (at < end && *at >= 0x20 && *at < 0x80 && *at != '"' && *at != '\\') at++;
        put(frame, (const char*)from, (size_t)(at - from));
        if (at == end) break;
        if (*at < 0x80) {
            put_escape(frame, *at++);
            continue;
        }
        const int more = *at >= 0xf0 ? 3 : *at >= 0xe0 ? 2 : 1;
        unsigned code = *at++ & (0x3fu >> more);
        for (int i = 0; i < more; i++) code = code << 6 | (*at++ & 0x3f);
        if (code >= 0x10000) {
            code -= 0x10000;
            put_escape(frame, 0xd800 | code >> 10);
            code = 0xdc00 | (code & 0x3ff);
        }
        put_escape(frame, code);
    }
    return 1;
}

static int put_str(Frame* frame, PyObject* value) {
    put_text(frame, "\"");
    const int fine = put_quoted(frame, value);
    put_text(frame, "\"");
    return fine;
}

static int put_value(Frame* frame, PyObject* value, int depth);

// Writes the items of a built-in iterable, whose iteration runs no code of the program.
static int put_items(Frame* frame, PyObject* values, int depth) {
    PyObject* iterator = PyObject_GetIter(values);
    int fine = iterator != NULL, first = 1;
    put_text(frame, "[");
    PyObject* item;
    while (fine && (item = PyIter_Next(iterator)) != NULL) {
        if (!first) put_text(frame, ", ");
        first = 0;
        fine = put_value(frame, item, depth + 1);
        Py_DECREF(item);
    }
    put_text(frame, "]");
    Py_XDECREF(iterator);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return fine;
}

static int put_pairs(Frame* frame, PyObject* values, int depth) {
    PyObject *key, *value;
    Py_ssize_t position = 0;
    int fine = 1, first = 1;
    put_text(frame, "[");
    while (fine && PyDict_Next(values, &position, &key, &value)) {
        put_text(frame, first ? "[" : ", [");
        first = 0;
        Py_INCREF(key);
        Py_INCREF(value);
        fine = put_value(frame, key, depth + 2);
        put_text(frame, ", ");
        fine = fine && put_value(frame, value, depth + 2);
        put_text(frame, "]");
        Py_DECREF(key);
        Py_DECREF(value);
    }
    put_text(frame, "]");
    return fine;
}

// Returns whether the value is one of the common plain ones, and is now in the frame.
static int put_value(Frame* frame, PyObject* value, int depth) {
    PyTypeObject* type = Py_TYPE(value);
    if (frame->full) return 0;
    if (value == Py_None || value == Py_True || value == Py_False) {
        put_text(frame, value == Py_None ? "null" : value == Py_True ? "true" : "false");
        return 1;
    }
    if (type == &PyLong_Type) {
        int overflow;
        const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow) return 0;
        char text[32];
        put(frame, text, (size_t)snprintf(text, sizeof text, "%lld", number));
        return 1;
    }
    if (type == &PyFloat_Type) {
        const double number = PyFloat_AsDouble(value);
        char* text = isfinite(number)
                         ? PyOS_double_to_string(number, 'r', 0, Py_DTSF_ADD_DOT_0, NULL)
                         : NULL;
        if (text == NULL) return 0;
        put_text(frame, text);
        PyMem_Free(text);
        return 1;
    }
    if (type == &PyUnicode_Type) return put_str(frame, value);
    if (depth >= MAX_DEPTH) return 0;
    if (type == &PyList_Type) return put_items(frame, value, depth);
    const int is_dict = type == &PyDict_Type;
    const char* tag = type == &PyTuple_Type       ? "{\"t\": "
                      : is_dict                   ? "{\"d\": "
                      : type == &PySet_Type       ? "{\"s\": "
                      : type == &PyFrozenSet_Type ? "{\"z\": "
                                                  : NULL;
    if (tag == NULL) return 0;
    put_text(frame, tag);
    const int fine = is_dict ? put_pairs(frame, value, depth) : put_items(frame, value, depth);
    put_text(frame, "}");
    return fine;
}

static _Noreturn void end(int status) { _exit(status); }

// Fetches the current exception as an object.
static PyObject* exception(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value == NULL) {
        value = Py_None;
        Py_INCREF(value);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

// Calls a function of program.py with an object, whose reference it steals; exits on failure: the
// other side is gone, or the program has broken the means to report more.
static void tell(PyObject* function, PyObject* argument) {
    if (argument == NULL) argument = exception();
    PyObject* result = PyObject_CallFunctionObjArgs(function, argument, NULL);
    Py_DECREF(argument);
    if (result == NULL) end(1);
    Py_DECREF(result);
}

static void flush_printed(void) {
    PyObject* result = PyObject_CallFunctionObjArgs(of.flush, of.stdout_, NULL);
    if (result == NULL) PyErr_Clear();  // the program may have closed or detached it
    Py_XDECREF(result);
}

// The same as _is_told of program.py.
static int is_told(const char* name) {
    static const char* const told[] = {"__version__", "__author__", "__license__", "__all__"};
    if (strncmp(name, "__", 2) != 0) return 1;
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        if (strcmp(name, told[i]) == 0) return 1;
    return 0;
}

// Sends ["loaded", {name: kind}]; Python does it for unusual names, modules or callables.
static int tell_names(int channel) {
    Frame frame = frame_of("[\"loaded\", {");
    PyObject *name, *value;
    Py_ssize_t position = 0;
    int first = 1, fine = PyDict_Size(of.namespace) < MAX_NAMES;
    while (fine && PyDict_Next(of.namespace, &position, &name, &value)) {
        if (Py_TYPE(name) != &PyUnicode_Type) continue;
        const char* text = PyUnicode_AsUTF8AndSize(name, NULL);
        fine = text != NULL;
        if (!fine || !is_told(text)) continue;
        put_text(&frame, first ? "" : ", ");
        first = 0;
        put_str(&frame, name);
        PyObject* of_module = PyModule_Check(value) ? PyModule_GetNameObject(value) : NULL;
        if (of_module != NULL) {
            put_text(&frame, ": \"module:");
            fine = put_quoted(&frame, of_module);
            put_text(&frame, "\"");
            Py_DECREF(of_module);
        } else {
            PyErr_Clear();  // of a module without a name
            // Python checks instances of classes, which may be more than callable.
            fine = PyType_Check(value) || !PyCallable_Check(value) ||
                   !(PyType_GetFlags(Py_TYPE(value)) & Py_TPFLAGS_HEAPTYPE);
            put_text(&frame, PyType_Check(value)       ? ": \"class\""
                             : PyCallable_Check(value) ? ": \"call\""
                                                       : ": \"value\"");
        }
    }
    put_text(&frame, "}]");
    PyErr_Clear();
    const int sent = fine && !frame.full && send_frame(&frame, channel) == 0;
    free(frame.bytes);
    return sent;
}

// Sends a result, whose reference it steals; Python sends unusual ones.
static void answer(PyObject* value, int channel) {
    Frame frame = frame_of("[\"value\", ");
    const int fine = put_value(&frame, value, 0) && !frame.full;
    put_text(&frame, "]");
    if (fine && !frame.full && frame.length <= LENGTH_BYTES + MAX_FRAME_BYTES) {
        Py_DECREF(value);
        flush_printed();
        if (send_frame(&frame, channel) < 0) end(1);
    } else {
        tell(of.reply, value);
    }
    free(frame.bytes);
}

// Processes the call ("m" marshal.dumps((name, arguments, options))).
static void answer_call(const char* data, size_t length, int channel) {
    PyObject* bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)length);
    PyObject* call = bytes == NULL ? NULL : PyObject_CallFunctionObjArgs(of.loads, bytes, NULL);
    PyObject *name, *arguments, *options, *value = NULL;
    if (call != NULL && PyArg_ParseTuple(call, "OO!O!", &name, &PyTuple_Type, &arguments,
                                         &PyDict_Type, &options)) {
        PyObject* target = PyDict_GetItemWithError(of.namespace, name);
        if (target != NULL) {
            Py_INCREF(target);
            value = PyObject_Call(target, arguments, PyDict_Size(options) > 0 ? options : NULL);
            Py_DECREF(target);
        } else if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_NameError, "name %R is not defined", name);
        }
    }
    if (value == NULL)
        tell(of.raised, NULL);
    else
        answer(value, channel);
    Py_XDECREF(call);
    Py_XDECREF(bytes);
}

// Reports that the program could not be compiled or raised an exception, and exits.
static _Noreturn void fail(PyObject* compiling) {
    PyObject* result = PyObject_CallFunctionObjArgs(of.failed, exception(), compiling, NULL);
    (void)result;
    end(1);
}

static _Noreturn void serve_calls(const char* text, size_t length, int channel) {
    PyObject* source = PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, "surrogatepass");
    PyObject* code = source == NULL ? NULL
                                    : PyObject_CallFunction(of.compile, "OOsiO", source,
                                                            of.file_name, "exec", 0, Py_True);
    if (code == NULL) fail(Py_True);
    PyObject* done = PyObject_CallFunctionObjArgs(of.exec_, code, of.namespace, NULL);
    if (done == NULL) fail(Py_False);
    flush_printed();  // the process may be killed as soon as the tests have their answer
    if (!tell_names(channel) && PyObject_CallFunctionObjArgs(of.names, NULL) == NULL) end(1);
    const char* frame;
    ssize_t size;
    while ((size = receive_frame(channel, &frame)) >= 0) {
        if (size > 0 && frame[0] == 'm')
            answer_call(frame + 1, (size_t)size - 1, channel);
        else
            tell(of.answer, PyBytes_FromStringAndSize(frame, size));
    }
    end(0);
}

_Noreturn void run_program(const char* payload, size_t length, int channel, int printed) {
    static const char isolated[] = "isolated\n";
    const size_t mode = sizeof isolated - 1;
    if (length >= mode && memcmp(payload, isolated, mode) == 0)
        serve_calls(payload + mode, length - mode, channel);
    PyObject* result = PyObject_CallFunction(of.main, "y#O", payload, (Py_ssize_t)length,
                                             printed ? Py_True : Py_False);
    (void)result;
    end(125);
}
