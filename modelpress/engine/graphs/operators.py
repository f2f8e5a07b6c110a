"""The operators that a graph may call: ATen's that compute, and nothing else.

None of them reads or writes a file, runs code, or looks beyond the tensors it is given. A name is only ever looked up
here, never in torch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

# With their overloads; `default` where none is named.
_ATEN = (  # noqa: SIM905  hundreds of quoted names would be harder to read
    """
abs abs_ acos adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
add.Tensor add.Scalar add_.Tensor add_.Scalar addcmul addmm alias all all.dim amax amin any any.dim
arange arange.start arange.start_step argmax argmin asin atan atan2 avg_pool1d avg_pool2d avg_pool3d
baddbmm batch_norm bitwise_and.Tensor bitwise_not bitwise_or.Tensor bmm broadcast_tensors
cat ceil celu celu_ channel_shuffle chunk clamp clamp.Tensor clamp_ clamp_max clamp_max_ clamp_min clamp_min_ clone
concat concatenate constant_pad_nd contiguous conv1d conv1d.padding conv2d conv2d.padding conv3d conv3d.padding
conv_transpose1d conv_transpose2d.input conv_transpose3d.input convolution cos cosh cumsum
detach detach_ diff div.Tensor div.Scalar div.Tensor_mode div.Scalar_mode div_.Tensor div_.Scalar dropout dropout_
einsum elu elu_ embedding eq.Scalar eq.Tensor erf exp expand expand_as expm1
feature_dropout fill.Scalar fill.Tensor fill_.Scalar fill_.Tensor flatten.using_ints flip floor
floor_divide floor_divide.Scalar fmod.Scalar fmod.Tensor full full_like
gather ge.Scalar ge.Tensor gelu gelu_ glu grid_sampler group_norm gru.input gt.Scalar gt.Tensor
hardshrink hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_
im2col index.Tensor index_put index_select instance_norm layer_norm le.Scalar le.Tensor leaky_relu leaky_relu_
lift_fresh_copy linalg_vector_norm linear log log1p log2 log_softmax.int logical_and logical_not logical_or
logsumexp lstm.input lt.Scalar lt.Tensor
masked_fill.Scalar masked_fill.Tensor matmul max max.dim max.other max_pool1d max_pool2d max_pool3d
maximum mean mean.dim meshgrid.indexing min min.dim min.other minimum mish mish_ mm movedim.int movedim.intlist
mul.Scalar mul.Tensor mul_.Scalar mul_.Tensor
native_batch_norm _native_batch_norm_legit_no_training native_group_norm native_layer_norm
narrow ne.Scalar ne.Tensor neg neg_ new_full new_ones new_zeros norm.ScalarOpt_dim numpy_T
one_hot ones ones_like outer
pad permute pixel_shuffle pixel_unshuffle pow.Scalar pow.Tensor_Scalar pow.Tensor_Tensor prelu prod.dim_int
reciprocal reflection_pad1d reflection_pad2d relu relu_ relu6 relu6_ remainder.Scalar remainder.Tensor repeat
repeat_interleave.self_int replication_pad1d replication_pad2d reshape reshape_as rms_norm
rnn_tanh.input rnn_relu.input roll round rsqrt rsub.Scalar rsub.Tensor
scalar_tensor scaled_dot_product_attention scatter.src select.int selu selu_ sigmoid sigmoid_ sign silu silu_ sin sinh
slice.Tensor softmax.int softplus softshrink split.Tensor split_with_sizes split.sizes sqrt square
squeeze squeeze.dim squeeze.dims stack std.correction std.dim sub.Scalar sub.Tensor sub_.Scalar sub_.Tensor
sum sum.dim_IntList swapaxes swapdims sym_size.int
t take tan tanh tanh_ threshold threshold_ tile to.dtype to.dtype_layout to.device to.other topk transpose.int
triu tril true_divide.Tensor trunc type_as
unbind.int unflatten.int unfold unsqueeze upsample_bicubic2d upsample_bicubic2d.vec upsample_bilinear2d
upsample_bilinear2d.vec upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest2d.vec
upsample_nearest3d _upsample_nearest_exact2d upsample_trilinear3d
var.correction var.dim var_mean.correction view view_as where.self where.ScalarOther where.ScalarSelf
zero_ zeros zeros_like _softmax _log_softmax _to_copy _unsafe_view _adaptive_avg_pool2d _adaptive_avg_pool3d
max_pool2d_with_indices
"""
).split()


def _aten(name: str) -> torch._ops.OpOverload:
    packet, _, overload = name.partition(".")
    found: torch._ops.OpOverload = getattr(getattr(torch.ops.aten, packet), overload or "default")
    return found


# Arithmetic on sizes, which are Python's numbers.
_SIZES: dict[str, Callable[..., Any]] = {
    "size.add": operator.add,
    "size.sub": operator.sub,
    "size.mul": operator.mul,
    "size.floordiv": operator.floordiv,
    "size.mod": operator.mod,
    "size.neg": operator.neg,
}

# A view asks for a layout in memory, which is another where images lie channels last. These give the same numbers, as a
# view where there is one; whether anything writes into it is seen by what comes out (`exported.lifted_network`).
_OF_ANY_LAYOUT = {
    "view.default": "reshape",
    "_unsafe_view.default": "reshape",
    "view_as.default": "reshape_as",
}

OPERATORS: dict[str, Callable[..., Any]] = {
    **{name if "." in name else f"{name}.default": _aten(name) for name in _ATEN},
    **{name: _aten(other) for name, other in _OF_ANY_LAYOUT.items()},
    **_SIZES,
}
"""By the name that a graph calls them by: ATen's with the overload, such as `relu.default`, and `size.mul`."""
