// The operations of the CUDA backend except attention, against the reference backend in double, over odd shapes.
#include "cuda_operands.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <fathom/generate/sampler.hpp>
#include <fathom/train/adamw.hpp>

#include "fails_with.hpp"

namespace fathom::test {

namespace {
struct matrix_shape {
  index rows, columns;
};
constexpr matrix_shape matrix_shapes[] = {{1, 1},   {1, 600}, {2, 3},   {7, 8},    {9, 7},
                                          {31, 33}, {64, 63}, {100, 1}, {65, 129}, {300, 40}};

/// An object in the GPU's memory.
template <class T>
struct on_gpu {
  using memory = fathom::cuda::memory;
  T value;
};

/// |x|, for bounds: a sum of n numbers is off by n eps times the sum of their magnitudes at most.
const auto magnitude = [](double x) { return std::abs(x); };
}  // namespace

TEST_CASE("copy, add, zero, column_sums on the GPU", "[cuda]") {
  random from(5, 0);
  std::size_t turn = 0;
  for (const matrix_shape& shape : matrix_shapes) {
    const index rows = shape.rows, columns = shape.columns;
    ++turn;
    INFO("[" << rows << ", " << columns << "]");
    operand x(rows, columns, layouts[turn % 3]);
    x.fill(from);
    operand y(rows, columns, layouts[turn / 3 % 3]);
    run([&](const auto& on) { copy(on, x.view(), y.view()); }, {&y});
    check_close("copy", y, x.widened(), [](index, index) { return 1e-300; });
    operand z(rows, columns, layouts[turn / 2 % 3]);
    run([&](const auto& on) { zero(on, z.view()); }, {&z});
    check_close("zero", z, x.widened([](double) { return 0.0; }), [](index, index) { return 1e-300; });
    operand sum(rows, columns, layouts[turn / 3 % 3]);
    sum.fill(from);
    std::vector<double> expected = sum.widened(), other = x.widened();
    for (std::size_t n = 0; n < expected.size(); ++n)
      expected[n] = static_cast<double>(static_cast<float>(expected[n]) + static_cast<float>(other[n]));
    run([&](const auto& on) { add(on, x.view(), sum.view()); }, {&sum});
    check_close("add", sum, expected, [](index, index) { return 1e-300; });

    operand g(1, columns);
    g.fill(from);
    std::vector<double> total = g.widened(), bound = g.widened(magnitude), magnitudes = x.widened(magnitude);
    column_sums(oracle, view(other, rows, columns), total.data());
    column_sums(oracle, view(magnitudes, rows, columns), bound.data());
    run([&](const auto& on) { column_sums(on, x.view(), g.data()); }, {&g});
    check_close("column_sums", g, total,
                [&](index, index j) { return static_cast<double>(rows + 2) * eps * bound[static_cast<std::size_t>(j)]; });
  }
}

TEST_CASE("add_scaled, row_dots and softmax on the GPU", "[cuda]") {
  random from(6, 0);
  std::size_t turn = 0;
  for (const matrix_shape& shape : matrix_shapes) {
    const index rows = shape.rows, columns = shape.columns;
    ++turn;
    INFO("[" << rows << ", " << columns << "]");
    operand x(rows, columns, layouts[turn % 3]), z(rows, columns, layouts[turn / 2 % 3]), w(rows, 1, layouts[turn / 3 % 3]);
    x.fill(from, 3);
    z.fill(from);
    w.fill(from);
    std::vector<double> xs = x.widened(), zs = z.widened(), ws = w.widened(), expected = zs;
    for (const bool is_one : {false, true}) {
      const matrix<double> factors(ws.data(), rows, 1, is_one ? 0 : 1);
      add_scaled(oracle, factors, view(xs, rows, columns), view(zs, rows, columns), view(expected, rows, columns));
      operand y(rows, columns, layouts[turn / 3 % 3]);
      const matrix<float> on_gpu = is_one ? matrix<float>(w.data(), rows, 1, 0) : w.view();
      run([&](const auto& on) { add_scaled(on, on_gpu, x.view(), z.view(), y.view()); }, {&y});
      check_close("add_scaled", y, expected, [](index, index) { return 64 * eps; });

      const matrix<double> others(zs.data(), rows, columns, is_one ? 0 : columns);
      std::vector<double> dots(static_cast<std::size_t>(rows));
      row_dots(oracle, view(xs, rows, columns), others, view(dots, rows, 1));
      operand d(rows, 1, layouts[turn % 3]);
      const matrix<float> other = is_one ? matrix<float>(z.data(), rows, columns, 0) : z.view();
      run([&](const auto& on) { row_dots(on, x.view(), other, d.view()); }, {&d});
      check_close("row_dots", d, dots, [&](index, index) { return 40 * static_cast<double>(columns + 2) * eps; });
    }
    std::vector<double> weights = xs, slopes = zs;
    softmax_forward(oracle, view(xs, rows, columns), view(weights, rows, columns));
    softmax_backward(oracle, view(weights, rows, columns), view(zs, rows, columns), view(slopes, rows, columns));
    operand y(rows, columns, layouts[turn / 3 % 3]);
    run([&](const auto& on) { softmax_forward(on, x.view(), y.view()); }, {&y});
    check_close("softmax_forward", y, weights, [&](index, index) { return static_cast<double>(rows + 32) * eps; });
    run([&](const auto& on) { softmax_backward(on, y.view(), z.view(), z.view()); }, {&z});
    check_close("softmax_backward", z, slopes, [&](index, index) { return 16 * static_cast<double>(rows + 32) * eps; });
  }
}

TEST_CASE("GELU on the GPU", "[cuda]") {
  random from(6, 0);
  std::size_t turn = 0;
  for (const matrix_shape& shape : matrix_shapes) {
    const index rows = shape.rows, columns = shape.columns;
    ++turn;
    INFO("[" << rows << ", " << columns << "]");
    operand x(rows, columns, layouts[turn % 3]), dy(rows, columns, layouts[turn / 2 % 3]);
    x.fill(from, turn % 2 ? 1 : 6);
    dy.fill(from);
    constexpr double special[] = {0, -0.0, 1e-8, 5, -5, 12, -12, 100, -100, 1e4, -1e4, 1e-30, -1e-30};
    for (index j = 0; j < std::min<index>(columns, std::ssize(special)); ++j) x.at(rows - 1, j) = static_cast<float>(special[j]);
    x.upload();
    operand y(rows, columns, layouts[turn / 3 % 3]), dx(rows, columns);
    std::vector<double> wide = x.widened(), dwide = dy.widened(), value(wide.size()), slope(wide.size());
    gelu_forward(oracle, view(wide, rows, columns), view(value, rows, columns));
    gelu_backward(oracle, view(wide, rows, columns), view(dwide, rows, columns), view(slope, rows, columns));
    run([&](const auto& on) { gelu_forward(on, x.view(), y.view()); }, {&y});
    check_close("gelu", y, value, [&](index i, index j) {  // e^-u is off by |u| eps
      return 40 * eps * (std::abs(value[static_cast<std::size_t>(i * columns + j)]) + 1e-7) + 1e-35;
    });
    run([&](const auto& on) { gelu_backward(on, x.view(), dy.view(), dx.view()); }, {&dx});
    check_close("gelu_backward", dx, slope,
                [&](index i, index j) { return 100 * eps * std::abs(static_cast<double>(dy.at(i, j))) + 1e-35; });
  }
}

/// x / (1 + |x|): an activation that the library does not have.
struct softsign {
  template <class V>
  struct at {
    V value, derivative;
    FATHOM_ANYWHERE explicit at(const V& x) {
      const V size = fathom::where_positive(x, x, -x), inverse = V(1) / (V(1) + size);
      value = x * inverse;
      derivative = inverse * inverse;
    }
  };
};

TEST_CASE("activations and gates of a program's own on the GPU", "[cuda]") {
  random from(8, 0);
  for (const matrix_shape& shape : matrix_shapes) {
    const index rows = shape.rows, columns = shape.columns;
    INFO("[" << rows << ", " << columns << "]");
    operand a(rows, columns), b(rows, columns), dy(rows, columns), y(rows, columns), da(rows, columns), db(rows, columns);
    for (operand* const x : {&a, &b, &dy}) x->fill(from);
    std::vector<double> wa = a.widened(), wb = b.widened(), wdy = dy.widened(), wy(wa.size()), wda(wa.size()), wdb(wa.size());
    const auto m = [&](std::vector<double>& v) { return view(v, rows, columns); };
    const auto near = [](index, index) { return 1e-5; };
    gate_forward(oracle, softsign{}, m(wa), m(wb), m(wy));
    run([&](const auto& on) { gate_forward(on, softsign{}, a.view(), b.view(), y.view()); }, {&y});
    check_close("gate_forward", y, wy, near);
    gate_backward(oracle, softsign{}, m(wa), m(wb), m(wdy), m(wda), m(wdb));
    run([&](const auto& on) { gate_backward(on, softsign{}, a.view(), b.view(), dy.view(), da.view(), db.view()); }, {&da, &db});
    check_close("gate_backward, a", da, wda, near);
    check_close("gate_backward, b", db, wdb, near);
  }

  // Epilogues that cuBLASLt lacks: many rows, and few.
  for (const index rows : {3, 40}) {
    const index depth = 16, columns = 24;
    operand x(rows, depth), w(columns, depth), bias(1, columns), before(rows, columns), y(rows, columns), d(rows, columns);
    for (operand* const o : {&x, &w, &bias}) o->fill(from);
    std::vector<double> wx = x.widened(), ww = w.widened(), wbias = bias.widened(), wbefore(static_cast<std::size_t>(rows * columns)),
                        wy = wbefore, wd = wbefore;
    matmul_nt(oracle, view(wx, rows, depth), view(ww, columns, depth), view(wy, rows, columns),
              fathom::epilogue::activated{softsign{}, static_cast<const double*>(wbias.data()), view(wbefore, rows, columns)});
    matmul_nt(oracle, view(wx, rows, depth), view(ww, columns, depth), view(wd, rows, columns),
              fathom::epilogue::activation_gradient{softsign{}, view(wbefore, rows, columns)});
    run([&](const auto& on) {
      matmul_nt(on, x.view(), w.view(), y.view(), fathom::epilogue::activated{softsign{}, static_cast<const float*>(bias.data()), before.view()});
      matmul_nt(on, x.view(), w.view(), d.view(), fathom::epilogue::activation_gradient{softsign{}, before.view()});
    }, {&y, &before, &d});
    const auto near = [](index, index) { return 2e-5; };
    INFO(rows << " rows");
    check_close("activated", y, wy, near);
    check_close("its argument", before, wbefore, near);
    check_close("its gradient", d, wd, near);
  }
}

TEST_CASE("layer_norm on the GPU", "[cuda]") {
  random from(7, 0);
  std::size_t turn = 0;
  for (const matrix_shape& shape : matrix_shapes) {
    const index rows = shape.rows, columns = shape.columns;
    ++turn;
    INFO("[" << rows << ", " << columns << "]");
    operand x(rows, columns, layouts[turn % 3]), gain(1, columns), bias(1, columns), dy(rows, columns, layouts[turn / 3 % 3]);
    x.fill(from);
    for (operand* const o : {&gain, &bias, &dy}) o->fill(from);
    operand y(rows, columns, layouts[turn / 2 % 3]), mean(1, rows), rstd(1, rows);
    std::vector<double> wx = x.widened(), wg = gain.widened(), wb = bias.widened(), wy(wx.size()),
                        wm(static_cast<std::size_t>(rows)), wr = wm;
    const double epsilon = turn % 2 ? 1e-5 : 1e-2;
    layer_norm_forward(oracle, view(wx, rows, columns), wg.data(), wb.data(), view(wy, rows, columns), wm.data(), wr.data(), epsilon);
    run(
        [&](const auto& on) {
          layer_norm_forward(on, x.view(), gain.data(), bias.data(), y.view(), mean.data(), rstd.data(), epsilon);
        },
        {&y, &mean, &rstd});
    // Numbers of size 1; a row of few or equal numbers is scaled up by up to 300.
    const auto factor = [&](index i) { return static_cast<double>(columns + 8) * eps * (1 + wr[static_cast<std::size_t>(i)]); };
    check_close("mean", mean, wm, [&](index, index) { return static_cast<double>(columns + 2) * eps * 4; });
    check_close("rstd", rstd, wr, [&](index, index i) { return factor(i) * wr[static_cast<std::size_t>(i)] * 4; });
    check_close("y", y, wy, [&](index i, index j) { return factor(i) * 8 * (std::abs(wg[static_cast<std::size_t>(j)]) + 1); });

    operand dx(rows, columns, layouts[turn / 2 % 3]), dgain(1, columns), dbias(1, columns);
    for (operand* const o : {&dx, &dgain, &dbias}) o->fill(from);
    std::vector<double> wdy = dy.widened(), wdx = dx.widened(), wdg = dgain.widened(), wdb = dbias.widened();
    layer_norm_backward(oracle, view(wx, rows, columns), wg.data(), wm.data(), wr.data(), view(wdy, rows, columns),
                        view(wdx, rows, columns), wdg.data(), wdb.data());
    run(
        [&](const auto& on) {
          layer_norm_backward(on, x.view(), gain.data(), mean.data(), rstd.data(), dy.view(), dx.view(), dgain.data(),
                              dbias.data());
        },
        {&dx, &dgain, &dbias});
    check_close("dx", dx, wdx, [&](index i, index) { return factor(i) * 64 * (1 + wr[static_cast<std::size_t>(i)]); });
    check_close("dgain", dgain, wdg, [&](index, index) {
      return static_cast<double>(rows + columns + 8) * eps * 32 * std::sqrt(static_cast<double>(rows));
    });
    check_close("dbias", dbias, wdb,
                [&](index, index) { return static_cast<double>(rows + 8) * eps * 8 * std::sqrt(static_cast<double>(rows)); });
  }
}

TEST_CASE("rms_norm on the GPU", "[cuda]") {
  struct shape_of_heads {
    index rows, heads, width;
  };
  constexpr shape_of_heads shapes[] = {{1, 1, 1},   {1, 1, 600}, {2, 1, 3},  {9, 1, 7},   {31, 1, 33}, {300, 1, 40}, {1, 12, 64},
                                       {33, 2, 32}, {140, 4, 64}, {7, 5, 48}, {65, 3, 80}, {9, 3, 256}, {50, 7, 17}};
  random from(17, 0);
  std::size_t turn = 0;
  for (const shape_of_heads& shape : shapes) {
    const index rows = shape.rows, heads = shape.heads, width = shape.width, columns = heads * width;
    ++turn;
    INFO("[" << rows << ", " << heads << " * " << width << "]");
    const double offset = turn % 2 ? 1 : 0, epsilon = turn % 3 ? 1e-6 : 1e-2;
    operand x(rows, columns, layouts[turn % 3]), gain(1, width), dy(rows, columns, layouts[turn / 3 % 3]);
    for (operand* const o : {&x, &gain, &dy}) o->fill(from);
    operand y(rows, columns, layouts[turn / 2 % 3]), rstd(1, rows * heads);
    std::vector<double> wx = x.widened(), wg = gain.widened(), wy(wx.size()), wr(static_cast<std::size_t>(rows * heads));
    rms_norm_forward(oracle, view(wx, rows, columns), wg.data(), view(wy, rows, columns), wr.data(), epsilon, offset, heads);
    run([&](const auto& on) { rms_norm_forward(on, x.view(), gain.data(), y.view(), rstd.data(), epsilon, offset, heads); },
        {&y, &rstd});
    // A sum of squares has no cancellation.
    const double relative = static_cast<double>(width + 8) * eps;
    const auto rstd_at = [&](index i, index j) { return wr[static_cast<std::size_t>(i * heads + j / width)]; };
    check_close("rstd", rstd, wr, [&](index, index i) { return relative * wr[static_cast<std::size_t>(i)]; });
    check_close("y", y, wy, [&](index i, index j) {
      return relative * std::abs(wx[static_cast<std::size_t>(i * columns + j)]) * rstd_at(i, j) *
             (std::abs(wg[static_cast<std::size_t>(j % width)]) + offset);
    });
    operand in_place(rows, columns, layouts[turn % 3]);
    in_place.block() = x.block();
    run([&](const auto& on) { rms_norm_forward(on, in_place.view(), gain.data(), in_place.view(), rstd.data(), epsilon, offset, heads); },
        {&in_place, &rstd});
    check_close("y in the place of x", in_place, y.widened(), [](index, index) { return 1e-30; });

    // Backward adds, replaces, and replaces dy.
    for (const int how : {0, 1, 2}) {
      INFO("backward " << how);
      const bool adds = how == 0;
      operand dx(rows, columns, layouts[(how == 2 ? turn / 3 : turn / 2) % 3]), dgain(1, width);
      if (adds) dx.fill(from);
      if (how == 2) dx.block() = dy.block();
      dgain.fill(from);
      std::vector<double> wdy = dy.widened(), wdx = dx.widened(), wdg = dgain.widened();
      rms_norm_backward(oracle, view(wx, rows, columns), wg.data(), wr.data(), view(wdy, rows, columns), view(wdx, rows, columns),
                        wdg.data(), offset, heads, adds);
      run(
          [&](const auto& on) {
            rms_norm_backward(on, x.view(), gain.data(), rstd.data(), how == 2 ? dx.view() : dy.view(), dx.view(), dgain.data(), offset,
                              heads, adds);
          },
          {&dx, &dgain});
      // |dy| and |gain| are below 5; |n| is sqrt(width) at most.
      check_close("dx", dx, wdx, [&](index i, index j) {
        return relative * (rstd_at(i, j) * 25 * (1 + static_cast<double>(width)) + (adds ? 5 : 0));
      });
      check_close("dgain", dgain, wdg, [&](index, index) {
        const double count = static_cast<double>(rows * heads);
        return (count + static_cast<double>(width) + 8) * eps * (5 * std::sqrt(static_cast<double>(width) * count) + 5);
      });
    }
  }
}

TEST_CASE("scale_heads and dot_heads on the GPU", "[cuda]") {
  random from(29, 0);
  std::size_t turn = 0;
  for (const index rows : {1, 7, 300})
    for (const index heads : {1, 3})
      for (const index width : {1, 16, 33}) {
        ++turn;
        INFO(rows << " rows of " << heads << " heads of " << width);
        const index columns = heads * width;
        operand x(rows, columns, layouts[turn % 3]), y(rows, columns, layouts[turn / 3 % 3]), gain(rows, heads, layouts[turn / 2 % 3]), of_all(1, heads);
        for (operand* m : {&x, &y, &gain, &of_all}) m->fill(from);
        operand scaled(rows, columns, layouts[turn / 2 % 3]), same(rows, columns), dots(rows, heads);
        run([&](const auto& on) { scale_heads(on, x.view(), gain.view(), scaled.view()); }, {&scaled});
        run([&](const auto& on) { scale_heads(on, x.view(), matrix<const float>(of_all.data(), rows, heads, 0), same.view()); }, {&same});
        run([&](const auto& on) { dot_heads(on, x.view(), y.view(), dots.view()); }, {&dots});
        std::vector<double> a = x.widened(), b = y.widened(), g = gain.widened(), all = of_all.widened();
        std::vector<double> expected(a.size()), other(a.size()), sums(static_cast<std::size_t>(rows * heads)), bound(sums.size());
        scale_heads(oracle, view(a, rows, columns), view(g, rows, heads), view(expected, rows, columns));
        scale_heads(oracle, view(a, rows, columns), matrix<const double>(all.data(), rows, heads, 0), view(other, rows, columns));
        dot_heads(oracle, view(a, rows, columns), view(b, rows, columns), view(sums, rows, heads));
        a = x.widened(magnitude), b = y.widened(magnitude);
        dot_heads(oracle, view(a, rows, columns), view(b, rows, columns), view(bound, rows, heads));
        check_close("scale_heads", scaled, expected, [&](index i, index j) { return eps * std::abs(view(expected, rows, columns)(i, j)); });
        check_close("scale_heads of all rows", same, other, [&](index i, index j) { return eps * std::abs(view(other, rows, columns)(i, j)); });
        check_close("dot_heads", dots, sums, [&](index i, index h) { return static_cast<double>(width + 2) * eps * view(bound, rows, heads)(i, h); });
      }
}

TEST_CASE("cross_entropy on the GPU", "[cuda]") {
  random from(8, 0);
  std::size_t turn = 0;
  for (const matrix_shape& shape : {matrix_shape{1, 2}, {3, 61}, {17, 256}, {5, 700}, {2, 5000}, {40, 33}}) {
    const index rows = shape.rows, columns = shape.columns;
    ++turn;
    INFO("[" << rows << ", " << columns << "]");
    operand logits(rows, columns, layouts[turn % 3]);
    logits.fill(from, turn % 2 ? 1 : 30);
    std::vector<token> which;
    for (index i = 0; i < rows; ++i) which.push_back(i % 5 == 3 ? -1 : static_cast<token>(from.below(columns)));
    const numbers<token> targets(which);
    operand losses(1, rows), lse(1, rows);
    std::vector<double> wide = logits.widened(), wl(static_cast<std::size_t>(rows)), we = wl;
    cross_entropy_forward(oracle, view(wide, rows, columns), which, wl.data(), we.data());
    run([&](const auto& on) { cross_entropy_forward(on, logits.view(), targets.span(), losses.data(), lse.data()); },
        {&losses, &lse});
    const auto bound = [&](index, index i) { return 8 * eps * (std::abs(we[static_cast<std::size_t>(i)]) + 120); };
    check_close("lse", lse, we, bound);
    check_close("losses", losses, wl, bound);
    numbers<double> total(1);
    executor<float>().run([&](const auto& on) { sum(on, losses.data(), rows, total.data()); });
    total.download();
    double expected = 0;
    for (index i = 0; i < rows; ++i) expected += static_cast<double>(losses.at(0, i));
    CHECK(std::abs(total.host[0] - expected) <= 1e-12 * std::abs(expected));

    const double cap = turn % 4 < 2 ? 0 : 200;  // above all logits
    cross_entropy_backward(oracle, view(wide, rows, columns), which, we.data(), 0.25, cap);
    run([&](const auto& on) { cross_entropy_backward(on, logits.view(), targets.span(), lse.data(), 0.25f, cap); }, {&logits});
    check_close("dlogits", logits, wide, [&](index, index) { return 0.25 * 200 * eps; });
  }
}

TEST_CASE("embedding on the GPU", "[cuda]") {
  constexpr index vocab = 37, context = 70, width = 19;
  random from(9, 0);
  struct both {
    tensor<float, vocab, width> wte;
    tensor<float, context, width> wpe;
  };
  using tables = on_gpu<both>;
  for (const auto& shape : {std::array<index, 3>{1, 1, 37}, {3, 7, 37}, {2, 70, 3}, {5, 33, 1}, {1, 64, 2}}) {
    const index sequences = shape[0], length = shape[1], few = shape[2];
    INFO(sequences << " sequences of " << length << " tokens of " << few);
    const extent e{sequences, length};
    std::vector<token> which;
    for (index i = 0; i < e.rows(); ++i) which.push_back(static_cast<token>(few - 1 - from.below(few)));
    const numbers<token> tokens(which);
    auto weights = make<tables>(), gradients = make<tables>();
    std::vector<float> values(sizeof(tables) / sizeof(float));
    for (float& v : values) v = static_cast<float>(from.normal());
    cuda::memory::copy(weights.get(), values.data(), sizeof(tables));
    const auto wte_at = [&](const std::vector<float>& v, index i, index j) {
      return static_cast<double>(v[static_cast<std::size_t>(i * width + j)]);
    };
    const index offset = reinterpret_cast<const float*>(&weights->value.wpe) - reinterpret_cast<const float*>(weights.get());
    const auto wpe_at = [&](const std::vector<float>& v, index i, index j) {
      return static_cast<double>(v[static_cast<std::size_t>(offset + i * width + j)]);
    };

    operand x(e.rows(), width, layout::columns);
    run(
        [&](const auto& on) {
          embedding_forward(on, e, tokens.span(), weights->value.wte, x.view());
          positions_forward(on, e, weights->value.wpe, x.view());
        },
        {&x});
    std::vector<double> expected;
    for (index i = 0; i < e.rows(); ++i)
      for (index j = 0; j < width; ++j)
        expected.push_back(wte_at(values, which[static_cast<std::size_t>(i)], j) + wpe_at(values, i % length, j));
    check_close("x", x, expected, [](index, index) { return 8 * eps; });

    operand dx(e.rows(), width, layout::rows);
    dx.fill(from);
    std::vector<float> first;
    for (const int seed : {0, 3, 6}) {
#if defined(FATHOM_CUDA_EMULATION)
      emulation::set_seed(static_cast<std::uint64_t>(seed));
#endif
      cuda::memory::copy(gradients.get(), values.data(), sizeof(tables));  // they are added to
      executor<float>().run([&](const auto& on) {
        embedding_backward(on, e, tokens.span(), dx.view(), gradients->value.wte);
        positions_backward(on, e, dx.view(), gradients->value.wpe);
      });
      std::vector<float> found(values.size());
      cuda::memory::copy(found.data(), gradients.get(), sizeof(tables));
      if (seed == 0) first = found;
      CHECK(std::memcmp(first.data(), found.data(), sizeof(tables)) == 0);
    }
    double worst = 0;
    for (index j = 0; j < width; ++j) {
      for (index v = 0; v < vocab; ++v) {
        double total = wte_at(values, v, j);
        for (index i = 0; i < e.rows(); ++i)
          if (which[static_cast<std::size_t>(i)] == v) total += static_cast<double>(dx.at(i, j));
        worst = std::max(worst, std::abs(total - wte_at(first, v, j)));
      }
      for (index p = 0; p < context; ++p) {
        double total = wpe_at(values, p, j);
        for (index s = 0; s < sequences && p < length; ++s) total += static_cast<double>(dx.at(s * length + p, j));
        worst = std::max(worst, std::abs(total - wpe_at(first, p, j)));
      }
    }
    CHECK(worst <= static_cast<double>(e.rows()) * 4 * eps);
  }
}

TEST_CASE("rotary positions on the GPU", "[cuda]") {
  random from(11, 0);
  for (const bool adjacent : {false, true})
    for (const index pairs : {1, 3, 4})
      for (const bool decoding : {false, true}) {
        const index head_width = 8, heads = 3, rows_per_position = decoding ? 1 : 2;
        const numbers<index> starts(std::vector<index>{5, 0, 300});
        const std::vector<index> on_host = starts.host;
        const extent e{3, decoding ? 1 : 7, decoding ? starts.data() : nullptr, 400};
        extent same = e;
        if (decoding) same.starts = on_host.data();
        rotation r{.pairs = pairs, .are_adjacent = adjacent, .scale = 1.5f};
        for (index i = 0; i < pairs; ++i) r.frequencies[i] = std::pow(0.3f, static_cast<float>(i));
        operand x(e.rows() * rows_per_position, heads * head_width, layout::columns);
        x.fill(from);
        for (const int sign : {1, -1}) {
          std::vector<double> expected = x.widened();
          rotate(oracle, same, r, view(expected, x.rows, x.columns), head_width, rows_per_position, sign);
          run([&](const auto& on) { rotate(on, e, r, x.view(), head_width, rows_per_position, sign); }, {&x});
          check_close("x", x, expected, [](index, index) { return 64 * eps; });
        }
      }
}

TEST_CASE("update, with the step of AdamW, and sum_of_squares on the GPU", "[cuda]") {
  random from(10, 0);
  for (const index count : {1, 63, 1025, 20000}) {
    operand w(1, count), g(1, count), m(1, count), v(1, count);
    for (operand* const o : {&w, &g, &m, &v}) o->fill(from);
    for (index i = 0; i < count; ++i) v.at(0, i) = std::abs(v.at(0, i));
    v.upload();
    double expected = 0;
    for (const double x : g.widened()) expected += x * x;
    double found = 0;
    executor<float>().run([&](const auto& on) { found = sum_of_squares(on, g.data(), count); });
    CHECK(std::abs(found / expected - 1) < 1e-5);

    const fathom::step_settings s{1e-2, 0.1, 3};
    const fathom::gradient_step<fathom::adamw_rule::formula<float>, float> f{fathom::adamw_rule::formula_of<float>({}, s), 0.5f};
    const fathom::gradient_step<fathom::adamw_rule::formula<double>, double> wide{fathom::adamw_rule::formula_of<double>({}, s), 0.5};
    std::vector<double> ww = w.widened(), wg = g.widened(), wm = m.widened(), wv = v.widened();
    update(oracle, wide, count, ww.data(), wg.data(), wm.data(), wv.data());
    run([&](const auto& on) { update(on, f, count, w.data(), g.data(), m.data(), v.data()); }, {&w, &g, &m, &v});
    check_close("w", w, ww, [&](index, index j) {
      const auto at = static_cast<std::size_t>(j);
      return 8 * eps * (std::abs(ww[at]) + 1e-2 * std::abs(wm[at]) / std::sqrt(wv[at]) * 8);
    });
    check_close("m", m, wm, [](index, index) { return 16 * eps; });
    check_close("v", v, wv, [](index, index) { return 32 * eps; });
    check_close("g", g, wg, [](index, index) { return 1e-300; });
  }
}

// ---- Products ----------------------------------------------------------------------------------------------------------

namespace {

/// An operand as a product rounds it.
template <class Compute>
double rounded(double x) {
  return std::is_same_v<Compute, bf16> ? static_cast<double>(static_cast<float>(bf16(static_cast<float>(x)))) : x;
}

struct product_shape {
  index rows, depth, columns;
};
constexpr product_shape product_shapes[] = {{1, 1, 1},   {1, 64, 40}, {3, 17, 5},  {8, 33, 24},
                                            {9, 40, 16}, {33, 7, 8},  {20, 65, 31}};

enum class kind { nn, nt, tn };

template <class Compute>
void check_products(kind which) {
  random from(11, static_cast<std::uint64_t>(which));
  std::size_t turn = 0;
  for (const product_shape& shape : product_shapes)
    for (int epilogue = 0; epilogue < (which == kind::tn ? 1 : 7); ++epilogue) {
      const index rows = shape.rows, depth = shape.depth, columns = shape.columns;
      ++turn;
      INFO("kind " << static_cast<int>(which) << ", [" << rows << ", " << depth << "] to " << columns << ", epilogue "
                   << epilogue);
      operand x(which == kind::tn ? depth : rows, which == kind::tn ? rows : depth, layouts[turn % 3]);
      operand w(which == kind::nt ? columns : depth, which == kind::nt ? depth : columns, layouts[turn / 2 % 3]);
      operand y(rows, columns, layouts[turn / 3 % 3]), b(1, columns), residual(rows, columns, layouts[turn / 4 % 3]),
          before(rows, columns, layouts[turn / 2 % 3]);
      for (operand* const o : {&x, &w, &b, &residual}) o->fill(from);
      if (epilogue == 1 || which == kind::tn) y.fill(from);
      if (epilogue == 5) before.fill(from);
      std::vector<double> wx = x.widened(rounded<Compute>), ww = w.widened(rounded<Compute>), wy = y.widened(), wb = b.widened(),
                          wr = residual.widened(), wz = before.widened();
      std::vector<double> mx = x.widened(magnitude), mw = w.widened(magnitude), sums(static_cast<std::size_t>(rows * columns));
      const auto ours = [&](const auto& on, const auto& e) {
        if (which == kind::nn) matmul(on, x.view(), w.view(), y.view(), e);
        if (which == kind::nt) matmul_nt(on, x.view(), w.view(), y.view(), e);
      };
      const auto theirs = [&](std::vector<double>& l, std::vector<double>& r, std::vector<double>& to, const auto& e) {
        const matrix<double> a = view(l, x.rows, x.columns), c = view(r, w.rows, w.columns);
        if (which == kind::nn) matmul(oracle, a, c, view(to, rows, columns), e);
        if (which == kind::nt) matmul_nt(oracle, a, c, view(to, rows, columns), e);
      };
      const matrix<double> wide_y = view(wy, rows, columns), wide_r = view(wr, rows, columns), wide_z = view(wz, rows, columns);
      std::initializer_list<operand*> results = {&y};
      const auto both = [&](const auto& mine, const auto& other) {
        theirs(wx, ww, wy, other);
        theirs(mx, mw, sums, fathom::epilogue::none{});
        if (epilogue == 4)
          run<Compute>([&](const auto& on) { ours(on, mine); }, {&y, &before});
        else
          run<Compute>([&](const auto& on) { ours(on, mine); }, results);
      };
      if (which == kind::tn) {
        matmul_tn(oracle, view(wx, depth, rows), view(ww, depth, columns), wide_y);
        matmul_tn(oracle, view(mx, depth, rows), view(mw, depth, columns), view(sums, rows, columns));
        run<Compute>([&](const auto& on) { matmul_tn(on, x.view(), w.view(), y.view()); }, results);
      } else if (epilogue == 0) {
        both(fathom::epilogue::none{}, fathom::epilogue::none{});
      } else if (epilogue == 1) {
        both(fathom::epilogue::add{y.view()}, fathom::epilogue::add{wide_y});
      } else if (epilogue == 2) {
        both(fathom::epilogue::bias{static_cast<const float*>(b.data())},
             fathom::epilogue::bias{static_cast<const double*>(wb.data())});
      } else if (epilogue == 3) {
        both(fathom::epilogue::bias_add{static_cast<const float*>(b.data()), residual.view()},
             fathom::epilogue::bias_add{static_cast<const double*>(wb.data()), wide_r});
      } else if (epilogue == 4) {
        both(fathom::epilogue::activated{fathom::gelu_tanh{}, static_cast<const float*>(b.data()), before.view()},
             fathom::epilogue::activated{fathom::gelu_tanh{}, static_cast<const double*>(wb.data()), wide_z});
      } else if (epilogue == 6) {
        both(fathom::epilogue::soft_cap<float>{2.5f}, fathom::epilogue::soft_cap<double>{2.5});
      } else {
        both(fathom::epilogue::activation_gradient{fathom::gelu_tanh{}, before.view()}, fathom::epilogue::activation_gradient{fathom::gelu_tanh{}, wide_z});
      }
      // The CUDA backend multiplies few rows in float, whatever the compute type, so the result is closer to unrounded operands.
      const bool in_float = which == kind::nt && rows <= 8;
      // With operands in bf16, cuBLASLt's GELU is the hardware's approximation.
      const double error = std::is_same_v<Compute, bf16> && in_float        ? 0x1p-7
                           : std::is_same_v<Compute, bf16> && (epilogue == 4 || epilogue == 5) ? 0x1p-9
                                                                            : static_cast<double>(depth + 8) * eps;
      const auto bound = [&](index i, index j) { return 2 * error * (sums[static_cast<std::size_t>(i * columns + j)] + 8); };
      check_close("y", y, wy, bound);
      if (epilogue == 4) check_close("before", before, wz, bound);
    }
}

}  // namespace

TEMPLATE_TEST_CASE("matrix products on the GPU", "[cuda]", float, bf16) {
#if defined(FATHOM_CUDA_EMULATION)
  const bool fuses = GENERATE(true, false);
  executor<TestType>().on->plans.clear();
  emulation::the_library().fuses = fuses;
#endif
  for (const kind which : {kind::nn, kind::nt, kind::tn}) check_products<TestType>(which);
#if defined(FATHOM_CUDA_EMULATION)
  emulation::the_library().fuses = true;
#endif
}

TEMPLATE_TEST_CASE("products with packed weights on the GPU", "[cuda]", float, bf16) {
  using P = TestType;
  constexpr index in = 72, out = 45;
  using weights = on_gpu<tensor<float, in, out>>;
  using packed_weights = on_gpu<fathom::cuda::packed_matrix<P, in, out>>;
  random from(12, 0);
  auto w = make<weights>();
  auto packed = make<packed_weights>();
  operand values(in, out);
  values.fill(from);
  cuda::memory::copy(w.get(), values.block().data(), sizeof(float) * in * out);
  backend::cuda<float>::pack_tensor<P>(w->value, packed->value);
  for (const index rows : {1, 2, 4, 7, 9, 30}) {
    INFO(rows << " rows");
    operand x(rows, in), y(rows, out, layout::columns), b(1, out);
    x.fill(from);
    b.fill(from);
    // Many rows are multiplied by cuBLASLt, in the compute type.
    std::vector<double> wx = x.widened(), ww = values.widened(rounded<P>), wy(static_cast<std::size_t>(rows * out)),
                        wb = b.widened();
    matmul(oracle, view(wx, rows, in), matrix<const double>(view(ww, in, out)), view(wy, rows, out),
           fathom::epilogue::bias{static_cast<const double*>(wb.data())});
    run(
        [&](const auto& on) {
          matmul(on, x.view(), packed->value, y.view(), fathom::epilogue::bias{static_cast<const float*>(b.data())});
        },
        {&y});
    check_close("y", y, wy, [](index, index) { return 80 * eps * in * 2; });
  }
}

TEST_CASE("sampling on the GPU draws what the sampler of the host draws", "[cuda]") {
  random from(13, 0);
  const backend::cuda<float>::executor where;
  numbers<token> next(1);
  numbers<index> length(1);
  for (const index vocab : {1, 2, 31, 700, 2500})
    for (const float temperature : {0.0f, 0.2f, 1.0f, 3.0f})
      for (const index top_k : {index{0}, index{1}, index{5}, vocab - 1, vocab + 1})
        for (const float top_p : {1.0f, 0.9f, 0.4f, 1e-6f}) {
          if (top_k < 0) continue;
          if (vocab > 31 && temperature != 1) continue;  // emulation takes its time
          if (vocab > 700 && (top_k == 1 || top_k == vocab - 1 || (top_p < 1 && top_p != 0.4f))) continue;
          const sampling how{.temperature = temperature, .top_k = top_k, .top_p = top_p, .seed = static_cast<std::uint64_t>(vocab)};
          INFO(vocab << " tokens, temperature " << temperature << ", top_k " << top_k << ", top_p " << top_p);
          sampler expected(vocab, how);
          cuda::drawing draw(vocab, how);
          for (int turn = 0; turn < 3; ++turn) {
            numbers<float> logits(vocab);
            // Unchanged; in steps, so that many are equal, including 0 and -0; most of them impossible.
            for (float& l : logits.host) l = static_cast<float>(3 * from.normal());
            if (turn > 0)
              for (float& l : logits.host) l = std::trunc(l);
            if (turn > 1)
              for (std::size_t i = 1; i < logits.host.size(); ++i)
                if (i % 5) logits.host[i] = -INFINITY;
            logits.upload();
            where.run([&](const auto& on) { draw(on, logits.span(), next.data(), length.data(), turn + 7); });
            const token found = draw.take();
            CHECK(found == expected(std::span<const float>(logits.host)));
            next.download();
            length.download();
            CHECK(next.host[0] == found);
            CHECK(length.host[0] == turn + 7);
          }
        }
}

TEST_CASE("sampling on the GPU draws no more than the first ids, and never what is impossible", "[cuda]") {
  random from(14, 0);
  const backend::cuda<float>::executor where;
  numbers<token> next(1);
  numbers<index> length(1);
  for (const float temperature : {0.0f, 1.0f, 1e30f})
    for (const index top_k : {0, 5}) {
      const sampling how{.temperature = temperature, .top_k = top_k, .seed = 4, .ids = 37};
      sampler expected(64, how);
      cuda::drawing draw(64, how);
      numbers<float> logits(64);
      for (int turn = 0; turn < 8; ++turn) {
        for (std::size_t i = 0; i < 64; ++i) logits.host[i] = i < 37 ? i % 5 ? -INFINITY : static_cast<float>(from.normal()) : 1000.0f;
        logits.host[50] = NAN;  // nobody looks
        logits.upload();
        where.run([&](const auto& on) { draw(on, logits.span(), next.data(), length.data(), 1); });
        const token found = draw.take();
        CHECK(found == expected(std::span<const float>(logits.host)));
        CHECK(found < 37);
        CHECK(found % 5 == 0);
      }
    }
}

TEST_CASE("draws on their way, dropped draws, logits that nobody can draw from", "[cuda]") {
  const backend::cuda<float>::executor where;
  numbers<token> next(1);
  numbers<index> length(1);
  numbers<float> logits(std::vector<float>(50));
  const sampling how{.seed = 3};
  cuda::drawing draw(50, how);
  sampler host(50, how);
  const auto begin = [&] { where.run([&](const auto& on) { draw(on, logits.span(), next.data(), length.data(), 1); }); };
  const auto expected = [&] { return host(std::span<const float>(logits.host)); };
  begin();
  begin();
  CHECK(fails_with(begin, "2 tokens are drawn and not taken"));
  CHECK(draw.take() == expected());
  CHECK(draw.take() == expected());
  CHECK(fails_with([&] { return draw.take(); }, "no token is drawn"));
  begin();
  begin();
  CHECK(draw.take() == expected());
  draw.drop();  // continues as if it had not been started
  begin();
  CHECK(draw.take() == expected());

  logits.host[31] = NAN;
  logits.host[40] = INFINITY;
  logits.upload();
  begin();
  CHECK(fails_with([&] { return draw.take(); }, "the logit of token 31 is infinite or not a number"));
  std::fill(logits.host.begin(), logits.host.end(), -INFINITY);
  logits.upload();
  begin();
  CHECK(fails_with([&] { return draw.take(); }, "every logit is -inf"));
  next.download();
  CHECK(next.host[0] == 0);  // a valid token, because the next pass may have started
  CHECK(fails_with([] { cuda::drawing(50, {.top_p = 0}); }, "expected a finite temperature and a top_k of at least 0"));
  CHECK(fails_with([] { cuda::drawing(50, {.temperature = INFINITY}); }, "temperature inf", "expected a finite temperature"));
  CHECK(fails_with([] { cuda::drawing(50, {.ids = 51}); }, "ids 51", "ids from 0 to the 50 tokens"));
  for (const index none : {0, -1}) CHECK(fails_with([&] { cuda::drawing(none, {}); }, "a vocabulary of " + std::to_string(none)));
  CHECK(fails_with([] { cuda::drawing(index{1} << 20, {}); }, "drawing from 1048576 tokens"));
}

}  // namespace fathom::test
