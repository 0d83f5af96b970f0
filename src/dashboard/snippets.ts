/** A request as programs would send it. */

const json = (value: unknown, indent = 2): string => JSON.stringify(value, null, indent)

const quoted = (text: string): string => text.replaceAll("'", "'\\''")

/** Images are long, and not what a snippet is for. */
const shortened = (body: Record<string, unknown>): Record<string, unknown> =>
  JSON.parse(
    JSON.stringify(body, (_, value) =>
      typeof value === "string" && value.startsWith("data:") ? "data:image/png;base64,…" : value
    )
  )

export const curl = (address: string, keys: boolean, body: Record<string, unknown>): string =>
  `curl -N ${address}/v1/chat/completions \\\n${keys ? '  -H "Authorization: Bearer $AICORTEX_API_KEY" \\\n' : ""}  -H 'Content-Type: application/json' \\\n  -d '${quoted(json(shortened(body)))}'`

export const openai = (address: string, keys: boolean, body: Record<string, unknown>): string =>
  `import OpenAI from "openai"

const client = new OpenAI({
  baseURL: "${address}/v1",
  apiKey: ${keys ? "process.env.AICORTEX_API_KEY" : '"not-needed"'}
})

const stream = await client.chat.completions.create(${json(shortened(body))})

for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? "")`

export const aicortex = (address: string, keys: boolean, body: Record<string, unknown>): string => {
  const { max_tokens, messages, model, reasoning_effort, response_format, seed, temperature, tools, top_p } =
    shortened(body)
  const think = reasoning_effort === "none" ? false : reasoning_effort
  const format = response_format as { readonly json_schema?: { readonly schema?: unknown } } | undefined
  const given = {
    model,
    temperature,
    topP: top_p,
    maxTokens: max_tokens,
    seed,
    think,
    tools: Array.isArray(tools) ? tools.map((tool) => tool?.function ?? tool) : undefined,
    schema: format?.json_schema?.schema
  }
  const options = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  const server = keys ? `{ url: "${address}/v1", apiKey: process.env.AICORTEX_API_KEY }` : `"${address}/v1"`
  return `import { createCortex } from "aicortex/promise"

const cortex = await createCortex({ servers: [${server}] })

for await (const event of cortex.stream(${json(messages)}, ${json(options)})) {
  if (event.type === "token") process.stdout.write(event.content)
}
await cortex.close()`
}
