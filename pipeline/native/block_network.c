/* The network of `pipeline/ingest/main_text/network.py` on the blocks of one page, in whole numbers. Types and meaning: block_network.pyi.
 *
 * Sums are of products of 16-bit numbers in 32 bits: the caller has made sure that no sum of these weights can leave them. Whatever width a
 * processor adds in, the sum is the same.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { REGIONS = 3, FIRST_SHIFT = 10, SHIFT = 12, LIMIT = 8 << 8, MAX_WIDTH = 512 };

/* One version for every x86-64 and one for those with 256-bit integers; elsewhere the compiler's own choice. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

/* sums[j] = bias[j] + the product of row j of `weights` (rows `stride` apart) and `values`. */
FOR_EACH_PROCESSOR
static void linear(const int16_t *restrict values, Py_ssize_t n, const int16_t *restrict weights, Py_ssize_t stride,
                   const int32_t *restrict bias, Py_ssize_t rows, int32_t *restrict sums) {
    Py_ssize_t j = 0;
    for (; j + 4 <= rows; j += 4) {  // four rows at a time, so that values are loaded once for all of them
        const int16_t *a = weights + j * stride, *b = a + stride, *c = b + stride, *d = c + stride;
        int32_t of_a = bias[j], of_b = bias[j + 1], of_c = bias[j + 2], of_d = bias[j + 3];
        for (Py_ssize_t k = 0; k < n; k++) {
            of_a += (int32_t)a[k] * values[k];
            of_b += (int32_t)b[k] * values[k];
            of_c += (int32_t)c[k] * values[k];
            of_d += (int32_t)d[k] * values[k];
        }
        sums[j] = of_a, sums[j + 1] = of_b, sums[j + 2] = of_c, sums[j + 3] = of_d;
    }
    for (; j < rows; j++) {
        sums[j] = bias[j];
        for (Py_ssize_t k = 0; k < n; k++) sums[j] += (int32_t)weights[j * stride + k] * values[k];
    }
}

static inline int16_t rectified(int32_t value) { return value < 0 ? 0 : value > LIMIT ? LIMIT : (int16_t)value; }

/* `totals`: sums of the rows of `hidden` before each, and of all. */
FOR_EACH_PROCESSOR
static void add_up(const int16_t *hidden, Py_ssize_t n, Py_ssize_t width, int64_t *totals) {
    memset(totals, 0, width * sizeof *totals);
    for (Py_ssize_t i = 0; i < n * width; i++) totals[i + width] = totals[i] + hidden[i];
}

/* The sums over a range, 0 to LIMIT = 2^11 each time its length n, divided by n, rounded down.
 *
 * As products with 2^51 / n, rounded up: that is too large by less than 1 / n of a whole, so rounds down to the same, as long as the sum
 * times n is below 2^51; a processor multiplies ten times as fast as it divides. */
FOR_EACH_PROCESSOR
static void mean(const int64_t *totals, Py_ssize_t width, int64_t first, int64_t end, int16_t *values) {
    int64_t n = end - first, reciprocal = ((int64_t)1 << 51) / n + 1;
    for (Py_ssize_t k = 0; k < width; k++) {
        int64_t sum = totals[end * width + k] - totals[first * width + k];
        values[k] = (int16_t)(n < 1 << 20 ? sum * reciprocal >> 51 : sum / n);
    }
}

/* hidden += the layer's view of the page: what each block, and the mean over all and over all words, says of it. */
static void see_page(int16_t *hidden, Py_ssize_t n, Py_ssize_t width, const int64_t *n_words, const int16_t *weights, const int32_t *bias) {
    int64_t sums[2 * MAX_WIDTH] = {0}, words = 0;
    int16_t of_page[2 * MAX_WIDTH];
    int32_t seen[MAX_WIDTH];
    for (Py_ssize_t i = 0; i < n; i++) {
        words += n_words[i];
        for (Py_ssize_t k = 0; k < width; k++) {
            sums[k] += hidden[i * width + k];
            sums[width + k] += n_words[i] * hidden[i * width + k];
        }
    }
    for (Py_ssize_t k = 0; k < 2 * width; k++) of_page[k] = (int16_t)(sums[k] / (k < width ? n : words));
    linear(of_page, 2 * width, weights, 2 * width, bias, width, seen);
    for (Py_ssize_t i = 0; i < n * width; i++) hidden[i] = rectified(hidden[i] + (seen[i % width] >> SHIFT));
}

