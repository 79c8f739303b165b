// Recurrent layers from the first token to the last and back: the part of a layer that no large
// matrix product can do. One thread. build.py compiles it, native.py calls it.
//
// T tokens, B rows, H units (a multiple of the lanes), G gates. Rows lie as [T, B, ...] and end
// after their own lengths; what lies behind is written as 0. The product of a step, h' U, is done in
// tiles of some rows times one or more vectors of units of every gate, whose sums stay in registers
// until the cell's equations have used them.

#include <type_traits>
#include <vector>

#include "vectors.h"

extern "C" struct Scan {
    int64_t T, B, H;
    const int64_t* lengths;  // [B]
    int64_t reverse;         // read each row from its end
    const void* weights;     // as `_pack_forward` and `_pack_backward` lay them out
    const void* bias;        // [H] wide: what `Gru` and `Goru` say
    const void *h0, *c0;     // [B, H] stored, wide: the state before the first token
    void* x;                 // [T, B, x_stride]: in G * H what comes in; after forward, the gates
    void* y;                 // [T, B, y_stride]: in H the states
    void* side;              // [T, B, H]: LSTM's c (wide); GRU's and GORU's q, Elman's new h (stored)
    int64_t x_stride, y_stride;
    const void *zone_h, *zone_c;  // [T, B, zone_stride]: in H how much a unit keeps; both or none
    int64_t zone_stride;
    // backward only
    const void* dy;  // [T, B, dy_stride]
    void* dx;        // [T, B, dx_stride]: gradient of what came in
    void* dq;        // [T, B, H]: GRU and GORU, gradient of q
    void *dh, *dc;   // [B, H] wide: in, gradient of the last state (dh 0); out, of the first
    int64_t dy_stride, dx_stride;
};

namespace {

// The rows that have a token at a step; a last one twice, so that blocks of rows may overshoot.
struct Step {
    struct Row {
        long b, here, before;  // number of the row; t * B + b of this token and of the one before
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

// What a cell's equations see: one vector of units of one row at one step.
template <class S> struct At {
    using A = Wide<S>;
    using V = Vec<S>;
    const Scan& s;
    const Step::Row& row;
    bool first;
    long unit;

    S* gate(int g) const { return (S*)s.x + row.here * s.x_stride + g * s.H + unit; }
    S* dgate(int g) const { return (S*)s.dx + row.here * s.dx_stride + g * s.H + unit; }
    S* state() const { return (S*)s.y + row.here * s.y_stride + unit; }
    template <class X> X* side() const { return (X*)s.side + row.here * s.H + unit; }
    S* dq() const { return (S*)s.dq + row.here * s.H + unit; }
    A* dh() const { return (A*)s.dh + row.b * s.H + unit; }
    A* dc() const { return (A*)s.dc + row.b * s.H + unit; }
    V bias() const { return load((const A*)s.bias + unit); }
    V before() const {  // h'
        return load(first ? (const S*)s.h0 + row.b * s.H + unit
                          : (const S*)s.y + row.before * s.y_stride + unit);
    }
    V cell_before() const {  // c'
        return load((first ? (const A*)s.c0 + row.b * s.H : (const A*)s.side + row.before * s.H) +
                    unit);
    }
    V gradient() const {  // of h: from above and from the step after
        return load((const S*)s.dy + row.here * s.dy_stride + unit) + load(dh());
    }
    // Zoneout (Krueger et al. 2017): of h and c some is kept as it was.
    bool zoned() const { return s.zone_h; }
    V kept(const void* zone) const {
        return load((const S*)zone + row.here * s.zone_stride + unit);
    }
    void put_state(V h) const {
        store(state(), zoned() ? h + kept(s.zone_h) * (before() - h) : h);
    }
    void put_cell(V c) const {
        store(side<A>(), zoned() ? c + kept(s.zone_c) * (cell_before() - c) : c);
    }
    // The part of h's gradient that passes the cell by; what is left in dh is the new state's.
    V pass_by(V& dh) const {
        if (!zoned()) return V{};
        V by = dh * kept(s.zone_h);
        dh -= by;
        return by;
    }
};

// Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; gates i, f, g, o.
//   c = f c' + i g,  h = o tanh(c)
struct Lstm {
    static constexpr int gates = 4, split = 4;

