"""What texts are embedded to: tiny random encoders and a decoder, and all-MiniLM-L6-v2, by transformers in fp32.

Usage: encoders.py OUTDIR. Writes for each MODEL in bert bert_mlm llama:

  OUTDIR/MODEL/hf/          config.json, safetensors (bert_mlm: BF16, names with "bert." in front), tokenizer.json
  OUTDIR/MODEL/cases.json   {"hidden", "vocab", "cases": [{"tokens": [...]}]}
  OUTDIR/MODEL/rows.bin     float32 little endian: for each case its mean row, first row and last row of the last hidden state
  OUTDIR/minilm.json        {"texts": [{"text", "ids", "vector"}]}: ids with [CLS] and [SEP]; vector: the mean over all rows,
                            normalized, as sentence-transformers does. Only when the model was fetched.
"""
import json
import os
import sys

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForMaskedLM, BertModel, LlamaConfig, LlamaForCausalLM

COMMON = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
BERT = BertConfig(vocab_size=311, hidden_size=48, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4,
                  max_position_embeddings=300, type_vocab_size=2, layer_norm_eps=1e-12, **COMMON)
MLM = BertConfig(vocab_size=290, hidden_size=80, intermediate_size=96, num_hidden_layers=2, num_attention_heads=5,
                 max_position_embeddings=64, type_vocab_size=1, hidden_act="gelu_new", layer_norm_eps=1e-5, **COMMON)
LLAMA = LlamaConfig(vocab_size=301, hidden_size=96, intermediate_size=160, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
                    max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
TEXTS = ["A meter, a main, a bill: the quick brown fox jumps over the lazy dog.", "The plant turns capacity into tokens."] * 20
MINILM_TEXTS = [
    "Hello, world!", "a", "The quick brown fox jumps over the lazy dog.", "the quick brown fox jumps over the lazy dog",
    "Tokens are counted where they are made, and every one of them is billed exactly.", "Wasserwerk: Leitungen, Zähler, Rechnungen.",
    "東京は日本の首都です。", "Ω≈ç√∫˜µ≤≥÷", "don't won't can't I'm you've", "   leading and trailing   ", "line one\nline two\ttabbed",
    "https://example.com/path?query=1&other=2#part", "SELECT name, amount FROM ledger WHERE amount > 10 ORDER BY name;",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis", "0123456789 3.14159 1,000,000 $9.99",
    "naïve café résumé Ångström", "👍🏽 emoji 🇩🇪 flags", "x" * 150, "How do I reset my password?", "Where can I change my login credentials?",
    " ".join(f"Sentence number {i} of a long passage about water, pipes and pressure." for i in range(30)),
]


def tokenizer(size):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer()
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tok.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False))
    tok.add_tokens([f"unused{i}" for i in range(size - tok.get_vocab_size())])
    tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tok.decoder = decoders.WordPiece()
    return tok


def bpe_tokenizer(size):
    tok = Tokenizer(models.BPE(unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False,
                                                       initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.add_tokens([f"unused{i}" for i in range(size - tok.get_vocab_size())])
    return tok


def write(out, name, model, inner, tok, lengths, vocab):
    folder = os.path.join(out, name, "hf")
    model.save_pretrained(folder)
    tok.save(os.path.join(folder, "tokenizer.json"))
    rng = np.random.default_rng(5)
    cases, rows = [], []
    for length in lengths:
        ids = rng.integers(5, vocab, length)
        with torch.no_grad():
            hidden = inner(input_ids=torch.tensor([ids.tolist()])).last_hidden_state[0]
        cases.append({"tokens": ids.tolist()})
        rows += [hidden.mean(0).numpy(), hidden[0].numpy(), hidden[-1].numpy()]
    np.concatenate(rows).astype("<f4").tofile(os.path.join(out, name, "rows.bin"))
    with open(os.path.join(out, name, "cases.json"), "w") as f:
        json.dump({"hidden": model.config.hidden_size, "vocab": vocab, "cases": cases}, f)


def spread(model):
    """Random weights as wide as trained ones: with the initializer's 0.02 every layer would be nearly the identity."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name.lower():
                p.copy_(1 + 0.3 * torch.randn_like(p) if name.endswith("weight") else 0.2 * torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) * (p.shape[-1] ** -0.5 if p.dim() > 1 else 0.1))
    return model.eval()


def minilm(out):
    folder = os.environ.get("TOKENWORKS_MINILM") or os.path.expanduser("~/.cache/tokenworks/models/all-MiniLM-L6-v2")
    if not os.path.exists(os.path.join(folder, "model.safetensors")):
        return
    tok, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    found = []
    for text in MINILM_TEXTS:
        ids = tok(text, truncation=False, padding=False)["input_ids"]
        with torch.no_grad():
            rows = model(input_ids=torch.tensor([ids])).last_hidden_state
            vector = torch.nn.functional.normalize(rows.mean(1), dim=-1)[0]
        found.append({"text": text, "ids": ids, "vector": vector.tolist()})
    with open(os.path.join(out, "minilm.json"), "w") as f:
        json.dump({"texts": found}, f)


def main(out):
    torch.manual_seed(11)
    bert = spread(BertModel(BERT))
    write(out, "bert", bert, bert, tokenizer(311), [1, 2, 15, 16, 17, 63, 255, 256, 257, 300], 311)
    mlm = spread(BertForMaskedLM(MLM)).to(torch.bfloat16)
    rounded = BertForMaskedLM(MLM).eval()
    rounded.load_state_dict({k: v.float() for k, v in mlm.state_dict().items()})
    write(out, "bert_mlm", mlm, rounded.bert, tokenizer(290), [3, 40, 64], 290)
    llama = spread(LlamaForCausalLM(LLAMA))
    write(out, "llama", llama, llama.model, bpe_tokenizer(301), [1, 16, 33, 200], 301)
    minilm(out)


if __name__ == "__main__":
    main(sys.argv[1])
