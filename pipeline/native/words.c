/* Reads texts: counts of kinds of characters, hashes of words, and sums of the vectors of words. Types and meaning: words.pyi.
 *
 * A table of flags gives the kinds of each code point below 65,536; the last entry stands for all above.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { CODES = 65536, KINDS = 9, UPPER = 1 << 2, LETTER = 1 << 4, POWERS = 64 };

static uint64_t powers[POWERS];

static inline Py_UCS4 code_at(int kind, const void *data, Py_ssize_t i) {
    Py_UCS4 code = PyUnicode_READ(kind, data, i);
    return code < CODES ? code : CODES - 1;
}

static int has_items(const Py_buffer *buffer, Py_ssize_t n, Py_ssize_t size, const char *name) {
    if (buffer->len == n * size) return 1;
    PyErr_Format(PyExc_ValueError, "%s holds %zd bytes, not %zd", name, buffer->len, n * size);
    return 0;
}

static int all_texts(PyObject *texts) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(texts); i++) {
        if (!PyUnicode_Check(PyList_GET_ITEM(texts, i))) {
            PyErr_SetString(PyExc_TypeError, "texts is a list of str");
            return 0;
        }
    }
    return 1;
}

static PyObject *count_kinds(PyObject *self, PyObject *args) {
    PyObject *texts, *result = NULL;
    Py_buffer flags = {0}, counts = {0}, edges = {0};
    if (!PyArg_ParseTuple(args, "O!y*w*w*", &PyList_Type, &texts, &flags, &counts, &edges)) return NULL;
    Py_ssize_t n = PyList_GET_SIZE(texts);
    if (!all_texts(texts) || !has_items(&flags, CODES, sizeof(uint16_t), "flags") || !has_items(&counts, n * KINDS, sizeof(int64_t), "counts") ||
        !has_items(&edges, n * 2, sizeof(uint16_t), "edges"))
        goto done;
    const uint16_t *kinds_of = flags.buf;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *text = PyList_GET_ITEM(texts, i);
        int kind = PyUnicode_KIND(text);
        const void *data = PyUnicode_DATA(text);
        Py_ssize_t length = PyUnicode_GET_LENGTH(text);
        int64_t found[KINDS] = {0};
        for (Py_ssize_t at = 0; at < length; at++) {
            uint16_t kinds = kinds_of[code_at(kind, data, at)];
            for (int k = 0; k < KINDS; k++) found[k] += (kinds >> k) & 1;
        }
        for (int k = 0; k < KINDS; k++) ((int64_t *)counts.buf)[i * KINDS + k] = found[k];
        ((uint16_t *)edges.buf)[2 * i] = length ? kinds_of[code_at(kind, data, 0)] : 0;
        ((uint16_t *)edges.buf)[2 * i + 1] = length ? kinds_of[code_at(kind, data, length - 1)] : 0;
    }
    result = Py_NewRef(Py_None);
done:
    if (flags.obj) PyBuffer_Release(&flags);
    if (counts.obj) PyBuffer_Release(&counts);
    if (edges.obj) PyBuffer_Release(&edges);
    return result;
}

/* Words found so far: 16 bytes each, the hash and the index of its text. */
typedef struct {
    uint64_t *hashes;
    int64_t *of;
    Py_ssize_t n, room;
} Words;

static int add_word(Words *words, uint64_t hash, int64_t text) {
    if (words->n == words->room) {
        words->room = words->room ? 2 * words->room : 1024;
        uint64_t *hashes = PyMem_Realloc(words->hashes, words->room * sizeof *hashes);
        if (!hashes) return 0;
        words->hashes = hashes;
        int64_t *of = PyMem_Realloc(words->of, words->room * sizeof *of);
        if (!of) return 0;
        words->of = of;
    }
    words->hashes[words->n] = hash;
    words->of[words->n++] = text;
    return 1;
}

static PyObject *hash_words(PyObject *self, PyObject *args) {
    PyObject *texts, *result = NULL;
    Py_ssize_t max_chars, max_words;
    int camel;
    Py_buffer flags = {0}, lower = {0};
    Words words = {0};
    if (!PyArg_ParseTuple(args, "O!nnpy*y*", &PyList_Type, &texts, &max_chars, &max_words, &camel, &flags, &lower)) return NULL;
    Py_ssize_t n = PyList_GET_SIZE(texts);
    if (!all_texts(texts) || !has_items(&flags, CODES, sizeof(uint16_t), "flags") || !has_items(&lower, CODES, sizeof(uint16_t), "lower"))
        goto done;
    const uint16_t *kinds_of = flags.buf, *lower_of = lower.buf;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *text = PyList_GET_ITEM(texts, i);
        int kind = PyUnicode_KIND(text);
        const void *data = PyUnicode_DATA(text);
        Py_ssize_t length = PyUnicode_GET_LENGTH(text), end = length < max_chars ? length : max_chars, left = max_words, place = 0;
        uint16_t before = 0;
        uint64_t hash = 0;
        for (Py_ssize_t at = 0; at <= end && left > 0; at++) {
            Py_UCS4 code = at < end ? code_at(kind, data, at) : 0;
            uint16_t kinds = at < end ? kinds_of[code] : 0;
            int starts = (kinds & LETTER) && (!(before & LETTER) || (camel && (kinds & UPPER) && !(before & UPPER)));
            if ((before & LETTER) && (starts || !(kinds & LETTER))) {
                if (!add_word(&words, hash, i)) {
                    PyErr_NoMemory();
                    goto done;
                }
                left--;
            }
            if (starts) hash = 0, place = 0;
            if (kinds & LETTER) hash += lower_of[code] * powers[place < POWERS ? place : POWERS - 1], place++;
            before = kinds;
        }
    }
    result = Py_BuildValue("NN", PyBytes_FromStringAndSize((char *)words.hashes, words.n * sizeof(uint64_t)),
                           PyBytes_FromStringAndSize((char *)words.of, words.n * sizeof(int64_t)));
