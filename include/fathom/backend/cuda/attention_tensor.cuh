// Attention kernels with bf16 operands on tensor cores: one for forward, two for backward.
//
// Flash attention (Dao, arXiv 2307.08691): a block of queries loops over tiles of keys; scores exist only in registers,
// and the softmax is online. In base 2: exp(scale x) = 2^(scale log2(e) x), one multiply-add.
//
// A query sees the prefix of (start + query + 1) D rows, D = rows_per_position, or what a window leaves of it
// (operations.hpp, attention_shape). So there are three kinds of tiles: those that all queries of a block see need no
// mask; in those that some see, products of 16 keys and 16 queries are skipped if the mask hides them all; the rest are
// not read. D only determines where these begin and end. Query heads that share a key/value head each read it; the
// kernel for dk and dv loops over them.
//
// Division of work for heads of 64 columns (in parentheses: registers per lane):
//   forward  a block: 128 queries, 4 warps of 32; tiles of 64 keys. A warp has scores [32, 64] (64), sums [32, 64] (64)
//            and half of its queries (16). Two blocks share a multiprocessor. Each fragment of keys or values read from
//            shared memory feeds 4 matrix instructions, so that shared memory is not the bottleneck.
//   dq       a block: 128 queries, 4 warps of 32; tiles of 64 keys, 16 at a time: scores and their gradients [32, 16]
//            (16 each), dq [32, 64] (64), queries and dout (32 each). Two blocks share a multiprocessor.
//   dk, dv   a block: 64 keys, 4 warps of 16; tiles of 64 queries, 16 at a time: scores and their gradients transposed,
//            [16, 16] (8 each), so that they already are the left operands of dv += p^T dout and dk += ds^T q; dk, dv
//            [16, 64] (32 each), keys and values (16 each). Three blocks share a multiprocessor.
// A warp's two groups of 16 queries are mirrored (0 and 7, 1 and 6, ...), so that all warps have the same share of the
// work that the mask leaves.
//
// Backward computes scores and their gradients twice, 7 products instead of 5. In return, there are no atomic
// operations, so sums have one order and the same bits every time; no memory for partial sums, and no pass over them;
// independent blocks, one for each block of keys and of queries; and no exchange of ds through shared memory. In a
// single kernel, all blocks of keys would have to add to dq in turn: with one block per head, often too few to fill the
// GPU, or with one copy of dq per block of keys, together as large as the scores.
//
// Blocks with the longest rows come first; heads at a time are few enough for their keys and values to stay in L2.
#pragma once

#include "fathom/backend/cuda/attention_tensor_dkv.cuh"
#include "fathom/backend/cuda/attention_tensor_dq.cuh"
#include "fathom/backend/cuda/attention_tensor_forward.cuh"
