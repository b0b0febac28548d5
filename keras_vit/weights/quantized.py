"""Recognize files whose arrays are not weights but integers or float8 numbers with scales beside them."""

import re

import numpy as np

# Names that only quantizers write: GPTQ and AWQ; bitsandbytes; float8 and compressed-tensors; Quanto; HQQ; torchao.
_QUANTIZERS = re.compile(
    r"[./](qweight|qzeros|g_idx"
    r"|SCB|weight_format|weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*)"
    r"|weight_(packed|scale|scales|scale_inv|scale_2|zero_point)"
    r"|weight\._(data|scale)"
    r"|W_q"
    r"|weight:_?(qdata|int_data|scale|zero_point))$"
)
_ADAPTERS = re.compile(r"[./](lora_(A|B|embedding_A|embedding_B)|hada_w1_a|lokr_w1)\b")


def is_quantized(name: str, array: np.ndarray) -> bool:
    """Return whether an array of a file belongs to quantized weights, by its name or by its type of one byte."""
    return bool(_QUANTIZERS.search(name)) or (array.dtype.itemsize == 1 and array.dtype.kind in "iuV")


def is_adapter(name: str) -> bool:
    """Return whether an array is a part of a low-rank adapter, which changes the weights of another file."""
    return bool(_ADAPTERS.search(name))
