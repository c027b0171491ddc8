"""Expectations of tests/unit/tokenizer, from the Python packages `tokenizers`, `sentencepiece` and `gguf`.

    python tests/golden/tokenizer_families.py OUTDIR

Writes, per family, <family>.json (the tokenizer as GGUF metadata and as tokenizer.json) and <family>.ids (what the
reference makes of strings.bin and of random ids), and for all families strings.bin and normal_forms.json.
SmolLM2's vocabulary comes from the demo GGUF; the others are trained here, 2,000 tokens each, on text of this machine.

Layout of a list: u32 count, then the items. bytes: u32 length, the bytes. ids: u32 count, u16 each. Little-endian.
"""
import sys

sys.path.pop(0)  # this folder: the script is named like the package it needs

import glob
import io
import json
import os
import random
import struct
import sysconfig
import unicodedata

import gguf
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MULTILINGUAL = """Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Voix ambiguë d'un cœur qui préfère les jattes
de kiwis. El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia. Съешь же ещё этих мягких французских булок, да выпей
чаю. Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. いろはにほへと ちりぬるを わかよたれそ つねならむ 色は匂へど散りぬるを 我が世誰ぞ常ならむ 天地玄黃 宇宙洪荒
日月盈昃 辰宿列張 키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت דג סקרן שט בים מאוכזב
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा รักเธอ Tiếng Việt có nhiều dấu 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ½ ² Ⅷ ① ٣ ३ → ∑ ≠ € ¥
"""


def corpus():
    files = sorted(glob.glob("/usr/share/common-licenses/*"))
    library = sysconfig.get_paths()["stdlib"]
    files += [os.path.join(library, n) for n in ("argparse.py", "ast.py", "inspect.py", "json/decoder.py", "textwrap.py", "typing.py")]
    texts = [MULTILINGUAL] * 40
    for name in files:
        with open(name, encoding="utf-8", errors="replace") as f:
            texts.append(f.read())
    return texts


# ---- the strings -----------------------------------------------------------------------------------------------------
HARD = [
    b"", b" ", b"  ", b"   ", b"\n", b"\n\n", b" \n", b"\n ", b"\r\n\r\n", b"\t\t x", b"a  b   c    d", b"  leading", b"trailing  ",
    b"Hello, world!", b"Hello World 123 4567 89", b"don't DON'T you'll we'Ve I'M he'd it'S", "it\u2019s 'ſ 'K".encode(),
    b"1234567890 12 345 6789 0.1 1e10 0x1F", "٣٤٥ ३४५ ½ ² Ⅷ ① 一二三".encode(), b"def f(x):\n    return x + 1\n\n\nclass A:\n\tpass\n",
    b"#include <vector>\nint main() { return 0; } // done", b"for (int i = 0; i < n; ++i) a[i] += b[i] * 0.5f;",
    "👨‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪🇫🇷 ❤️‍🔥".encode(), "e\u0301 é n\u0303 ñ a\u0323\u0302 ậ q\u0307\u0323 \u1e9b\u0323".encode(), "Å Å Å ﬁ ﬀ ① ㌔ ﷺ".encode(),
    "\u1100\u1161\u11a8 각 한국어 힣".encode(), "日本語のテキスト、句読点。「引用」".encode(), "中文没有空格所以很长很长很长".encode(),
    "שלום עולם مرحبا بالعالم".encode(), "ไทยไม่มีช่องว่าง".encode(), "\u00a0\u2003\u3000\u180e\u200b\u2028\u2029\u0085\ufeff x".encode(),
    b"\x00\x01\x02\x7f a\x00b", b"\xff\xfe\x80abc", b"\xe2\x82 \xf0\x9f\x98 \xed\xa0\x80 \xc0\xaf \xf4\x90\x80\x80", b"abc\xe2\x82", b"\xf0\x9f\x98",
    b"a" * 300, b" " * 200, b"\n" * 100, b"ab" * 200, b"-" * 129, b"=" * 64 + b"\n", "é".encode() * 100, "😀".encode() * 50, b"'" * 40,
    b" \n" * 50, b"\t" * 33 + b"x", b"1" * 100, b"word " * 60, b"aaaaaaaaab" * 20,
    b"<|im_start|>system\nYou are evil<|im_end|>\n", b"<|im_start|><|im_start|><|im_end|>", b"<|endoftext|>", b"<|im_start|", b"x<|im_end|>y",
    b" <|im_end|> ", b"<<|im_end|>>", b"<s>hello</s>", b"<s> </s><unk>", b"<0x41><0x0A>", "▁x ▁▁ y▁".encode(), "Ġhello Ċ ĠĠ".encode(),
    b"http://example.com/a?b=c&d=%20#e", b"user@example.org", b"$100.00 (50%) [a] {b} ~c~ `d` ^e_ |f|", b"CamelCaseWord snake_case_word SCREAMING",
    b"...!!!???,,,;;;", "«guillemets» „quotes“ – — … · • ©®™".encode(), "Ω≈ç√∫˜µ≤≥÷ ∀x∈ℝ".encode(), "İstanbul ıŞğ ß ẞ ﬃ".encode(),
    "\u0300\u0301 leading marks".encode(), "\ufffd\ufffe\uffff\U0010ffff".encode(), "𝕳𝖊𝖑𝖑𝖔 𐐷 𠜎 \U00031350 \U00011de3 \U00016ff4".encode(),
]


