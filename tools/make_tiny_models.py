#!/usr/bin/env python3
"""Makes tests/fixtures/models: a tiny random model of each family and feature that needs one, quantized by mlx-lm, with reference logits.

The reference is float32 throughout: weights dequantized exactly (scales and biases widened first), mlx-lm's own model code. Where transformers
and torch are installed the same weights run there too, and the largest difference is printed; `hf` says why it is not small.
Needs mlx-lm: tools/make_tiny_models.py [NAME ...]
"""

import importlib
import json
import os
import shutil
import sys
import tempfile

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

FOLDER = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "models")
TOKENS, ROWS = 48, 16

BASE = dict(
    vocab_size=256, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    rms_norm_eps=1e-5, max_position_embeddings=512, tie_word_embeddings=True, rope_theta=10000.0, hidden_act="silu",
)
Q4 = dict(group_size=32, bits=4, mode="affine")
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=8.0, beta_slow=1.0)

MODELS = {
    "gemma2": dict(model_type="gemma2", head_dim=32, hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=24, sliding_window=64,
                   attn_logit_softcapping=5.0, final_logit_softcapping=8.0),
    "gemma3_text-linear": dict(model_type="gemma3_text", head_dim=32, hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=32,
                               sliding_window=16, sliding_window_pattern=2, rope_local_base_freq=500.0,
                               rope_scaling=dict(rope_type="linear", factor=8.0), hf="embedding scale is not rounded to bf16"),
    "mixtral": dict(model_type="mixtral", num_local_experts=4, num_experts_per_tok=2, intermediate_size=32, tie_word_embeddings=False),
    "mixtral-hf-names": dict(model_type="mixtral", num_local_experts=3, num_experts_per_tok=2, intermediate_size=16, vocab_size=64,
                             quantization=None, is_hf=True),
    "qwen3_moe-sparse": dict(model_type="qwen3_moe", head_dim=32, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=32,
                             decoder_sparse_step=2, mlp_only_layers=[], norm_topk_prob=False),
    "olmo2": dict(model_type="olmo2", tie_word_embeddings=False),
    "granite": dict(model_type="granite", attention_bias=True, mlp_bias=True, embedding_multiplier=6.0, residual_multiplier=0.5,
                    attention_multiplier=0.125, logits_scaling=2.0),
    "smollm3": dict(model_type="smollm3", no_rope_layers=[1, 0], no_rope_layer_interval=2),
    "gpt_oss": dict(model_type="gpt_oss", head_dim=32, num_local_experts=3, num_experts_per_tok=2, intermediate_size=32, sliding_window=16,
                    layer_types=["sliding_attention", "full_attention"], tie_word_embeddings=False, rope_theta=150000.0,
                    rope_scaling=YARN, experts=dict(group_size=32, bits=4, mode="mxfp4"), attention_bias=True),
    "gpt_oss-not-truncated": dict(model_type="gpt_oss", head_dim=16, num_local_experts=4, num_experts_per_tok=2, intermediate_size=32,
                                  sliding_window=16, layer_types=["sliding_attention", "full_attention"], tie_word_embeddings=False,
                                  rope_theta=150000.0, rope_scaling={**YARN, "truncate": False}, attention_bias=True,
                                  experts=dict(group_size=32, bits=4, mode="mxfp4"), follows_transformers=True,
                                  hf="mlx-lm always truncates; the reference is transformers'"),
    "llama-linear": dict(model_type="llama", rope_scaling=dict(type="linear", factor=4.0)),
    "llama-yarn": dict(model_type="llama", rope_scaling=YARN, tie_word_embeddings=False),
    "llama-multi-query": dict(model_type="llama", num_attention_heads=5, num_key_value_heads=1, head_dim=32, attention_bias=True,
                              rope_traditional=True, hf="has no rope_traditional"),
    "llama-odd-heads": dict(model_type="llama", num_attention_heads=3, num_key_value_heads=3, head_dim=22, hidden_size=48, quantization=None,
                            intermediate_size=48, vocab_size=96),
    "llama-sliding": dict(model_type="mistral", sliding_window=16, layer_types=["full_attention", "sliding_attention"],
                          hf="every layer of mistral has the window"),
    "qwen3-yarn-mixed": dict(model_type="qwen3", head_dim=32, intermediate_size=128, rope_scaling=YARN, quantization=dict(group_size=64, bits=4, mode="affine"),
                             wide={"model.layers.0.mlp.down_proj": dict(group_size=32, bits=8, mode="affine")}),
    "qwen2-f16": dict(model_type="qwen2", quantization=None, dtype="float16", vocab_size=96, intermediate_size=64),
}


def random_weights(model, rng):
    """Scaled so that neither attention nor logits are degenerate."""
    result, is_gemma = {}, "gemma" in model.model_type
    for name, old in tree_flatten(model.parameters()):
        shape = old.shape
        if name.endswith(("norm.weight", "layernorm.weight")) or "_norm.weight" in name or "layernorm" in name:
            value = rng.normal(0.0, 0.2, shape) + (0.0 if is_gemma else 1.0) + (5.0 if is_gemma and name == "model.norm.weight" else 0.0)
        elif len(shape) == 1 or name.endswith(".bias"):
            value = rng.normal(0.0, 0.5, shape)
        elif "embed_tokens" in name:
            value = rng.normal(0.0, 0.06 if is_gemma else 0.35, shape)  # gemma multiplies it by sqrt(hidden_size)
        else:
            value = rng.normal(0.0, 1.6 / np.sqrt(shape[-1]), shape)
        result[name] = mx.array(value.astype(np.float32))
    return result


def is_expert(path):
    return "switch_mlp" in path or "experts" in path