/* One layer, from `hidden` to `next`: a block, its neighbours at `distance`, the means over its regions and over the page. */
FOR_EACH_PROCESSOR
static void layer(const int16_t *hidden, int16_t *next, Py_ssize_t n, Py_ssize_t width, Py_ssize_t distance, const int64_t *regions,
                  const int16_t *weights, const int32_t *bias, int64_t *totals) {
    Py_ssize_t stride = (4 + REGIONS) * width;
    int16_t values[3 * MAX_WIDTH], means[MAX_WIDTH];
    int32_t of_page[MAX_WIDTH], of_region[REGIONS][MAX_WIDTH], sums[MAX_WIDTH];
    const int32_t none[MAX_WIDTH] = {0};
    add_up(hidden, n, width, totals);
    mean(totals, width, 0, n, means);
    linear(means, width, weights + (3 + REGIONS) * width, stride, bias, width, of_page);
    for (Py_ssize_t i = 0; i < n; i++) {
        for (Py_ssize_t part = 0; part < 3; part++) {
            Py_ssize_t from = i + (part == 0 ? 0 : part == 1 ? -distance : distance);
            if (from < 0 || from >= n)
                memset(values + part * width, 0, width * sizeof *values);
            else
                memcpy(values + part * width, hidden + from * width, width * sizeof *values);
        }
        linear(values, 3 * width, weights, stride, of_page, width, sums);
        for (Py_ssize_t r = 0; r < REGIONS; r++) {
            const int64_t *region = regions + 2 * (i * REGIONS + r);
            if (i == 0 || region[0] != region[-2 * REGIONS] || region[1] != region[1 - 2 * REGIONS]) {
                mean(totals, width, region[0], region[1], means);
                linear(means, width, weights + (3 + r) * width, stride, none, width, of_region[r]);
            }
            for (Py_ssize_t j = 0; j < width; j++) sums[j] += of_region[r][j];
        }
        for (Py_ssize_t j = 0; j < width; j++) next[i * width + j] = rectified(hidden[i * width + j] + (sums[j] >> SHIFT));
    }
}

enum { VALUES, N_WORDS, REGION_RANGES, FIRST, FIRST_BIAS, PAGE, PAGE_BIAS, LAYERS, LAYERS_BIAS, LAST, LAST_BIAS, SCORES, N_BUFFERS };

static int sizes_fit(const Py_buffer *b, Py_ssize_t n, Py_ssize_t inputs, Py_ssize_t width, Py_ssize_t n_layers) {
    const Py_ssize_t sizes[N_BUFFERS] = {
        n * inputs * 2, n * 8, n * REGIONS * 16, width * inputs * 2, width * 4, width * 2 * width * 2, width * 4,
        n_layers * width * (4 + REGIONS) * width * 2, n_layers * width * 4, width * 2, 4, n * 8,
    };
    int fit = n > 0 && n <= INT32_MAX && inputs >= 0 && inputs <= INT16_MAX && width > 0 && width <= MAX_WIDTH && n_layers >= 0 && n_layers <= 30;
    for (int i = 0; i < N_BUFFERS; i++) fit = fit && b[i].len == sizes[i];
    const int64_t *ranges = b[REGION_RANGES].buf, *words = b[N_WORDS].buf;
    for (Py_ssize_t i = 0; fit && i < n * REGIONS; i++) fit = ranges[2 * i] >= 0 && ranges[2 * i] < ranges[2 * i + 1] && ranges[2 * i + 1] <= n;
    for (Py_ssize_t i = 0; fit && i < n; i++) fit = words[i] > 0 && words[i] <= INT32_MAX;
    if (!fit) PyErr_SetString(PyExc_ValueError, "arrays of a page or of a network do not fit together");
    return fit;
}

