// Asks a running llorch with OpenAI's own library for Node, and prints what it got as one JSON object.
// Run as: node ask.js URL MODEL SCRIBE, where SCRIBE is a model that calls get_weather.
import OpenAI, { toFile } from "openai";

const [url, model, scribe] = process.argv.slice(2);
const ai = new OpenAI({ baseURL: `${url}/v1`, apiKey: process.env.LLORCH_API_TOKEN, maxRetries: 0 });
const messages = [{ role: "user", content: "Write a haiku about rain" }];
const schema = JSON.parse(process.env.SCHEMA);
const tools = [{ type: "function", function: { name: "get_weather", parameters: schema } }];

async function refused(call) {
  try {
    await call();
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, code: error.code, param: error.param };
  }
  return null;
}

async function chat() {
  const whole = await ai.chat.completions.create({ model, messages, temperature: 0 });
  const asked = { model, messages, temperature: 0, stream: true, stream_options: { include_usage: true } };
  let text = "";
  let usage = null;
  for await (const chunk of await ai.chat.completions.create(asked)) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  return { whole, streamed: { text, usage } };
}

async function tool() {
  const runner = ai.chat.completions.stream({ model: scribe, messages, tools });
  let pieces = 0;
  for await (const chunk of runner) pieces += chunk.choices[0]?.delta.tool_calls?.length ?? 0;
  return { pieces, message: await runner.finalMessage() };
}

async function form() {
  const format = { type: "json_schema", json_schema: { name: "place", strict: true, schema } };
  const parsed = await ai.chat.completions.parse({ model, messages, response_format: format });
  return JSON.parse(parsed.choices[0].message.content);
}

async function responses() {
  const whole = await ai.responses.create({ model, input: "Write a haiku about rain", temperature: 0 });
  const stream = ai.responses.stream({ model, input: "Write a haiku about rain", temperature: 0 });
  const kinds = new Set();
  for await (const event of stream) kinds.add(event.type);
  return { whole: whole.output_text, streamed: (await stream.finalResponse()).output_text, kinds: [...kinds] };
}

async function batch() {
  const line = { custom_id: "one", method: "POST", url: "/v1/chat/completions", body: { model, messages, temperature: 0 } };
  const file = await ai.files.create({ file: await toFile(Buffer.from(JSON.stringify(line)), "in.jsonl"), purpose: "batch" });
  const asked = { input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" };
  let made = await ai.batches.create(asked);
  while (!["completed", "failed", "expired", "cancelled"].includes(made.status)) {
    await new Promise((done) => setTimeout(done, 50));
    made = await ai.batches.retrieve(made.id);
  }
  const output = await (await ai.files.content(made.output_file_id)).text();
  return { status: made.status, counts: made.request_counts, answer: JSON.parse(output) };
}

const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "wrong", maxRetries: 0 });
const models = [];
for await (const card of ai.models.list()) models.push(card.id);
console.log(
  JSON.stringify({
    models,
    chat: await chat(),
    tool: await tool(),
    form: await form(),
    responses: await responses(),
    batch: await batch(),
    unknown: await refused(() => ai.chat.completions.create({ model: "haik", messages })),
    hot: await refused(() => ai.chat.completions.create({ model, messages, temperature: 3 })),
    stranger: await refused(() => stranger.chat.completions.create({ model, messages })),
  }),
);
