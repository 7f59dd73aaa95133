#!/usr/bin/env python3
"""Makes tests/fixtures/adapters/trained-*: adapters that `bombus train` made on a fixture model, with the logits that mlx-lm gives with them (f32 weights),
and compares these with transformers' and PEFT's. Needs mlx-lm, and for the comparison torch, transformers and peft (else it is left out):

    tools/make_trained_adapters.py build/release/bombus
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model

MODELS = Path("tests/fixtures/models")
FOLDER = Path("tests/fixtures/adapters")
PLAIN, MIXTURE = "qwen3-yarn-mixed", "qwen3_moe-sparse"
EXPERTS = ["model.embed_tokens", "self_attn.q_proj", *(f"mlp.switch_mlp.{name}_proj" for name in ("gate", "up", "down"))]
KINDS = {"trained-lora": (PLAIN, None, ["--rank", "4"]),
         "trained-dora": (PLAIN, None, ["--rank", "2", "--fine-tune-type", "dora"]),
         "trained-experts": (MIXTURE, EXPERTS, ["--rank", "2", "--dropout", "0.1"])}
WORDS = "fox moon river stone a the sings waits under bread".split()
REFERENCE = mx.load(str(MODELS / PLAIN / "reference.safetensors"))
IDS = [int(i) for i in REFERENCE["ids"].tolist()]
POSITIONS = REFERENCE["positions"]


def make_model(name, folder):
    """The fixture with a vocabulary of letters."""
    vocab = {"<end>": 0, "\u0120": 1, **{chr(ord("a") + i): 2 + i for i in range(26)}}
    shutil.copytree(MODELS / name, folder)
    tokenizer = {"added_tokens": [{"id": 0, "content": "<end>", "special": True, "normalized": False, "single_word": False, "lstrip": False,
                                   "rstrip": False}],
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "decoder": {"type": "ByteLevel"},
                 "model": {"type": "BPE", "merges": [], "vocab": vocab}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')


def mlx_model(folder):
    model, _ = load_model(folder)
    model.update(tree_map(lambda x: x.astype(mx.float32) if mx.issubdtype(x.dtype, mx.floating) else x, model.parameters()))
    return model


def mlx_logits(folder, adapter):
    model = mlx_model(folder)
    if adapter is not None:
        load_adapters(model, str(adapter))
    model.eval()  # no dropout
    return np.array(model(mx.array(IDS)[None])[0])


def dense_weights(folder):
    model, result = mlx_model(folder), {}
    for name, module in model.named_modules():
        if hasattr(module, "bits"):
            weight = mx.dequantize(module.weight, module.scales, module.biases, module.group_size, module.bits)
            alone = {name.replace("switch_mlp", f"experts.{i}") + ".weight": expert for i, expert in enumerate(weight)}
            result.update(alone if weight.ndim == 3 else {name + ".weight": weight})
        elif "norm" in name.rsplit(".", 1)[-1] and "weight" in module:
            result[name + ".weight"] = module.weight
    return result


def peft_logits(folder, adapter):
    import torch
    import transformers
    from peft import PeftModel

    plain = folder.with_name(folder.name + "-dense")
    if not plain.exists():
        plain.mkdir()
        mx.save_safetensors(str(plain / "model.safetensors"), dense_weights(folder), {"format": "pt"})
        config = {k: v for k, v in json.loads((folder / "config.json").read_text()).items() if not k.startswith("quantization")}
        config.update(torch_dtype="float32", bos_token_id=0, eos_token_id=0, pad_token_id=0)
        (plain / "config.json").write_text(json.dumps(config))
    model = transformers.AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(model, str(adapter)).eval()
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits[0].numpy()


def main(bombus):
    mx.set_default_device(mx.cpu)
    scratch = Path(tempfile.mkdtemp())
    for model in (PLAIN, MIXTURE):
        make_model(model, scratch / model)
    lines = [json.dumps({"text": " ".join(WORDS[(7 * i + 3 * w * w + w) % len(WORDS)] for w in range(3 + i % 5))}) for i in range(16)]
    (scratch / "train.jsonl").write_text("\n".join(lines) + "\n")
    for name, (model, keys, options) in KINDS.items():
        adapter, settings = scratch / name, scratch / (name + ".yaml")
        settings.write_text(json.dumps({"lora_parameters": {"keys": keys}}) if keys else "{}")
        subprocess.run([bombus, "train", "-m", scratch / model, "-c", settings, "--data", scratch / "train.jsonl", "--adapter-path", adapter, "--iters", "40",
                        "--learning-rate", "1e-3", "--scale", "4", "--num-layers", "-1", "--precision", "exact", "--seed", "7", *options], check=True)
        logits = mlx_logits(scratch / model, adapter)
        print(f"\n{name}: logits change by up to {np.abs(logits - mlx_logits(scratch / model, None)).max():.2f}", end="")
        try:
            converted = scratch / (name + "-peft")
            subprocess.run([bombus, "adapter", "convert", adapter, "--to", "peft", "--out", converted], check=True, stdout=subprocess.DEVNULL)
            print(f", PEFT differs by {np.abs(peft_logits(scratch / model, converted) - logits).max():.1e}")
        except ImportError as error:
            print(f", not compared with PEFT ({error})")
        out = FOLDER / name
        os.makedirs(out, exist_ok=True)
        shutil.copy(adapter / "adapters.safetensors", out)
        config = json.loads((adapter / "adapter_config.json").read_text())
        kept = {key: config[key] for key in ("fine_tune_type", "num_layers", "lora_parameters")}
        (out / "adapter_config.json").write_text(json.dumps(kept, indent=4) + "\n")
        mx.save_safetensors(str(out / "reference.safetensors"), {"ids": REFERENCE["ids"], "positions": POSITIONS,
                                                                 "logits": mx.array(logits[np.array(POSITIONS)])})
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main(sys.argv[1])