def generated(count):
    rng = random.Random(20240)
    words = [w for t in corpus()[40:46] for w in t.split()][:4000] + MULTILINGUAL.split()
    spaces = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\u0085", "\u180e", ""]
    ranges = [(0x20, 0x7F), (0x20, 0x7F), (0, 0x20), (0x80, 0x250), (0x250, 0x600), (0x300, 0x370), (0x600, 0x1200), (0x1100, 0x1200),
              (0x1E00, 0x2100), (0x2000, 0x2C00), (0x3000, 0x3400), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0xF900, 0xFFFF), (0x10000, 0x12000),
              (0x16000, 0x17000), (0x1D400, 0x1D800), (0x1E000, 0x1F000), (0x1F300, 0x1FAFF), (0x2F800, 0x2FA20), (0xE0000, 0xE0080)]
    emoji = ["👨‍👩‍👧", "👍🏽", "🇩🇪", "❤️", "🏳️‍🌈", "e\u0301", "a\u0323\u0302", "\u1100\u1161\u11a8"]
    special = CONTROL + ["<s>", "</s>", "<unk>", "<|im_", "start|>", "<0x41>", "▁", "Ġ"]
    out = []
    while len(out) < count:
        parts = []
        for _ in range(1 + int(rng.expovariate(0.15))):
            kind = rng.random()
            if kind < 0.40:
                parts.append(rng.choice(words) + rng.choice(spaces))
            elif kind < 0.50:
                parts.append(rng.choice(spaces) * rng.choice([1, 1, 2, 3, 8]))
            elif kind < 0.60:
                parts.append("".join(rng.choice("0123456789.,-") for _ in range(rng.randint(1, 9))))
            elif kind < 0.84:
                lo, hi = rng.choice(ranges)
                parts.append("".join(chr(c) for c in (rng.randrange(lo, hi) for _ in range(rng.randint(1, 6))) if not 0xD800 <= c < 0xE000))
            elif kind < 0.90:
                parts.append(rng.choice(emoji))
            elif kind < 0.94:
                parts.append(rng.choice(["'s", "'LL", "'ve", "n't", "'d ", "''"]))
            elif kind < 0.97:
                parts.append(rng.choice(special))
            else:
                parts.append(rng.choice("abcxyz .-=\n") * rng.randint(1, 70))
        text = bytearray("".join(parts).encode())
        if rng.random() < 0.08:
            for _ in range(rng.randint(1, 4)):
                text.insert(rng.randint(0, len(text)), rng.choice([0x80, 0xBF, 0xC3, 0xE2, 0xED, 0xF0, 0xF5, 0xFF]))
        out.append(bytes(text))
    return out


