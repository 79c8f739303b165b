// Forward and backward loops over the tokens of one layer in one direction, on one thread: the part
// of a recurrent layer that is not a large matrix product. build.py compiles it, native.py calls it.
//
// Shapes: T tokens of the longest row, B rows, H hidden units (a multiple of the lanes), G gates.
// h' and c' are the states of the previous step, U the recurrent weights.
//
// Tensors are stored as [T, B, ...]. Values past a row's length are written as 0. The product of a
// step, h' U, is computed in tiles: a block of rows times one or more vectors of units of each
// gate. The sums stay in registers until the cell's equations have used them.
//
// "Wide" values are float, or double if the layer is in double; "stored" values have the type of
// the layer.

#include <type_traits>
#include <vector>

#include "vectors.h"

extern "C" struct Scan {
    int64_t T, B, H;
    const int64_t* lengths;  // [B]
    int64_t reverse;         // whether to read each row from its end
    const void* weights;     // packed by `_pack_forward` or `_pack_backward` in native.py
    const void* bias;        // [H] wide: the candidate's bias, see `Tanh` and `ModRelu`
    const void *h0, *c0;     // [B, H] stored, wide: the state before the first token
    void* gates;             // [T, B, G * H], with a stride of gates_stride between rows: the
                             // input's part of the gates, overwritten by forward with the gates
    void* y;                 // [T, B, H], stride y_stride: the hidden states
    void* aux;               // [T, B, H]: LSTM's c (wide); q of GRU and GORU (stored); for Elman
                             // with zoneout, the new h before zoneout (stored)
    int64_t gates_stride, y_stride;
    const void *zone_h, *zone_c;  // [T, B, H], stride zone_stride: the shares of h and c that
                                  // zoneout keeps; null without zoneout
    int64_t zone_stride;
    // Backward only:
    const void* dy;  // [T, B, H], stride dy_stride
    void* d_gates;   // [T, B, G * H], stride d_gates_stride: gradient of the input's part of gates
    void* dq;        // [T, B, H]: gradient of q, for GRU and GORU
    void *dh, *dc;   // [B, H] wide: the gradient of the last state (dh: 0), overwritten with that
                     // of the initial state
    int64_t dy_stride, d_gates_stride;
};

namespace {

// The rows that have a token at a step. The last row is listed twice, so that a block of two rows
// may reach one row too far.
struct Step {
    struct Row {
        long b, token, previous;  // the row; t * B + b of this token and of the previous one
    };
    std::vector<Row> rows;
    long size;
    bool first;

    Step(const Scan& s, long step) : size(0), first(step == 0) {
        for (long b = 0; b < s.B; b++) {
            if (step >= s.lengths[b]) continue;
            long t = s.reverse ? s.lengths[b] - 1 - step : step;
            rows.push_back({b, t * s.B + b, (s.reverse ? t + 1 : t - 1) * s.B + b});
        }
        size = rows.size();
        if (size) rows.push_back(rows.back());
    }
};

// One vector of units of one row at one step: all that a cell's equations read and write.
template <class S> struct At {
    using A = Wide<S>;
    using V = Vec<S>;
    const Scan& s;
    const Step::Row& row;
    bool first;
    long unit;

    S* gate(int g) const { return (S*)s.gates + row.token * s.gates_stride + g * s.H + unit; }
    S* dgate(int g) const { return (S*)s.d_gates + row.token * s.d_gates_stride + g * s.H + unit; }
    S* state() const { return (S*)s.y + row.token * s.y_stride + unit; }
    template <class X> X* aux() const { return (X*)s.aux + row.token * s.H + unit; }
    S* dq() const { return (S*)s.dq + row.token * s.H + unit; }
    A* dh() const { return (A*)s.dh + row.b * s.H + unit; }
    A* dc() const { return (A*)s.dc + row.b * s.H + unit; }
    V bias() const { return load((const A*)s.bias + unit); }
    V previous_h() const {  // h'
        return load(first ? (const S*)s.h0 + row.b * s.H + unit
                          : (const S*)s.y + row.previous * s.y_stride + unit);
    }
    V previous_c() const {  // c'
        return load((first ? (const A*)s.c0 + row.b * s.H : (const A*)s.aux + row.previous * s.H) +
                    unit);
    }
    V h_gradient() const {  // from the layer above and from the next step
        return load((const S*)s.dy + row.token * s.dy_stride + unit) + load(dh());
    }
    // Zoneout (Krueger et al. 2017): a share of h and c keeps its previous value.
    bool has_zoneout() const { return s.zone_h; }
    V keep_share(const void* zone) const {
        return load((const S*)zone + row.token * s.zone_stride + unit);
    }
    void store_h(V h) const {
        store(state(), has_zoneout() ? h + keep_share(s.zone_h) * (previous_h() - h) : h);
    }
    void store_c(V c) const {
        store(aux<A>(), has_zoneout() ? c + keep_share(s.zone_c) * (previous_c() - c) : c);
    }
    // Split the gradient of h: returns the share that zoneout passes to the previous step, and
    // leaves in dh the gradient of the new state.
    V take_kept_gradient(V& dh) const {
        if (!has_zoneout()) return V{};
        V kept = dh * keep_share(s.zone_h);
        dh -= kept;
        return kept;
    }
};

// LSTM (Hochreiter and Schmidhuber 1997), forget gate by Gers et al. 2000. Gates i, f, g, o:
//   c = f c' + i g,  h = o tanh(c)
struct Lstm {
    static constexpr int gates = 4;
    static constexpr int direct_gates = 4;  // leading gates whose gradients are those of h' U

