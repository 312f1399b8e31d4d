// The kernels of attention with bf16 operands, on tensor cores: forward, and backward in two.
//
// Flash attention (Dao, arXiv 2307.08691): a block of queries goes over the keys tile by tile; scores exist in registers only,
// and a running largest score and sum make the softmax. In base 2: exp(scale x) = 2^(scale log2(e) x), one multiply-add.
//
// What a query sees is the prefix of (start + query + 1) D rows, or what a window leaves of it (operations.hpp, attention_shape).
// So a block's tiles are of three kinds: seen by all of its queries, which have no mask; seen by some, where the products of 16 keys
// and 16 queries that do not meet are left out; and the rest, which are not looked at. Nothing depends on D but where they begin
// and end. Heads of queries that share a head of keys and values read it one by one; the kernel for dk and dv goes over them in turn.
//
// Who does what, for heads of 64 columns (how many registers a lane has for it):
//   forward  a block: 128 queries, 4 warps of 32; tiles of 64 keys. A warp has scores [32, 64] (64), sums [32, 64] (64) and half
//            of its queries (16). Two blocks share a multiprocessor. Each fragment of keys or values that is read from shared
//            memory feeds 4 matrix instructions, so that shared memory is not what limits.
//   dq       a block: 128 queries, 4 warps of 32; tiles of 64 keys, of which 16 at a time: scores and their gradients [32, 16]
//            (16 each), dq [32, 64] (64), queries and dout (32 each). Two blocks share a multiprocessor.
//   dk, dv   a block: 64 keys, 4 warps of 16; tiles of 64 queries, of which 16 at a time: scores and their gradients
//            transposed, [16, 16] (8 each), so that they are the left operands of dv += p^T dout and dk += ds^T q as they are;
//            dk, dv [16, 64] (32 each), keys and values (16 each). Three blocks share a multiprocessor.
// A warp's two times 16 queries are those of mirrored places (0 and 7, 1 and 6, ...): all warps have the same share of what the
// mask leaves.
//
// Backward computes scores and their gradients twice, 7 products instead of 5. For that it has: no atomic operations, sums in
// one order and so the same bits every time; no memory for sums, and no pass over them; blocks that are independent of each
// other, as many as there are keys and queries; and no exchange of ds through shared memory. In one kernel, dq would have to be
// added to by all blocks of keys in turn: by one block for each head, of which there are often too few to fill the machine;
// or into one copy for each block of keys, which together are as large as the scores.
//
// Blocks with the longest rows come first; heads so many at a time that their keys and values stay in the second-level cache.
#pragma once

#include "fathom/backend/cuda/attention_tensor_dkv.cuh"
#include "fathom/backend/cuda/attention_tensor_dq.cuh"
#include "fathom/backend/cuda/attention_tensor_forward.cuh"
