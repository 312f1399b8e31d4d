// Custom parts that lack members: one sentence names the contract, and the compiler names the member.
// says: fathom: this layer lacks a member, or has one of another type: see layer/layer.hpp
// shows: flops
// shows: backward
// says: fathom: this norm lacks a member, or has one of another type: see layer/norm.hpp
// says: fathom: this residual source lacks a member, or has one of another type: see layer/residual_source.hpp
// says: fathom: this stage lacks a member, or has one of another type: see layer/stage.hpp
// shows: extend
// says: fathom: this is no part of an architecture: it needs `static constexpr auto options = fathom::fields(...)`
// says: fathom: this is no activation: it needs a template `at` with value and derivative
// says: fathom: this backend lacks a member or an operation, or has one of another type: see backend/backend.hpp
// says: fathom: two tensors of this architecture have one name.
// says: fathom::edit: the block must have one stage of this name
// says: fathom::edit: the body has no such blocks
// shows: blocks_are_in_the_body<-1, 2, 2>
// says: fathom::features: a block looks back at a depth that does not exist yet when it runs
// shows: depth_is_at_most_the_block_that_looks_back<2, 1>
// MISTAKES
#include <fathom/backend/reference.hpp>
#include <fathom/model/architecture.hpp>
#include <fathom/model/edit.hpp>
#include <fathom/model/model.hpp>

namespace mine {
using namespace fathom;

template <class... Stages>
using of = architecture<sizes<19, 20, 12>, embed<tokens, learned_positions>, body<repeat<2, block<Stages...>>>, head<layer_norm<>, tied>>;
template <class Architecture>
using on_reference = transformer<Architecture, backend::reference<float>>;
using attn = pre<"attn", layer_norm<>, attention<2>>;
using feed = pre<"mlp", layer_norm<>, fathom::mlp<>>;

#ifdef MISTAKES
// Layers without flops, and with a backward of another signature.
template <class At>
struct no_flops : layers::no_layer<At::width> {
  static void flops();
};
template <class At>
struct other_backward : layers::no_layer<At::width> {
  static void backward();
};
// A norm that is a layer, a source without a number of rows, a stage that does not decode.
template <class At>
struct no_number_of_rows : layers::no_rows<At::width> {
  static void rows_per_token();
};
template <class At>
struct no_extend : layers::no_stage<At::width> {
  static void extend();
};
template <template <class> class Bound>
struct a_part {
  static constexpr auto options = fields();
  template <class At>
  using bind = Bound<At>;
};
struct no_part {
  static constexpr auto options = fields();
};
template <class At>
using a_layer = layers::no_layer<At::width>;

struct not_a_backend : backend::reference<float> {
  using executor = int;
};

using cross = pre<"/shortcut", layer_norm<>, look_back<2>, features<depths<0>>>;
using too_deep = pre<"shortcut", layer_norm<>, look_back<2>, features<depths<2>>>;

[[maybe_unused]] static void mistakes() {
  static_cast<void>(on_reference<of<attn, pre<"a", layer_norm<>, a_part<no_flops>>>>::parameter_count);
  static_cast<void>(on_reference<of<attn, pre<"a", layer_norm<>, a_part<other_backward>>>>::parameter_count);
  static_cast<void>(on_reference<of<attn, pre<"a", a_part<a_layer>, attention<2>>>>::parameter_count);
  static_cast<void>(on_reference<of<attn, pre<"a", layer_norm<>, attention<2>, a_part<no_number_of_rows>>>>::parameter_count);
  static_cast<void>(on_reference<of<attn, a_part<no_extend>>>::parameter_count);
  static_cast<void>(on_reference<of<attn, pre<"a", layer_norm<>, no_part>>>::parameter_count);
  static_cast<void>(on_reference<of<attn, pre<"a", layer_norm<>, fathom::mlp<8, no_part>>>>::parameter_count);
  static_cast<void>(sizeof(transformer<of<attn, feed>, not_a_backend>));
  static_cast<void>(on_reference<edit<of<attn, feed>, every_block, insert_after<"attn", cross>>>::parameter_count);
  static_cast<void>(on_reference<edit<of<attn, feed>, last_block, insert_after<"attention", feed>>>::parameter_count);
  static_cast<void>(on_reference<edit<of<attn, feed>, last_blocks<3>, insert_after<"attn", feed>>>::parameter_count);
  static_cast<void>(on_reference<edit<of<attn, feed>, last_block, insert_after<"attn", too_deep>>>::parameter_count);
}
#endif

[[maybe_unused]] static void works() {
  static_cast<void>(on_reference<edit<of<attn, feed>, last_block, insert_after<"attn", pre<"/shortcut", layer_norm<>, look_back<2>, features<depths<0>>>>>>::parameter_count);
}
}  // namespace mine