    template <class S> static void start(const At<S>& at, Vec<S>* a) {
        for (int g = 0; g < 4; g++) a[g] = load(at.gate(g));
    }
    template <class S> static void forward(const At<S>& at, const Vec<S>* a) {
        using V = Vec<S>;
        V i = sigmoid(a[0]), f = sigmoid(a[1]), g = tangent(a[2]), o = sigmoid(a[3]);
        V c = f * at.previous_c() + i * g;
        store(at.gate(0), i), store(at.gate(1), f), store(at.gate(2), g), store(at.gate(3), o);
        at.store_c(c);
        at.store_h(o * tangent(c));
    }
    template <class S> static void backward(const At<S>& at) {
        using V = Vec<S>;
        V i = load(at.gate(0)), f = load(at.gate(1)), g = load(at.gate(2)), o = load(at.gate(3));
        V c = at.has_zoneout() ? f * at.previous_c() + i * g : load(at.template aux<Wide<S>>());
        V tanh_c = tangent(c), dh = at.h_gradient(), kept_dh = at.take_kept_gradient(dh);
        V next_dc = load(at.dc());  // from the next step
        V kept_dc = at.has_zoneout() ? next_dc * at.keep_share(at.s.zone_c) : V{};
        V dc = next_dc - kept_dc + dh * o * (1 - tanh_c * tanh_c);
        store(at.dgate(0), dc * g * i * (1 - i));
        store(at.dgate(1), dc * at.previous_c() * f * (1 - f));
        store(at.dgate(2), dc * i * (1 - g * g));
        store(at.dgate(3), dh * tanh_c * o * (1 - o));
        store(at.dc(), dc * f + kept_dc);
        store(at.dh(), kept_dh);
    }
};

// Two gates r and z, and a candidate n. Its product q = h' U_n + b is not added to its input x_n at
// once, because r multiplies q first.
//   n = f(x_n + r q),  h = (1 - z) n + z h'
template <class Candidate> struct Gated {
    static constexpr int gates = 3;
    static constexpr int direct_gates = 2;  // the gradient of h' U_n is dq instead

    template <class S> static void start(const At<S>& at, Vec<S>* a) {
        a[0] = load(at.gate(0)), a[1] = load(at.gate(1)), a[2] = Candidate::start(at);
    }
    template <class S> static void forward(const At<S>& at, const Vec<S>* a) {
        using V = Vec<S>;
        V r = sigmoid(a[0]), z = sigmoid(a[1]), q = a[2];
        V n = Candidate::value(at, load(at.gate(2)) + r * q);
        store(at.gate(0), r), store(at.gate(1), z), store(at.gate(2), n);
        store(at.template aux<S>(), q);
        at.store_h(n + z * (at.previous_h() - n));
    }
    template <class S> static void backward(const At<S>& at) {
        using V = Vec<S>;
        V r = load(at.gate(0)), z = load(at.gate(1)), n = load(at.gate(2));
        V q = load(at.template aux<S>());
        V dh = at.h_gradient(), kept_dh = at.take_kept_gradient(dh);
        V da = dh * (1 - z) * Candidate::slope(at, n);
        store(at.dgate(0), da * q * r * (1 - r));
        store(at.dgate(1), dh * (at.previous_h() - n) * z * (1 - z));
        store(at.dgate(2), da);
        store(at.dq(), da * r);
        store(at.dh(), dh * z + kept_dh);
    }
};

// GRU (Cho et al. 2014), with the reset after the product as in cuDNN. The bias b is part of q.
struct Tanh {
    template <class S> static Vec<S> start(const At<S>& at) { return at.bias(); }
    template <class S> static Vec<S> value(const At<S>&, Vec<S> x) { return tangent(x); }
    template <class S> static Vec<S> slope(const At<S>&, Vec<S> n) { return 1 - n * n; }
};

// GORU (Jing et al. 2017), where U_n is orthogonal. The bias b is part of modReLU, not of q:
//   modReLU(x) = sign(x) max(0, |x| + 0.001 + b)
struct ModRelu {
    template <class S> static Vec<S> start(const At<S>&) { return Vec<S>{}; }
    template <class S> static Vec<S> value(const At<S>& at, Vec<S> x) {
        Vec<S> zero{}, magnitude = (x < 0 ? -x : x) + at.bias() + Wide<S>(1e-3);
        magnitude = magnitude < 0 ? zero : magnitude;
        return x < 0 ? -magnitude : x == 0 ? zero : magnitude;
    }
    template <class S> static Vec<S> slope(const At<S>&, Vec<S> n) {
        return n == 0 ? Vec<S>{} : Vec<S>{} + 1;
    }
};

// Elman 1990: h = f(x + h' U), where f is tanh or ReLU.
template <bool relu> struct Elman {
    static constexpr int gates = 1, direct_gates = 1;

    template <class S> static void start(const At<S>& at, Vec<S>* a) { a[0] = load(at.gate(0)); }
    template <class S> static void forward(const At<S>& at, const Vec<S>* a) {
        Vec<S> h = relu ? (a[0] < 0 ? Vec<S>{} : a[0]) : tangent(a[0]);
        if (at.has_zoneout()) store(at.template aux<S>(), h);
        at.store_h(h);
    }
    template <class S> static void backward(const At<S>& at) {
        Vec<S> dh = at.h_gradient(), kept_dh = at.take_kept_gradient(dh);
        Vec<S> h = load(at.has_zoneout() ? at.template aux<S>() : at.state());
        Vec<S> slope = relu ? (h > 0 ? Vec<S>{} + 1 : Vec<S>{}) : 1 - h * h;
        store(at.dgate(0), dh * slope);
        store(at.dh(), kept_dh);
    }
};

// Call f(first row, R) for blocks of R rows that cover all rows: blocks that fill the
// registers first, then blocks of two. R is a compile-time constant.
template <int N, class F> void for_each_block(long rows, F f) {
    constexpr int R = REGISTERS / N > 8 ? 8 : REGISTERS / N;
    long i = 0;
    for (; i + R <= rows; i += R) f(i, std::integral_constant<int, R>{});
    for (; i < rows; i += 2) f(i, std::integral_constant<int, 2>{});
}

// Zero the values past each row's length.
template <class S> void zero_padding(const Scan& s, void* values, long stride, long width) {
    for (long b = 0; b < s.B; b++)
        for (long t = s.lengths[b]; t < s.T; t++)
            std::memset((S*)values + (t * s.B + b) * stride, 0, width * sizeof(S));
}

// A tile has M vectors of units of each gate.
template <class Cell, class S, int M> void forward(const Scan& s) {
    constexpr int G = Cell::gates, N = G * M, L = LANES<S>;
    std::vector<const S*> previous;
    for (long number = 0; number < s.T; number++) {
        Step step(s, number);
        previous.clear();
        for (auto& row : step.rows)
            previous.push_back(step.first ? (const S*)s.h0 + row.b * s.H
                                          : (const S*)s.y + row.previous * s.y_stride);
        for (long unit = 0; unit < s.H; unit += M * L) {
            const S* tile = (const S*)s.weights + unit * G * s.H;
            for_each_block<N>(step.size, [&](long i, auto R) {
                Vec<S> acc[R][N];
                for (int r = 0; r < R; r++)
                    for (int m = 0; m < M; m++)
                        Cell::start(At<S>{s, step.rows[i + r], step.first, unit + m * L},
                                    acc[r] + m * G);
                add_product<S, R, N>(&previous[i], tile, s.H, acc);
                for (int r = 0; r < R && i + r < step.size; r++)
                    for (int m = 0; m < M; m++)
                        Cell::forward(At<S>{s, step.rows[i + r], step.first, unit + m * L},
                                      acc[r] + m * G);
            });
        }
    }
    zero_padding<S>(s, s.y, s.y_stride, s.H);
}

// A tile has M vectors of units of the state.
template <class Cell, class S, int M> void backward(const Scan& s) {
    constexpr int G = Cell::gates, L = LANES<S>;
    using A = Wide<S>;
    std::vector<const S*> d_gates, dq;  // the rows' gradients that are multiplied by U
    for (long number = s.T - 1; number >= 0; number--) {
        Step step(s, number);
        d_gates.clear(), dq.clear();
        for (auto& row : step.rows) {
            d_gates.push_back((const S*)s.d_gates + row.token * s.d_gates_stride);
            dq.push_back((const S*)s.dq + row.token * s.H);
        }
        for (long i = 0; i < step.size; i++)
            for (long unit = 0; unit < s.H; unit += L)
                Cell::backward(At<S>{s, step.rows[i], step.first, unit});
        for (long unit = 0; unit < s.H; unit += M * L) {
            const S* tile = (const S*)s.weights + unit * G * s.H;
            for_each_block<M>(step.size, [&](long i, auto R) {
                Vec<S> acc[R][M];
                auto dh = [&](int r, int m) {
                    return (A*)s.dh + step.rows[i + r].b * s.H + unit + m * L;
                };
                for (int r = 0; r < R; r++)
                    for (int m = 0; m < M; m++) acc[r][m] = load(dh(r, m));
                add_product<S, R, M>(&d_gates[i], tile, Cell::direct_gates * s.H, acc);
                if constexpr (Cell::direct_gates < G)
                    add_product<S, R, M>(&dq[i], tile + Cell::direct_gates * s.H * M * L, s.H, acc);
                for (int r = 0; r < R && i + r < step.size; r++)
                    for (int m = 0; m < M; m++) store(dh(r, m), acc[r][m]);
            });
        }
    }
    zero_padding<S>(s, s.d_gates, s.d_gates_stride, G * s.H);
    if (Cell::direct_gates < G) zero_padding<S>(s, s.dq, s.H, s.H);
}

template <class Cell, class S> void run(const Scan& s, bool is_backward) {
    constexpr int forward_vectors = Cell::gates == 1 ? 4 : 1;
    bool four_vectors = s.H % (4 * LANES<S>) == 0;
    if (is_backward)
        four_vectors ? backward<Cell, S, 4>(s) : backward<Cell, S, 1>(s);
    else
        four_vectors ? forward<Cell, S, forward_vectors>(s) : forward<Cell, S, 1>(s);
}

template <class S> int dispatch(int cell, const Scan& s, bool is_backward) {
    switch (cell) {
        case 0: run<Lstm, S>(s, is_backward); return 0;
        case 1: run<Gated<Tanh>, S>(s, is_backward); return 0;
        case 2: run<Gated<ModRelu>, S>(s, is_backward); return 0;
        case 3: run<Elman<false>, S>(s, is_backward); return 0;
        case 4: run<Elman<true>, S>(s, is_backward); return 0;
    }
    return 1;
}

}  // namespace

extern "C" int vector_bytes() { return BYTES; }

extern "C" int multiplies_bf16() {
#ifdef __AVX512BF16__
    return 1;
#else
    return 0;
#endif
}

// type: 0 double, 1 float, 2 bf16. Returns 0, or 1 if this build has no loop for the cell and type.
extern "C" int scan(int cell, int type, int is_backward, const Scan* s) {
    switch (type) {
        case 0: return dispatch<double>(cell, *s, is_backward);
        case 1: return dispatch<float>(cell, *s, is_backward);
#ifdef __AVX512BF16__
        case 2: return dispatch<bf16>(cell, *s, is_backward);
#endif
    }
    return 1;
}