static PyObject *score_blocks(PyObject *self, PyObject *args) {
    Py_ssize_t n, inputs, width, n_layers;
    Py_buffer b[N_BUFFERS] = {0};
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "(nnnn)(y*y*y*)(y*y*y*y*y*y*y*y*)w*", &n, &inputs, &width, &n_layers, &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
                          &b[6], &b[7], &b[8], &b[9], &b[10], &b[11]))
        return NULL;
    int16_t *hidden = NULL, *next = NULL;
    int64_t *totals = NULL;
    if (!sizes_fit(b, n, inputs, width, n_layers)) goto done;
    hidden = PyMem_Malloc(n * width * sizeof *hidden);
    next = PyMem_Malloc(n * width * sizeof *next);
    totals = PyMem_Malloc((n + 1) * width * sizeof *totals);
    if (!hidden || !next || !totals) {
        PyErr_NoMemory();
        goto done;
    }
    int32_t sums[MAX_WIDTH];
    for (Py_ssize_t i = 0; i < n; i++) {
        linear((int16_t *)b[VALUES].buf + i * inputs, inputs, b[FIRST].buf, inputs, b[FIRST_BIAS].buf, width, sums);
        for (Py_ssize_t j = 0; j < width; j++) hidden[i * width + j] = rectified(sums[j] >> FIRST_SHIFT);
    }
    see_page(hidden, n, width, b[N_WORDS].buf, b[PAGE].buf, b[PAGE_BIAS].buf);
    for (Py_ssize_t l = 0; l < n_layers; l++) {
        layer(hidden, next, n, width, (Py_ssize_t)1 << l, b[REGION_RANGES].buf, (int16_t *)b[LAYERS].buf + l * width * (4 + REGIONS) * width,
              (int32_t *)b[LAYERS_BIAS].buf + l * width, totals);
        int16_t *last = hidden;
        hidden = next, next = last;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        linear(hidden + i * width, width, b[LAST].buf, width, b[LAST_BIAS].buf, 1, sums);
        ((int64_t *)b[SCORES].buf)[i] = sums[0];
    }
    result = Py_NewRef(Py_None);
done:
    PyMem_Free(hidden);
    PyMem_Free(next);
    PyMem_Free(totals);
    for (int i = 0; i < N_BUFFERS; i++)
        if (b[i].obj) PyBuffer_Release(&b[i]);
    return result;
}

enum { NUMBERS, ANCESTORS_OF, INLINE_OF, WORD_SUMS, PARENTS, NAMES_OF, TAGS_OF, NAME_SUMS, TAG_VECTORS, INPUTS, N_INPUT_BUFFERS };
enum { ANCESTORS = 6, OWN_ANCESTORS = 4 }; /* those that a block knows, and those whose own vectors are inputs */

static int all_between(const Py_buffer *b, int64_t first, int64_t end) {
    for (Py_ssize_t i = 0; i < b->len / (Py_ssize_t)sizeof(int64_t); i++)
        if (((int64_t *)b->buf)[i] < first || ((int64_t *)b->buf)[i] >= end) return 0;
    return 1;
}

/* Whether the arrays fit together; `sizes` as in block_network.pyi. */
static int inputs_fit(const Py_buffer *b, const Py_ssize_t *sizes) {
    Py_ssize_t n = sizes[0], n_numbers = sizes[1], elements = sizes[2], names = sizes[3], tags = sizes[4], width = sizes[5];
    int fit = n_numbers <= MAX_WIDTH && width <= MAX_WIDTH; /* so that no size below leaves 64 bits */
    for (int i = 0; i < 6; i++) fit = fit && sizes[i] >= 0 && sizes[i] <= INT32_MAX;
    if (fit) {
        const Py_ssize_t wanted[N_INPUT_BUFFERS] = {
            n_numbers * n * 8, n * ANCESTORS * 8, n * 8, n * width * 4, elements * 8, elements * 8, elements * 8, names * width * 4,
            tags * width * 2, n * (n_numbers + (OWN_ANCESTORS + 3) * width) * 2,
        };
        for (int i = 0; i < N_INPUT_BUFFERS; i++) fit = fit && b[i].len == wanted[i];
    }
    fit = fit && all_between(&b[ANCESTORS_OF], 0, elements) && all_between(&b[INLINE_OF], 0, names) && all_between(&b[NAMES_OF], 0, names) &&
          all_between(&b[TAGS_OF], 0, tags);
    for (Py_ssize_t e = 0; fit && e < elements; e++) fit = ((int64_t *)b[PARENTS].buf)[e] < e;
    if (!fit) PyErr_SetString(PyExc_ValueError, "arrays of a page or of a network do not fit together");
    return fit;
}