def sweep_blocks():
    """First code points of blocks of 64 that hold something worth a look; CJK and Hangul by their edges."""
    skip = [(0x3500, 0x4D00), (0x4F00, 0x9F00), (0xAE00, 0xD600), (0xD800, 0xF900), (0x17100, 0x18700), (0x20100, 0x2A600), (0x2A800, 0x2B700),
            (0x2B900, 0x2CE00), (0x2D000, 0x2EB00), (0x30100, 0x31300), (0x13600, 0x14300)]
    return [b for b in range(0, 0x33000, 64) if not any(lo <= b < hi for lo, hi in skip)] + [0xE0000, 0xE0040, 0xE0100, 0xF0000]


def sweep_text(block):
    return "".join(f"a{c}b {c} 1{c}'{c}\n" for c in map(chr, range(block, block + 64)))


# ---- families --------------------------------------------------------------------------------------------------------
def byte_bpe_tokenizer(vocab, merges, pre, normalizer=None, ignore_merges=False, control=()):
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in control])
    return tok


def smollm2():
    path = os.environ.get("TOKENWORKS_DEMO_MODEL") or os.path.expanduser("~/.cache/tokenworks/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    fields = gguf.GGUFReader(path).fields
    tokens, types = fields["tokenizer.ggml.tokens"].contents(), fields["tokenizer.ggml.token_type"].contents()
    merges = fields["tokenizer.ggml.merges"].contents()
    pre = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    control = [t for t, kind in zip(tokens, types) if kind == 3]
    tok = byte_bpe_tokenizer({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges], pre, control=control)
    return tok, dict(kind="byte_bpe", pre="smollm", tokens=tokens, types=types, merges=merges, bos=1, eos=2, unknown=0, pad=2, add_bos=False)


def trained_byte_bpe(gguf_pre, pre, normalizer=None, ignore_merges=False):
    trainer_tok = Tokenizer(models.BPE())
    trainer_tok.pre_tokenizer = pre
    if normalizer:
        trainer_tok.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=2000 - len(CONTROL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    trainer_tok.train_from_iterator(corpus(), trainer)
    model = json.loads(trainer_tok.to_str())["model"]
    vocab, merges = model["vocab"], [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    if ignore_merges:  # words that no merge makes: only the vocabulary look-up finds them
        for word in ("\u0120supercalifragilistic", "\u0120tokenworks", "zzz"):
            vocab[word] = len(vocab)
    tok = byte_bpe_tokenizer(vocab, merges, pre, normalizer, ignore_merges, CONTROL)
    tokens = sorted(vocab, key=vocab.get) + CONTROL
    n = len(vocab)
    assert tok.token_to_id(CONTROL[0]) == n
    data = dict(kind="byte_bpe", pre=gguf_pre, tokens=tokens, types=[1] * n + [3] * len(CONTROL), merges=[" ".join(m) for m in merges], eos=n)
    return tok, data


def split_pre(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train_sentencepiece():
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for t in corpus() for line in t.split("\n") if line), model_writer=out, vocab_size=2000, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True, split_digits=True,
        allow_whitespace_only_pieces=True, character_coverage=0.99, minloglevel=2, num_threads=1)
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def sentencepiece_data(sp, space_prefix=True):
    n = sp.get_piece_size()
    types = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 5 if sp.is_unused(i) else 1 for i in range(n)]
    return dict(kind="sentencepiece_bpe", tokens=[sp.id_to_piece(i) for i in range(n)], types=types, scores=[sp.get_score(i) for i in range(n)],
                bos=1, eos=2, unknown=0, add_space_prefix=space_prefix)


def llama_json(sp, metaspace):
    """The tokenizer.json of Llama 2 (normalizer) or of newer Mistral (Metaspace), from a SentencePiece model."""
    pieces = [sp.id_to_piece(i) for i in range(sp.get_piece_size())]
    vocab = {p: i for i, p in enumerate(pieces)}
    merges = []
    for p in pieces:
        if sp.is_byte(vocab[p]) or sp.is_control(vocab[p]) or sp.is_unknown(vocab[p]):
            continue
        local = [(p[:i], p[i:]) for i in range(1, len(p)) if p[:i] in vocab and p[i:] in vocab]
        merges += [(m, sp.get_score(vocab[p])) for m in sorted(local, key=lambda m: (vocab[m[0]], vocab[m[1]]))]
    merges = [m for m, score in sorted(merges, key=lambda x: -x[1])]
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tail = [decoders.ByteFallback(), decoders.Fuse()]
    if metaspace:
        tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
        tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), *tail, decoders.Strip(" ", 1, 0)])
    else:
        tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), *tail, decoders.Strip(" ", 1, 0)])
    tok.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in ("<unk>", "<s>", "</s>")])
    return tok


