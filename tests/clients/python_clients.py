"""What users of Python frameworks do: python_clients.py CLIENT BASE_URL KEY CHAT_MODEL EMBEDDING_MODEL. Ends with "ok"."""
import sys

CLIENT, BASE, KEY, CHAT, EMBEDDING = sys.argv[1:]
TEXTS = ["A river runs to the sea.", "The water of the river reaches the ocean.", "SELECT 1;"]


def near(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


def check_vectors(vectors):
    assert len(vectors) == 3 and all(len(v) == 384 for v in vectors)
    assert near(vectors[0], vectors[1]) > near(vectors[0], vectors[2]) + 0.2


def langchain():
    import openai
    import tiktoken
    from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
    from pydantic import BaseModel, Field

    chat = ChatOpenAI(base_url=BASE, api_key=KEY, model=CHAT, max_tokens=12, temperature=0, max_retries=0)
    answer = chat.invoke([("system", "Be brief."), ("user", "Name a colour.")])
    assert answer.content and answer.usage_metadata["output_tokens"] >= 1
    pieces = list(chat.stream("Count to five.", stream_usage=True))
    assert len(pieces) > 2 and "".join(p.content for p in pieces)
    assert sum(p.usage_metadata["output_tokens"] for p in pieces if p.usage_metadata) >= 1
    for piece in chat.stream("Tell a long story."):      # the user leaves
        if piece.content:
            break

    class Size(BaseModel):
        """How large something is."""
        large: bool
        width: int = Field(ge=0, le=99)
    made = ChatOpenAI(base_url=BASE, api_key=KEY, model=CHAT, max_tokens=300, temperature=0).with_structured_output(Size, method="json_schema").invoke("Is a whale large?")
    assert isinstance(made, Size) and 0 <= made.width <= 99
    assert OpenAI(base_url=BASE, api_key=KEY, model=CHAT, max_tokens=8).invoke("One, two,")
    langchain_tools(ChatOpenAI(base_url=BASE, api_key=KEY, model=CHAT, max_tokens=700, temperature=0, max_retries=0))
    check_vectors(OpenAIEmbeddings(base_url=BASE, api_key=KEY, model=EMBEDDING, check_embedding_ctx_length=False).embed_documents(TEXTS))
    # By default it sends ids of OpenAI's tokenizers. One of the same kind, made here: its files come from elsewhere.
    foreign = tiktoken.Encoding("foreign", pat_str=r"\w+|\W", mergeable_ranks={bytes([b]): b for b in range(256)}, special_tokens={})
    tiktoken.encoding_for_model = tiktoken.get_encoding = lambda *_: foreign
    try:
        OpenAIEmbeddings(base_url=BASE, api_key=KEY, model=EMBEDDING).embed_documents(TEXTS)
    except openai.BadRequestError as e:
        assert e.param == "input" and "another tokenizer" in str(e), e
    else:
        raise AssertionError("ids of another tokenizer were embedded")


def langchain_tools(chat):
    """Calls forced by name, whole and streamed, their results sent back; tools that may be left alone; an object by a call."""
    from typing import Literal
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from pydantic import BaseModel

    @tool
    def book_table(day: Literal["monday", "friday"], seats: Literal[2, 4], outside: bool) -> str:
        """Books a table."""
        return f"booked for {seats} on {day}"
    ask = HumanMessage("A table for two on Friday, inside.")
    forced = chat.bind_tools([book_table], tool_choice="book_table")
    answer = forced.invoke([ask])
    (call,) = answer.tool_calls
    assert call["name"] == "book_table" and call["id"] and not answer.invalid_tool_calls, answer
    result = book_table.invoke(call)                 # validates the arguments
    assert isinstance(result, ToolMessage) and result.content.startswith("booked for"), result
    whole = None
    for piece in forced.stream([ask]):
        whole = piece if whole is None else whole + piece
    assert [(c["name"], c["args"]) for c in whole.tool_calls] == [(call["name"], call["args"])], (whole, answer)
    assert chat.bind_tools([book_table], strict=True).invoke([ask, answer, result]).response_metadata["finish_reason"] in ("stop", "length", "tool_calls")
    assert chat.bind_tools([book_table], tool_choice="any").invoke([ask]).tool_calls[0]["name"] == "book_table"

    class Day(BaseModel):
        """A day."""
        name: Literal["monday", "friday"]
        free: set[Literal["morning", "evening"]]     # a list without repetitions
    made = chat.with_structured_output(Day, method="function_calling").invoke("Friday evening is free.")
    assert isinstance(made, Day)


def llamaindex():
    from llama_index.core.llms import ChatMessage
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding
    from llama_index.llms.openai_like import OpenAILike

    llm = OpenAILike(model=CHAT, api_base=BASE, api_key=KEY, is_chat_model=True, max_tokens=12, temperature=0, max_retries=0)
    message = ChatMessage(role="user", content="Name a colour.")
    assert llm.chat([message]).message.content
    assert "".join(p.delta or "" for p in llm.stream_chat([message]))
    plain = OpenAILike(model=CHAT, api_base=BASE, api_key=KEY, is_chat_model=False, max_tokens=8, max_retries=0)
    assert plain.complete("One, two,").text
    check_vectors(OpenAILikeEmbedding(model_name=EMBEDDING, api_base=BASE, api_key=KEY).get_text_embedding_batch(TEXTS))


def instructor():
    import instructor as library
    import openai
    from pydantic import BaseModel, ConfigDict, Field

    class Person(BaseModel):
        model_config = ConfigDict(extra="forbid")    # as a strict schema of OpenAI's must say
        age: int = Field(ge=0, le=120)
        retired: bool
    for mode in (library.Mode.JSON_SCHEMA, library.Mode.TOOLS, library.Mode.TOOLS_STRICT):
        client = library.from_openai(openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0), mode=mode)
        made = client.create(model=CHAT, response_model=Person, max_retries=0, max_tokens=700, temperature=0, messages=[{"role": "user", "content": "Ann is 70 and works no more."}])
        assert isinstance(made, Person), mode


def litellm():
    import litellm as library

    library.suppress_debug_info = True
    common = dict(api_base=BASE, api_key=KEY, num_retries=0)
    messages = [{"role": "user", "content": "Name a colour."}]
    answer = library.completion(model="openai/" + CHAT, messages=messages, max_tokens=12, **common)
    assert answer.choices[0].message.content and answer.usage.completion_tokens >= 1
    pieces = list(library.completion(model="openai/" + CHAT, messages=messages, max_tokens=12, stream=True, stream_options={"include_usage": True}, **common))
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
    assert library.text_completion(model="text-completion-openai/" + CHAT, prompt="One, two,", max_tokens=8, **common).choices[0].text
    check_vectors([d["embedding"] for d in library.embedding(model="openai/" + EMBEDDING, input=TEXTS, **common).data])


{"langchain": langchain, "llamaindex": llamaindex, "instructor": instructor, "litellm": litellm}[CLIENT]()
print("ok")