def quantize(weights, config):
    """Matrices whose columns divide into groups become triplets, all else the storage type; and the same, dequantized to float32."""
    dtype = getattr(mx, config.get("torch_dtype", "bfloat16"))
    default, expert, wide = config["quantization"], config.pop("experts", None), config.pop("wide", {})
    stored, dense = {}, {}
    entry = dict(default) if default else None
    for name, value in weights.items():
        path = name.removesuffix(".weight")
        scheme = (expert if expert and is_expert(path) else wide.get(path, default)) if name.endswith(".weight") and value.ndim >= 2 else None
        if scheme is None:
            stored[name] = value.astype(dtype)
            dense[name] = stored[name].astype(mx.float32)
            continue
        parts = mx.quantize(value.astype(dtype), group_size=scheme["group_size"], bits=scheme["bits"], mode=scheme["mode"])
        for part, tensor in zip(["weight", "scales", "biases"], parts):
            stored[f"{path}.{part}"] = tensor
        if scheme["mode"] == "affine":
            parts = (parts[0], parts[1].astype(mx.float32), parts[2].astype(mx.float32))
        dense[name] = mx.dequantize(*parts, group_size=scheme["group_size"], bits=scheme["bits"], mode=scheme["mode"], dtype=mx.float32)
        if scheme is not default:
            entry[path] = dict(scheme)
    if entry:
        config["quantization"] = config["quantization_config"] = entry
    else:
        config.pop("quantization")
    return stored, dense


def split_experts(weights, config):
    """Stacked experts under the names that Hugging Face checkpoints give them."""
    result = {}
    for name, value in weights.items():
        if "switch_mlp" not in name:
            result[name] = value
            continue
        folder, part = name.removesuffix(".weight").split("switch_mlp.")
        part = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}[part] if config["model_type"] == "mixtral" else part
        for i in range(value.shape[0]):
            result[f"{folder}experts.{i}.{part}.weight"] = value[i]
    return result


def gpt_oss_names(weights):
    result = {}
    for name, value in weights.items():
        if ".experts." not in name:
            result[name] = value
            continue
        folder, rest = name.split(".experts.")
        part, kind = rest.split(".")
        value = np.array(value)
        key = f"{folder}.experts." + ("down_proj" if part == "down_proj" else "gate_up_proj") + ("_bias" if kind == "bias" else "")
        if kind == "weight":
            value = value.transpose(0, 2, 1)
        if part == "down_proj":
            result[key] = mx.array(value)
        else:
            both = np.array(result.get(key, mx.zeros((*value.shape[:-1], 2 * value.shape[-1]))))
            both[..., 0 if part == "gate_proj" else 1 :: 2] = value
            result[key] = mx.array(both)
    return result


def transformers_logits(dense, config, ids):
    import torch
    import transformers

    folder = tempfile.mkdtemp()
    named = gpt_oss_names(dense) if config["model_type"] == "gpt_oss" else split_experts(dense, config)
    mx.save_safetensors(os.path.join(folder, "model.safetensors"), {k: v.astype(mx.float32) for k, v in named.items()}, {"format": "pt"})
    plain = {k: v for k, v in config.items() if not k.startswith("quantization")}
    plain.update(torch_dtype="float32", bos_token_id=0, eos_token_id=0, pad_token_id=0)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(plain, file)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        logits = model(torch.tensor([ids.tolist()])).logits[0].numpy()
    shutil.rmtree(folder)
    return logits


def make(name, choices):
    config = {**BASE, "quantization": dict(Q4), **choices}
    note, is_hf = config.pop("hf", None), config.pop("is_hf", False)
    follows = config.pop("follows_transformers", False)
    config["torch_dtype"] = config.pop("dtype", "bfloat16")
    rng = np.random.default_rng(sum(name.encode()))
    module = importlib.import_module("mlx_lm.models." + {"mistral": "llama"}.get(config["model_type"], config["model_type"]))
    model = module.Model(module.ModelArgs.from_dict(config))
    if config["model_type"] == "gemma3_text" and config["tie_word_embeddings"]:
        model.tie_word_embeddings = True
        model.pop("lm_head")
    stored, dense = quantize(random_weights(model, rng), config)
    model.update(tree_unflatten(list(dense.items())))
    ids = rng.integers(0, config["vocab_size"], TOKENS).astype(np.int32)
    logits = np.array(model(mx.array(ids)[None])[0].astype(mx.float32))
    positions = np.array(sorted(set(range(0, TOKENS, TOKENS // (ROWS // 2))) | set(range(TOKENS - ROWS // 2, TOKENS))), dtype=np.int32)

    print(f"{name}: ", end="")
    try:
        other = transformers_logits(dense, config, ids)
        print(f"transformers differs by {np.abs(other - logits).max():.1e}" + (f" ({note})" if note else ""), end="")
        logits = other if follows else logits
    except Exception as error:  # not installed, or a config that it refuses
        if follows:
            raise
        print(f"not compared with transformers ({str(error).splitlines()[-1].strip()})", end="")
    folder = os.path.join(FOLDER, name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1, sort_keys=True)
    mx.save_safetensors(os.path.join(folder, "model.safetensors"), split_experts(stored, config) if is_hf else stored, {"format": "mlx"})
    mx.save_safetensors(os.path.join(folder, "reference.safetensors"),
                        {"ids": mx.array(ids), "positions": mx.array(positions), "logits": mx.array(logits[positions])})
    size = sum(os.path.getsize(os.path.join(folder, file)) for file in os.listdir(folder))
    spread = np.exp(logits - logits.max(-1, keepdims=True))
    spread /= spread.sum(-1, keepdims=True)
    print(f", {size} bytes, logits rms {np.sqrt((logits**2).mean()):.2f}, mean top probability {spread.max(-1).mean():.2f}")


if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    for name in sys.argv[1:] or MODELS:
        make(name, MODELS[name])
