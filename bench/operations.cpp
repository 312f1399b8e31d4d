// Every primitive operation at the medium model's shapes, on the cpu backend and, for the ratio, on reference.
//
//   bench_operations [--benchmark_filter=cpu] ...
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <fathom/backend/cpu.hpp>
#include <fathom/backend/reference.hpp>
#include <fathom/core/memory.hpp>
#include <fathom/core/random.hpp>
#include <fathom/train/adamw.hpp>

#include "burst.hpp"

namespace {

using fathom::index;
using fathom::matrix;
namespace epilogue = fathom::epilogue;

// medium: 2 sequences of 256 tokens, width 768, 12 heads, vocabulary 50257
constexpr index B = 2, T = 256, M = B * T, E = 768, F = 4 * E, H = 12, V = 50257, D = 3;
constexpr index parameters = 8 << 20;  // larger than the caches

/// An owning matrix of random numbers.
class numbers {
 public:
  numbers(index rows, index columns, float scale = 1)
      : memory_(static_cast<std::size_t>(rows * columns) * sizeof(float)),
        view(reinterpret_cast<float*>(memory_.bytes().data()), rows, columns) {
    fathom::random draw(7, static_cast<std::uint64_t>(rows * 1000003 + columns));
    for (index i = 0; i < rows * columns; ++i) view.data[i] = scale * static_cast<float>(2 * draw.uniform() - 1);
  }

 private:
  fathom::buffer memory_;