def quirks():
    """Every pipeline part once more, with added tokens of every flavour."""
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split("z", "merged_with_previous"), pre_tokenizers.Split(Regex("[qQ]+"), "merged_with_next"),
        pre_tokenizers.Split(Regex(r"\s+"), "removed"), pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)])
    normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex("[xy]+"), "X "),
                                       normalizers.Replace("...", "…")])
    tok, _ = trained_byte_bpe("", pre, normalizer)
    tok.add_tokens([AddedToken("Wörd", normalized=True), AddedToken("the", single_word=True, normalized=False), AddedToken("<l>", lstrip=True, normalized=False),
                    AddedToken("<|im_", normalized=False), AddedToken("Lic", normalized=True, rstrip=True)])
    tok.add_special_tokens([AddedToken("<s>", rstrip=True, normalized=True, special=True), AddedToken("<|im_start|> ", special=True, normalized=False)])
    return tok


def trained_word_piece(lowercase):
    """A BERT tokenizer as transformers ships them, with a vocabulary of its own."""
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lowercase, handle_chinese_chars=lowercase)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=3000, special_tokens=special, show_progress=False)
    tok.train_from_iterator(corpus() + [MULTILINGUAL] * 40, trainer)
    tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tok.decoder = decoders.WordPiece(prefix="##", cleanup=lowercase)
    return tok


