"""Tiny models without any sense, one for each way of calling tools: random weights, a vocabulary of bytes and some pieces of
JSON, the family's own chat template and control tokens, and room for a long prompt.

Usage: tool_models.py OUTDIR. Writes OUTDIR/NAME.gguf for NAME in hermes (Qwen 3, which also thinks), llama, mistral,
mistral_args (its newer form) and parameters (Qwen 3 Coder's), both with templates of ours in their way, generic, and thinker (DeepSeek style: its prompt opens the thought; it has tokens to fill in the middle).
"""
import os
import pathlib
import sys

import gguf
import numpy as np

TEMPLATES = pathlib.Path(__file__).resolve().parent / "templates"
THINKER = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
           "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}")
MISTRAL_ARGS = ("{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}{% for m in messages %}"
                "{% if m['role'] == 'user' %}{{ '[INST]' + m['content'] + '[/INST]' }}{% elif m['role'] == 'tool' %}"
                "{{ '[TOOL_RESULTS]' + m['tool_call_id'] + '[TOOL_CONTENT]' + m['content'] + '[/TOOL_RESULTS]' }}"
                "{% else %}{{ m['content'] or '' }}{% for c in m['tool_calls'] or [] %}"
                "{{ '[TOOL_CALLS]' + c['function']['name'] + '[ARGS]' }}"
                "{{ c['function']['arguments'] if c['function']['arguments'] is string else c['function']['arguments'] | tojson }}"
                "{% endfor %}{{ eos_token }}{% endif %}{% endfor %}")
PARAMETERS = ("{% if tools %}{{ '<|im_start|>system\n<tools>' }}{% for t in tools %}{{ t | tojson }}{% endfor %}{{ '</tools><|im_end|>\n' }}{% endif %}"
              "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] or '') }}{% for c in m['tool_calls'] or [] %}"
              "{{ '<tool_call>\n<function=' + c['function']['name'] + '>\n' }}{% for k, v in c['function']['arguments'] | items %}"
              "{{ '<parameter=' + k + '>\n' }}{{ v if v is string else v | tojson }}{{ '\n</parameter>\n' }}{% endfor %}{{ '</function>\n</tool_call>' }}{% endfor %}"
              "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
MODELS = {  # template, control tokens, further tokens that are text
    "hermes": (TEMPLATES / "qwen3.jinja", [], ["<think>", "</think>", "<tool_call>", "</tool_call>"]),
    "llama": (TEMPLATES / "llama31.jinja", ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"], []),
    "mistral": (TEMPLATES / "mistral.jinja", ["[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[AVAILABLE_TOOLS]",
                                              "[/AVAILABLE_TOOLS]"], []),
    "generic": (None, [], []),
    "thinker": (THINKER, ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"], ["<think>", "</think>"]),
    "mistral_args": (MISTRAL_ARGS, ["[INST]", "[/INST]", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[TOOL_RESULTS]", "[TOOL_CONTENT]", "[/TOOL_RESULTS]",
                                    "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"], []),
    "parameters": (PARAMETERS, [], ["<tool_call>", "</tool_call>"]),
}
PIECES = ['"}', '":', '",', ', "', '{"', '"]', "}}", "true", "false", "null", "12", "0.5", "the", " a", "in", "er", "name", "2026-", "\n\n"]
CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
LAYERS, HIDDEN, INNER, HEADS, CONTEXT = 2, 64, 96, 4, 16384


def byte_letters():
    """GPT-2's spelling of bytes as printable letters (openai/gpt-2, encoder.py, bytes_to_unicode)."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters, extra = {}, 0
    for byte in range(256):
        if byte in plain:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(256 + extra)
            extra += 1
    return letters


def vocabulary(controls, texts):
    letters = byte_letters()
    spell = lambda text: "".join(letters[b] for b in text.encode())  # noqa: E731
    special = ["<unk>", "<|im_start|>", "<|im_end|>"] + controls
    tokens = special + [letters[b] for b in range(256)]
    merges = []
    for piece in PIECES:                                 # a chain of merges, byte by byte
        whole = spell(piece)
        for n in range(2, len(whole) + 1):
            merge = whole[:n - 1] + " " + whole[n - 1]
            if merge not in merges:
                merges.append(merge)
                if whole[:n] not in tokens:
                    tokens.append(whole[:n])
    types = [gguf.TokenType.CONTROL] * len(special) + [gguf.TokenType.NORMAL] * (len(tokens) - len(special))
    return tokens + texts, merges, types + [gguf.TokenType.USER_DEFINED] * len(texts)


def write(path, name, seed):
    template, controls, texts = MODELS[name]
    tokens, merges, types = vocabulary(controls, texts)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny " + name)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_add_bos_token(False)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHATML if template is None else template if isinstance(template, str) else template.read_text())
    random = np.random.default_rng(seed)
    matrix = lambda rows, columns, scale: (random.standard_normal((rows, columns)) * scale).astype(np.float32)  # noqa: E731
    writer.add_tensor("token_embd.weight", matrix(len(tokens), HIDDEN, 0.5))
    writer.add_tensor("output.weight", matrix(len(tokens), HIDDEN, 0.15))
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    for layer in range(LAYERS):
        for kind, rows, columns in (("attn_q", HIDDEN, HIDDEN), ("attn_k", HIDDEN, HIDDEN), ("attn_v", HIDDEN, HIDDEN), ("attn_output", HIDDEN, HIDDEN),
                                    ("ffn_gate", INNER, HIDDEN), ("ffn_up", INNER, HIDDEN), ("ffn_down", HIDDEN, INNER)):
            writer.add_tensor(f"blk.{layer}.{kind}.weight", matrix(rows, columns, 1.2 / columns ** 0.5))
        for kind in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{kind}.weight", np.ones(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(out):
    os.makedirs(out, exist_ok=True)
    for seed, name in enumerate(MODELS):
        write(f"{out}/{name}.gguf", name, 40 + seed)


if __name__ == "__main__":
    main(sys.argv[1])
