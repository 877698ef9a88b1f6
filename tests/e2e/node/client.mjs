// Owns the calls that the unchanged Node SDK makes: reads a JSON list of requests, writes the list of their outcomes.
// The client is made without an argument, as agents make it: OPENAI_BASE_URL and OPENAI_API_KEY say where to go.

import { text } from "node:stream/consumers";

import OpenAI from "openai";

const client = new OpenAI();

/** Write an error of the SDK as tests/e2e/endings.py does. */
function told(error) {
  const status = error.status === undefined ? "" : ` ${error.status}`;
  return `${error.constructor.name}${status} ${error.type} ${error.code}`;
}

/** Write how a reply ended. */
function ended(finish, content, calls) {
  return `${finish}: ${content || calls.map((call) => `${call.name}(${call.arguments ?? ""})`).join("")}`;
}

async function whole(request) {
  const [{ finish_reason, message }] = (await client.chat.completions.create(request, { maxRetries: 0 })).choices;
  return ended(finish_reason, message.content, (message.tool_calls ?? []).map((call) => call.function));
}

async function streamed(request) {
  const stream = await client.chat.completions.create(request, { maxRetries: 0 });
  const calls = [];
  let content = "";
  let finish = null;
  try {
    for await (const chunk of stream) {
      for (const { delta, finish_reason } of chunk.choices) {
        content += delta.content ?? "";
        for (const piece of delta.tool_calls ?? []) {
          calls[piece.index] ??= { name: "", arguments: "" };
          calls[piece.index].name += piece.function.name ?? "";
          calls[piece.index].arguments += piece.function.arguments ?? "";
        }
        finish = finish_reason ?? finish;
      }
    }
  } catch (error) {
    return `${content ? `${content}, then ` : ""}${told(error)} while streaming`;
  }
  return ended(finish, content, calls);
}

async function outcome(request) {
  try {
    return await (request.stream ? streamed : whole)(request);
  } catch (error) {
    return told(error);
  }
}

const outcomes = [];
for (const request of JSON.parse(await text(process.stdin))) outcomes.push(await outcome(request));
process.stdout.write(JSON.stringify(outcomes));