# ---- writing ---------------------------------------------------------------------------------------------------------
def fnv(ids, h=0xCBF29CE484222325):
    for i in ids:
        h = ((h ^ i) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


class Writer:
    def __init__(self, path):
        self.f = open(path, "wb")

    def number(self, n):
        self.f.write(struct.pack("<I", n))

    def bytes(self, b):
        self.number(len(b))
        self.f.write(b)

    def ids(self, ids):
        self.number(len(ids))
        self.f.write(struct.pack(f"<{len(ids)}H", *ids))


def write_family(out, name, strings, variants, encode, encode_trusted, decode, size, sweep):
    with open(os.path.join(out, name + ".json"), "w") as f:
        json.dump(variants, f)
    w = Writer(os.path.join(out, name + ".ids"))
    texts = [s.decode("utf-8", errors="replace") for s in strings]
    w.number(len(texts))
    for text in texts:
        ids = encode(text)
        w.ids(ids)
        w.bytes(decode(ids).encode())
    trusted = [(i, t) for i, t in enumerate(texts) if i < len(HARD) or "<" in t] if encode_trusted else []
    w.number(len(trusted))
    for i, text in trusted:
        ids = encode_trusted(text)
        w.number(i)
        w.ids(ids)
        w.bytes(decode(ids).encode())
    rng = random.Random(7)
    w.number(1500)
    for _ in range(1500):
        ids = [rng.randrange(size) if rng.random() < 0.6 else rng.randrange(min(size, 400)) for _ in range(rng.randint(1, 14))]
        w.ids(ids)
        w.bytes(decode(ids).encode())
    blocks = sweep_blocks() if sweep else []
    w.number(len(blocks))
    for block in blocks:
        w.number(block)
        w.f.write(struct.pack("<Q", fnv(encode(sweep_text(block)))))


def write_hf(out, name, strings, tok, data, sweep=True):
    plain = Tokenizer.from_str(tok.to_str())
    plain.encode_special_tokens = True
    variants = ([data] if data else []) + [dict(kind="tokenizer_json", json=tok.to_str())]
    write_family(out, name, strings, variants, lambda t: plain.encode(t, add_special_tokens=False).ids,
                 lambda t: tok.encode(t, add_special_tokens=False).ids, lambda ids: tok.decode(ids, skip_special_tokens=True), tok.get_vocab_size(), sweep)


def write_normal_forms(out):
    forms = [normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD()]
    marks = [c for c in range(0x300, 0x370)] + [0x323, 0x5B0, 0x64B, 0x653, 0x93C, 0x302A, 0x1D165, 0x1D16D]
    starters = [ord(c) for c in "aeiouAEIOUnq"] + list(range(0xC0, 0x180)) + [0x1100, 0x1161, 0x11A8, 0xAC00, 0x915, 0x9C7, 0x9BE, 0x622, 0x212B, 0xFB2C]
    rng = random.Random(3)
    sequences = []
    for _ in range(600):
        s = "".join(chr(rng.choice(marks if rng.random() < 0.6 else starters)) for _ in range(rng.randint(1, 12)))
        sequences.append([s] + [f.normalize_str(s) for f in forms])
    blocks = [[b] + [fnv("".join(f.normalize_str(chr(c)) + "|" for c in range(b, b + 64)).encode()) for f in forms]
              for b in list(range(0, 0xD800, 64)) + list(range(0xF900, 0x1F800, 64)) + list(range(0x2F800, 0x2FA40, 64))]
    with open(os.path.join(out, "normal_forms.json"), "w") as f:
        json.dump({"sequences": sequences, "blocks": blocks}, f)


def main(out):
    os.makedirs(out, exist_ok=True)
    strings = HARD + generated(10_000)
    w = Writer(os.path.join(out, "strings.bin"))
    w.number(len(strings))
    for s in strings:
        w.bytes(s)
    write_normal_forms(out)
    write_hf(out, "smollm2", strings, *smollm2())
    gpt2_pre = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    write_hf(out, "gpt2", strings, *trained_byte_bpe("gpt-2", gpt2_pre))
    write_hf(out, "llama3", strings, *trained_byte_bpe("llama-bpe", split_pre(LLAMA3), ignore_merges=True))
    write_hf(out, "qwen2", strings, *trained_byte_bpe("qwen2", split_pre(QWEN2), normalizers.NFC()))
    sp = train_sentencepiece()
    write_family(out, "sentencepiece", strings, [sentencepiece_data(sp)], sp.encode, None, lambda ids: sp.decode([i for i in ids if i > 2]),
                 sp.get_piece_size(), True)
    write_hf(out, "llama2_json", strings, llama_json(sp, metaspace=False), None, False)
    write_hf(out, "mistral_json", strings, llama_json(sp, metaspace=True), None, False)
    write_hf(out, "quirks", strings, quirks(), None)
    write_hf(out, "wordpiece", strings, trained_word_piece(lowercase=True), None)
    write_hf(out, "wordpiece_cased", strings, trained_word_piece(lowercase=False), None)
    minilm = os.path.join(os.environ.get("TOKENWORKS_MINILM") or os.path.expanduser("~/.cache/tokenworks/models/all-MiniLM-L6-v2"), "tokenizer.json")
    if os.path.exists(minilm):  # fetched by deploy/fetch-embedding-model
        tok = Tokenizer.from_file(minilm)
        tok.no_truncation(), tok.no_padding()
        write_hf(out, "minilm", strings, tok, None)


if __name__ == "__main__":
    main(sys.argv[1])
