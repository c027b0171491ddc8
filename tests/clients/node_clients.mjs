// What users of JavaScript libraries do: node node_clients.mjs CLIENT BASE_URL KEY CHAT_MODEL EMBEDDING_MODEL. Ends with "ok".
// Run from the folder that holds node_modules.
import assert from "node:assert/strict";

const [client, base, key, chat, embedding] = process.argv.slice(2);
const messages = [{ role: "user", content: "Name a colour." }];
const texts = ["A river runs to the sea.", "The water of the river reaches the ocean.", "SELECT 1;"];
const near = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

const clients = {
  async openai() {
    const { default: OpenAI, BadRequestError } = await import("openai");
    const { zodResponseFormat } = await import("openai/helpers/zod");
    const { z } = await import("zod");
    const api = new OpenAI({ baseURL: base, apiKey: key, maxRetries: 0 });
    const answer = await api.chat.completions.create({ model: chat, messages, max_tokens: 12 });
    assert.ok(answer.choices[0].message.content && answer.usage.completion_tokens >= 1);
    let text = "", usage = null;
    for await (const part of await api.chat.completions.create({ model: chat, messages, max_tokens: 12, stream: true, stream_options: { include_usage: true } })) {
      text += part.choices[0]?.delta?.content ?? "";
      usage = part.usage ?? usage;
    }
    assert.ok(text && usage.completion_tokens >= 1);
    const long = await api.chat.completions.create({ model: chat, messages, max_tokens: 400, stream: true });
    let seen = 0;
    for await (const part of long) if (part.choices[0]?.delta?.content && ++seen === 3) long.controller.abort();
    assert.ok(seen >= 3 && seen < 400);
    const Size = z.object({ large: z.boolean(), unit: z.enum(["mm", "m", "km"]) });
    const parsed = await api.chat.completions.parse({ model: chat, messages: [{ role: "user", content: "Is a whale large?" }], max_tokens: 300, temperature: 0, response_format: zodResponseFormat(Size, "size") });
    assert.equal(typeof parsed.choices[0].message.parsed.large, "boolean");
    const done = await api.completions.create({ model: chat, prompt: "One, two,", max_tokens: 8 });
    assert.ok(done.choices[0].text);
    const vectors = (await api.embeddings.create({ model: embedding, input: texts })).data.map((d) => d.embedding);
    assert.ok(vectors.length === 3 && vectors[0].length === 384 && near(vectors[0], vectors[1]) > near(vectors[0], vectors[2]) + 0.2);
    assert.ok((await api.models.list()).data.some((m) => m.id === embedding));
    await assert.rejects(api.embeddings.create({ model: embedding, input: [15339, 1917] }), (e) => e instanceof BadRequestError && e.param === "input");
  },
  async ai() {
    const { generateText, streamText, generateObject, embedMany, tool, stepCountIs } = await import("ai");
    const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
    const { z } = await import("zod");
    const plant = createOpenAICompatible({ name: "tokenworks", baseURL: base, apiKey: key, includeUsage: true, supportsStructuredOutputs: true });
    const answer = await generateText({ model: plant(chat), messages, maxOutputTokens: 12, maxRetries: 0 });
    assert.ok(answer.text && answer.usage.outputTokens >= 1);
    const streamed = streamText({ model: plant(chat), messages, maxOutputTokens: 12, maxRetries: 0 });
    let text = "";
    for await (const piece of streamed.textStream) text += piece;
    assert.ok(text && (await streamed.usage).outputTokens >= 1);
    const leave = new AbortController();
    const left = streamText({ model: plant(chat), messages, maxOutputTokens: 400, maxRetries: 0, abortSignal: leave.signal });
    let pieces = 0;
    for await (const piece of left.textStream) if (piece && ++pieces === 3) leave.abort();
    assert.ok(pieces < 400);
    const made = await generateObject({ model: plant(chat), schema: z.object({ large: z.boolean(), unit: z.enum(["mm", "m", "km"]) }), prompt: "Is a whale large?", maxOutputTokens: 300, temperature: 0, maxRetries: 0 });
    assert.equal(typeof made.object.large, "boolean");
    const run = [];                                  // a call is forced, run here, and its result goes back for the second step
    const book = tool({ description: "Books a table", inputSchema: z.object({ day: z.enum(["monday", "friday"]), inside: z.boolean() }), execute: async (given) => (run.push(given), { booked: given.day }) });
    const ask = { model: plant(chat), tools: { book }, prompt: "A table on Friday, inside.", maxOutputTokens: 700, maxRetries: 0, temperature: 0 };
    const called = await generateText({ ...ask, toolChoice: { type: "tool", toolName: "book" }, stopWhen: stepCountIs(1) });
    assert.equal(called.finishReason, "tool-calls");
    assert.ok(called.toolCalls.length === 1 && ["monday", "friday"].includes(called.toolCalls[0].input.day) && called.toolResults[0].output.booked === run[0].day);
    const steps = streamText({ ...ask, prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? { type: "tool", toolName: "book" } : "none" }), stopWhen: stepCountIs(2) });
    let calls = 0;
    for await (const part of steps.fullStream) {
      assert.notEqual(part.type, "error");
      if (part.type === "tool-call") ++calls;
    }
    assert.deepEqual([calls, run.length, (await steps.steps).map((s) => s.finishReason)[0]], [1, 2, "tool-calls"]);
    const done = await generateText({ model: plant.completionModel(chat), prompt: "One, two,", maxOutputTokens: 8, maxRetries: 0 });
    assert.ok(done.text);
    const { embeddings } = await embedMany({ model: plant.textEmbeddingModel(embedding), values: texts, maxRetries: 0 });
    assert.ok(embeddings.length === 3 && near(embeddings[0], embeddings[1]) > near(embeddings[0], embeddings[2]) + 0.2);
  },
};
await clients[client]();
console.log("ok");