    template <class S> static void start(const At<S>& at, Vec<S>* a) {
        for (int g = 0; g < 4; g++) a[g] = load(at.gate(g));
    }
    template <class S> static void forward(const At<S>& at, const Vec<S>* a) {
        using V = Vec<S>;
        V i = sigmoid(a[0]), f = sigmoid(a[1]), g = tangent(a[2]), o = sigmoid(a[3]);
        V c = f * at.cell_before() + i * g;
        store(at.gate(0), i), store(at.gate(1), f), store(at.gate(2), g), store(at.gate(3), o);
        at.put_cell(c);
        at.put_state(o * tangent(c));
    }
    template <class S> static void backward(const At<S>& at) {
        using V = Vec<S>;
        V i = load(at.gate(0)), f = load(at.gate(1)), g = load(at.gate(2)), o = load(at.gate(3));
        V c = at.zoned() ? f * at.cell_before() + i * g : load(at.template side<Wide<S>>());
        V tanh_c = tangent(c), dh = at.gradient(), by = at.pass_by(dh);
        V carried = load(at.dc()), keeps = at.zoned() ? carried * at.kept(at.s.zone_c) : V{};
        V dc = carried - keeps + dh * o * (1 - tanh_c * tanh_c);
        store(at.dgate(0), dc * g * i * (1 - i));
        store(at.dgate(1), dc * at.cell_before() * f * (1 - f));
        store(at.dgate(2), dc * i * (1 - g * g));
        store(at.dgate(3), dh * tanh_c * o * (1 - o));
        store(at.dc(), dc * f + keeps);
        store(at.dh(), by);
    }
};

// Two gates r, z and a candidate n of r q, where q = h' U_n + b is kept apart from its input.
//   n = f(x_n + r q),  h = (1 - z) n + z h'
template <class Candidate> struct Gated {
    static constexpr int gates = 3, split = 2;  // dq, not the third gate, goes back through U_n

    template <class S> static void start(const At<S>& at, Vec<S>* a) {
        a[0] = load(at.gate(0)), a[1] = load(at.gate(1)), a[2] = Candidate::start(at);
    }
    template <class S> static void forward(const At<S>& at, const Vec<S>* a) {
        using V = Vec<S>;
        V r = sigmoid(a[0]), z = sigmoid(a[1]), q = a[2];
        V n = Candidate::value(at, load(at.gate(2)) + r * q);
        store(at.gate(0), r), store(at.gate(1), z), store(at.gate(2), n);
        store(at.template side<S>(), q);
        at.put_state(n + z * (at.before() - n));
    }
    template <class S> static void backward(const At<S>& at) {
        using V = Vec<S>;
        V r = load(at.gate(0)), z = load(at.gate(1)), n = load(at.gate(2));
        V q = load(at.template side<S>());
        V dh = at.gradient(), by = at.pass_by(dh);
        V da = dh * (1 - z) * Candidate::slope(at, n);
        store(at.dgate(0), da * q * r * (1 - r));
        store(at.dgate(1), dh * (at.before() - n) * z * (1 - z));
        store(at.dgate(2), da);
        store(at.dq(), da * r);
        store(at.dh(), dh * z + by);
    }
};

// Cho et al. 2014, with the reset after the product as in cuDNN; the bias is that of U_n.
struct Tanh {
    template <class S> static Vec<S> start(const At<S>& at) { return at.bias(); }
    template <class S> static Vec<S> value(const At<S>&, Vec<S> x) { return tangent(x); }
    template <class S> static Vec<S> slope(const At<S>&, Vec<S> n) { return 1 - n * n; }
};

// Jing et al. 2017: U_n is orthogonal; the bias is that of modReLU,
//   sign(x) max(0, |x| + 0.001 + b)
struct ModRelu {
    template <class S> static Vec<S> start(const At<S>&) { return Vec<S>{}; }
    template <class S> static Vec<S> value(const At<S>& at, Vec<S> x) {
        Vec<S> zero{}, size = (x < 0 ? -x : x) + at.bias() + Wide<S>(1e-3);
        size = size < 0 ? zero : size;
        return x < 0 ? -size : x == 0 ? zero : size;
    }
    template <class S> static Vec<S> slope(const At<S>&, Vec<S> n) {
        return n == 0 ? Vec<S>{} : Vec<S>{} + 1;
    }
};

// Elman 1990: h = f(x + h' U), f either tanh or max(0, .).
template <bool relu> struct Elman {
    static constexpr int gates = 1, split = 1;

    template <class S> static void start(const At<S>& at, Vec<S>* a) { a[0] = load(at.gate(0)); }
    template <class S> static void forward(const At<S>& at, const Vec<S>* a) {
        Vec<S> h = relu ? (a[0] < 0 ? Vec<S>{} : a[0]) : tangent(a[0]);
        if (at.zoned()) store(at.template side<S>(), h);
        at.put_state(h);
    }
    template <class S> static void backward(const At<S>& at) {
        Vec<S> dh = at.gradient(), by = at.pass_by(dh);
        Vec<S> h = load(at.zoned() ? at.template side<S>() : at.state());
        Vec<S> slope = relu ? (h > 0 ? Vec<S>{} + 1 : Vec<S>{}) : 1 - h * h;
        store(at.dgate(0), dh * slope);
        store(at.dh(), by);
    }
};

// f(first row, constant R) over all rows: R at a time, then two at a time.
template <int N, class F> void in_blocks(long rows, F f) {
    constexpr int R = REGISTERS / N > 8 ? 8 : REGISTERS / N;
    long i = 0;
    for (; i + R <= rows; i += R) f(i, std::integral_constant<int, R>{});
    for (; i < rows; i += 2) f(i, std::integral_constant<int, 2>{});
}

template <class S> void zero_padding(const Scan& s, void* values, long stride, long width) {
    for (long b = 0; b < s.B; b++)
        for (long t = s.lengths[b]; t < s.T; t++)
            std::memset((S*)values + (t * s.B + b) * stride, 0, width * sizeof(S));
}

// M vectors of units of each gate are a tile.
template <class Cell, class S, int M> void forward(const Scan& s) {
    constexpr int G = Cell::gates, N = G * M, L = LANES<S>;
    std::vector<const S*> before;
    for (long number = 0; number < s.T; number++) {
        Step step(s, number);
        before.clear();
        for (auto& row : step.rows)
            before.push_back(step.first ? (const S*)s.h0 + row.b * s.H
                                        : (const S*)s.y + row.before * s.y_stride);
        for (long unit = 0; unit < s.H; unit += M * L) {
            const S* tile = (const S*)s.weights + unit * G * s.H;
            in_blocks<N>(step.size, [&](long i, auto R) {
                Vec<S> acc[R][N];
                for (int r = 0; r < R; r++)
                    for (int m = 0; m < M; m++)
                        Cell::start(At<S>{s, step.rows[i + r], step.first, unit + m * L},
                                    acc[r] + m * G);
                add_product<S, R, N>(&before[i], tile, s.H, acc);
                for (int r = 0; r < R && i + r < step.size; r++)
                    for (int m = 0; m < M; m++)
                        Cell::forward(At<S>{s, step.rows[i + r], step.first, unit + m * L},
                                      acc[r] + m * G);
            });
        }
    }
    zero_padding<S>(s, s.y, s.y_stride, s.H);
}

template <class Cell, class S, int M> void backward(const Scan& s) {
    constexpr int G = Cell::gates, L = LANES<S>;
    using A = Wide<S>;
    std::vector<const S*> through, apart;  // gradients that go back through U
    for (long number = s.T - 1; number >= 0; number--) {
        Step step(s, number);
        through.clear(), apart.clear();
        for (auto& row : step.rows) {
            through.push_back((const S*)s.dx + row.here * s.dx_stride);
            apart.push_back((const S*)s.dq + row.here * s.H);
        }
        for (long i = 0; i < step.size; i++)
            for (long unit = 0; unit < s.H; unit += L)
                Cell::backward(At<S>{s, step.rows[i], step.first, unit});
        for (long unit = 0; unit < s.H; unit += M * L) {
            const S* tile = (const S*)s.weights + unit * G * s.H;
            in_blocks<M>(step.size, [&](long i, auto R) {
                Vec<S> acc[R][M];
                auto dh = [&](int r, int m) {
                    return (A*)s.dh + step.rows[i + r].b * s.H + unit + m * L;
                };
                for (int r = 0; r < R; r++)
                    for (int m = 0; m < M; m++) acc[r][m] = load(dh(r, m));
                add_product<S, R, M>(&through[i], tile, Cell::split * s.H, acc);
                if constexpr (Cell::split < G)
                    add_product<S, R, M>(&apart[i], tile + Cell::split * s.H * M * L, s.H, acc);
                for (int r = 0; r < R && i + r < step.size; r++)
                    for (int m = 0; m < M; m++) store(dh(r, m), acc[r][m]);
            });
        }
    }
    zero_padding<S>(s, s.dx, s.dx_stride, G * s.H);
    if (Cell::split < G) zero_padding<S>(s, s.dq, s.H, s.H);
}

template <class Cell, class S> void run(const Scan& s, bool back) {
    constexpr int wide_tile = Cell::gates == 1 ? 4 : 1;
    bool fours = s.H % (4 * LANES<S>) == 0;
    if (back)
        fours ? backward<Cell, S, 4>(s) : backward<Cell, S, 1>(s);
    else
        fours ? forward<Cell, S, wide_tile>(s) : forward<Cell, S, 1>(s);
}

template <class S> int choose(int cell, const Scan& s, bool back) {
    switch (cell) {
        case 0: run<Lstm, S>(s, back); return 0;
        case 1: run<Gated<Tanh>, S>(s, back); return 0;
        case 2: run<Gated<ModRelu>, S>(s, back); return 0;
        case 3: run<Elman<false>, S>(s, back); return 0;
        case 4: run<Elman<true>, S>(s, back); return 0;
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

// type: 0 double, 1 float, 2 bf16. Returns 0, or 1 for what is not built here.
extern "C" int scan(int cell, int type, int back, const Scan* s) {
    switch (type) {
        case 0: return choose<double>(cell, *s, back);
        case 1: return choose<float>(cell, *s, back);
#ifdef __AVX512BF16__
        case 2: return choose<bf16>(cell, *s, back);
#endif
    }
    return 1;
}