done:
    PyMem_Free(words.hashes);
    PyMem_Free(words.of);
    if (flags.obj) PyBuffer_Release(&flags);
    if (lower.obj) PyBuffer_Release(&lower);
    return result;
}

static PyObject *sum_vectors(PyObject *self, PyObject *args) {
    Py_ssize_t width;
    PyObject *result = NULL;
    Py_buffer hashes = {0}, of = {0}, known = {0}, vectors = {0}, sums = {0};
    if (!PyArg_ParseTuple(args, "y*y*y*y*nw*", &hashes, &of, &known, &vectors, &width, &sums)) return NULL;
    Py_ssize_t n = hashes.len / sizeof(uint64_t), n_known = known.len / sizeof(uint64_t), n_sums = width > 0 ? sums.len / (width * sizeof(int32_t)) : 0;
    if (!has_items(&of, n, sizeof(int64_t), "of") || !has_items(&vectors, n_known * width, sizeof(int16_t), "vectors") ||
        !has_items(&sums, n_sums * width, sizeof(int32_t), "sums"))
        goto done;
    int32_t *into = sums.buf;
    memset(into, 0, sums.len);
    for (Py_ssize_t i = 0; i < n; i++) {
        uint64_t hash = ((uint64_t *)hashes.buf)[i];
        int64_t text = ((int64_t *)of.buf)[i];
        const uint64_t *place = known.buf;
        /* The first known word that is not less is within `left` of `place`. No branch, which no processor could foresee. */
        for (Py_ssize_t left = n_known; left > 0; left /= 2) {
            Py_ssize_t half = (left + 1) / 2;
            place += (place[half - 1] < hash) * half;
        }
        Py_ssize_t first = place - (const uint64_t *)known.buf;
        if (first == n_known || *place != hash) continue;
        if (text < 0 || text >= n_sums) {
            PyErr_SetString(PyExc_ValueError, "the index of a text is outside sums");
            goto done;
        }
        for (Py_ssize_t k = 0; k < width; k++) into[text * width + k] += ((int16_t *)vectors.buf)[first * width + k];
    }
    result = Py_NewRef(Py_None);
done:
    if (hashes.obj) PyBuffer_Release(&hashes);
    if (of.obj) PyBuffer_Release(&of);
    if (known.obj) PyBuffer_Release(&known);
    if (vectors.obj) PyBuffer_Release(&vectors);
    if (sums.obj) PyBuffer_Release(&sums);
    return result;
}

static PyObject *number_items(PyObject *self, PyObject *args) {
    PyObject *items, *numbered = NULL, *result = NULL;
    Py_buffer numbers = {0};
    if (!PyArg_ParseTuple(args, "O!w*", &PyList_Type, &items, &numbers)) return NULL;
    Py_ssize_t n = PyList_GET_SIZE(items);
    if (!has_items(&numbers, n, sizeof(int64_t), "numbers") || !(numbered = PyDict_New())) goto done;
    for (Py_ssize_t i = 0; i < n; i++) {
        if (i >= PyList_GET_SIZE(items)) break; /* an item's own comparison shortened the list */
        PyObject *item = Py_NewRef(PyList_GET_ITEM(items, i)), *number = PyDict_GetItemWithError(numbered, item);
        int64_t found = number ? PyLong_AsLongLong(number) : PyDict_GET_SIZE(numbered);
        if (!number && !PyErr_Occurred() && (number = PyLong_FromLongLong(found))) {
            PyDict_SetItem(numbered, item, number);
            Py_DECREF(number);
        }
        Py_DECREF(item);
        if (PyErr_Occurred()) goto done;
        ((int64_t *)numbers.buf)[i] = found;
    }
    result = PyDict_Keys(numbered);
done:
    Py_XDECREF(numbered);
    if (numbers.obj) PyBuffer_Release(&numbers);
    return result;
}

static PyMethodDef methods[] = {
    {"number_items", number_items, METH_VARARGS, "number_items(items, numbers): see words.pyi"},
    {"count_kinds", count_kinds, METH_VARARGS, "count_kinds(texts, flags, counts, edges): see words.pyi"},
    {"hash_words", hash_words, METH_VARARGS, "hash_words(texts, max_chars, max_words, camel, flags, lower): see words.pyi"},
    {"sum_vectors", sum_vectors, METH_VARARGS, "sum_vectors(hashes, of, known, vectors, width, sums): see words.pyi"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "words", "Kinds of characters, hashes of words, and sums of their vectors.", -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_words(void) {
    uint64_t power = 1;
    for (int i = 0; i < POWERS; i++) powers[i] = power *= 0x9E3779B97F4A7C15u;
    return PyModule_Create(&module);
}