static inline int16_t clipped(int32_t value, Py_ssize_t limit) { return (int16_t)(value < -limit ? -limit : value > limit ? limit : value); }

static PyObject *fill_inputs(PyObject *self, PyObject *args) {
    Py_ssize_t sizes[6], limit;
    Py_buffer b[N_INPUT_BUFFERS] = {0};
    PyObject *result = NULL;
    int32_t *own = NULL, *chain = NULL;
    if (!PyArg_ParseTuple(args, "(nnnnnn)n(y*y*y*y*)(y*y*y*)(y*y*)w*", &sizes[0], &sizes[1], &sizes[2], &sizes[3], &sizes[4], &sizes[5], &limit,
                          &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &b[6], &b[7], &b[8], &b[9]))
        return NULL;
    if (!inputs_fit(b, sizes)) goto done;
    Py_ssize_t n = sizes[0], n_numbers = sizes[1], elements = sizes[2], width = sizes[5];
    own = PyMem_Calloc(elements * width + 1, sizeof *own);
    chain = PyMem_Calloc(elements * width + 1, sizeof *chain);
    if (!own || !chain) {
        PyErr_NoMemory();
        goto done;
    }
    const int32_t *names = b[NAME_SUMS].buf, *words = b[WORD_SUMS].buf;
    for (Py_ssize_t e = 0; e < elements; e++) {
        const int32_t *name = names + ((int64_t *)b[NAMES_OF].buf)[e] * width;
        const int16_t *tag = (int16_t *)b[TAG_VECTORS].buf + ((int64_t *)b[TAGS_OF].buf)[e] * width;
        int64_t parent = ((int64_t *)b[PARENTS].buf)[e];
        for (Py_ssize_t k = 0; k < width; k++) {
            own[e * width + k] = name[k] + tag[k];
            uint32_t above = parent < 0 ? 0 : (uint32_t)chain[parent * width + k]; /* a sum over any depth, modulo 2^32 */
            chain[e * width + k] = (int32_t)(above + (uint32_t)own[e * width + k]);
        }
    }
    int16_t *into = b[INPUTS].buf;
    for (Py_ssize_t i = 0; i < n; i++) {
        const int64_t *ancestors = (int64_t *)b[ANCESTORS_OF].buf + i * ANCESTORS;
        const int32_t *inline_name = names + ((int64_t *)b[INLINE_OF].buf)[i] * width;
        for (Py_ssize_t k = 0; k < n_numbers; k++) *into++ = (int16_t)((int64_t *)b[NUMBERS].buf)[k * n + i];
        for (int level = 0; level < OWN_ANCESTORS; level++)
            for (Py_ssize_t k = 0; k < width; k++) *into++ = (int16_t)own[ancestors[level] * width + k];
        for (Py_ssize_t k = 0; k < width; k++) *into++ = clipped(chain[ancestors[0] * width + k], limit);
        for (Py_ssize_t k = 0; k < width; k++) *into++ = clipped(inline_name[k], limit / 2);
        for (Py_ssize_t k = 0; k < width; k++) *into++ = clipped(words[i * width + k], limit);
    }
    result = Py_NewRef(Py_None);
done:
    PyMem_Free(own);
    PyMem_Free(chain);
    for (int i = 0; i < N_INPUT_BUFFERS; i++)
        if (b[i].obj) PyBuffer_Release(&b[i]);
    return result;
}

static PyMethodDef methods[] = {
    {"fill_inputs", fill_inputs, METH_VARARGS, "fill_inputs(sizes, limit, blocks, elements, vectors, inputs): see block_network.pyi"},
    {"score_blocks", score_blocks, METH_VARARGS, "score_blocks(sizes, page, network, scores): see block_network.pyi"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "block_network", "Scores of the blocks of a page.", -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_block_network(void) { return PyModule_Create(&module); }