 public:
  matrix<float> view;
};

double burst = 0;

/// Registers `name` on both backends. make(), or make(backend), returns a callable f(on); flops and bytes are per call.
template <class Make>
void operation(const std::string& name, double flops, double bytes, const Make& make) {
  const auto add = [&]<class Backend>(Backend, const char* backend) {
    benchmark::RegisterBenchmark((name + "/" + backend).c_str(), [=](benchmark::State& state) {
      auto f = [&] {
        if constexpr (requires { make(Backend()); })
          return make(Backend());
        else
          return make();
      }();
      for (auto _ : state) typename Backend::executor{}.run([&](const auto& on) { f(on); });
      count(state, flops, bytes, burst);
    })->UseRealTime()->Unit(benchmark::kMicrosecond);
  };
  add(fathom::backend::cpu<float>{}, "cpu");
  add(fathom::backend::reference<float>{}, "reference");
}

void product(const std::string& name, index rows, index in, index out) {
  const double flops = 2.0 * static_cast<double>(rows * in * out);
  const double bytes = 4.0 * static_cast<double>(rows * in + in * out + rows * out);
  operation("matmul " + name, flops, bytes, [=] {
    return [x = std::make_shared<numbers>(rows, in), w = std::make_shared<numbers>(in, out), y = std::make_shared<numbers>(rows, out),
            b = std::make_shared<numbers>(1, out)](const auto& on) {
      matmul(on, x->view, matrix<const float>(w->view), y->view, epilogue::bias<float>{b->view.data});
    };
  });
  operation("matmul_nt " + name, flops, bytes, [=] {
    return [x = std::make_shared<numbers>(rows, in), w = std::make_shared<numbers>(out, in), y = std::make_shared<numbers>(rows, out)](
               const auto& on) { matmul_nt(on, x->view, matrix<const float>(w->view), y->view, epilogue::none{}); };
  });
  operation("matmul_tn " + name, flops, bytes, [=] {
    return [x = std::make_shared<numbers>(rows, in), y = std::make_shared<numbers>(rows, out), g = std::make_shared<numbers>(in, out)](
               const auto& on) { matmul_tn(on, x->view, y->view, g->view); };
  });
}

void attention(const std::string& name, index rows_per_position) {
  const index R = rows_per_position;
  const fathom::attention_shape shape{B, T, H, E / H, R, T * R};
  const double flops = 2.0 * E * static_cast<double>(B * R * T * (T + 1));  // scores and weighted sums
  const double bytes = 4.0 * static_cast<double>(2 * M * E + 2 * M * R * E);
  struct data {
    numbers q{M, E}, kv, out{M, E}, lse{M, H}, dout{M, E}, delta{M, H}, dq{M, E}, dkv;
    explicit data(index rows) : kv(rows, 2 * E), dkv(rows, 2 * E) {}
  };
  const auto forward = [=](const auto& on, data& d) {
    attention_forward(on, shape, d.q.view, d.kv.view.columns_from(0, E), d.kv.view.columns_from(E, E), d.out.view, d.lse.view.data);
  };
  operation("attention_forward " + name, flops, bytes, [=] {
    return [=, d = std::make_shared<data>(M * R)](const auto& on) { forward(on, *d); };
  });
  operation("attention_backward " + name, 2 * flops, 2 * bytes, [=] {
    auto d = std::make_shared<data>(M * R);
    fathom::backend::cpu<float>::executor{}.run([&](const auto& on) { forward(on, *d); });
    return [=](const auto& on) {
      attention_backward(on, shape, d->q.view, d->kv.view.columns_from(0, E), d->kv.view.columns_from(E, E), d->out.view,
                         d->lse.view.data, d->dout.view, d->delta.view.data, d->dq.view, d->dkv.view.columns_from(0, E),
                         d->dkv.view.columns_from(E, E));
    };
  });
}

/// A product of one row with weights packed as P, as in decoding; with plain weights on reference.
template <class P>
void packed_product(const std::string& type) {
  operation("matmul packed as " + type + " 1x768x3072", 2.0 * E * F, static_cast<double>(sizeof(P)) * E * F,
            []<class Backend>(Backend) {
              using matrix_type = typename Backend::template packed<P>::template matrix<E, F>;
              auto plain = fathom::make<fathom::tensor<float, E, F>>();
              fathom::random draw(13, 0);
              for (float& w : plain->span()) w = static_cast<float>(draw.normal());
              std::shared_ptr<matrix_type> w = fathom::make<matrix_type>();
              Backend::template pack_tensor<P>(*plain, *w);
              return [w, x = std::make_shared<numbers>(1, E), y = std::make_shared<numbers>(1, F),
                      b = std::make_shared<numbers>(1, F)](const auto& on) {
                matmul(on, x->view, *w, y->view, epilogue::bias<float>{b->view.data});
              };
            });
}

void decoding() {
  packed_product<float>("float");
  packed_product<fathom::bf16>("bf16");
  packed_product<std::int8_t>("int8");
  // One query and a full cache.
  constexpr index context = 1024;
  static constexpr index start = context - 1;
  const fathom::attention_shape one{1, 1, H, E / H, 1, context, &start};
  operation("attention_forward 1 query, 1024 keys, 12 heads of 64", 4.0 * E * context, 8.0 * E * context, [=] {
    return [=, q = std::make_shared<numbers>(1, E), kv = std::make_shared<numbers>(context, 2 * E),
            y = std::make_shared<numbers>(1, E)](const auto& on) {
      attention_forward(on, one, q->view, kv->view.columns_from(0, E), kv->view.columns_from(E, E), y->view, nullptr);
    };
  });
  operation("attention_append 2x256x1536", 0, 16.0 * M * E, [] {
    return [kv = std::make_shared<numbers>(M, 2 * E), memory = std::make_shared<numbers>(M, 2 * E)](const auto& on) {
      attention_append(on, fathom::extent{B, T, nullptr, T}, kv->view, memory->view, 1, 0);
    };
  });
  const fathom::attention_shape map{1, T, H, E / H, D, T * D};
  operation("attention_weights 1x256, 12 heads of 64, 3 depths", 1.0 * E * D * T * (T + 1), 4.0 * H * T * T * D, [=] {
    return [=, q = std::make_shared<numbers>(T, E), k = std::make_shared<numbers>(T * D, E),
            lse = std::make_shared<numbers>(T, H), w = std::make_shared<numbers>(H * T, T * D)](const auto& on) {
      attention_weights(on, map, q->view, k->view, lse->view.data, w->view);
    };
  });
}

void register_all() {
  product("512x768x2304", M, E, 3 * E);
  product("512x768x768", M, E, E);
  product("512x768x3072", M, E, F);
  product("512x3072x768", M, F, E);
  operation("matmul gelu 512x768x3072", 2.0 * M * E * F, 4.0 * (M * E + E * F + 2 * M * F), [] {
    return [x = std::make_shared<numbers>(M, E), w = std::make_shared<numbers>(E, F), y = std::make_shared<numbers>(M, F),
            z = std::make_shared<numbers>(M, F), b = std::make_shared<numbers>(1, F)](const auto& on) {
      matmul(on, x->view, matrix<const float>(w->view), y->view, epilogue::activated{fathom::gelu_tanh{}, static_cast<const float*>(b->view.data), z->view});
    };
  });
  attention("self 2x256, 12 heads of 64", 1);
  attention("shortcut 2x256, 12 heads of 64, 3 depths", D);

  decoding();

  const double row_bytes = 4.0 * M * E;
  operation("layer_norm_forward 512x768", 0, 2 * row_bytes, [] {
    return [x = std::make_shared<numbers>(M, E), y = std::make_shared<numbers>(M, E), p = std::make_shared<numbers>(4, std::max(M, E))](
               const auto& on) {
      layer_norm_forward(on, x->view, p->view.row(0), p->view.row(1), y->view, p->view.row(2), p->view.row(3));
    };
  });
  operation("layer_norm_backward 512x768", 0, 4 * row_bytes, [] {
    return [x = std::make_shared<numbers>(M, E), dy = std::make_shared<numbers>(M, E), dx = std::make_shared<numbers>(M, E),
            p = std::make_shared<numbers>(5, std::max(M, E))](const auto& on) {
      layer_norm_backward(on, x->view, p->view.row(0), p->view.row(1), p->view.row(2), dy->view, dx->view, p->view.row(3), p->view.row(4));
    };
  });
  operation("gelu_forward 512x3072", 0, 8.0 * M * F, [] {
    return [x = std::make_shared<numbers>(M, F), y = std::make_shared<numbers>(M, F)](const auto& on) { gelu_forward(on, x->view, y->view); };
  });
  operation("gelu_backward 512x3072", 0, 12.0 * M * F, [] {
    return [x = std::make_shared<numbers>(M, F), dy = std::make_shared<numbers>(M, F), dx = std::make_shared<numbers>(M, F)](
               const auto& on) { gelu_backward(on, x->view, dy->view, dx->view); };
  });
  operation("column_sums 512x3072", 0, 4.0 * M * F, [] {
    return [x = std::make_shared<numbers>(M, F), g = std::make_shared<numbers>(1, F)](const auto& on) { column_sums(on, x->view, g->view.data); };
  });
  operation("copy 512x768", 0, 2 * row_bytes, [] {
    return [x = std::make_shared<numbers>(M, E), y = std::make_shared<numbers>(M, E)](const auto& on) { copy(on, x->view, y->view); };
  });
  operation("add 512x768", 0, 3 * row_bytes, [] {
    return [x = std::make_shared<numbers>(M, E), y = std::make_shared<numbers>(M, E)](const auto& on) { add(on, x->view, y->view); };
  });
  operation("zero 512x768", 0, row_bytes, [] {
    return [y = std::make_shared<numbers>(M, E)](const auto& on) { zero(on, y->view); };
  });

  const auto tokens = [] {
    auto ids = std::make_shared<std::vector<fathom::token>>(M);
    fathom::random draw(11, 0);
    for (auto& id : *ids) id = static_cast<fathom::token>(draw.below(V));
    return ids;
  };
  struct tables {
    fathom::owned<fathom::tensor<float, V, E>> wte = fathom::make<fathom::tensor<float, V, E>>();
    fathom::owned<fathom::tensor<float, T, E>> wpe = fathom::make<fathom::tensor<float, T, E>>();
  };
  operation("embedding_forward 512x768", 0, 3 * row_bytes, [=] {
    return [ids = tokens(), t = std::make_shared<tables>(), x = std::make_shared<numbers>(M, E)](const auto& on) {
      embedding_forward(on, fathom::extent{B, T}, *ids, *t->wte, x->view);
      positions_forward(on, fathom::extent{B, T}, *t->wpe, x->view);
    };
  });
  operation("embedding_backward 512x768", 0, 5 * row_bytes, [=] {
    return [ids = tokens(), t = std::make_shared<tables>(), x = std::make_shared<numbers>(M, E)](const auto& on) {
      embedding_backward(on, fathom::extent{B, T}, *ids, x->view, *t->wte);
      positions_backward(on, fathom::extent{B, T}, x->view, *t->wpe);
    };
  });
  operation("cross_entropy_forward 512x50257", 0, 4.0 * M * V, [=] {
    return [ids = tokens(), x = std::make_shared<numbers>(M, V), l = std::make_shared<numbers>(2, M)](const auto& on) {
      cross_entropy_forward(on, x->view, *ids, l->view.row(0), l->view.row(1));
    };
  });
  operation("cross_entropy_backward 512x50257", 0, 8.0 * M * V, [=] {
    // The gradient overwrites the logits, and its values are small enough to serve as the next logits.
    return [ids = tokens(), x = std::make_shared<numbers>(M, V), l = std::make_shared<numbers>(1, M, 0.f)](const auto& on) {
      cross_entropy_backward(on, x->view, *ids, l->view.data, 0.1f);
    };
  });
  operation("AdamW's update 8M", 0, 4.0 * 8 * parameters, [] {
    struct state {
      numbers w{1, parameters}, g{1, parameters}, m{1, parameters}, v{1, parameters};
      state() {
        for (index i = 0; i < parameters; ++i) v.view.data[i] *= v.view.data[i];
      }
    };
    const fathom::gradient_step<fathom::adamw_rule::formula<float>, float> step{fathom::adamw_rule::formula_of<float>({}, {1e-3, 0.1, 1}), 1};
    return [=, s = std::make_shared<state>()](const auto& on) {
      update(on, step, parameters, s->w.view.data, s->g.view.data, s->m.view.data, s->v.view.data);
    };
  });
  operation("sum_of_squares 8M", 0, 4.0 * parameters, [] {
    return [g = std::make_shared<numbers>(1, parameters)](const auto& on) {
      benchmark::DoNotOptimize(sum_of_squares(on, g->view.data, parameters));
    };
  });
}

}  // namespace

int main(int argc, char** argv) {
  burst = fma_burst();
  benchmark::AddCustomContext("FMA burst, GFLOP/s", std::to_string(burst / 1e9));
  register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
