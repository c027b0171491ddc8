"""What transformers makes of chat templates: the expectation of our own interpreter.

Usage: templates.py OUTDIR. Renders every template of tests/golden/templates/*.jinja (in the style of published models),
the demo model's own, and the small ones of tests/golden/templates/snippets.py through
transformers.utils.chat_template_utils.render_jinja_template, which compiles them in Jinja2's ImmutableSandboxedEnvironment.
Writes OUTDIR/cases.json: {"cases": [{name, template, messages, tools, extra, special, add_generation_prompt,
"expected": text | "error": message}]}. Dates are fixed: strftime_now means 2026-03-09 14:05:06.
"""
import datetime
import json
import os
import sys

import gguf
from transformers.utils import chat_template_utils

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "templates"))
from snippets import SNIPPETS, VARIABLES  # noqa: E402

NOW = 1773065106                                     # 2026-03-09 14:05:06 UTC
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


chat_template_utils.datetime = FixedTime

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather at a place", "parameters": {
        "type": "object", "properties": {
            "location": {"type": "string", "description": " City, e.g. \"Zürich\" "},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius", "description": "unit"},
            "days": {"type": ["integer", "null"], "description": "how many <days> & 'nights'"},
            "where": {"type": "object", "properties": {"lat": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}}, "required": ["lat"], "description": "nested"}},
        "required": ["location"]}}}
NOTHING = {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": {"location": "Zürich", "days": 2}}}

CONVERSATIONS = {
    "one": ([{"role": "user", "content": "Hello"}], None),
    "system": ([{"role": "system", "content": " Be brief.\n"}, {"role": "user", "content": "  Hi there \n"}], None),
    "long": ([{"role": "system", "content": "S"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "\nb "},
              {"role": "user", "content": "ünï 🌍 \"q\" <|im_end|>\n{{ 1 }}"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nfine"},
              {"role": "user", "content": "last"}], None),
    "no_turn": ([{"role": "assistant", "content": "first"}, {"role": "assistant", "content": "again"}], None),
    "tools": ([{"role": "user", "content": "Weather?"}], [WEATHER, NOTHING]),
    "tool_call": ([{"role": "system", "content": "Use tools."}, {"role": "user", "content": "Weather?"},
                   {"role": "assistant", "content": "", "tool_calls": [CALL]},
                   {"role": "tool", "tool_call_id": "call12345", "name": "get_weather", "content": "{\"t\": 21.5}"},
                   {"role": "assistant", "content": "21.5 degrees"}, {"role": "user", "content": "Thanks"}], [WEATHER]),
    "tool_call_null": ([{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
                        {"role": "tool", "tool_call_id": "call12345", "content": "1"}, {"role": "tool", "tool_call_id": "call12345", "content": "2"}], [WEATHER]),
    "reasoning": ([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning": "because"}, {"role": "user", "content": "q2"},
                   {"role": "assistant", "reasoning_content": "thus", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "r"}], None),
    "parts": ([{"role": "system", "content": [{"type": "text", "text": "sys"}]},
               {"role": "user", "content": [{"type": "text", "text": " see "}, {"type": "image"}, {"type": "text", "text": "this"}]}], None),
    "empty": ([], None),
    "odd_keys": ([{"role": "user", "content": "x", "name": "joe", "tools": "T", "n": 1.0, "b": True}, {"role": "system", "content": "s", "tools": "[]"}], None),
    "missing_content": ([{"role": "user"}], None),
}
# The last message goes on: text, white space around it, words that templates write themselves, thoughts ended and not.
BEGUN = {"word": "The sky", "space": "  The sky is ", "lines": "\n- one\n- two\n", "template": "end", "spelling": "an <|im_end|>\n", "thought": "<think>\nhm\n</think>\n\nSo",
         "thinking": "<think>\nhm, because", "empty_thought": "<think>\n\n</think>\n\nYes", "unicode": "Füße 🌍", "repeats": "Hello"}
EXTRAS = [{}, {"enable_thinking": False, "date_string": "1 Jan 2030", "reasoning_effort": "high", "tools_in_user_message": False},
          {"builtin_tools": ["code_interpreter", "get_weather"], "custom_instructions": "x"}]


def case(name, template, messages, tools, extra, prompt, special, opaque=None):
    """One rendering; None when its text matches `opaque`, which nothing can be compared with."""
    out = dict(name=name, template=template, messages=messages, tools=tools, extra=extra, add_generation_prompt=prompt, special=special)
    try:
        rendered, _ = chat_template_utils.render_jinja_template([messages], tools=tools, chat_template=template,
                                                                add_generation_prompt=prompt, **{**special, **extra})
        if opaque and opaque.search(rendered[0]):
            return None
        out["expected"] = rendered[0]
    except Exception as e:  # whatever Python or Jinja raises is an error for us too
        out["error"] = f"{type(e).__name__}: {e}"
    return out


def continued(name, template, text):
    """The prompt whose last message, `text`, is left open."""
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": text}]
    out = dict(name=name, template=template, messages=messages, text=text, special=SPECIAL)
    try:
        out["expected"] = chat_template_utils.render_jinja_template([messages], chat_template=template, continue_final_message=True, **SPECIAL)[0][0]
    except Exception as e:
        out["error"] = f"{type(e).__name__}: {e}"
    return out


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    templates = {}
    folder = os.path.join(HERE, "templates")
    for file in sorted(os.listdir(folder)):
        if file.endswith(".jinja"):
            with open(os.path.join(folder, file), encoding="utf-8", newline="") as f:
                templates[file[:-6]] = f.read()
    demo = os.environ.get("TOKENWORKS_DEMO_MODEL") or os.path.expanduser("~/.cache/tokenworks/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    templates["smollm2"] = gguf.GGUFReader(demo).fields["tokenizer.chat_template"].contents()
    cases, mistakes = [], []
    for name, template in templates.items():
        for conversation, (messages, tools) in CONVERSATIONS.items():
            for i, extra in enumerate(EXTRAS):
                for prompt in (True, False):
                    cases.append(case(f"{name}/{conversation}/{i}{'p' if prompt else ''}", template, messages, tools, extra, prompt, SPECIAL))
    begun = [continued(f"{name}/{key}", template, text) for name, template in templates.items() for key, text in BEGUN.items()]
    names = [name for name, _ in SNIPPETS]
    assert len(names) == len(set(names)), [n for n in names if names.count(n) > 1]
    for name, template in SNIPPETS:
        cases.append(case(name, template, [], None, VARIABLES, True, {}))
        wrong = "error" in cases[-1] if not name.startswith(("e_", "s_")) else "expected" in cases[-1]
        if wrong:                                    # a mistake in the corpus, not in what it tests
            mistakes.append((name, cases[-1].get("error") or cases[-1].get("expected")))
    assert not mistakes, mistakes
    with open(out + "/cases.json", "w", encoding="utf-8") as f:
        json.dump({"unix_seconds": NOW, "cases": cases, "continued": begun}, f, ensure_ascii=False)
    print(len(cases), "cases,", sum("error" in c for c in cases), "errors;", len(begun), "continued")


if __name__ == "__main__":
    main()
